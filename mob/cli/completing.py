"""What a shell offers where a mob or a member is to be typed.

Owns: the names. Must not: fail, write, or take long: it runs at every press of the key.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyclopts.completion._engine import CompletionContext


def mobs(context: CompletionContext) -> list[str]:
    """The mobs of the store that is meant."""
    from mob.app import stored_mobs
    from stores import StoreError, read_lmdb

    try:
        with read_lmdb(_state(context)) as store:
            return list(stored_mobs(store))
    except (StoreError, OSError):
        return []


def members(context: CompletionContext) -> list[str]:
    """``MOB/`` for each mob; ``MOB/MEMBER`` once the mob is typed."""
    from mob.app import stored_mob
    from runtime.errors import MobError
    from stores import StoreError, read_lmdb

    mob_id, slash, _ = context.incomplete.partition("/")
    if not slash:
        return [f"{each}/" for each in mobs(context)]
    try:
        with read_lmdb(_state(context)) as store:
            return [f"{mob_id}/{each}" for each in stored_mob(store, mob_id).roster.members]
    except (StoreError, MobError, OSError):
        return []


def _state(context: CompletionContext) -> Path:
    try:
        given = context["state"].raw
    except KeyError:
        given = None
    return Path(given or os.environ.get("MOB_STATE") or ".mob")
