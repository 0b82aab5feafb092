"""Which tools a session may call: allow and deny lists of patterns, laid over each other.

Owns: `ToolPolicy`. Must not: know a tool, or say what happens to a call that is denied (the
toolbox does).

A harness, an agent and a session may each have a list. Deny lists unite and allow lists intersect
(CONTRACTS 1.11), so a layer can only take away what the layers below it gave: nothing that is
laid over a policy makes it permit more.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Final, TypeAlias

import attrs

#: Names of tools in which ``*`` stands for any characters. A tool of an MCP server is called
#: ``mcp.SERVER.TOOL`` here, whatever name models are told.
Patterns: TypeAlias = tuple[str, ...]


@attrs.frozen
class ToolPolicy:
    """What is permitted: every layer of `allow` has a pattern for it, and `deny` has none.

    No layer at all permits everything; an empty layer permits nothing.
    """

    allow: tuple[Patterns, ...] = ()
    deny: Patterns = ()

    def permits(self, name: str) -> bool:
        """Whether the tool called `name` may be advertised and called."""
        if matches(self.deny, name):
            return False
        return all(matches(layer, name) for layer in self.allow)

    def __and__(self, other: ToolPolicy) -> ToolPolicy:
        """Both laid over each other: permits what both permit."""
        if other == EVERY_TOOL:
            return self
        return ToolPolicy((*self.allow, *other.allow), (*self.deny, *other.deny))


EVERY_TOOL: Final = ToolPolicy()


def listed(allow: Iterable[str] | None, deny: Iterable[str] = ()) -> ToolPolicy:
    """The policy of one layer; `allow` of None: it has no allow list."""
    return ToolPolicy(() if allow is None else (tuple(allow),), tuple(deny))


def matches(patterns: Patterns, name: str) -> bool:
    """Whether one of `patterns` describes the whole of `name`."""
    return any(_compiled(pattern).fullmatch(name) is not None for pattern in patterns)


def may_match(pattern: str, prefix: str) -> bool:
    """Whether `pattern` could describe a name that begins with `prefix`."""
    begins, star, _ = pattern.partition("*")
    return begins.startswith(prefix) or (bool(star) and prefix.startswith(begins))


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    # Only the star is special: with fnmatch a "[" in a name would begin a set of characters.
    return re.compile(".*".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)
