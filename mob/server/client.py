"""Reaching a running mob from another process.

Owns: `open_client`, `Client`: requests, and streams that go on at their cursor. Must not: open a
store, decide what to do when nobody runs the mob (the command line does).
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import attrs
import trio

from mob.console.rows import Frame
from mob.errors import NotServed, ServerFailed, ServerMissing
from mob.server.faults import error_of
from mob.server.protocol import VERSION, Info, Look, Request, Told, read, to_json
from mob.server.sockets import socket_of, somebody_listens
from runtime.errors import MobError
from runtime.nursery import open_background
from runtime.watching import Gap, TextDelta
from stores import StoreError

if TYPE_CHECKING:
    import httpx2

R = TypeVar("R")
T = TypeVar("T")


@attrs.frozen
class StreamEvent:
    """A piece of a stream: its name, what it says, and for a record the number to go on at."""

    name: str
    data: dict[str, Any]
    at: int | None


class Stream(Generic[T]):
    """An asynchronous iterator over what a running mob sends. For one reader."""

    def __init__(self, take: trio.MemoryReceiveChannel[T | Exception]) -> None:
        self._take = take

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        try:
            found = await self._take.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
        if isinstance(found, Exception):
            raise found
        return found


class Client:
    """What another process can do with a running mob. Get one from `open_client`."""

    def __init__(self, mob_id: str, http: httpx2.AsyncClient) -> None:
        self.mob_id = mob_id
        self._http = http

    async def call(self, request: Request[R]) -> R:
        """Have the running mob do what is asked, and return its reply.

        A request that is `patient` (see `mob.server.protocol`) is waited for without a limit;
        cancelling the wait takes nothing back that was done.

        Raises what the method of the handle raises, and also:
            NotServed: the process has ended, or ends.
            ServerFailed: it failed in a way that is a bug.
        """
        body = json.dumps(to_json(request), ensure_ascii=False).encode("utf-8", "replace")
        told = await self._fetch("POST", request.verb, content=body)
        return cast("R", read(request.reply, told))

    async def info(self) -> Info:
        """Who serves. Raises as `call`."""
        return read(Info, await self._fetch("GET", "mob"))

    async def look(self, most: int = 200) -> Look:
        """The mob as it is now, at most so many members of it. Raises as `call`."""
        return read(Look, await self._fetch("GET", "look", params={"most": most}))

    def events(
        self, after: int = 0, *, follow: bool = True
    ) -> AbstractAsyncContextManager[Stream[dict[str, Any]]]:
        """In a block: every record above `after` as `mob.shapes.event_shape` says it, with its
        number ``seq``; with `follow` those to come too, until the process ends.

        Iterating raises as `call`; whoever catches `NotServed` goes on at the last ``seq``.
        """
        params = {"after": after, "follow": int(follow)}
        return self._stream("events", params, lambda event: event.data)

    def looks(
        self, most: int = 200, every_s: float = 0.25
    ) -> AbstractAsyncContextManager[Stream[Look]]:
        """In a block: the mob as it is, now and whenever it is another, at most every `every_s`,
        until the process ends. Raises as `events`."""
        params = {"most": most, "every": every_s}
        return self._stream("looks", params, lambda event: read(Look, event.data))

    def told(self, after: int = 0) -> AbstractAsyncContextManager[Stream[Told]]:
        """In a block: what the records above `after` say in words, and those to come, until the
        process ends. Raises as `events`."""
        return self._stream("told", {"after": after}, lambda event: read(Told, event.data))

    def frames(self) -> AbstractAsyncContextManager[Stream[Frame]]:
        """In a block: the mob as frames for a `mob.console.model.Model`, each with what changed,
        until the process ends. Raises as `events`."""
        return self._stream("frames", {}, lambda event: read(Frame, event.data))

    def text(
        self, member: str | None = None
    ) -> AbstractAsyncContextManager[Stream[TextDelta | Gap]]:
        """In a block: what the member's model says while it says it, or everybody's, children's
        too, until the process ends. Raises as `events`."""

        def seen(event: StreamEvent) -> TextDelta | Gap:
            if event.name == "text":
                return read(TextDelta, event.data)
            return read(Gap, event.data)

        return self._stream("text", {} if member is None else {"member": member}, seen)

    # -- inside ----------------------------------------------------------------------------

    async def _fetch(self, method: str, path: str, **more: Any) -> Any:
        import httpx2

        try:
            reply = await self._http.request(method, f"/{VERSION}/{path}", **more)
        except httpx2.TransportError as error:
            raise self._gone(error) from None
        try:
            told = reply.json()
        except ValueError:
            raise ServerFailed(f"an answer that is no JSON: {reply.text!r:.200}") from None
        if reply.status_code != httpx2.codes.OK:
            raise error_of(told)
        return told

    @asynccontextmanager
    async def _stream(
        self, path: str, params: dict[str, Any], shaped: Callable[[StreamEvent], T]
    ) -> AsyncIterator[Stream[T]]:
        """The stream is read by a task, so that leaving the block ends it at once."""
        put, take = trio.open_memory_channel[T | Exception](0)
        async with open_background() as nursery:
            nursery.start_soon(self._feed, path, params, shaped, put)
            yield Stream(take)

    async def _feed(
        self,
        path: str,
        params: dict[str, Any],
        shaped: Callable[[StreamEvent], T],
        put: trio.MemorySendChannel[T | Exception],
    ) -> None:
        import httpx2

        async with put:
            try:
                async with self._http.stream("GET", f"/{VERSION}/{path}", params=params) as reply:
                    if reply.status_code != httpx2.codes.OK:
                        await reply.aread()
                        raise error_of(reply.json())

                    async def handed_on(event: StreamEvent) -> None:
                        if event.name == "error":
                            raise error_of(event.data)
                        if event.name != "end":
                            await put.send(shaped(event))

                    last = await _each(reply.aiter_raw(), handed_on)
                if last != "end":
                    raise self._gone("the stream broke off")
            except httpx2.TransportError as error:
                await put.send(self._gone(error))
            except (MobError, StoreError, ValueError) as error:
                await put.send(error)

    def _gone(self, why: object) -> NotServed:
        return NotServed(self.mob_id, f"the process that runs it has ended ({why})")


async def _each(
    chunks: AsyncIterator[bytes], take: Callable[[StreamEvent], Awaitable[None]]
) -> str:
    """Have `take` take every event that comes in `chunks`; return the name of the last.

    A response that is left half read leaves iterators of `httpcore2` to the garbage collector,
    which complains. So if `take` fails or is cancelled, the reading itself is cancelled: an
    exception that begins at its bottom closes all of it.
    """
    pieces, last = _Pieces(), ""
    failed: list[Exception] = []
    with trio.CancelScope() as reading:
        async for chunk in chunks:
            if failed:
                continue  # it had been read already
            try:
                for event in pieces.read(chunk):
                    last = event.name
                    await take(event)
            except Exception as error:  # noqa: BLE001 raised again below
                failed.append(error)
                reading.cancel()
            except trio.Cancelled:
                async for _ in chunks:
                    pass
                raise
    if failed:
        raise failed[0]
    return last


class _Pieces:
    """Server-sent events out of bytes, of the form that `mob.server.streams.Piece` gives them."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._fields: dict[str, str] = {}

    def read(self, chunk: bytes) -> Iterator[StreamEvent]:
        """The events that end in `chunk`."""
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            self._line += end
            line = self._line.decode()
            self._line.clear()
            if line:
                name, _, value = line.partition(": ")
                self._fields[name] = value
                continue
            fields, self._fields = self._fields, {}
            if "data" in fields:
                at = int(fields["id"]) if "id" in fields else None
                yield StreamEvent(fields.get("event", ""), json.loads(fields["data"]), at)
        self._line += rest


@asynccontextmanager
async def open_client(
    state: str | Path, mob_id: str, *, socket: Path | None = None
) -> AsyncIterator[Client]:
    """A client of the process that runs the mob `mob_id` on the store in `state`, for this block.

    The socket of a process that has died is removed. `socket` is one that is somewhere else.

    Raises:
        NotServed: nobody runs the mob, or whoever does serves no socket.
        ServerMissing: the package ``httpx2`` is not installed.
        FolderUnsafe: others could use the folder for sockets.
    """
    path = socket_of(state, mob_id) if socket is None else socket
    if not somebody_listens(path):
        raise NotServed(mob_id, f"no process serves it at {path}")
    try:
        import httpx2
    except ImportError:
        raise ServerMissing("httpx2") from None
    transport = httpx2.AsyncHTTPTransport(uds=str(path))
    # A reply may take as long as a turn; that somebody is there shows in the connection.
    patience = httpx2.Timeout(None, connect=5.0)
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://mob", timeout=patience, trust_env=False
    ) as http:
        yield Client(mob_id, http)
