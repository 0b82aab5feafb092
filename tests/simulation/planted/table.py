"""What a planted bug is.

Owns: `Bug`, `planted` and the table. Must not: patch anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import attrs


@attrs.frozen
class Bug:
    """One bug: how it is planted, what must catch it, and how many seeds that may take."""

    name: str
    #: The first line says what is wrong, the rest which promise is broken.
    about: str
    plant: Callable[[], AbstractContextManager[None]]
    #: The invariants that may be the first to catch it.
    caught_by: frozenset[str]
    within: int
    #: The commit that mended it, if it was once in the code: its subject.
    mended: str | None


#: By name, in the order in which they are written down.
BUGS: dict[str, Bug] = {}


def planted(
    *caught_by: str, within: int = 200, mended: str | None = None
) -> Callable[[Callable[[], Iterator[None]]], Callable[[], AbstractContextManager[None]]]:
    """Enter a generator function, which patches and unpatches around its ``yield``, as a bug."""

    def enter(plant: Callable[[], Iterator[None]]) -> Callable[[], AbstractContextManager[None]]:
        made = contextmanager(plant)
        name = plant.__name__
        about = " ".join((plant.__doc__ or "").split())
        BUGS[name] = Bug(name, about, made, frozenset(caught_by), within, mended)
        return made

    return enter
