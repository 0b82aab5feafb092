"""A chat-completions server on 127.0.0.1 that answers as a test tells it to.

Owns: the wire format of the stream. Must not: understand the
requests; it records them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import h11
import trio

from tests.models.http import Connection, serving

CHUNK_USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


@attrs.frozen
class Events:
    """A stream of events; a string is sent as an event's data as it is, bytes raw."""

    chunks: Sequence[dict[str, Any] | str | bytes]
    #: Say ``[DONE]`` and end the body properly.
    complete: bool = True
    #: Send nothing more and wait until the client goes away.
    hang: bool = False


@attrs.frozen
class Plain:
    """A whole response with a JSON body, usually an error."""

    status: int
    body: Any
    headers: tuple[tuple[str, str], ...] = ()


def chunk(
    delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any
) -> dict[str, Any]:
    """One chat completion chunk."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    whole = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "fake-1"}
    return {**whole, "choices": choices, **more}


def saying(*pieces: str, finish: str = "stop", usage: bool = True) -> Events:
    """A stream that says `pieces`."""
    chunks = [chunk({"role": "assistant", "content": ""})]
    chunks += [chunk({"content": piece}) for piece in pieces]
    chunks.append(chunk({}, finish))
    if usage:
        chunks.append(chunk(usage=CHUNK_USAGE))
    return Events(chunks)


def calling(*calls: tuple[str, str, str], cut: int = 5) -> Events:
    """A stream that calls tools (id, name, arguments), the arguments in pieces of `cut`."""
    chunks = [chunk({"role": "assistant", "content": None})]
    for index, (call_id, name, arguments) in enumerate(calls):
        begin = {"index": index, "id": call_id, "type": "function"}
        chunks.append(chunk({"tool_calls": [{**begin, "function": {"name": name}}]}))
        for at in range(0, len(arguments), cut):
            piece = {"index": index, "function": {"arguments": arguments[at : at + cut]}}
            chunks.append(chunk({"tool_calls": [piece]}))
    chunks += [chunk({}, "tool_calls"), chunk(usage=CHUNK_USAGE)]
    return Events(chunks)


def error(status: int, message: str, code: str | None = None, **headers: str) -> Plain:
    """An error as OpenAI words it."""
    body = {"error": {"message": message, "type": "t", "code": code, "param": None}}
    return Plain(status, body, tuple((k.replace("_", "-"), v) for k, v in headers.items()))


class ChatServer:
    """Answers each request with the next of `answers`; the last one answers all that follow."""

    def __init__(self) -> None:
        self.answers: list[Events | Plain] = []
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.connections = 0
        #: Set when a client left before its answer was complete.
        self.left = trio.Event()
        self.hanging = trio.Event()
        self.base_url = ""

    def will(self, *answers: Events | Plain) -> None:
        self.answers = list(answers)

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        connection = Connection(stream)
        async with stream:
            async for heard in connection.requests():
                self.headers.append(heard.headers)
                self.requests.append(heard.body)
                await self._answer(connection)

    async def _answer(self, connection: Connection) -> None:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Plain):
            await connection.send_json(answer.status, answer.body, answer.headers)
            return
        await connection.begin_events()
        try:
            for piece in wire(answer.chunks):
                await connection.send(h11.Data(data=piece))
                await trio.lowlevel.checkpoint()
            if answer.hang:
                self.hanging.set()
                if not await connection.stream.receive_some():
                    self.left.set()
            elif answer.complete:
                await connection.send(h11.Data(data=b"data: [DONE]\n\n"))
                await connection.send(h11.EndOfMessage())
                return
        except trio.BrokenResourceError:
            self.left.set()
        connection.drop()


def wire(chunks: Iterable[dict[str, Any] | str | bytes]) -> Iterable[bytes]:
    """The bytes of each chunk."""
    for each in chunks:
        if isinstance(each, bytes):
            yield each
        else:
            text = each if isinstance(each, str) else json.dumps(each, ensure_ascii=False)
            yield f"data: {text}\n\n".encode()


@asynccontextmanager
async def open_chat_server() -> AsyncIterator[ChatServer]:
    """Serve until the block ends."""
    server = ChatServer()
    async with serving(server.serve) as origin:
        server.base_url = f"{origin}/v1"
        yield server
