"""Going back in time with a whole realm: points, forks and rewinds of it.

Owns: reading the state at a point or at any record, and the commits that make a point, a fork, or
bring the realm back. Must not: know members (`mob.travel` does), stop what runs: whoever rewinds a
realm keeps everybody out of it meanwhile.

What is read and written is the size of the state, not of the history: at a point. At any other
record the state is the fold of all records up to it, and costs what reading those costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import attrs

from runtime.damage import Rebuilt
from runtime.errors import MobError, PointExists, PointNotFound, RealmExists, Unusable
from runtime.heads import pack_row
from runtime.ids import RealmId
from runtime.journal import origin_key, stream_of
from runtime.points import (
    ASKED,
    LEFT,
    MAX_LABEL,
    POINT_KINDS,
    ROWS_PER_RECORD,
    SESSIONS,
    Era,
    Point,
    PointMade,
    RealmForked,
    RealmRewound,
    StateRows,
    clipped,
    point_row,
)
from runtime.realm import Realm
from runtime.records import RUNTIME_RECORDS, Erased
from runtime.retention import erased_until
from stores import Append, Expect, Operation, Put, Ticket

#: The rows of a state: prefix of the part, name and value of each.
StateRow: TypeAlias = tuple[bytes, bytes, bytes]

#: How a row of a fork differs from the one that it is made of.
Change: TypeAlias = Callable[[StateRow], StateRow]

_TYPES: Final = {each.cls: each for each in RUNTIME_RECORDS if each.kind in dict(POINT_KINDS)}


@attrs.frozen
class Moment:
    """The state of a realm right after record `at`, as rows, with its eras. `label` is that of the
    point that it was read from, None if it was not."""

    at: int
    label: str | None
    rows: tuple[StateRow, ...]
    era: int
    past: tuple[Era, ...]

    def past_for_another(self, realm: str) -> tuple[Era, ...]:
        """The eras that count for whoever begins where `realm` was at this moment."""
        return (Era(realm, self.era, self.at), *clipped(self.past, self.at))


class Travel:
    """The points of one realm, which has recovered."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm
        self._recovery = realm.recovery

    @property
    def points(self) -> tuple[Point, ...]:
        """All points, oldest first."""
        return tuple(self._realm.state.points.points.values())

    def moment(self, at: str | int) -> Moment:
        """The state at a point (its label) or right after a record (its number).

        Raises:
            PointNotFound: there is no such point or record, or records before it were erased that
                it needs.
            MobError: something stored is damaged.
        """
        self._check_whole()
        if isinstance(at, int):
            return self._folded(at)
        point = self._realm.state.points.points.get(at)
        if point is None:
            known = ", ".join(each.label for each in self.points) or "none"
            raise PointNotFound(at, f"there is no such point; there are: {known}")
        rows = tuple(self._rows_behind(point.record, point.rows))
        return Moment(point.at, at, rows, point.era, point.past)

    def _rows_behind(self, record: int, count: int) -> Iterator[StateRow]:
        after = record
        while after < record + count:
            for event in self._realm.journal.read(after, record + count - after):
                after = event.seq
                assert isinstance(event.record, StateRows)
                for name, row in event.record.rows:
                    yield event.record.prefix.encode(), name, row

    def _folded(self, at: int) -> Moment:
        journal = self._realm.journal
        if not 0 < at <= journal.last:
            raise PointNotFound(at, f"the records are numbered from 1 to {journal.last}")
        rebuilt = Rebuilt(journal, self._recovery.rebuilders(), journal.base_of(at))
        erased = erased_until(self._realm.store, journal, at)

        def check(seq: int, record: Any) -> None:
            if type(record) is Erased and (erased is None or at < erased):
                raise PointNotFound(
                    at,
                    f"record {seq} was erased by `mob gc`"
                    + ("" if erased is None else f", when there were {erased}")
                    + ": go to a point, or to a later record",
                )

        rebuilt.fold(at, check)
        state = rebuilt.state
        if state.lost or state.quarantined:
            raise PointNotFound(at, "of the records up to it some are damaged")
        if state.restoring.half_done:
            raise PointNotFound(at, "it is in the middle of a rewind, which is one commit")
        heads = [(SESSIONS, each.encode(), state.row(each)) for each in sorted(state.heads)]
        parts = [
            (part.prefix, name, row)
            for part in rebuilt.parts
            if not part.outlives
            for name, row in part.changed()
        ]
        rows = tuple((prefix, name, row) for prefix, name, row in heads + parts if row is not None)
        return Moment(at, None, rows, state.era, state.past)

    def _check_whole(self) -> None:
        state = self._realm.state
        if state.quarantined or state.lost:
            raise MobError(
                f"{len(state.quarantined)} sessions are quarantined and {len(state.lost)} records"
                f" lost in {self._realm.realm_id!r}: what its state is there is not known; `mob"
                " doctor` says what is wrong"
            )

    # -- making ----------------------------------------------------------------------------

    async def make(self, label: str) -> Point:
        """Make a point of what is committed by now, in one commit. Cancelling leaves it made or
        not.

        Raises:
            PointExists: the label is taken.
            Unusable: it cannot be one.
            MobError: something stored is damaged.
        """
        self._check_whole()
        self._check_label(label)

        def submit(moment: Moment, also: Sequence[Operation]) -> Ticket:
            return self._realm.journal.append(*self._point(label, moment, ASKED), also=also)

        # Somebody else may have been making a point of this name.
        await self._captured(submit, lambda: self._check_label(label))
        return self._realm.state.points.points[label]

    def _check_label(self, label: str) -> None:
        if not label or len(label) > MAX_LABEL or label.strip() != label or label.isdigit():
            raise Unusable(
                f"{label!r:.80} cannot be the label of a point: one has 1 to {MAX_LABEL}"
                " characters, no blanks around it, and is not a number"
            )
        if label in self._realm.state.points.points:
            raise PointExists(label)

    async def _captured(
        self,
        submit: Callable[[Moment, Sequence[Operation]], Ticket],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Write a checkpoint and what `submit` makes of the state in one commit, if `check` raises
        nothing when it is its turn."""
        state = self._realm.state

        def then(rows: list[StateRow], also: Sequence[Operation]) -> Ticket:
            moment = Moment(state.applied, None, tuple(rows), state.era, state.past)
            return submit(moment, also)

        await self._recovery.capture(then, check)

    def _point(self, label: str, moment: Moment, why: str) -> list[Any]:
        rows = list(_packed(moment.rows))
        now = self._realm.ports.clock.now_ns()
        made = PointMade(label, moment.at, len(rows), why, moment.era, moment.past, now)
        return [made, *rows]

    async def fork(
        self, new: RealmId, at: str | int | None = None, change: Change = lambda row: row
    ) -> int:
        """Begin the realm `new` with the state at `at` (None: now), in one commit, and return the
        number of the record that it was at. `change` is asked about each row. Nothing of a history
        is copied; cancelling leaves the fork made or not.

        Raises:
            PointNotFound: as `moment`.
            RealmExists: there is a realm of this name.
            MobError: something stored is damaged.
        """
        if self._realm.store.last(stream_of(new)):
            raise RealmExists(new)
        found: list[int] = []

        def submit(moment: Moment, also: Sequence[Operation]) -> Ticket:
            found.append(moment.at)
            return self._realm.store.submit([*also, *self._beginning(new, moment, change)])

        if at is None:
            self._check_whole()
            await self._captured(submit)
        else:
            await submit(self.moment(at), ()).wait()
        return found[0]

    def _beginning(self, new: RealmId, moment: Moment, change: Change) -> list[Operation]:
        """The operations that begin a realm with this state."""
        realm = self._realm
        past = moment.past_for_another(realm.realm_id)
        points = [
            (b"p/", each.label.encode(), point_row(each))
            for each in self.points
            if each.last <= moment.at
        ]
        rows = list(_packed([*map(change, moment.rows), *points]))
        parent, at, stream = realm.realm_id, moment.at, stream_of(new)
        now = realm.ports.clock.now_ns()
        records = [RealmForked(parent, at, moment.label, len(rows), past, now), *rows]
        appends = [
            Append(stream, kind.kind, kind.pack(each), kind.version)
            for each in records
            for kind in (_TYPES[type(each)],)
        ]
        fold = b"fold/" + new.encode() + b"/"
        keyed = [Put(fold + b"k/" + name, row) for name, row in realm.inputs.rows_for(past)]
        runs = [Put(fold + b"x/" + name, row) for name, row in realm.state.runs.rows_for(past)]
        origin = origin_key(new)
        return [Expect(origin, None), Put(origin, pack_row(parent, at)), *keyed, *runs, *appends]

    async def rewind(self, moment: Moment, more: Callable[[], Sequence[Any]] = lambda: ()) -> Point:
        """Bring the realm back to `moment`, with `more` behind it, in one commit; return the point
        that it was at until now.

        Nobody may be at work in the realm. Cancelling leaves it done or not done.
        """
        realm, points = self._realm, self._realm.state.points.points
        kept_as: list[str] = []

        def submit(left: Moment, also: Sequence[Operation]) -> Ticket:
            number = sum(each.kept for each in self.points) + 1
            while (label := f"before-rewind-{number}") in points:
                number += 1
            kept_as.append(label)
            rows = list(_packed(moment.rows))
            past = moment.past_for_another(realm.realm_id)
            now = realm.ports.clock.now_ns()
            back = RealmRewound(moment.at, moment.label, label, len(rows), past, now)
            kept = self._point(label, left, LEFT)
            return realm.journal.append(*kept, back, *rows, *more(), also=also)

        self._check_whole()
        await self._captured(submit)
        realm.inputs.forget()
        return points[kept_as[0]]


def _packed(rows: Sequence[StateRow]) -> Iterator[StateRows]:
    by_part: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for prefix, name, row in rows:
        by_part.setdefault(prefix, []).append((name, row))
    for prefix, named in by_part.items():
        for start in range(0, len(named), ROWS_PER_RECORD):
            yield StateRows(prefix.decode(), tuple(named[start : start + ROWS_PER_RECORD]))
