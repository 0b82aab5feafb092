"""Tools of MCP servers: programs of ours, or services over HTTP.

Owns: `McpServer`, a `ToolSource` that connects when its tools are first needed, and again when its
server has died; what a result becomes for the model. Must not: be imported with the package `mcp`
(an extra, imported on the first connection), or hide a failure: the model is told.

The connection lives in a task of whoever opened the servers (a mob), and ends with it; calls are
made from the turns' own tasks, so that cancelling one tells the server to stop that call only.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from runtime.errors import describe
from runtime.models.base import ToolSpec
from runtime.nursery import open_background
from runtime.tools.base import Tool, ToolContext, ToolFailed
from runtime.tools.mcpstdio import LAST_WORDS, open_stdio
from runtime.tools.names import is_from, qualified_name, was_fitted, wire_name
from runtime.tools.policy import Patterns, matches
from runtime.tools.shell import INHERITED, Clipped

if TYPE_CHECKING:
    from mcp import Client
    from mcp.client._transport import Transport, TransportStreams
    from mcp_types import CallToolResult

#: What a server of ours gets of our environment besides `INHERITED`: it is the user's own program.
OWN: Final = ("HOME", "LOGNAME", "SHELL", "TERM", "USER")
#: Seconds before a server that did not start is tried again: the first, and at most.
FIRST_RETRY_S: Final = 0.5
LAST_RETRY_S: Final = 30.0
#: Pages of one list of tools: a server that never ends its list must end somewhere.
MOST_PAGES: Final = 100


@attrs.frozen
class ServerSettings:
    """How to reach a server: `command` with `args`, or `url`. Values of `env` and `headers` may
    name variables of our environment as ``${NAME}``.

    `timeout_s` bounds a call, `start_timeout_s` the way to its first list of tools. `idempotent`
    are patterns over its own names of tools that may be repeated after a crash.
    """

    command: str | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = attrs.field(factory=dict)
    cwd: Path = Path()
    url: str | None = None
    headers: Mapping[str, str] = attrs.field(factory=dict)
    timeout_s: float = 60.0
    start_timeout_s: float = 30.0
    idempotent: Patterns = ()


@attrs.frozen
class McpTool:
    """One tool of a server."""

    server: McpServer
    remote: str
    spec: ToolSpec
    idempotent: bool
    timeout_s: float | None

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        return await self.server.call(self.remote, arguments)


class _Link:
    """A connection. `ended` is set when it is known not to hold any more, `gone` when nothing is
    left of it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.ended = trio.Event()
        self.gone = trio.Event()


class McpServer:
    """See `runtime.tools.source.ToolSource`. Get one from `open_servers`.

    Invariant: `tools` is what the last list said while there is a connection, else empty.
    """

    def __init__(self, name: str, settings: ServerSettings, nursery: trio.Nursery) -> None:
        self.name = name
        self._settings = settings
        self._nursery = nursery
        self._lock = trio.Lock()
        self._link: _Link | None = None
        self._tools: dict[str, Tool] = {}
        #: Whether the server said that its list has changed.
        self._stale = False
        self._failures = 0
        self._retry_at = 0.0
        self._why = ""
        #: How often it was connected to: more than once means that it died in between.
        self.connections = 0

    @property
    def tools(self) -> Mapping[str, Tool]:
        return self._tools

    def qualified(self, name: str) -> str | None:
        if not is_from(self.name, name):
            return None
        for qualified, tool in self._tools.items():
            if tool.spec.name == name:
                return qualified
        # A guess, until the list is known: right but for names that were made to fit.
        return qualified_name(self.name, name.removeprefix(f"{self.name}__"))

    def idempotent(self, name: str) -> bool:
        for tool in self._tools.values():
            if tool.spec.name == name:
                return tool.idempotent
        remote = name.removeprefix(f"{self.name}__")
        # Of a name that was made to fit nobody knows now what it was.
        return not was_fitted(name) and matches(self._settings.idempotent, remote)

    async def refresh(self) -> str | None:
        if self._holds() is not None and not self._stale:
            return None
        async with self._lock:
            link = self._holds()
            if link is None:
                if self._link is not None:
                    await self._link.gone.wait()
                if trio.current_time() < self._retry_at:
                    return self._why
                try:
                    await self._nursery.start(self._serve)
                except Exception as error:  # noqa: BLE001 whatever keeps it away, the model is told
                    return self._failed(error)
            elif self._stale:
                try:
                    with trio.fail_after(self._settings.start_timeout_s):
                        await self._list(link)
                except Exception as error:  # noqa: BLE001 likewise
                    link.ended.set()
                    return self._failed(error)
        return None

    def _holds(self) -> _Link | None:
        """The connection, if it is not known to have ended."""
        link = self._link
        return None if link is None or link.ended.is_set() else link

    async def call(self, remote: str, arguments: Mapping[str, Any]) -> str:
        """Have the server run a tool. Raises `ToolFailed` with its words, or with what became of
        it."""
        why = await self.refresh()
        link = self._holds()
        if link is None:
            raise ToolFailed(why or f"the MCP server {self.name!r} has just ended; try again")
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED

        try:
            result = await link.client.call_tool(remote, dict(arguments))
        except MCPError as error:
            if error.code == CONNECTION_CLOSED or error.message == "Session terminated":
                link.ended.set()
                raise ToolFailed(
                    f"the MCP server {self.name!r} was lost while the tool ran ({error.message});"
                    " whether the tool did its work is unknown"
                ) from error
            raise ToolFailed(f"the MCP server {self.name!r} says: {error.message}") from error
        text = as_words(result)
        if result.is_error:
            raise ToolFailed(text or "the tool failed without saying why")
        return text

    def _failed(self, error: Exception) -> str:
        delay_s = min(FIRST_RETRY_S * 2**self._failures, LAST_RETRY_S)
        self._failures += 1
        self._retry_at = trio.current_time() + delay_s
        self._tools = {}
        self._why = f"The tools of {self.name!r} cannot be had at the moment: {_innermost(error)}"
        return self._why

    async def _serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold one connection until it ends. Fails only before it has started."""
        started = False
        last_words = Clipped(LAST_WORDS)
        try:
            with trio.CancelScope() as scope:
                scope.deadline = trio.current_time() + self._settings.start_timeout_s
                async with self._connected(last_words) as link, trio.open_nursery() as nursery:
                    # Listening comes first: between a list and it a change would be lost.
                    await nursery.start(self._listen, link.client)
                    await self._list(link)
                    scope.deadline = float("inf")
                    self._link, self._failures = link, 0
                    self.connections += 1
                    started = True
                    task_status.started()
                    await link.ended.wait()
                    nursery.cancel_scope.cancel()
            if scope.cancelled_caught:
                raise ToolFailed(f"it did not start within {self._settings.start_timeout_s:g} s")
        except BaseExceptionGroup as group:
            _, others = group.split(Exception)
            if others is not None:
                raise others from None  # it is being cancelled: its last words reach nobody
            if not started:
                raise ToolFailed(_with(last_words, _innermost(group))) from group
        except Exception as error:
            if not started:
                raise ToolFailed(_with(last_words, describe(error))) from error
        finally:
            if self._link is not None:
                self._link.gone.set()
            self._link, self._tools = None, {}

    @asynccontextmanager
    async def _connected(self, last_words: Clipped) -> AsyncIterator[_Link]:
        from mcp import Client

        holder: list[_Link] = []

        def ended() -> None:
            for link in holder:
                link.ended.set()

        async def noticed(message: object) -> None:
            await trio.lowlevel.checkpoint()
            if getattr(message, "method", None) == "notifications/tools/list_changed":
                self._stale = True

        transport = self._program(last_words, ended) if self._settings.command else self._http()
        async with Client(transport, message_handler=noticed, cache=None) as client:
            holder.append(_Link(client))
            yield holder[0]

    def _program(self, last_words: Clipped, ended: Callable[[], None]) -> Transport:
        settings = self._settings
        assert settings.command is not None
        inherited = {n: os.environ[n] for n in (*INHERITED, *OWN) if n in os.environ}
        return open_stdio(
            [settings.command, *settings.args],
            cwd=settings.cwd,
            env=inherited | _filled_in(settings.env),
            last_words=last_words,
            ended=ended,
        )

    @asynccontextmanager
    async def _http(self) -> AsyncIterator[TransportStreams]:
        from mcp.client.streamable_http import streamable_http_client
        from mcp.shared._httpx_utils import create_mcp_http_client

        url = self._settings.url
        assert url is not None
        async with create_mcp_http_client(headers=_filled_in(self._settings.headers)) as http:
            async with streamable_http_client(url, http_client=http) as streams:
                yield streams

    async def _listen(
        self, client: Client, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Note when the list of tools changes, for servers that are to be asked to tell. Those of
        before 2026 tell unasked (see `noticed`)."""
        from mcp import MCPError
        from mcp.client.subscriptions import SubscriptionLost
        from mcp_types.version import MODERN_PROTOCOL_VERSIONS

        tools = client.server_capabilities.tools
        listening = False
        if client.protocol_version in MODERN_PROTOCOL_VERSIONS and tools and tools.list_changed:
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    task_status.started()
                    listening = True
                    async for _ in changes:
                        self._stale = True
            except (MCPError, SubscriptionLost, TimeoutError):
                pass
        if not listening:
            task_status.started()
        else:
            self._stale = True  # what changes from here on is not told: look once more

    async def _list(self, link: _Link) -> None:
        """Take over the server's list of tools."""
        self._stale = False
        tools: dict[str, Tool] = {}
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            page = await link.client.list_tools(cursor=cursor)
            for each in page.tools:
                wire = wire_name(self.name, each.name)
                spec = ToolSpec(wire, each.description or each.name, each.input_schema)
                tools[qualified_name(self.name, each.name)] = McpTool(
                    self,
                    each.name,
                    spec,
                    matches(self._settings.idempotent, each.name),
                    self._settings.timeout_s,
                )
            cursor = page.next_cursor
            if cursor is None:
                break
        self._tools = tools


@asynccontextmanager
async def open_servers(
    settings: Mapping[str, ServerSettings],
) -> AsyncIterator[dict[str, McpServer]]:
    """Servers by name, none of them started before its tools are needed; all end with the block."""
    async with open_background() as nursery:
        yield {name: McpServer(name, each, nursery) for name, each in settings.items()}


def as_words(result: CallToolResult) -> str:
    """A result as text: what is not text is said to be there, for our results are text."""
    parts: list[str] = []
    for block in result.content:
        if block.type == "text":
            parts.append(block.text)
        elif block.type == "image" or block.type == "audio":
            size = len(block.data) * 3 // 4
            parts.append(f"[{block.type} of about {size} bytes, {block.mime_type}, not shown]")
        elif block.type == "resource_link":
            parts.append(f"[resource {block.name}: {block.uri}]")
        elif (text := getattr(block.resource, "text", None)) is not None:
            parts.append(text)
        else:
            parts.append(f"[resource {block.resource.uri}, not text, not shown]")
    structured = result.structured_content
    if structured is not None and not any(_says(part, structured) for part in parts):
        parts.append(json.dumps(structured, ensure_ascii=False))
    return "\n".join(parts)


def _says(text: str, value: object) -> bool:
    """Whether `text` is `value`, bare or as JSON: servers send both, for clients that only read
    text, and put a result that is no object under one key."""
    try:
        said: object = json.loads(text)
    except (ValueError, RecursionError):
        said = text
    return value in (said, {"result": said}, {"result": text})


def _filled_in(values: Mapping[str, str]) -> dict[str, str]:
    """`values` with the variables that they name. Raises `ToolFailed` for one that is not set."""

    def value_of(found: re.Match[str]) -> str:
        value = os.environ.get(found[1])
        if value is None:
            raise ToolFailed(f"the environment variable {found[1]} is not set")
        return value

    return {key: re.sub(r"\$\{(\w+)\}", value_of, text) for key, text in values.items()}


def _innermost(error: BaseException) -> str:
    """The first cause in a group of errors: the rest mostly follow from it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, ToolFailed) else describe(error)


def _with(last_words: Clipped, reason: str) -> str:
    said = last_words.text().strip()
    return f"{reason}; it said:\n{said}" if said else reason
