"""The chat-completions protocol: our messages in its JSON, and its events as our reply.

Owns: both translations, and the rules that servers of this protocol add to it. Must not: do I/O,
raise an error of a provider (it knows none), or parse tool arguments. Pure.

Many servers speak this protocol and few speak it exactly, so an answer is put together from plain
JSON that is checked as it is read, and what is commonly left out (call ids, indexes, usage) is made
good. https://platform.openai.com/docs/api-reference/chat-streaming for the events,
https://html.spec.whatwg.org/#server-sent-events for what carries them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import attrs

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
from runtime.models.base import ModelRequest, ToolSpec

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


class NotAChunk(ValueError):
    """An event of the stream is not a chat completion chunk."""


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


class Events:
    """Splits a body into the data of its server-sent events.

    Works on bytes: splitting decoded text into lines would also split at U+2028 and its like,
    which JSON may hold unescaped.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._done = False

    def feed(self, received: bytes) -> list[str]:
        """The events that `received` completes; nothing after ``[DONE]``."""
        *lines, self._rest = (self._rest + received).split(b"\n")
        return [event for line in lines for event in self._line(line.removesuffix(b"\r"))]

    def end(self) -> list[str]:
        """The event that the end of the body completes: some servers leave out the last newline."""
        return [*self._line(self._rest), *self._line(b"")]

    def _line(self, line: bytes) -> list[str]:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
            return []
        if line or not self._data:
            return []  # A comment that keeps the connection alive, or a field without use here.
        event = b"\n".join(self._data).decode("utf-8", "replace")
        self._data.clear()
        self._done = self._done or event.strip() == "[DONE]"
        return [] if self._done else [event]


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
            self.usage = Usage(int(counted["prompt_tokens"]), int(counted["completion_tokens"]), 1)
        said = ""
        # The last chunk brings usage and no choice; only the first choice was asked for.
        for choice in (chunk["choices"] or ())[:1]:
            self.finish = choice.get("finish_reason") or self.finish
            delta = choice.get("delta") or {}
            said = _text_of(delta, "content")
            if said:
                self._text.append(said)
            self.refusal += _text_of(delta, "refusal")
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
        call.id = call.id or _text_of(piece, "id")
        function = piece.get("function") or {}
        call.name += _text_of(function, "name")
        call.arguments += _text_of(function, "arguments")

    def calls(self, request: ModelRequest) -> tuple[ToolCall, ...]:
        """The calls in the server's order, with ids that no other call of the session has.

        Raises:
            NotAChunk: a call has no name.
        """
        if not self._calls:
            return ()
        taken: set[str] = set()
        for message in request.messages:
            if isinstance(message, AssistantMessage):
                taken.update(call.id for call in message.tool_calls)
        made = []
        for position, (_, call) in enumerate(sorted(self._calls.items())):
            if not call.name:
                raise NotAChunk("a tool call has no name")
            # Some servers send no id, or begin at call_0 again in every answer.
            fresh = f"{request.key}#{position}" if not call.id or call.id in taken else call.id
            taken.add(fresh)
            made.append(ToolCall(ToolCallId(fresh), call.name, call.arguments or "{}"))
        return tuple(made)


def estimated_usage(request: ModelRequest, text: str, calls: tuple[ToolCall, ...]) -> Usage:
    """A quarter of the characters, for a server that counts nothing: a budget needs a figure."""
    heard = len(request.instructions) + sum(len(message.text) for message in request.messages)
    said = len(text) + sum(len(call.name) + len(call.arguments) for call in calls)
    return Usage(heard // 4, said // 4, 1)


def _text_of(part: Mapping[str, Any], field: str) -> str:
    text = part.get(field) or ""
    if not isinstance(text, str):
        raise TypeError(f"{field} is {type(text).__name__}, not text")
    return text


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
    if len(call_id) <= _MAX_CALL_ID:
        return call_id
    return "call_" + hashlib.blake2b(call_id.encode(), digest_size=16).hexdigest()


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


def parse_event(data: str) -> Any:
    """The JSON of one event.

    Raises:
        NotAChunk: it is not JSON, or not an object.
    """
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NotAChunk(str(error)) from error
    if not isinstance(chunk, dict):
        raise NotAChunk(f"{type(chunk).__name__} instead of an object")
    return chunk
