"""Serving a mob on a unix socket while it runs.

Owns: `serve`: the socket's life, connections, the end that waits for nobody. Must not: have a say
in what is asked (`mob.server.api` does), or ever end the mob for what goes wrong here.

Hypercorn does the HTTP. Its own loop would wait for a client that does not read what it is sent,
because it shields every send; so the connections are accepted here, and at the end the sockets of
those that have not ended by themselves are closed under them.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from socket import MSG_PEEK
from typing import Any, Final, cast

import trio

from mob.errors import ServerMissing
from mob.mob import Mob
from mob.server.sockets import listening, socket_of
from runtime.errors import MobError
from runtime.nursery import open_background

#: Seconds that requests under way have to end once the server closes.
GRACE_S: Final = 0.5

#: What the extra ``server`` brings for serving.
_PACKAGES: Final = ("starlette", "hypercorn")

_log: Final = logging.getLogger("mob.server")


class Server:
    """A mob that is served. `path` is its socket."""

    def __init__(self, mob: Mob, path: Path) -> None:
        for package in _PACKAGES:
            if importlib.util.find_spec(package) is None:
                raise ServerMissing(package)
        self.path = path
        self._mob = mob
        self._loading = trio.Lock()
        self._engine: _Engine | None = None
        self._streams: set[trio.SocketStream] = set()
        #: Those of them that have not said anything yet.
        self._silent: set[trio.SocketStream] = set()
        self._last_gone = trio.Event()

    async def accept(self, stream: trio.SocketStream) -> None:
        """Serve one connection to its end."""
        self._streams.add(stream)
        try:
            if await self._says_something(stream):
                engine = await self._loaded()
                await engine.serve(stream)
        except Exception:  # noqa: BLE001 what one client brings about ends no mob
            _log.exception("a connection failed")
        finally:
            self._streams.discard(stream)
            if not self._streams:
                self._last_gone.set()

    async def close(self) -> None:
        """End all connections: those under way within `GRACE_S`, or else under their feet."""
        if self._engine is not None:
            await self._engine.end()
        for stream in list(self._silent):
            stream.socket.close()
        if self._streams:
            self._last_gone = trio.Event()
            with trio.move_on_after(GRACE_S):
                await self._last_gone.wait()
        for stream in list(self._streams):
            stream.socket.close()

    async def _says_something(self, stream: trio.SocketStream) -> bool:
        """Whether the client sends anything: one that only looks whether somebody is here does not,
        and is no reason to load what serves."""
        self._silent.add(stream)
        try:
            return bool(await stream.socket.recv(1, MSG_PEEK))
        except (trio.ClosedResourceError, ConnectionError):
            return False
        finally:
            self._silent.discard(stream)

    async def _loaded(self) -> _Engine:
        """What serves, from the first request on: importing it takes longer than opening a mob,
        and most runs are watched by nobody."""
        async with self._loading:
            if self._engine is None:
                self._engine = await trio.to_thread.run_sync(_Engine, self._mob)
        return self._engine


class _Engine:
    """Hypercorn over the application of one mob."""

    def __init__(self, mob: Mob) -> None:
        from hypercorn.config import Config
        from hypercorn.trio.tcp_server import TCPServer
        from hypercorn.trio.worker_context import WorkerContext
        from hypercorn.typing import ConnectionState
        from hypercorn.utils import wrap_app

        from mob.server.api import Api

        self._api = Api(mob)
        config = Config()
        config.errorlog = logging.getLogger("mob.server")
        config.include_server_header = False
        # Each of the two libraries has types of its own for ASGI; and Hypercorn takes a stream
        # without TLS too.
        app = wrap_app(cast("Any", self._api.app), config.wsgi_max_body_size, "asgi")
        self._context = WorkerContext(None)

        def connection(stream: trio.SocketStream) -> TCPServer:
            plain = cast("Any", stream)
            return TCPServer(app, config, self._context, ConnectionState({}), plain)

        self._connection = connection

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection."""
        await self._connection(stream)

    async def end(self) -> None:
        """Let connections end that can."""
        self._api.close()
        await self._context.terminated.set()


@asynccontextmanager
async def serve(mob: Mob, *, socket: Path | None = None) -> AsyncIterator[Server]:
    """Serve `mob` in this block, at the socket by which other terminals find it.

    Where that is follows from the folder of the mob's store and its id; a store without a folder
    (one in memory) needs a `socket`. One that is left over from a process that died is replaced.
    Leaving the block ends the waits and streams of clients and waits for none of them. A client
    that waits costs nothing; what goes wrong with one is logged and does no harm.

    Raises:
        ServerMissing: the packages of the extra ``server`` are not installed.
        FolderUnsafe: others could use the folder for sockets.
        OSError: the socket cannot be made.
    """
    if socket is None:
        location = mob.realm.store.location
        if not os.path.exists(location):  # noqa: ASYNC240 it is open
            raise MobError(
                f"the store of mob {mob.id!r} is no folder ({location}): say where its socket is to"
                " be: serve(mob, socket=...)"
            )
        socket = socket_of(location, mob.id)
    server = Server(mob, socket)
    with listening(socket) as listener:
        async with open_background() as nursery:
            accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
            nursery.start_soon(trio.serve_listeners, server.accept, [accepting])
            try:
                yield server
            finally:
                with trio.CancelScope(shield=True):
                    await server.close()
