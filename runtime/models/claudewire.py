"""Anthropic's messages protocol: our messages in its JSON, and its events as our reply.

Owns: both translations, and what of a JSON Schema the protocol can be told. Must not: do I/O or
raise an error of a provider. Pure.

Three things differ from our side. Roles alternate, so what a user and the tools say between two
answers is one message. Thoughts that led to tool calls have to come back with their results, as
they were (`Keepsakes`). And a schema is taken in part only: what it cannot be told is left out,
which widens it, and our own validation still holds the answer to the whole.
https://platform.claude.com/docs/en/api/messages-streaming
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
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
from runtime.models.base import ModelRequest, Schema
from runtime.models.wire import (
    Keepsakes,
    NotAChunk,
    call_arguments,
    fitting_id,
    schema_in_words,
    session_calls,
    text_of,
)

Json: TypeAlias = dict[str, Any]

#: Tokens that an answer may have unless the options say otherwise: the protocol wants a figure, and
#: every model since Claude 3.5 allows this one.
DEFAULT_MAX_TOKENS: Final = 8192
#: What `request_body` decides; an option of that name would break the translation.
RESERVED_OPTIONS: Final = frozenset(
    ("messages", "model", "output_format", "stream", "system", "tool_choice", "tools")
)
_CALL_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
#: Keywords of a schema that are taken as they are, and the formats of texts that are.
_TAKEN: Final = ("title", "description")
_FORMATS: Final = frozenset(
    "date-time time date duration email hostname uri ipv4 ipv6 uuid".split()  # noqa: SIM905
)
#: Keywords without which a schema says something else; others only narrow it.
_ESSENTIAL: Final = ("not", "if", "patternProperties", "propertyNames", "prefixItems", "allOf")


def request_body(model: str, request: ModelRequest, kept: Keepsakes[tuple[Json, ...]]) -> Json:
    """The JSON body that asks `model` for a streamed answer, the request's options included."""
    options = dict(request.options)
    system, schema = request.instructions, request.output_schema
    output: Json = dict(options.pop("output_config", None) or {})
    if schema is not None:
        told = told_schema(schema)
        if told is None:
            system = f"{system}\n\n{schema_in_words(schema)}".strip()
        else:
            output["format"] = {"type": "json_schema", "schema": told}
    if _forgotten(request.messages, kept):
        # Thoughts that led to the pending results are lost, and with thinking on the request would
        # be refused without them. The model answers without thinking this once.
        options.pop("thinking", None)
    body: Json = {
        "model": model,
        "max_tokens": DEFAULT_MAX_TOKENS,
        **options,
        "messages": _messages(request.messages, kept),
        "stream": True,
        **_tools(request),
    }
    if system:
        body["system"] = system
    if output:
        body["output_config"] = output
    return body


def _tools(request: ModelRequest) -> Json:
    if not request.tools:
        # A history with calls in it is refused without tools, so name those that were called.
        called = {
            call.name
            for message in request.messages
            if isinstance(message, AssistantMessage)
            for call in message.tool_calls
        }
        empty = {"type": "object"}
        named = [{"name": name, "input_schema": empty} for name in sorted(called)]
        return {"tools": named, "tool_choice": {"type": "none"}} if named else {}
    tools = [
        {
            "name": tool.name,
            "description": tool.description,
            "input_schema": {"type": "object", **tool.parameters},
        }
        for tool in request.tools
    ]
    choice = request.tool_choice
    if choice == "auto":
        return {"tools": tools}
    if choice in ("required", "none"):
        return {"tools": tools, "tool_choice": {"type": "any" if choice == "required" else "none"}}
    return {"tools": tools, "tool_choice": {"type": "tool", "name": choice}}


def _forgotten(messages: Sequence[Message], kept: Keepsakes[tuple[Json, ...]]) -> bool:
    """Whether the last message is a tool's result and the thoughts behind its call are not here."""
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if isinstance(message, AssistantMessage):
            return index < len(messages) - 1 and bool(
                message.tool_calls and kept.of(message.tool_calls) is None
            )
        if isinstance(message, UserMessage):
            return False
    return False


def _messages(messages: Iterable[Message], kept: Keepsakes[tuple[Json, ...]]) -> list[Json]:
    made: list[Json] = []
    for message in messages:
        role = "assistant" if isinstance(message, AssistantMessage) else "user"
        blocks = _blocks(message, kept)
        if not blocks:
            continue
        if made and made[-1]["role"] == role:
            made[-1]["content"].extend(blocks)
        else:
            made.append({"role": role, "content": blocks})
    return made


def _blocks(message: Message, kept: Keepsakes[tuple[Json, ...]]) -> list[Json]:
    match message:
        case UserMessage(text=text, sender=sender):
            said = text if sender is None else f"Message from {sender}:\n{text}"
            return [_text(said)]
        case SystemMessage(text=text):
            return [_text(f"<system>\n{text}\n</system>")]
        case ToolResult(call_id=call_id, text=text, outcome=outcome):
            block = {"type": "tool_result", "tool_use_id": _call_id(call_id), "content": text}
            return [block if outcome is ToolOutcome.OK else {**block, "is_error": True}]
        case AssistantMessage(text=text, tool_calls=calls):
            # An empty text is refused, also in a history.
            said_blocks = [_text(text)] if text.strip() else []
            uses = [
                {
                    "type": "tool_use",
                    "id": _call_id(call.id),
                    "name": call.name,
                    "input": call_arguments(call),
                }
                for call in calls
            ]
            return [*(kept.of(calls) or ()), *said_blocks, *uses]


def _text(text: str) -> Json:
    return {"type": "text", "text": text if text.strip() else "(empty)"}


def _call_id(call_id: str) -> str:
    return call_id if _CALL_ID.fullmatch(call_id) else fitting_id(call_id)


@attrs.define
class _Block:
    """A content block as it grows: its first form, and the pieces of its text."""

    first: Mapping[str, Any]
    pieces: list[str] = attrs.field(factory=list)
    signature: str = ""

    @property
    def kind(self) -> str:
        return str(self.first.get("type"))


@attrs.define
class Answer:
    """What has arrived of one answer."""

    model: str | None = None
    #: Why the server ended the answer; None while it has not.
    finish: str | None = None
    refusal: str = ""
    #: Whether any event arrived.
    begun: bool = False
    _text: list[str] = attrs.field(factory=list)
    #: By the server's index.
    _blocks: dict[int, _Block] = attrs.field(factory=dict)
    _counted: dict[str, int] = attrs.field(factory=dict)

    @property
    def text(self) -> str:
        return "".join(self._text)

    @property
    def usage(self) -> Usage | None:
        """What the server counted; None if it did not say. Its own figure leaves caches out."""
        counted = self._counted
        if "input_tokens" not in counted or "output_tokens" not in counted:
            return None
        cached = counted.get("cache_read_input_tokens", 0)
        read = counted["input_tokens"] + counted.get("cache_creation_input_tokens", 0) + cached
        return Usage(read, counted["output_tokens"], 1, cached_input_tokens=cached)

    def add(self, event: Any) -> str:
        """Add one event, parsed; return the text in it.

        Raises:
            NotAChunk: a part is missing or of the wrong type.
        """
        try:
            said = self._add(event)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise NotAChunk(f"{type(error).__name__}: {error}") from error
        self.begun = True
        if said:
            self._text.append(said)
        return said

    def _add(self, event: Mapping[str, Any]) -> str:
        match event["type"]:
            case "message_start":
                message = event["message"]
                self.model = message.get("model") or self.model
                self._count(message.get("usage"))
            case "content_block_start":
                block = event["content_block"]
                self._blocks[int(event["index"])] = _Block(block)
                return text_of(block, "text") if block["type"] == "text" else ""
            case "content_block_delta":
                return self._grow(self._blocks[int(event["index"])], event["delta"])
            case "message_delta":
                delta = event["delta"]
                self.finish = delta.get("stop_reason") or self.finish
                self.refusal = text_of(delta.get("stop_details") or {}, "explanation")
                self._count(event.get("usage"))
            case _:  # ping, the ends of blocks, what later versions add
                pass
        return ""

    def _grow(self, block: _Block, delta: Mapping[str, Any]) -> str:
        match delta["type"]:
            case "text_delta":
                return text_of(delta, "text")
            case "input_json_delta":
                block.pieces.append(text_of(delta, "partial_json"))
            case "thinking_delta":
                block.pieces.append(text_of(delta, "thinking"))
            case "signature_delta":
                block.signature += text_of(delta, "signature")
            case _:
                pass
        return ""

    def _count(self, counted: Mapping[str, Any] | None) -> None:
        """Take over what is counted: the figures are cumulative, the last of each holds."""
        for key, value in (counted or {}).items():
            if isinstance(value, int):
                self._counted[key] = value

    def calls(self, request: ModelRequest) -> tuple[ToolCall, ...]:
        """The calls in the server's order, with ids that no other call of the session has.

        Raises:
            NotAChunk: a call has no name.
        """
        uses = [block for _, block in sorted(self._blocks.items()) if block.kind == "tool_use"]
        found = [
            (str(use.first.get("id") or ""), str(use.first.get("name") or ""), "".join(use.pieces))
            for use in uses
        ]
        return session_calls(request, found)

    @property
    def thoughts(self) -> tuple[Json, ...]:
        """The blocks that have to come back with the results of the calls, in order."""
        made: list[Json] = []
        for _, block in sorted(self._blocks.items()):
            if block.kind == "thinking":
                said = text_of(block.first, "thinking") + "".join(block.pieces)
                signature = text_of(block.first, "signature") + block.signature
                made.append({"type": "thinking", "thinking": said, "signature": signature})
            elif block.kind == "redacted_thinking":
                made.append(dict(block.first))
        return tuple(made)


def told_schema(schema: Schema) -> Json | None:
    """What the protocol can be told of `schema`; None if that would be another schema.

    Whatever fits `schema` and is closed fits the result; what only narrows it (bounds, patterns)
    goes into the description, for the model to heed.
    """
    if _recursive(schema):
        return None
    return _told(schema)


def _recursive(schema: Schema) -> bool:
    """Whether a definition needs itself, which the protocol refuses."""
    defs = schema.get("$defs", {})
    needs = {name: {ref.rpartition("/")[2] for ref in _refs(part)} for name, part in defs.items()}
    for _ in defs:  # each round looks one reference further
        for reached in needs.values():
            reached |= {far for near in reached for far in needs.get(near, ())}
    return any(name in reached for name, reached in needs.items()) or "#" in set(_refs(schema))


def _refs(part: Any) -> Iterable[str]:
    if isinstance(part, Mapping):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from _refs(value)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from _refs(value)


def _told(schema: Any) -> Json | None:
    if not isinstance(schema, Mapping) or any(key in schema for key in _ESSENTIAL):
        return None
    left = dict(schema)
    made: Json = {key: left.pop(key) for key in _TAKEN if key in left}
    if "$defs" in left:
        defs = {name: _told(part) for name, part in left.pop("$defs").items()}
        if None in defs.values():
            return None
        made["$defs"] = defs
    body = _told_body(left)
    if body is None:
        return None
    left.pop("$schema", None)
    left.pop("default", None)
    if left:
        narrower = "; ".join(f"{key}: {value}" for key, value in left.items())
        made["description"] = f"{made.get('description', '')} ({narrower})".strip()
    return {**made, **body}


def _told_body(left: Json) -> Json | None:
    """The keyword that says what kind of value it is, with what belongs to it, out of `left`."""
    if "$ref" in left:
        return {"$ref": left.pop("$ref")}
    for key in ("const", "enum"):
        if key in left:
            left.pop("type", None)
            return {key: left.pop(key)}
    for key in ("anyOf", "oneOf"):
        if key in left:
            parts = [_told(part) for part in left.pop(key)]
            return None if None in parts else {"anyOf": parts}
    kind = left.pop("type", None)
    if isinstance(kind, list):
        parts = [_told({**left, "type": each}) for each in kind]
        left.clear()
        return None if None in parts else {"anyOf": parts}
    if kind == "object":
        return _told_object(left)
    if kind == "array":
        items = _told(left.pop("items", None))
        if items is None:
            return None
        fewest = {"minItems": left.pop("minItems")} if left.get("minItems") in (0, 1) else {}
        return {"type": "array", "items": items, **fewest}
    if kind == "string" and left.get("format") in _FORMATS:
        return {"type": "string", "format": left.pop("format")}
    return {"type": kind} if kind in ("string", "integer", "number", "boolean", "null") else None


def _told_object(left: Json) -> Json | None:
    """Closed, because an open object cannot be told; None if it has to be open."""
    if left.pop("additionalProperties", False) is not False or not left.get("properties"):
        return None
    properties = {name: _told(part) for name, part in left.pop("properties").items()}
    required = list(left.pop("required", ()))
    if None in properties.values() or not set(required) <= properties.keys():
        return None
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
