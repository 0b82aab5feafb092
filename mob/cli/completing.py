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


def newcomers(context: CompletionContext) -> list[str]:
    """``MOB/`` for each mob: the name behind it is to be invented."""
    return [f"{each}/" for each in mobs(context)]


def whole_or_members(context: CompletionContext) -> list[str]:
    """As `members`, where MOB alone means something, too."""
    here = [] if "/" in context.incomplete else mobs(context)
    return [*here, *members(context)]


def members(context: CompletionContext) -> list[str]:
    """``MOB/`` for each mob; ``MOB/MEMBER`` once the mob is typed, or enough of it."""
    from mob.app import stored_mob
    from mob.cli.target import chosen_mob
    from runtime.errors import MobError
    from stores import StoreError, read_lmdb

    typed, slash, _ = context.incomplete.partition("/")
    if not slash:
        return newcomers(context)
    try:
        with read_lmdb(_state(context)) as store:
            found = stored_mob(store, chosen_mob(store, typed))
        return [f"{typed}/{each}" for each in found.roster.members]
    except (StoreError, MobError, OSError):
        return []


def _state(context: CompletionContext) -> Path:
    try:
        given = context["state"].raw
    except KeyError:
        given = None
    return Path(given or os.environ.get("MOB_STATE") or ".mob")
