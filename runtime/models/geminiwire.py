"""Gemini's generate-content protocol: our messages in its form, and its chunks as our reply.

Owns: both translations. Must not: do I/O, import the package (chunks are looked at by attribute) or
raise an error of a provider. Pure.

Its calls carry a signature of the thoughts that led to them, which has to come back with them
(`Keepsakes`); Gemini 3 refuses a history without. For calls that none is held for there is a word
that says so. https://ai.google.dev/gemini-api/docs/thought-signatures
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import attrs

from runtime.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolCall,
    ToolOutcome,
    ToolResult,
    Usage,
    UserMessage,
)
from runtime.models.base import ModelRequest
from runtime.models.wire import (
    Keepsakes,
    NotAChunk,
    call_arguments,
    schema_in_words,
    session_calls,
    text_of,
)

Json: TypeAlias = dict[str, Any]

#: What is decided here; an option of that name would break the translation.
RESERVED_OPTIONS: Final = frozenset(
    (
        "automatic_function_calling", "candidate_count", "contents", "http_options", "model",
        "response_json_schema", "response_mime_type", "response_schema", "system_instruction",
        "tool_config", "tools",
    )
)  # fmt: skip
#: Instead of a signature that is lost, or was never made because another model made the call.
NO_SIGNATURE: Final = b"skip_thought_signature_validator"
_SIGNED_SINCE: Final = 3


def contents(model: str, request: ModelRequest, kept: Keepsakes[bytes]) -> list[Json]:
    """The conversation: roles alternate, so neighbours of one role are one content."""
    signed = _generation(model) >= _SIGNED_SINCE
    made: list[Json] = []
    for message in request.messages:
        role = "model" if isinstance(message, AssistantMessage) else "user"
        parts = _parts(message, kept, signed=signed)
        if not parts:
            continue
        if made and made[-1]["role"] == role:
            made[-1]["parts"].extend(parts)
        else:
            made.append({"role": role, "parts": parts})
    return made


def config(request: ModelRequest) -> Json:
    """Everything else that is asked, the request's options included."""
    system, schema = request.instructions, request.output_schema
    made: Json = {**request.options, "automatic_function_calling": {"disable": True}}
    if request.tools:
        made["tools"] = [
            {
                "function_declarations": [
                    {
                        "name": tool.name,
                        "description": tool.description,
                        "parameters_json_schema": dict(tool.parameters),
                    }
                    for tool in request.tools
                ]
            }
        ]
        made["tool_config"] = {"function_calling_config": _calling(request.tool_choice)}
    if schema is not None and request.tools:
        # Tools and an output format in one request are refused by models before Gemini 3.
        system = f"{system}\n\n{schema_in_words(schema)}".strip()
    elif schema is not None:
        made["response_mime_type"] = "application/json"
        made["response_json_schema"] = dict(schema)
    if system:
        made["system_instruction"] = system
    return made


def _calling(choice: str) -> Json:
    if choice in ("auto", "none"):
        return {"mode": choice.upper()}
    return {"mode": "ANY"} | ({} if choice == "required" else {"allowed_function_names": [choice]})


def _generation(model: str) -> int:
    found = re.search(r"gemini-(\d+)", model)
    return int(found[1]) if found else 0


def _parts(message: Message, kept: Keepsakes[bytes], *, signed: bool) -> list[Json]:
    match message:
        case UserMessage(text=text, sender=sender):
            return [_text(text if sender is None else f"Message from {sender}:\n{text}")]
        case SystemMessage(text=text):
            return [_text(f"<system>\n{text}\n</system>")]
        case ToolResult(call_id=call_id, name=name, text=text, outcome=outcome):
            said = {"output" if outcome is ToolOutcome.OK else "error": text}
            return [{"function_response": {"id": call_id, "name": name, "response": said}}]
        case AssistantMessage(text=text, tool_calls=calls):
            made: list[Json] = [{"text": text}] if text else []
            for index, call in enumerate(calls):
                asked = {"id": call.id, "name": call.name, "args": call_arguments(call)}
                part: Json = {"function_call": asked}
                # Of calls made at the same time only the first is signed.
                signature = kept.of(calls) or (NO_SIGNATURE if signed else None)
                if index == 0 and signature is not None:
                    part["thought_signature"] = signature
                made.append(part)
            return made


def _text(text: str) -> Json:
    return {"text": text or "(empty)"}


@attrs.define
class Answer:
    """What has arrived of one answer."""

    model: str | None = None
    #: Why the server ended the answer; None while it has not.
    finish: str | None = None
    refusal: str = ""
    usage: Usage | None = None
    #: Of the first call that has one.
    signature: bytes | None = None
    _text: list[str] = attrs.field(factory=list)
    _calls: list[tuple[str, str, str]] = attrs.field(factory=list)

    @property
    def text(self) -> str:
        return "".join(self._text)

    def add(self, chunk: Any) -> str:
        """Add one ``GenerateContentResponse``; return the text in it."""
        self.model = chunk.model_version or self.model
        self._count(chunk.usage_metadata)
        feedback = chunk.prompt_feedback
        if feedback is not None and feedback.block_reason is not None:
            reason = _name(feedback.block_reason)
            self.refusal = feedback.block_reason_message or f"the prompt was blocked ({reason})"
        said = ""
        # Only one candidate was asked for.
        for candidate in (chunk.candidates or ())[:1]:
            if candidate.finish_reason is not None:
                self.finish = _name(candidate.finish_reason)
            parts = candidate.content.parts if candidate.content is not None else None
            said = "".join([self._part(part) for part in parts or ()])
        if said:
            self._text.append(said)
        return said

    def _part(self, part: Any) -> str:
        call = part.function_call
        if call is not None:
            if self.signature is None:
                self.signature = part.thought_signature
            given = json.dumps(call.args or {}, ensure_ascii=False)
            self._calls.append((call.id or "", call.name or "", given))
        # A thought is told for watching, and is no part of the answer.
        return part.text if part.text and not part.thought else ""

    def _count(self, counted: Any) -> None:
        if counted is None or counted.prompt_token_count is None:
            return
        self.usage = Usage(
            counted.prompt_token_count + (counted.tool_use_prompt_token_count or 0),
            (counted.candidates_token_count or 0) + (counted.thoughts_token_count or 0),
            1,
            cached_input_tokens=counted.cached_content_token_count or 0,
        )

    def calls(self, request: ModelRequest) -> tuple[ToolCall, ...]:
        """The calls in the server's order, with ids that no other call of the session has.

        Raises:
            NotAChunk: a call has no name.
        """
        return session_calls(request, self._calls)


def check_chunk(chunk: Json) -> None:
    """Return if `chunk`, an event as it came, has the shape that is read here.

    Raises:
        NotAChunk: a part is of the wrong type.
    """
    try:
        for candidate in _list(chunk, "candidates"):
            for part in _list(candidate.get("content") or {}, "parts"):
                text_of(part, "text")
                call = part.get("functionCall") or {}
                text_of(call, "name")
                if call.get("args") is not None:
                    call["args"].keys()
        for key, count in (chunk.get("usageMetadata") or {}).items():
            if key.endswith("TokenCount"):
                int(count)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NotAChunk(f"{type(error).__name__}: {error}") from error


def _list(part: Json, field: str) -> list[Json]:
    found = part.get(field) or []
    if not isinstance(found, list):
        raise TypeError(f"{field} is {type(found).__name__}, not a list")
    return found


def _name(reason: Any) -> str:
    """The name of a reason: an enumeration's value, or the text that a later version brought."""
    return str(getattr(reason, "value", reason))


def retry_delay_s(details: Any) -> float | None:
    """How long an error's details ask to wait (``RetryInfo``), in seconds; None if they do not."""
    for detail in _details(details):
        delay = detail.get("retryDelay")
        if isinstance(delay, str) and re.fullmatch(r"\d+(\.\d+)?s", delay):
            return float(delay[:-1])
    return None


def is_key_invalid(details: Any) -> bool:
    """Whether an error is about the key: Gemini says so with a 400."""
    return any(detail.get("reason") == "API_KEY_INVALID" for detail in _details(details))


def _details(told: Any) -> Iterable[Json]:
    error = told.get("error", told) if isinstance(told, dict) else {}
    found = error.get("details") if isinstance(error, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
