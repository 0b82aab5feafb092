"""A chat-completions server on 127.0.0.1 that answers as a test tells it to.

Owns: real sockets, real HTTP (h11), the wire format of the stream. Must not: understand the
requests; it records them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import h11
import trio

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
        connection = h11.Connection(h11.SERVER)
        async with stream:
            while connection.our_state is h11.IDLE:
                request = await self._request(connection, stream)
                if request is None:
                    return
                await self._answer(connection, stream)
                if connection.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                    connection.start_next_cycle()

    async def _request(self, connection: h11.Connection, stream: trio.SocketStream) -> Any:
        body = b""
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                try:
                    connection.receive_data(await stream.receive_some())
                except trio.BrokenResourceError:
                    return None
            elif isinstance(event, h11.Request):
                self.headers.append({k.decode(): v.decode() for k, v in event.headers})
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.requests.append(json.loads(body))
                return self.requests[-1]
            else:
                return None

    async def _answer(self, connection: h11.Connection, stream: trio.SocketStream) -> None:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

        async def send(event: Any) -> None:
            await stream.send_all(connection.send(event) or b"")

        if isinstance(answer, Plain):
            body = (
                answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            )
            headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
            await send(h11.Response(status_code=answer.status, headers=[*headers, *answer.headers]))
            await send(h11.Data(data=body))
            await send(h11.EndOfMessage())
            return
        await send(h11.Response(status_code=200, headers=[("content-type", "text/event-stream")]))
        try:
            for piece in wire(answer.chunks):
                await send(h11.Data(data=piece))
                await trio.lowlevel.checkpoint()
            if answer.hang:
                self.hanging.set()
                if not await stream.receive_some():
                    self.left.set()
            elif answer.complete:
                await send(h11.Data(data=b"data: [DONE]\n\n"))
                await send(h11.EndOfMessage())
                return
        except trio.BrokenResourceError:
            self.left.set()
        connection.send_failed()


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
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            functools.partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1")
        )
        port = listeners[0].socket.getsockname()[1]
        server.base_url = f"http://127.0.0.1:{port}/v1"
        yield server
        nursery.cancel_scope.cancel()
