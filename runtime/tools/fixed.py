"""A server that is none: tools of our own under a server's name.

Owns: `FixedSource`. Must not: start or reach anything; that is what it is for. A simulation and a
test give it to `open_mob` in place of a table ``[mcp.X]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from runtime.models.base import ToolSpec
from runtime.tools.base import Tool, ToolContext
from runtime.tools.names import is_from, qualified_name, wire_name


@attrs.frozen
class _Named:
    """A tool under another name."""

    own: Tool
    spec: ToolSpec
    idempotent: bool
    timeout_s: float | None

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        return await self.own.run(arguments, context)


class FixedSource:
    """Offers `tools`, given by the names that `server` would have for them, and never others."""

    def __init__(self, server: str, tools: Mapping[str, Tool]) -> None:
        self._server = server
        self._tools: dict[str, Tool] = {}
        for name, own in tools.items():
            spec = attrs.evolve(own.spec, name=wire_name(server, name))
            named = _Named(own, spec, own.idempotent, own.timeout_s)
            self._tools[qualified_name(server, name)] = named
        self._names = {tool.spec.name: each for each, tool in self._tools.items()}

    @property
    def tools(self) -> Mapping[str, Tool]:
        return self._tools

    async def refresh(self) -> str | None:
        return None

    def qualified(self, name: str) -> str | None:
        if name in self._names:
            return self._names[name]
        return qualified_name(self._server, name) if is_from(self._server, name) else None

    def idempotent(self, name: str) -> bool:
        known = self._names.get(name)
        return known is not None and self._tools[known].idempotent
