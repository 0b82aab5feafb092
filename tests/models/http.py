"""What the servers of these tests share: requests heard from a real socket, JSON answered.

Owns: HTTP (h11) on 127.0.0.1. Must not: know what a service says.
"""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import h11
import trio


@attrs.frozen
class Heard:
    """One request."""

    path: str
    headers: dict[str, str]
    body: Any


class Connection:
    """One connection of a client."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._h11 = h11.Connection(h11.SERVER)

    async def requests(self) -> AsyncIterator[Heard]:
        """The requests that come, each once the one before it was answered whole."""
        while self._h11.our_state is h11.IDLE:
            heard = await self._heard()
            if heard is None:
                return
            yield heard
            if self._h11.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                self._h11.start_next_cycle()

    async def _heard(self) -> Heard | None:
        body, path, headers = b"", "", {}
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                try:
                    self._h11.receive_data(await self.stream.receive_some())
                except trio.BrokenResourceError:
                    return None
            elif isinstance(event, h11.Request):
                path = event.target.decode()
                headers = {k.decode(): v.decode() for k, v in event.headers}
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return Heard(path, headers, json.loads(body))
            else:
                return None

    async def send(self, event: Any) -> None:
        """Send one event. Raises `trio.BrokenResourceError` if the client has gone."""
        await self.stream.send_all(self._h11.send(event) or b"")

    async def begin_events(self) -> None:
        """Begin a stream of server-sent events."""
        headers = [("content-type", "text/event-stream")]
        await self.send(h11.Response(status_code=200, headers=headers))

    async def send_json(self, status: int, body: Any, headers: Iterable[tuple[str, str]]) -> None:
        """Send a whole response; bytes go as they are."""
        packed = body if isinstance(body, bytes) else json.dumps(body).encode()
        own = [("content-type", "application/json"), ("content-length", str(len(packed)))]
        await self.send(h11.Response(status_code=status, headers=[*own, *headers]))
        await self.send(h11.Data(data=packed))
        await self.send(h11.EndOfMessage())

    def drop(self) -> None:
        """End in the middle of a response."""
        self._h11.send_failed()


@asynccontextmanager
async def serving(serve: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    """Serve on a free port until the block ends; the origin, as a URL."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            functools.partial(trio.serve_tcp, serve, 0, host="127.0.0.1")
        )
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()
