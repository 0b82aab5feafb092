"""What the wire formats of the providers have in common.

Owns: server-sent events as they are read, the ids of tool calls, usage where a server counts none,
what a client keeps for its provider between two calls. Must not: know a provider, or do I/O. Pure.

https://html.spec.whatwg.org/#server-sent-events
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from runtime.ids import ToolCallId
from runtime.messages import AssistantMessage, ToolCall, Usage
from runtime.models.base import ModelRequest, Schema

T = TypeVar("T")

#: Tool calls whose keepsakes are held: far more than the turns of a swarm have open at one time.
_KEPT: Final = 4096


class NotAChunk(ValueError):
    """An event of the stream is not what its protocol says."""


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


def text_of(part: Mapping[str, Any], field: str) -> str:
    """The text at `field`, empty if there is none. Raises `TypeError` for anything else."""
    text = part.get(field) or ""
    if not isinstance(text, str):
        raise TypeError(f"{field} is {type(text).__name__}, not text")
    return text


def session_calls(
    request: ModelRequest, found: Sequence[tuple[str, str, str]]
) -> tuple[ToolCall, ...]:
    """The calls `found` (id, name, arguments), with ids that no other call of the session has.

    Some servers send no id, or begin at call_0 again in every answer.

    Raises:
        NotAChunk: a call has no name.
    """
    if not found:
        return ()
    taken: set[str] = set()
    for message in request.messages:
        if isinstance(message, AssistantMessage):
            taken.update(call.id for call in message.tool_calls)
    made = []
    for position, (call_id, name, arguments) in enumerate(found):
        if not name:
            raise NotAChunk("a tool call has no name")
        fresh = f"{request.key}#{position}" if not call_id or call_id in taken else call_id
        taken.add(fresh)
        made.append(ToolCall(ToolCallId(fresh), name, arguments or "{}"))
    return tuple(made)


def fitting_id(call_id: str) -> str:
    """An id of 37 letters and digits for one that a provider would refuse, always the same."""
    return "call_" + hashlib.blake2b(call_id.encode(), digest_size=16).hexdigest()


def call_arguments(call: ToolCall) -> dict[str, Any]:
    """The arguments of a call as an object, for protocols that want one.

    What a model wrote may be no JSON, and then went back to it as an error; it is shown as text.
    """
    try:
        given = json.loads(call.arguments)
    except (ValueError, RecursionError):
        given = None
    return given if isinstance(given, dict) else {"arguments": call.arguments}


def schema_in_words(schema: Schema) -> str:
    """The wish for an answer under `schema` as text, where a provider has no field for it."""
    return (
        "Give the final answer as one JSON document and nothing else, no code fence. It must fit"
        f" this JSON Schema:\n{json.dumps(schema, ensure_ascii=False)}"
    )


def estimated_usage(request: ModelRequest, text: str, calls: tuple[ToolCall, ...]) -> Usage:
    """A quarter of the characters, for a server that counts nothing: a budget needs a figure."""
    heard = len(request.instructions) + sum(len(message.text) for message in request.messages)
    said = len(text) + sum(len(call.name) + len(call.arguments) for call in calls)
    return Usage(heard // 4, said // 4, 1)


class Keepsakes(Generic[T]):
    """What a provider wants back with a tool call's result: signatures, thoughts. Opaque to us.

    A cache and no more: a call made before this process began, or by another model, has none, and a
    client must get by without.
    """

    def __init__(self) -> None:
        self._kept: dict[str, T] = {}

    def keep(self, call_id: str, what: T) -> None:
        """Keep `what` for a call; the oldest is dropped when there are too many."""
        if len(self._kept) >= _KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[call_id] = what

    def of(self, calls: Iterable[ToolCall]) -> T | None:
        """What was kept for the first of `calls` that something was kept for."""
        return next((self._kept[call.id] for call in calls if call.id in self._kept), None)
