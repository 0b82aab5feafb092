"""The parts of a realm's state that are written whole, as rows. Pure.

Owns: `WholeRows`, what each such part offers, and `part_of`, which makes one of a fold. Must not:
touch a store (`runtime.recovery` writes and loads), know what a row means.

A part is loaded when a realm is opened, made anew when a row of it is damaged, and replaced as a
whole when the realm is brought back to an earlier point (`runtime.restoring`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol, TypeAlias

import attrs

if TYPE_CHECKING:
    from runtime.state import RealmState

#: The rows of one part: name and value of each (None: the row is to go).
Rows: TypeAlias = Callable[[], Iterable[tuple[bytes, bytes | None]]]


def _nothing() -> None:
    """There is nothing to do."""


@attrs.frozen
class WholeRows:
    """A part of the state that is always written whole: `changed` hands out the rows that differ
    since it was last called (None: delete the row), `load` takes one back (None: its rows are read
    one by one when they are asked for)."""

    prefix: bytes
    changed: Rows
    load: Callable[[bytes, bytes], None] | None = None
    #: Called once when all rows of the part are loaded.
    loaded: Callable[[], None] = _nothing
    #: Called once when the tail is replayed too.
    replayed: Callable[[], None] = _nothing
    #: Makes the part anew over a state that is folded from the whole journal: adds its transitions
    #: to it and returns the part. Needed if there is `load`.
    rebuild: Callable[[RealmState], WholeRows] | None = None
    #: Told of each row that was made anew: `changed` hands it out again.
    stale: Callable[[bytes], None] = lambda _: None
    #: Forgets everything, also what `changed` has not handed out: other rows are loaded next.
    #: Needed if there is `load`.
    clear: Callable[[], None] | None = None
    #: Whether it stays as it is when the rest is brought back to an earlier point.
    outlives: bool = False


class Part(Protocol):
    """A fold that is kept as rows. It may have `loaded` and `replayed` too."""

    def changed(self) -> Iterable[tuple[bytes, bytes | None]]: ...

    def load(self, name: bytes, row: bytes, /) -> None: ...

    def stale(self, name: bytes, /) -> None: ...

    def clear(self) -> None: ...


def part_of(
    prefix: bytes, part: Part, anew: Callable[[RealmState], Part], *, outlives: bool = False
) -> WholeRows:
    """`part` as rows; `anew` makes another one over another state."""
    return WholeRows(
        prefix,
        part.changed,
        part.load,
        getattr(part, "loaded", _nothing),
        getattr(part, "replayed", _nothing),
        lambda state: part_of(prefix, anew(state), anew, outlives=outlives),
        part.stale,
        part.clear,
        outlives,
    )
