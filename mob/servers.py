"""The MCP servers of a mob.

Owns: turning ``[mcp.X]`` into servers that live as long as the mob is open. Must not: start one
(the first session that needs its tools does).
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from mob.definition import MobDefinition
from mob.errors import DefinitionInvalid, Mistake
from runtime.tools.mcp import ServerSettings, open_servers
from runtime.tools.source import ToolSource


@asynccontextmanager
async def open_mcp(
    definition: MobDefinition, given: Mapping[str, ToolSource]
) -> AsyncIterator[Mapping[str, ToolSource]]:
    """The servers of `definition`, except for those given. All end with the block.

    Raises:
        DefinitionInvalid: the package is not installed, or one is given that has no table.
    """
    wanted = {name: each for name, each in definition.mcp.items() if name not in given}
    mistakes = [
        Mistake(f"mcp.{name}", "a server was given that has no table")
        for name in given
        if name not in definition.mcp
    ]
    if wanted and importlib.util.find_spec("mcp") is None:
        hint = "pip install 'trio-mob[mcp]'"
        mistakes += [Mistake(f"mcp.{name}", "needs the package mcp", hint) for name in wanted]
    if mistakes:
        raise DefinitionInvalid(definition.source, tuple(mistakes))
    settings = {
        name: ServerSettings(
            each.command,
            each.args,
            each.env,
            definition.folder / (each.cwd or "."),
            each.url,
            each.headers,
            each.timeout_s,
            each.start_timeout_s,
            each.idempotent,
        )
        for name, each in wanted.items()
    }
    if not settings:
        yield given
        return
    async with open_servers(settings) as servers:
        yield {**servers, **given}
