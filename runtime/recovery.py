"""Recovery: a realm's state from its checkpointed rows and the tail of its journal.

Owns: writing the fold as rows, the position from which the journal must be replayed, loading.
Must not: decide when to write (`runtime.checkpoint` does), know what a row means.

Theory. The journal alone is enough: the rows only spare a reader its beginning. They come in two
kinds. *Whole* rows (idempotency keys, a mob's roster) are written all together, so they stand for
the state at one sequence number, `folded`; records up to it are not applied to them again.
*Session* rows are written a few at a time, longest dirty first, each with the number of the last
record in it; records up to that are not applied to it again. Every record up to `position` is in
some row, so a replay begins there. A step writes its rows and both numbers in one commit: a crash
leaves the step done or not done.

Damage. A session whose row is damaged is quarantined (see `runtime.state`), and so are those that
do not fit the rest of the journal where a record of the tail is damaged. That is written down too,
in rows of its own, because the next reader begins behind that record. If the position itself is
damaged, the rows are not looked at and the journal is replayed from its beginning.

A session that is written once after many turns costs one row, and the tail that a reader must
replay is bounded by writing whenever it grows beyond `TAIL`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

import attrs
import trio

from runtime.errors import MobError
from runtime.heads import pack_row, unpack_row
from runtime.ids import RealmId, SessionId
from runtime.journal import Journal, Lost
from runtime.state import RealmState
from stores import Damaged, Delete, Put, Store, Ticket

#: Records that a reader may have to replay. Replaying takes about 8 CPU microseconds a record, so
#: this is half a second; a smaller bound writes more rows per turn in a large swarm.
TAIL: Final = 65_536

#: What bytes of another layout can cause while they are understood.
_MISFITS: Final = (ValueError, TypeError, LookupError, AttributeError)

#: The reason where the row that had it is damaged as well.
_UNTOLD: Final = "the row that said why is damaged too"

#: Session rows written in one step: a step holds the event loop for about 3 ms.
ROWS: Final = 256


@attrs.frozen
class WholeRows:
    """A part of the state that is always written whole: `changed` hands out the rows that differ
    since it was last called (None: delete the row), `load` takes one back (None: its rows are read
    one by one when they are asked for)."""

    prefix: bytes
    changed: Callable[[], Iterable[tuple[bytes, bytes | None]]]
    load: Callable[[bytes, bytes], None] | None = None
    #: Called once when all rows of the part are loaded.
    loaded: Callable[[], None] = lambda: None


class Recovery:
    """The rows of one realm. `load` is called once, before anything else."""

    def __init__(self, store: Store, realm: RealmId, state: RealmState, journal: Journal) -> None:
        self._store = store
        self._state = state
        self._journal = journal
        self._prefix = b"fold/" + realm.encode() + b"/"
        self._whole: list[WholeRows] = []
        #: Every record up to here is in some row on disk.
        self.position = 0
        #: How many quarantined sessions and lost records there are rows of.
        self._told = (0, 0)
        self._lock = trio.Lock()
        #: The latest step; it may still be on its way if whoever waited for it was cancelled.
        self._ticket: Ticket | None = None

    def add(self, rows: WholeRows) -> None:
        """Have another part of the state written and loaded with the sessions."""
        self._whole.append(rows)

    def load(self) -> int:
        """Read the rows, replay the tail; return the number of records in the journal.

        Sessions that are damaged are quarantined, and the others load.

        Raises:
            stores.Damaged: the journal's end, or a row that is of no session, is not what was
                written.
            RecordUnreadable, WrittenLater: a record or a row was written by a later version.
        """
        state = self._state
        if self._load_position():
            self._load_rows(b"s/", lambda _, row: state.restore(row), self._damaged_row)
            self._load_damage()
            state.restored()
            for whole in self._whole:
                if whole.load is not None:
                    self._load_rows(whole.prefix, whole.load)
                whole.loaded()
            state.applied = self.position
        else:
            self._load_damage()
        last = self._journal.replay(self.position, self._apply, self._lost)
        if state.lost:
            state.check_partials()
        return max(last, self.position)

    def _load_position(self) -> bool:
        """Whether there are rows to begin from."""
        name = self._prefix + b"position"
        try:
            stored = self._store.get(name)
            if stored is None:
                return False
            self.position, self._state.folded = unpack_row(stored)
        except (Damaged, *_MISFITS):
            return False
        return True

    def _load_damage(self) -> None:
        state = self._state

        told: set[SessionId] = set()

        def quarantined(name: bytes, reason: str) -> None:
            session_id = SessionId(name.decode())
            told.add(session_id)
            state.quarantine(session_id, reason)

        def lost(name: bytes, reason: str) -> None:
            state.lost[int.from_bytes(name, "big")] = reason

        for prefix, know in ((b"q/", quarantined), (b"l/", lost)):
            for name, row in self._rows(prefix, partial(_untold, know)):
                know(name, _reason(row))
        self._told = (len(told), len(state.lost))

    def _damaged_row(self, name: bytes, reason: str) -> None:
        self._state.quarantine(SessionId(name.decode()), f"its row is damaged: {reason}")

    def _apply(self, seq: int, record: object) -> None:
        state = self._state
        try:
            state.apply(seq, record)
        except (LookupError, MobError) as error:
            if not state.lost:
                raise
            state.lost[seq] = f"record {seq} needs one that is lost: {error!r}"
            state.applied = seq

    def _lost(self, lost: Lost) -> None:
        """Quarantine whom what is left of the record names; keep its number in any case."""
        state = self._state
        state.lost[lost.seq] = lost.reason
        state.applied = lost.seq
        for session_id in list(state.heads):
            if session_id.encode() in lost.raw:
                state.quarantine(session_id, f"record {lost.seq} is damaged: {lost.reason}")

    @property
    def tail(self) -> int:
        """How many records a reader would have to replay now."""
        return self._state.applied - self.position

    def step(self, most: int = ROWS) -> list[Put | Delete]:
        """The operations of one checkpoint: longest dirty sessions first, at most `most` of them.

        Empty if there is nothing to write. They are one batch; the last one holds the position.
        """
        state = self._state
        told = (len(state.quarantined), len(state.lost))
        if self.position >= state.applied and told == self._told:
            return []
        operations: list[Put | Delete] = []
        if told != self._told:
            operations += self._damage_rows()
            self._told = told
        for session_id in list(itertools.islice(state.dirty, most)):
            del state.dirty[session_id]
            key = self._prefix + b"s/" + session_id.encode()
            row = state.row(session_id)
            operations.append(Delete(key) if row is None else Put(key, row))
        for whole in self._whole:
            for name, row in whole.changed():
                key = self._prefix + whole.prefix + name
                operations.append(Delete(key) if row is None else Put(key, row))
        oldest = next(iter(state.dirty.values()), None)
        position = state.applied if oldest is None else oldest - 1
        operations.append(Put(self._prefix + b"position", pack_row(position, state.applied)))
        return operations

    async def write(self, most: int = ROWS) -> bool:
        """Write one step; whether there was anything to write. Steps never overlap.

        Cancelling leaves the step in the store's queue; the next one waits for it.
        """
        async with self._lock:
            if self._ticket is not None:
                await self._ticket.wait()
            operations = self.step(most)
            if not operations:
                return False
            self._ticket = self._store.submit(operations)
            await self._ticket.wait()
            last = operations[-1]
            assert isinstance(last, Put)
            self.position = unpack_row(last.value)[0]
            return True

    def key_row(self, prefix: bytes, name: bytes) -> bytes | None:
        """A whole row as stored, for parts that are read one by one and not at opening."""
        return self._store.get(self._prefix + prefix + name)

    def _damage_rows(self) -> list[Put | Delete]:
        state = self._state
        rows: list[Put | Delete] = [
            Put(self._prefix + b"q/" + session_id.encode(), pack_row(reason))
            for session_id, reason in state.quarantined.items()
        ]
        for seq, reason in state.lost.items():
            rows.append(Put(self._prefix + b"l/" + seq.to_bytes(8, "big"), pack_row(reason)))
        return rows

    def _load_rows(
        self,
        prefix: bytes,
        load: Callable[[bytes, bytes], None],
        damaged: Callable[[bytes, str], None] | None = None,
    ) -> None:
        """`load` every row; `damaged` those that cannot be, with the reason."""
        for name, row in self._rows(prefix, damaged):
            try:
                load(name, row)
            except _MISFITS as error:
                if damaged is None:
                    where = repr(self._prefix + prefix + name)
                    raise Damaged(where, f"not a row of this realm: {error!r}") from error
                damaged(name, repr(error))

    def _rows(
        self, prefix: bytes, damaged: Callable[[bytes, str], None] | None
    ) -> Iterable[tuple[bytes, bytes]]:
        """The rows under `prefix` by name, one by one where one of them is damaged."""
        start = self._prefix + prefix
        after: bytes | None = None
        limit: int | None = None
        while True:
            try:
                rows = self._store.scan(start, after=after, limit=limit)
            except Damaged as error:
                if damaged is None or not error.key.startswith(start):
                    raise
                if limit == 1:
                    damaged(error.key[len(start) :], error.reason)
                    after = error.key
                limit = 1
                continue
            for key, row in rows:
                yield key[len(start) :], row
            if limit is None or not rows:
                return
            after = rows[-1][0]


def _untold(know: Callable[[bytes, str], None], name: bytes, _: str) -> None:
    know(name, _UNTOLD)


def _reason(row: bytes) -> str:
    try:
        (reason,) = unpack_row(row)
    except _MISFITS:
        return _UNTOLD
    return str(reason)
