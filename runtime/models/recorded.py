"""Recorded model calls as lines of JSON: writing one, finding one. Pure.

Owns: the form of a line, the digest that names a request, which recorded call answers a request,
and what the nearest one differs in. Must not: touch a file or a model (`recording` does).

A request is named by its content: instructions, messages, tools, schema, options, without secrets.
Who asked (`key`) is no part of it, but decides between calls of the same content, before the order
in which they were recorded. Usage and model names in a history are left out: no model is told them.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

import attrs

from runtime.errors import ModelError, ModelRefused, ModelUnavailable
from runtime.ids import ToolCallId
from runtime.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolCall,
    ToolResult,
    Usage,
    UserMessage,
)
from runtime.models.base import ModelReply, ModelRequest, StopReason
from runtime.models.redaction import Redactor

Json: TypeAlias = dict[str, Any]

#: The form of the lines; another one is refused.
FORMAT: Final = 1
#: Longest quotation of a request in an error message, in characters.
_MAX_QUOTED: Final = 160
_ERRORS: Final = {cls.__name__: cls for cls in (ModelError, ModelUnavailable, ModelRefused)}


class NotALine(ValueError):
    """A line of a recording cannot be understood."""


@attrs.frozen
class RecordedCall:
    """One call: what was asked, and the reply that came of it, or the error as JSON.

    `cuts` are the lengths of the pieces that the text came in.
    """

    digest: str
    key: str
    model: str
    request: Json
    reply: ModelReply | None
    error: Json | None = None
    cuts: tuple[int, ...] = ()


def content_of(request: ModelRequest, redactor: Redactor) -> Json:
    """What names a request, as JSON."""
    content: Json = {
        "instructions": request.instructions,
        "messages": [_message(message) for message in request.messages],
        "tools": [
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in request.tools
        ],
        "tool_choice": request.tool_choice,
        "output_schema": request.output_schema,
    }
    return {**redactor.value(content), "options": redactor.options(request.options)}


def digest_of(content: Json) -> str:
    """The name of a request's content."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _message(message: Message) -> Json:
    match message:
        case UserMessage(text=text, sender=sender):
            return {"role": "user", "text": text, "sender": sender}
        case SystemMessage(text=text):
            return {"role": "system", "text": text}
        case ToolResult(call_id=call_id, name=name, text=text, outcome=outcome):
            told = {"id": call_id, "name": name, "text": text, "outcome": outcome.name.lower()}
            return {"role": "tool", **told}
        case AssistantMessage(text=text, tool_calls=calls):
            return {
                "role": "assistant",
                "text": text,
                "tool_calls": [_call(each) for each in calls],
            }


def _call(call: ToolCall) -> Json:
    return {"id": call.id, "name": call.name, "arguments": call.arguments}


def line_of(
    request: ModelRequest,
    model: str,
    outcome: ModelReply | ModelError,
    pieces: Sequence[str],
    redactor: Redactor,
) -> str:
    """One call as a line, its newline included."""
    content = content_of(request, redactor)
    line: Json = {
        "format": FORMAT,
        "digest": digest_of(content),
        "key": request.key,
        "model": model,
        "request": content,
    }
    if isinstance(outcome, ModelError):
        told = {
            "kind": type(outcome).__name__,
            "message": str(outcome),
            "provider": outcome.provider,
            "retryable": outcome.retryable,
            "status": outcome.status,
            "retry_after_s": outcome.retry_after_s,
        }
        line["error"] = redactor.value(told)
    else:
        usage = outcome.usage
        line["reply"] = {
            "text": redactor.text(outcome.text),
            "cuts": [len(piece) for piece in pieces],
            "tool_calls": [redactor.value(_call(call)) for call in outcome.tool_calls],
            "stop": outcome.stop.value,
            "model": outcome.model,
            "usage": {
                "input_tokens": usage.input_tokens,
                "cached_input_tokens": usage.cached_input_tokens,
                "output_tokens": usage.output_tokens,
                "model_calls": usage.model_calls,
            },
        }
    return json.dumps(line, ensure_ascii=False) + "\n"


def read_line(text: str) -> RecordedCall:
    """The call that a line holds.

    Raises:
        NotALine: it is damaged, or of another format.
    """
    try:
        line = json.loads(text)
        if line["format"] != FORMAT:
            raise NotALine(f"it has format {line['format']!r}; this version reads {FORMAT}")
        known = (line["digest"], line["key"], line["model"], line["request"])
        if "error" in line:
            error_of(line["error"])
            return RecordedCall(*known, None, line["error"])
        return RecordedCall(*known, _reply(line["reply"]), None, tuple(line["reply"]["cuts"]))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, NotALine):
            raise
        raise NotALine(f"{type(error).__name__}: {error}") from error


def _reply(told: Json) -> ModelReply:
    counted = told["usage"]
    calls = [
        ToolCall(ToolCallId(call["id"]), call["name"], call["arguments"])
        for call in told["tool_calls"]
    ]
    usage = Usage(
        counted["input_tokens"],
        counted["output_tokens"],
        counted["model_calls"],
        cached_input_tokens=counted["cached_input_tokens"],
    )
    return ModelReply(told["text"], tuple(calls), StopReason(told["stop"]), usage, told["model"])


def error_of(told: Json) -> ModelError:
    """A recorded error, made anew: one that is raised twice would carry both tracebacks."""
    kind = _ERRORS.get(told["kind"], ModelError)
    if kind is ModelError:
        return ModelError(
            told["message"],
            provider=told["provider"],
            retryable=told["retryable"],
            status=told["status"],
            retry_after_s=told["retry_after_s"],
        )
    error = kind(told["message"], provider=told["provider"])  # type: ignore[call-arg]
    error.status = told["status"]
    return error


class Recording:
    """The calls of a recording, given out in the order they were made.

    Each is given out once; a request that was recorded fewer times than it is asked for gets the
    last answer again, because a turn that goes on after a crash repeats its calls.
    """

    def __init__(self, calls: Iterable[RecordedCall]) -> None:
        self.calls = tuple(calls)
        self._by_digest: dict[str, list[int]] = {}
        for index, call in enumerate(self.calls):
            self._by_digest.setdefault(call.digest, []).append(index)
        self._given: set[int] = set()

    def take(self, digest: str, key: str) -> RecordedCall | None:
        """The call that answers the content `digest` asked for by `key`; None if there is none."""
        found = self._by_digest.get(digest)
        if not found:
            return None
        own = [index for index in found if self.calls[index].key == key]
        for indexes in (own, [] if own else found):
            for index in indexes:
                if index not in self._given:
                    self._given.add(index)
                    return self.calls[index]
        return self.calls[(own or found)[-1]]

    def nearest(self, content: Json, key: str) -> tuple[int, str] | None:
        """The number (from 1) of the call most like `content`, and what differs first."""
        if not self.calls:
            return None

        def likeness(index: int) -> tuple[bool, int, float]:
            call = self.calls[index]
            asked, recorded = content["messages"], call.request["messages"]
            same = 0
            while same < min(len(asked), len(recorded)) and asked[same] == recorded[same]:
                same += 1
            last = difflib.SequenceMatcher(None, _last(asked), _last(recorded), autojunk=False)
            return call.key == key, same, last.quick_ratio()

        best = max(range(len(self.calls)), key=likeness)
        return best + 1, _difference(content, self.calls[best].request, "")


def _last(messages: list[Json]) -> str:
    return str(messages[-1].get("text", ""))[-2000:] if messages else ""


def _difference(asked: Any, recorded: Any, path: str) -> str:
    """Where two JSON values differ first, with both sides."""
    if isinstance(asked, dict) and isinstance(recorded, dict):
        for key in [*asked, *(each for each in recorded if each not in asked)]:
            if asked.get(key) != recorded.get(key):
                return _difference(asked.get(key), recorded.get(key), f"{path}.{key}".lstrip("."))
    if isinstance(asked, list) and isinstance(recorded, list):
        for index, (one, other) in enumerate(zip(asked, recorded, strict=False)):
            if one != other:
                return _difference(one, other, f"{path}[{index}]")
        return f"{path} has {len(asked)} entries now and {len(recorded)} in the recording"
    return f"{path} is now {_quoted(asked)} and in the recording {_quoted(recorded)}"


def _quoted(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_QUOTED else text[: _MAX_QUOTED - 3] + "..."
