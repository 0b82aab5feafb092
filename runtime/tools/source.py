"""Tools that come and go while a session lives.

Owns: the `ToolSource` port. Must not: know where the tools come from (`runtime.tools.mcp` is one
such place; a simulation plugs in another).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from runtime.tools.base import Tool


class ToolSource(Protocol):
    """A place that offers tools, shared by sessions. Safe for many tasks at once."""

    @property
    def tools(self) -> Mapping[str, Tool]:
        """What it offers as far as is known, by the name that policies use. No waiting."""
        ...

    async def refresh(self) -> str | None:
        """Bring `tools` up to date: connect, or list again what has changed.

        Returns why that failed, in words for the model, or None. Raises nothing else than
        cancellation; does not wait when there is nothing new.
        """
        ...

    def qualified(self, name: str) -> str | None:
        """The name that policies use for what models call `name`, None if it is not from here.

        Also for tools that `tools` does not have: a turn may be resumed before anything is known.
        """
        ...

    def idempotent(self, name: str) -> bool:
        """Whether the tool that models call `name` may be repeated. Known without connecting."""
        ...
