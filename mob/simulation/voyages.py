"""Voyages: points, rewinds and forks of a whole mob, told a second time, and what must hold.

Owns: what is known of points and of what was left behind, the promises of the verbs about time, and
their invariants. Must not: share code with `runtime.travel`, `runtime.points` and
`runtime.restoring` but their records; make a ledger of an earlier moment (`chronicle` does).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, final

import attrs

from runtime.points import LEFT, Point, PointMade, RealmForked, RealmRewound, StateRows

if TYPE_CHECKING:
    from mob.simulation.facts import Batch, KnownTurn, Written
    from mob.simulation.ledger import Ledger
    from mob.simulation.recovered import Recovered


@attrs.frozen
class Snapped:
    """A promise: `Mob.snapshot` returned this point."""

    point: Point


@attrs.frozen
class WentBack:
    """A promise: `Mob.rewind` to `at` returned the point `left`."""

    at: str | int
    left: Point


@attrs.frozen
class Parted:
    """A promise: `Mob.fork` returned the record at which the mob `new_id` begins."""

    new_id: str
    at: int


@attrs.frozen
class KnownPoint:
    """A point: `made` is the number of the record that made it."""

    label: str
    at: int
    made: int
    rows: int
    kept: bool


@final
class Voyages:
    """The travels of one mob."""

    def __init__(self) -> None:
        self.points: dict[str, KnownPoint] = {}
        #: The records behind which this mob began as a fork, and those that it is a fork of did.
        self.bases: tuple[int, ...] = ()
        #: Where each rewind went: its record and that to which it went back.
        self.went: dict[int, int] = {}
        #: The first record of each rewind and fork, by its last one.
        self.begun: dict[int, int] = {}
        #: What is only in branches that were left behind: turns, and idempotency keys.
        self.turns: dict[int, KnownTurn] = {}
        self.keys: set[str] = set()
        #: The commit of the latest rewind, and the state that it leaves as it is.
        self.back: tuple[object, str] | None = None

    def base_of(self, last: int) -> int:
        """Behind which record the state at `last` can be folded."""
        return max((each for each in self.bases if each < last), default=0)

    def table(self) -> Mapping[type, Callable[[Written, Any], None]]:
        """The records that are taken in here. What a rewind does to a ledger is the chronicle's."""
        return {
            PointMade: self._made,
            RealmForked: self._begun,
            RealmRewound: self._begun,
            StateRows: self._rows,
        }

    def _begun(self, written: Written, record: RealmForked | RealmRewound) -> None:
        if isinstance(record, RealmRewound):
            self.went[written.seq] = record.at
        self.begun[written.seq + record.rows] = written.seq

    def _rows(self, _written: Written, _record: StateRows) -> None:
        """What they say is compared with what it should be, and otherwise known."""

    def _made(self, written: Written, record: PointMade) -> None:
        self.points[record.label] = KnownPoint(
            record.label, record.at, written.seq, record.rows, record.why == LEFT
        )


# -- invariants ------------------------------------------------------------------------------


def points_are_of_what_is_on_disk(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.12: a point has a name of its own and is of a record before it; what a rewind
    leaves is the last one, so that nothing of it is lost."""
    record: PointMade = written.record
    if record.label in ledger.voyages.points:
        return f"there is a point {record.label!r} already"
    if record.at >= written.seq or (record.why == LEFT and record.at != written.seq - 1):
        return f"the point {record.label!r} in record {written.seq} is of record {record.at}"
    return None


def rewinds_leave_a_point(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.12: a rewind goes to the point that it names, or to a record before it, and keeps
    what it leaves as a point in the same commit."""
    record: RealmRewound = written.record
    left = ledger.voyages.points.get(record.left)
    if left is None or not left.kept or ledger.written[left.made - 1].commit != written.commit:
        return f"the rewind in record {written.seq} leaves {record.left!r}, which is {left!r}"
    point = None if record.label is None else ledger.voyages.points.get(record.label)
    if record.label is not None and (point is None or point.at != record.at):
        return f"the rewind to {record.label!r} goes to record {record.at}; that is {point!r}"
    return None if 0 < record.at < written.seq else f"a rewind goes to record {record.at}"


def what_comes_back_is_all_that_was(ledger: Ledger, batch: Batch) -> str | None:
    """CONTRACTS 6.12: what a fork begins with, and what a rewind brings back, is every fold as it
    was at that record: members, wiring, requests, the board, flows, tasks."""
    for place, written in enumerate(batch.written):
        record = written.record
        if not isinstance(record, RealmForked | RealmRewound):
            continue
        told: dict[tuple[str, bytes], bytes] = {}
        for each in batch.written[place + 1 : place + 1 + record.rows]:
            rows: StateRows = each.record
            told.update({(rows.prefix, name): row for name, row in rows.rows})
        there = {(prefix.decode(), name): row for prefix, name, row in _rows(ledger, record.at)}
        sessions = {name for prefix, name in told if prefix == "s/"}
        for prefix, name in sorted({*told, *there}):
            if prefix in ("s/", "p/") or (isinstance(record, RealmForked) and name == b"mob"):
                continue  # sessions are compared when they are recovered; points outlive
            one, other = told.get((prefix, name)), there.get((prefix, name))
            if one != other:
                return (
                    f"the row {name!r} of {prefix!r} at record {record.at} was {other!r:.200},"
                    f" record {written.seq} brings {one!r:.200}"
                )
        known = {name.encode() for name in _sessions(ledger, record.at)}
        if sessions != known:
            return f"record {written.seq} brings sessions {sorted(sessions ^ known)} or not"
    return None


def _rows(ledger: Ledger, at: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    from mob.simulation.recovered import fold

    state, _ = fold(ledger, at)
    for part in state.parts.values():
        if part.load is not None and not part.outlives:
            for name, row in part.changed():
                if row is not None:
                    yield part.prefix, name, row


def _sessions(ledger: Ledger, at: int) -> list[str]:
    from mob.simulation.recovered import fold

    return list(fold(ledger, at)[0].heads)


def keys_of_what_was_left_are_free(ledger: Ledger, recovered: Recovered) -> str | None:
    """CONTRACTS 6.12: an idempotency key that was used only in a branch that was left behind joins
    nothing."""
    if recovered.state.applied != ledger.last:
        return None
    for key in sorted(ledger.voyages.keys):
        if key not in ledger.keys and recovered.state.find_key(key) is not None:
            return f"key {key!r} joins {recovered.state.find_key(key)!r:.200}, of another branch"
    return None


def travellers_were_told_the_truth(ledger: Ledger, promise: object) -> str | None:
    """CONTRACTS 6.12: a point, a fork and a rewind that somebody was told of are on disk."""
    points = ledger.voyages.points
    if isinstance(promise, Snapped | WentBack):
        point = promise.point if isinstance(promise, Snapped) else promise.left
        known = points.get(point.label)
        if known != KnownPoint(point.label, point.at, point.record, point.rows, point.kept):
            return f"{point!r:.200} was said to be made, on disk is {known!r}"
    if isinstance(promise, WentBack):
        at = promise.at if isinstance(promise.at, int) else points[promise.at].at
        rewound = {seq: to for seq, to in ledger.voyages.went.items() if seq > promise.left.record}
        if at not in rewound.values():
            return f"the mob was said to be back at record {at}, on disk it went to {rewound}"
    return None
