"""An MCP server as a program of ours that speaks over its pipes.

Owns: the transport that `mcp.Client` is given: lines of JSON both ways, the program's last words on
stderr, and its end. Must not: know a method of the protocol.

The package's own transport ends the program alone if that goes quietly, and lets what it started
live on; it also gives it our stderr. Here it has a process group of which nothing is left. The
order of its end is the specification's: stdin is closed, it gets a moment, then it is told to end.
https://modelcontextprotocol.io/specification/2025-11-25/basic/lifecycle#shutdown
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from runtime.tools.processes import Group, open_group
from runtime.tools.shell import Clipped

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.shared.message import SessionMessage

    Heard: TypeAlias = SessionMessage | Exception
    Streams: TypeAlias = tuple[
        MemoryObjectReceiveStream[Heard], MemoryObjectSendStream[SessionMessage]
    ]

#: Seconds that a server has to go by itself once its stdin is closed.
LEAVE_S: Final = 1.0
#: Bytes of one message. A result of this size fits no model; more is a server that went wrong.
LONGEST_LINE: Final = 16 * 1024 * 1024
#: Bytes of stderr that are kept to be told why a server failed.
LAST_WORDS: Final = 2000


@asynccontextmanager
async def open_stdio(
    command: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    last_words: Clipped,
    ended: Callable[[], None],
) -> AsyncIterator[Streams]:
    """Run the server while the block runs. `ended` is called if it ends before that.

    Raises:
        OSError: it cannot be started.
    """
    import anyio
    from mcp.shared.message import SessionMessage

    async with open_group(command, cwd=cwd, env=env, stdin=True, separate_stderr=True) as group:
        try:
            # No room in either: what the other side has not taken waits in the pipe.
            heard, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
            outgoing, said = anyio.create_memory_object_stream[SessionMessage](0)
            async with trio.open_nursery() as nursery, heard, said, incoming, outgoing:
                nursery.start_soon(_read, group, heard)
                nursery.start_soon(_write, group, said, heard)
                nursery.start_soon(_listen, group, last_words)
                nursery.start_soon(_watch, group, heard, ended)
                yield incoming, outgoing
                nursery.cancel_scope.cancel()
        finally:
            # Shielded for a bounded time: a server is let go in order also when we are cancelled.
            with trio.CancelScope(shield=True), trio.move_on_after(LEAVE_S):
                assert group.stdin is not None
                group.stdin.close()
                await group.wait()


async def _read(group: Group, heard: MemoryObjectSendStream[Heard]) -> None:
    """Hand each line on as a message, or as the error that it is."""
    from anyio import BrokenResourceError, ClosedResourceError
    from mcp.shared.message import SessionMessage
    from mcp_types import jsonrpc_message_adapter

    rest = bytearray()
    try:
        while chunk := await group.stdout.receive_some():
            rest += chunk
            if b"\n" not in chunk:
                if len(rest) > LONGEST_LINE:
                    break
                continue
            *lines, last = rest.split(b"\n")
            rest = last
            for line in filter(None, map(bytes.strip, map(bytes, lines))):
                try:
                    message = jsonrpc_message_adapter.validate_json(line, by_name=False)
                except ValueError as error:  # a server that prints: the client ignores it
                    await heard.send(error)
                else:
                    await heard.send(SessionMessage(message))
    except (BrokenResourceError, ClosedResourceError, trio.ClosedResourceError, OSError):
        pass  # the session or the server is gone
    await heard.aclose()


async def _write(
    group: Group,
    said: MemoryObjectReceiveStream[SessionMessage],
    heard: MemoryObjectSendStream[Heard],
) -> None:
    assert group.stdin is not None
    try:
        async for each in said:
            line = each.message.model_dump_json(by_alias=True, exclude_unset=True)
            await group.stdin.send_all(line.encode() + b"\n")
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
        await heard.aclose()  # it takes nothing more: whoever waits for an answer is told so


async def _listen(group: Group, last_words: Clipped) -> None:
    assert group.stderr is not None
    while chunk := await group.stderr.receive_some():
        last_words.add(chunk)


async def _watch(
    group: Group,
    heard: MemoryObjectSendStream[Heard],
    ended: Callable[[], None],
) -> None:
    """Notice that the server is gone also if something it started holds its pipes open."""
    await group.wait()
    group.kill()
    ended()
    await heard.aclose()
