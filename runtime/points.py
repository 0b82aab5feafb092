"""Points of a realm: its state at a moment, kept in its journal to go back to. Pure.

Owns: the records of points, forks and rewinds of a whole realm, what is known of points, and eras.
Must not: replace a state (`runtime.restoring` does), read a journal (`runtime.travel` does).

A point is a record with the rows of the state behind it, all in one commit: so whoever goes back
to it reads what the realm is large, not what its history is long. A fork begins with the same rows,
and reads what is before them from the journal that it comes from; a rewind writes them once more.

*Eras.* Some rows are read one by one when they are asked for (`runtime.parts`: idempotency keys,
receipts of runs) and are in no point, because there are as many as there ever were inputs. They
stay where they were written. An era is a stretch of a journal after a rewind (or the fork), and
writes such rows under its own name; what counts of those before it is what was written up to the
point at which it left them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import attrs
import msgpack

from runtime.heads import pack_row, unpack_row

if TYPE_CHECKING:
    from runtime.state import RealmState

#: Rows in one record: as many as one step of a checkpoint writes.
ROWS_PER_RECORD: Final = 256

#: The prefix of the rows of sessions, beside those of the parts.
SESSIONS: Final = b"s/"

#: Why a point was made.
ASKED: Final = "asked"
LEFT: Final = "left"

#: Characters of a label.
MAX_LABEL: Final = 64


@attrs.frozen
class Era:
    """What counts of an earlier era: rows that the realm `realm` wrote in its era `number` (the
    record that began it; 0: the first) and that stand for records up to `until`."""

    realm: str
    number: int
    until: int


_packb = msgpack.Packer(use_bin_type=True).pack

#: No record has a number as high.
ALWAYS: Final = 2**62


def era_name(name: bytes, era: int) -> bytes:
    """What a row that is read one by one is called in its era: in the first as it ever was."""
    return name if not era else name + b"\xff" + era.to_bytes(8, "big")


#: Behind a name, it is behind what that is called in any era.
AFTER_ERAS: Final = b"\xff\xff"


def marked(row: bytes, at: int) -> bytes:
    """A row that is read one by one, of a part that does not tell eras apart, with the record that
    it stands for."""
    return _packb((0, at, row))


def unmarked(row: bytes) -> tuple[bytes, int]:
    """The row and the record that it stands for (in old stores a later one, at which it was
    written); 0 if it does not say so."""
    fields = msgpack.unpackb(row, use_list=False)
    if type(fields) is tuple and len(fields) == 3 and fields[0] == 0:
        return fields[2], fields[1]
    return row, 0


def counts(eras: Iterable[Era], realm: str, at: int) -> bool:
    """Whether what `realm` wrote at record `at` is of one of these eras."""
    return any(each.realm == realm and each.number <= at <= each.until for each in eras)


def clipped(past: tuple[Era, ...], until: int) -> tuple[Era, ...]:
    """`past` as far as it counts at record `until`."""
    return tuple([attrs.evolve(each, until=min(each.until, until)) for each in past])


@attrs.frozen
class PointMade:
    """The state right after record `at` is in the `rows` records of `StateRows` behind this one.

    `why` is `ASKED`, or `LEFT`: it is what a rewind left. `era` and `past` are those of the state.
    """

    label: str
    at: int
    rows: int
    why: str
    era: int
    past: tuple[Era, ...]
    at_ns: int


@attrs.frozen
class RealmForked:
    """The first record of a realm that begins with the state that `parent` had right after its
    record `at`: the next `rows` records have it. Records up to `at` are those of `parent`, and this
    one is number `at` + 1."""

    parent: str
    at: int
    label: str | None
    rows: int
    past: tuple[Era, ...]
    at_ns: int


@attrs.frozen
class RealmRewound:
    """The state is again what it was right after record `at`: the next `rows` records have it.
    `left` is the label of the point at which it was until now."""

    at: int
    label: str | None
    left: str
    rows: int
    past: tuple[Era, ...]
    at_ns: int


@attrs.frozen
class StateRows:
    """Rows of a state: of the part with this prefix, name and value of each."""

    prefix: str
    rows: tuple[tuple[bytes, bytes], ...]


#: The kinds of these records.
POINT_KINDS: Final = ((76, RealmForked), (77, RealmRewound), (78, StateRows), (79, PointMade))


@attrs.frozen
class Point:
    """A point that can be gone back to. `record` is the number of its `PointMade`; `kept` says that
    nobody asked for it: it is what a rewind left."""

    label: str
    at: int
    record: int
    rows: int
    kept: bool
    era: int
    past: tuple[Era, ...]
    made_at_ns: int

    @property
    def last(self) -> int:
        """The number of the last record that belongs to it."""
        return self.record + self.rows


class PointBook:
    """The points by label, oldest first: a part of the fold that no rewind takes back."""

    def __init__(self, state: RealmState) -> None:
        self._state = state
        self.points: dict[str, Point] = {}
        self._changed: set[str] = set()

    def made(self, seq: int, record: PointMade) -> None:
        """The transition of `PointMade`."""
        if seq > self._state.folded:
            fields = (record.why == LEFT, record.era, record.past, record.at_ns)
            point = Point(record.label, record.at, seq, record.rows, *fields)
            self.points[record.label] = point
            self._changed.add(record.label)

    def changed(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The rows to write, as `runtime.parts.WholeRows` asks for them."""
        changed, self._changed = self._changed, set()
        for label in sorted(changed):
            yield label.encode(), point_row(self.points[label])

    def load(self, _: bytes, row: bytes) -> None:
        """Take a row back. Raises `ValueError`, `TypeError` if it is none."""
        label, at, record, rows, kept, era, past, made_at_ns = unpack_row(row)
        eras = unpack_past(past)
        self.points[label] = Point(label, at, record, rows, kept, era, eras, made_at_ns)

    def loaded(self) -> None:
        """Call once after all rows: put the points in the order in which they were made."""
        self.points = dict(sorted(self.points.items(), key=lambda each: each[1].record))

    def stale(self, name: bytes) -> None:
        """The row was made anew and is to be written."""
        self._changed.add(name.decode())

    def clear(self) -> None:
        """Forget the points: others are loaded."""
        self.points.clear()
        self._changed.clear()


def point_row(point: Point) -> bytes:
    """The row of a point."""
    fields: list[Any] = list(attrs.astuple(point, recurse=False))
    fields[6] = pack_past(point.past)
    return pack_row(*fields)


def pack_past(past: tuple[Era, ...]) -> list[tuple[Any, ...]]:
    """Eras as msgpack values."""
    return [attrs.astuple(each) for each in past]


def unpack_past(packed: Any) -> tuple[Era, ...]:
    """What `pack_past` has packed."""
    return tuple([Era(*each) for each in packed])
