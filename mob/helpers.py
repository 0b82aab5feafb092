"""What makes a member a helper: its name. Pure.

Owns: the names of helpers, and whose they are. Must not: make one (`mob.helping` does).

A name of a helper is that of its member, a tilde, and a number or a word of the caller's. No other
name has a tilde, so whoever sees a name knows what it is, also in old journals and other processes.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Final

#: Between a member's name and what tells its helpers apart.
MARK: Final = "~"

#: Before the idempotency key of a helper's question, so that it is no key of a caller's.
KEY: Final = "helper:"


def is_helper(name: str) -> bool:
    """Whether a member of this name is a helper."""
    return MARK in name


def member_of(name: str) -> str:
    """Whose helper it is; of any other member the member itself."""
    return name.partition(MARK)[0]


def helper_name(of: str, taken: Callable[[str], bool], word: str | None = None) -> str:
    """The name of a new helper of `of`: with the `word`, or the first number that is not taken."""
    if word is not None:
        return f"{of}{MARK}{word}"
    return next(name for number in count(1) if not taken(name := f"{of}{MARK}{number}"))
