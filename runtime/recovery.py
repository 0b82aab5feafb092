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

A session that is written once after many turns costs one row, and the tail that a reader must
replay is bounded by writing whenever it grows beyond `TAIL`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Final

import attrs
import trio

from runtime.heads import pack_row, unpack_row
from runtime.ids import RealmId
from runtime.journal import Journal
from runtime.state import RealmState
from stores import Damaged, Delete, Put, Store, Ticket

#: Records that a reader may have to replay. Replaying takes about 8 CPU microseconds a record, so
#: this is half a second; a smaller bound writes more rows per turn in a large swarm.
TAIL: Final = 65_536

#: Session rows written in one step: a step holds the event loop for about 3 ms.
ROWS: Final = 256


@attrs.frozen
class WholeRows:
    """A part of the state that is always written whole: `changed` hands out the rows that differ
    since it was last called (None: delete the row), `load` takes one back."""

    prefix: bytes
    changed: Callable[[], Iterable[tuple[bytes, bytes | None]]]
    load: Callable[[bytes, bytes], None]
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
        self._lock = trio.Lock()
        #: The latest step; it may still be on its way if whoever waited for it was cancelled.
        self._ticket: Ticket | None = None

    def add(self, rows: WholeRows) -> None:
        """Have another part of the state written and loaded with the sessions."""
        self._whole.append(rows)

    def load(self) -> int:
        """Read the rows, replay the tail; return the number of records in the journal.

        Raises:
            stores.Damaged: a row or record is not what was written.
            RecordUnreadable: a record was written by a later version.
        """
        stored = self._store.get(self._prefix + b"position")
        if stored is not None:
            self.position, self._state.folded = self._unpack(b"position", stored)
            self._load_rows(b"s/", lambda _, row: self._state.restore(row))
            self._state.restored()
            for whole in self._whole:
                self._load_rows(whole.prefix, whole.load)
                whole.loaded()
        last = self._journal.replay(self.position)
        return max(last, self.position)

    @property
    def tail(self) -> int:
        """How many records a reader would have to replay now."""
        return self._state.applied - self.position

    def step(self, most: int = ROWS) -> list[Put | Delete]:
        """The operations of one checkpoint: longest dirty sessions first, at most `most` of them.

        Empty if there is nothing to write. They are one batch; the last one holds the position.
        """
        state = self._state
        if self.position >= state.applied:
            return []
        operations: list[Put | Delete] = []
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

    def _load_rows(self, prefix: bytes, load: Callable[[bytes, bytes], None]) -> None:
        start = self._prefix + prefix
        for key, row in self._store.scan(start):
            try:
                load(key[len(start) :], row)
            except (ValueError, TypeError, KeyError, IndexError) as error:
                raise Damaged(repr(key), f"not a row of this realm: {error!r}") from error

    def _unpack(self, name: bytes, row: bytes) -> tuple[int, int]:
        try:
            position, folded = unpack_row(row)
        except (ValueError, TypeError, IndexError) as error:
            raise Damaged(repr(self._prefix + name), repr(error)) from error
        return position, folded
