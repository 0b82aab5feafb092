"""Mobs with a flow.

Owns: a mob with one flow called ``f``, opened in one call. Must not: hide what a test is about.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mob.mob import Mob
from stores import Store
from tests.mob.mobs import Answer, define, echo, opened

TITLE = {
    "type": "object",
    "properties": {"title": {"type": "string"}},
    "required": ["title"],
    "additionalProperties": False,
}


def flow(**parts: Any) -> dict[str, Any]:
    """Steps by name, the parts of a flow by theirs (with a trailing underscore)."""
    keys = {key[:-1]: parts.pop(key) for key in list(parts) if key.endswith("_")}
    return {"f": {"steps": parts, **keys}}


@asynccontextmanager
async def a_mob(
    flows: dict[str, Any], answer: Answer = echo, store: Store | None = None, **more: Any
) -> AsyncIterator[Mob]:
    definition = define("a", "b", "c", flows=flows, **more.pop("parts", {}))
    async with opened(definition, answer, store=store, **more) as mob:
        yield mob
