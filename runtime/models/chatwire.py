"""The chat-completions protocol: our messages in its JSON, and its events as our reply.

Owns: both translations, and the rules that servers of this protocol add to it. Must not: do I/O,
raise an error of a provider (it knows none), or parse tool arguments. Pure.

Many servers speak this protocol and few speak it exactly, so an answer is put together from plain
JSON that is checked as it is read, and what is commonly left out (call ids, indexes, usage) is made
good. https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from runtime.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolCall,
    ToolResult,
    Usage,
    UserMessage,
)
from runtime.models.base import ModelRequest, ToolSpec
from runtime.models.wire import NotAChunk, fitting_id, session_calls, text_of

#: OpenAI refuses longer tool call ids; other models of the same session may have made some.
_MAX_CALL_ID = 40
#: Keywords that OpenAI's strict mode understands; with any other it refuses the request.
_STRICT = frozenset(
    (
        "$defs", "$ref", "additionalProperties", "anyOf", "const", "description", "enum",
        "exclusiveMaximum", "exclusiveMinimum", "items", "maxItems", "maximum", "minItems",
        "minimum", "multipleOf", "pattern", "properties", "required", "title", "type",
    )
)  # fmt: skip


def request_body(model: str, request: ModelRequest) -> dict[str, Any]:
    """The JSON body that asks `model` for a streamed answer, without the request's options."""
    body: dict[str, Any] = {
        "model": model,
        "messages": _messages(request),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        choice = request.tool_choice
        if choice in ("required", "none"):
            body["tool_choice"] = choice
        elif choice != "auto":
            body["tool_choice"] = {"type": "function", "function": {"name": choice}}
    schema = request.output_schema
    if schema is not None:
        asked = {"name": "answer", "schema": dict(schema), "strict": _is_strict(schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": asked}
    return body


#: What `request_body` decides; an option of that name would break the translation.
RESERVED_OPTIONS = frozenset(
    (
        "messages", "model", "n", "response_format", "stream", "stream_options", "tool_choice",
        "tools",
    )
)  # fmt: skip


@attrs.define
class _Call:
    id: str = ""
    name: str = ""
    arguments: str = ""


@attrs.define
class Answer:
    """What has arrived of one answer."""

    model: str | None = None
    #: Why the server ended the answer; None while it has not.
    finish: str | None = None
    refusal: str = ""
    #: Whether any chunk arrived.
    begun: bool = False
    #: What the server counted; None if it did not say.
    usage: Usage | None = None
    _text: list[str] = attrs.field(factory=list)
    #: By the server's index.
    _calls: dict[int, _Call] = attrs.field(factory=dict)

    @property
    def text(self) -> str:
        return "".join(self._text)

    def add(self, chunk: Any) -> str:
        """Add one chunk, parsed; return the text in it.

        Raises:
            NotAChunk: a part is missing or of the wrong type.
        """
        try:
            return self._add(chunk)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise NotAChunk(f"{type(error).__name__}: {error}") from error

    def _add(self, chunk: Mapping[str, Any]) -> str:
        self.model = chunk.get("model") or self.model
        if chunk.get("usage"):
            counted = chunk["usage"]
            details = counted.get("prompt_tokens_details") or {}
            self.usage = Usage(
                int(counted["prompt_tokens"]),
                int(counted["completion_tokens"]),
                1,
                cached_input_tokens=int(details.get("cached_tokens") or 0),
            )
        said = ""
        # The last chunk brings usage and no choice; only the first choice was asked for.
        for choice in (chunk["choices"] or ())[:1]:
            self.finish = choice.get("finish_reason") or self.finish
            delta = choice.get("delta") or {}
            said = text_of(delta, "content")
            if said:
                self._text.append(said)
            self.refusal += text_of(delta, "refusal")
            for piece in delta.get("tool_calls") or ():
                self._add_call(piece)
        self.begun = True
        return said

    def _add_call(self, piece: Mapping[str, Any]) -> None:
        index = piece.get("index")
        if index is None:
            # Some servers number nothing: then an id begins a call, and the rest continues it.
            index = len(self._calls) - (0 if piece.get("id") or not self._calls else 1)
        call = self._calls.setdefault(int(index), _Call())
        call.id = call.id or text_of(piece, "id")
        function = piece.get("function") or {}
        call.name += text_of(function, "name")
        call.arguments += text_of(function, "arguments")

    def calls(self, request: ModelRequest) -> tuple[ToolCall, ...]:
        """The calls in the server's order, with ids that no other call of the session has.

        Raises:
            NotAChunk: a call has no name.
        """
        found = [call for _, call in sorted(self._calls.items())]
        return session_calls(request, [(call.id, call.name, call.arguments) for call in found])


def _messages(request: ModelRequest) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    if request.instructions:
        made.append({"role": "system", "content": request.instructions})
    made.extend(_message(message) for message in request.messages)
    return made


def _message(message: Message) -> dict[str, Any]:
    match message:
        case UserMessage(text=text, sender=None):
            return {"role": "user", "content": text}
        case UserMessage(text=text, sender=sender):
            # In the text, not in the field `name`: few servers show that to their model.
            return {"role": "user", "content": f"Message from {sender}:\n{text}"}
        case AssistantMessage(text=text, tool_calls=()):
            return {"role": "assistant", "content": text}
        case AssistantMessage(text=text, tool_calls=calls):
            wire = [
                {
                    "id": _call_id(call.id),
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in calls
            ]
            return {"role": "assistant", "content": text or None, "tool_calls": wire}
        case ToolResult(call_id=call_id, text=text):
            return {"role": "tool", "tool_call_id": _call_id(call_id), "content": text}
        case SystemMessage(text=text):
            return {"role": "system", "content": text}


def _call_id(call_id: str) -> str:
    return call_id if len(call_id) <= _MAX_CALL_ID else fitting_id(call_id)


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description}
    return {"type": "function", "function": {**function, "parameters": dict(tool.parameters)}}


def _is_strict(schema: Any) -> bool:
    """Whether OpenAI's strict mode accepts `schema`: objects closed, every property required."""
    if not isinstance(schema, Mapping) or not _STRICT.issuperset(schema):
        return False
    if schema.get("type") == "object" or "properties" in schema:
        if schema.get("additionalProperties") is not False:
            return False
        if set(schema.get("required", ())) != set(schema.get("properties", ())):
            return False
    parts = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
    parts += schema.get("anyOf", [])
    parts += [schema["items"]] if "items" in schema else []
    return all(_is_strict(part) for part in parts)
