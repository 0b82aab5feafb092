"""The HTTP API of a running mob, as an ASGI application.

Owns: the paths, reading requests, what an error becomes, when a wait or a stream ends. Must not:
know sockets (`mob.server.serving` does) or what a verb does (`mob.server.verbs` does).

    GET  /v1/mob                             who serves
    GET  /v1/look?most=N                     the mob as it is now
    POST /v1/VERB                            do something, see `mob.server.protocol`
    GET  /v1/events?after=SEQ&follow=1       records
    GET  /v1/looks?most=N&every=S            the mob as it is, whenever it is another
    GET  /v1/text?member=NAME                what models say while they say it
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import trio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from mob.errors import NotServed, RequestInvalid
from mob.mob import Mob
from mob.server import streams
from mob.server.faults import fault_of
from mob.server.protocol import REQUESTS, VERSION, Info, parse, to_json
from mob.server.streams import Emit, Piece
from mob.server.verbs import perform
from runtime.errors import MobError
from stores import StoreError

#: Bytes of a request: a prompt with a long file in it is one of them.
LARGEST: Final = 16 * 1024 * 1024

_log: Final = logging.getLogger("mob.server")


class Api:
    """The application over one mob. `close` ends what would not end by itself."""

    def __init__(self, mob: Mob) -> None:
        self._mob = mob
        #: Waits and streams under way.
        self._open: set[trio.CancelScope] = set()
        self._closed = False
        self.app = Starlette(
            routes=[
                Route(f"/{VERSION}/mob", self._answered(self._info), methods=["GET"]),
                Route(f"/{VERSION}/look", self._answered(self._look), methods=["GET"]),
                Route(f"/{VERSION}/events", self._streamed(self._events), methods=["GET"]),
                Route(f"/{VERSION}/looks", self._streamed(self._looks), methods=["GET"]),
                Route(f"/{VERSION}/told", self._streamed(self._told), methods=["GET"]),
                Route(f"/{VERSION}/frames", self._streamed(self._frames), methods=["GET"]),
                Route(f"/{VERSION}/text", self._streamed(self._text), methods=["GET"]),
                Route(f"/{VERSION}/{{verb}}", self._answered(self._verb), methods=["POST"]),
            ]
        )

    def close(self) -> None:
        """End every wait and every stream; what is asked from here on is refused."""
        self._closed = True
        for scope in self._open:
            scope.cancel()

    # -- what is answered ------------------------------------------------------------------

    async def _info(self, request: Request) -> Any:
        return to_json(info_of(self._mob))

    async def _look(self, request: Request) -> Any:
        return to_json(streams.look(self._mob, _number(request, "most", streams.MOST)))

    async def _verb(self, request: Request) -> Any:
        cls = REQUESTS.get(request.path_params["verb"])
        if cls is None:
            known = ", ".join(sorted(REQUESTS))
            raise RequestInvalid(f"no verb {request.path_params['verb']!r}; the verbs: {known}")
        asked = parse(cls, await _body(request))
        if not cls.patient:
            return to_json(await perform(self._mob, asked))
        answer: list[Any] = []

        async def wait() -> None:
            answer.append(await perform(self._mob, asked))

        await self._until_gone(request.receive, wait)
        if not answer:
            raise NotServed(self._mob.id, "its process ends, or nobody waits any more")
        return to_json(answer[0])

    # -- what is streamed ------------------------------------------------------------------

    def _events(self, request: Request) -> Callable[[Emit], Awaitable[None]]:
        after = _after(request)
        follow = bool(_number(request, "follow", 0))
        return partial(streams.events, self._mob, after, follow=follow)

    def _looks(self, request: Request) -> Callable[[Emit], Awaitable[None]]:
        every = request.query_params.get("every", str(streams.EVERY_S))
        try:
            every_s = float(every)
        except ValueError:
            raise RequestInvalid(f"every={every!r} is no number of seconds") from None
        most = _number(request, "most", streams.MOST)
        return partial(streams.looks, self._mob, most, every_s)

    def _told(self, request: Request) -> Callable[[Emit], Awaitable[None]]:
        return partial(streams.told, self._mob, _after(request))

    def _frames(self, request: Request) -> Callable[[Emit], Awaitable[None]]:
        return partial(streams.frames, self._mob)

    def _text(self, request: Request) -> Callable[[Emit], Awaitable[None]]:
        member = request.query_params.get("member")
        if member is not None:
            self._mob.session_of(member)
        return partial(streams.text, self._mob, member)

    # -- inside ----------------------------------------------------------------------------

    def _answered(
        self, answer: Callable[[Request], Awaitable[Any]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answered(request: Request) -> Response:
            return _json(200, await answer(request))

        return self._guarded(answered)

    def _streamed(
        self, source: Callable[[Request], Callable[[Emit], Awaitable[None]]]
    ) -> Callable[[Request], Awaitable[Any]]:
        async def streamed(request: Request) -> Any:
            await trio.lowlevel.checkpoint()
            return partial(self._stream, source(request))

        return self._guarded(streamed)

    def _guarded(
        self, answer: Callable[[Request], Awaitable[Any]]
    ) -> Callable[[Request], Awaitable[Any]]:
        """As `answer`, whose failure becomes an answer: a bug in one request ends no mob."""

        async def guarded(request: Request) -> Any:
            try:
                if self._closed:
                    raise NotServed(self._mob.id, "its process ends")
                return await answer(request)
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception as error:  # noqa: BLE001
                if not isinstance(error, MobError | StoreError):
                    _log.exception("a request failed")
                status, told = fault_of(error)
                return _json(status, told)

        return guarded

    async def _stream(
        self, source: Callable[[Emit], Awaitable[None]], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Send the pieces of `source` as they come, and at last ``end`` or ``error``."""

        async def put(data: bytes, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": more})

        async def emit(piece: Piece) -> None:
            await put(piece.encode())

        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await put(b": mob\n\n")
        last = Piece("end", {})
        try:
            await self._until_gone(receive, partial(source, emit))
        except (MobError, StoreError) as error:
            last = Piece("error", fault_of(error)[1])
        await emit(last)
        await put(b"", more=False)

    async def _until_gone(self, receive: Receive, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` until it ends, the client goes away or the server closes."""
        failed: list[Exception] = []
        async with trio.open_nursery() as nursery:
            self._open.add(nursery.cancel_scope)
            if self._closed:  # since it was asked for
                nursery.cancel_scope.cancel()

            async def listen() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                nursery.cancel_scope.cancel()

            nursery.start_soon(listen)
            try:
                await work()
            except Exception as error:  # noqa: BLE001 raised again below, without the group
                failed.append(error)
            finally:
                self._open.discard(nursery.cancel_scope)
            nursery.cancel_scope.cancel()
        if failed:
            raise failed[0]


def info_of(mob: Mob) -> Info:
    """Who serves."""
    try:
        of = version("trio-mob")
    except PackageNotFoundError:
        of = "not installed"
    return Info(
        mob.id,
        mob.state.value,
        mob.definition.lead,
        len(mob.members),
        mob.realm.journal.last,
        os.getpid(),
        of,
        mob.realm.store.location,
    )


def _json(status: int, value: Any) -> Response:
    body = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    return Response(body, status, media_type="application/json")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST:
            raise RequestInvalid(f"a request may have {LARGEST} bytes")
    return bytes(body)


def _after(request: Request) -> int:
    given = request.headers.get("last-event-id")
    return _number(request, "after", 0) if given is None else _whole("Last-Event-ID", given)


def _number(request: Request, name: str, default: int) -> int:
    given = request.query_params.get(name)
    return default if given is None else _whole(name, given)


def _whole(name: str, given: str) -> int:
    if not (given.isascii() and given.isdigit() and len(given) <= 18):
        raise RequestInvalid(f"{name}={given!r:.40} is no whole number")
    return int(given)
