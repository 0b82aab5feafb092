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

Damage. A row that is damaged or gone is made anew from the journal, which is folded from its
beginning for it (`runtime.damage`); the position says how many rows there must be. Only what the
journal has lost as well stays quarantined (see `runtime.state`). That is written down too, in rows
of its own, because the next reader begins behind that record; each opening looks whether the damage
is still there. If the position itself is damaged, the rows are not looked at and the journal is
replayed from its beginning.

A session that is written once after many turns costs one row, and the tail that a reader must
replay is bounded by writing whenever it grows beyond `TAIL`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Final

import trio

from runtime.damage import Fold, Rebuilt, broken_turn, detached
from runtime.heads import pack_row, unpack_row
from runtime.ids import RealmId, SessionId
from runtime.journal import Journal
from runtime.parts import WholeRows
from runtime.points import AFTER_ERAS, counts, era_name, pack_past, unmarked, unpack_past
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


#: Parts whose rows are read one by one, and which tell eras apart themselves.
TELL_ERAS: Final = (b"k/", b"x/")


class Recovery:
    """The rows of one realm. `load` is called once, before anything else."""

    def __init__(self, store: Store, realm: RealmId, state: RealmState, journal: Journal) -> None:
        self._store = store
        self._state = state
        self._journal = journal
        self.realm = realm
        self._prefix = b"fold/" + realm.encode() + b"/"
        self._whole: list[WholeRows] = []
        #: Every record up to here is in some row on disk; of a fork none before its own is needed.
        self.position = journal.base
        #: What there are rows of: quarantined sessions, why and for which record; lost records.
        self._told: dict[SessionId, tuple[str, int]] = {}
        self._told_lost: set[int] = set()
        #: The names of the rows on disk by prefix, and how many there should be, if that is known.
        self._named: dict[bytes, set[bytes]] = {b"s/": set()}
        self._said: dict[bytes, int] = {}
        #: Whether something was made anew that is not on disk yet.
        self._stale = False
        self._lock = trio.Lock()
        #: The latest step; it may still be on its way if whoever waited for it was cancelled.
        self._ticket: Ticket | None = None
        runs = state.runs
        runs.realm = realm
        runs.lookup = lambda name, of: self.row_of(of, b"x/", name)
        for part in (WholeRows(b"x/", runs.receipts), *state.parts.values()):
            self.add(part)

    def add(self, rows: WholeRows) -> None:
        """Have another part of the state written and loaded with the sessions."""
        self._whole = [each for each in self._whole if each.prefix != rows.prefix]
        self._whole.append(rows)
        self._state.parts[rows.prefix] = rows
        if rows.load is not None:
            self._named[rows.prefix] = set()

    def load(self) -> int:
        """Read the rows, replay the tail; return the number of records in the journal.

        Rows that are damaged or gone are made anew from the journal; sessions of which the journal
        has lost something are quarantined, and the others load.

        Raises:
            stores.Damaged: where the journal ends is not known, or a row that is of no session is
                damaged and the journal has lost what it was made from.
            RecordUnreadable: a record was written by a later version.
        """
        state = self._state
        found = self._load_position()
        self._told = self._load_told()
        self._told_lost = set(state.lost)
        if found:
            self._load_everything()
            state.restored()
            for whole in self._whole:
                whole.loaded()
        state.applied = self.position
        fold = Fold(state)
        last = self._journal.replay(self.position, fold.apply, fold.lost)
        if state.lost:
            state.check_partials()
        if not found:
            self._look_again(fold)
        for whole in self._whole:
            whole.replayed()
        return max(last, self.position)

    def _load_position(self) -> bool:
        """Whether there are rows to begin from."""
        name = self._prefix + b"position"
        try:
            stored = self._store.get(name)
            if stored is None:
                return False
            self.position, self._state.folded, *rest = unpack_row(stored)
            self._said = dict(rest[0]) if rest else {}
            if len(rest) > 1:
                self._state.era, self._state.past = rest[1], unpack_past(rest[2])
        except (Damaged, *_MISFITS):
            self.position, self._state.folded = self._journal.base, 0
            return False
        return True

    def _load_told(self) -> dict[SessionId, tuple[str, int]]:
        """What was quarantined when the rows were written, why, and which record is to blame."""
        state = self._state
        told: dict[SessionId, tuple[str, int]] = {}
        for prefix in (b"q/", b"l/"):
            damaged: dict[bytes, str] = {}
            for name, row in self._rows(prefix, damaged.__setitem__):
                reason, seq = _reason(row)
                if prefix == b"q/":
                    told[SessionId(name.decode())] = (reason, seq)
                else:
                    state.lost[int.from_bytes(name, "big")] = reason
            for name in damaged:
                if prefix == b"q/":
                    told[SessionId(name.decode())] = (_UNTOLD, 0)
                else:
                    state.lost[int.from_bytes(name, "big")] = _UNTOLD
        return told

    def _load_everything(self) -> None:
        """Take all rows back, and make anew what is damaged of them."""
        state = self._state
        odd: dict[SessionId, str] = {}
        self._load_rows(
            b"s/",
            lambda _, row: state.restore(row),
            lambda name, reason: odd.update(
                {SessionId(name.decode()): f"its row is damaged: {reason}"}
            ),
        )
        short = self._short(b"s/")
        broken: dict[bytes, dict[bytes, str]] = {}
        for whole in self._whole:
            if whole.load is not None:
                bad = broken[whole.prefix] = {}
                self._load_rows(whole.prefix, whole.load, bad.__setitem__)
        for session_id, (reason, seq) in self._told.items():
            if seq and not self._journal.readable(seq):  # as it was: nothing to find out
                odd.pop(session_id, None)
                state.quarantine(session_id, reason, seq)
            else:
                odd[session_id] = reason
        if not (odd or short or any(bad or self._short(each) for each, bad in broken.items())):
            return
        rebuilt = Rebuilt(self._journal, self.rebuilders())
        rebuilt.fold(state.folded)
        state.lost.clear()
        state.lost.update(rebuilt.state.lost)
        if short:
            odd.update(
                {
                    each: "its row is missing"
                    for each in rebuilt.state.heads
                    if each not in state.heads and rebuilt.made(each) <= self.position
                }
            )
        for session_id, reason in odd.items():
            self._decide(session_id, reason, rebuilt)
        state.sort()
        for whole, made in zip(self._rebuildable(), rebuilt.parts, strict=True):
            self._replace(whole, dict(made.changed()), broken[whole.prefix], rebuilt)

    def _decide(self, session_id: SessionId, reason: str, rebuilt: Rebuilt) -> None:
        """Take the session as the journal has it, or quarantine it."""
        state = self._state
        head = rebuilt.state.heads.get(session_id)
        if head is None and not rebuilt.state.lost:  # deleted; its row was to go
            state.heads.pop(session_id, None)
            state.dirty[session_id] = self.position + 1
            return
        if head is not None and head.harness_id:
            state.heads[session_id] = detached(head)
        doubt = rebuilt.doubt(session_id)
        if doubt is None and head is not None and session_id in self._told:
            turn = broken_turn(self._journal, head.head)
            doubt = ("its history cannot be read", turn) if turn else None
        if doubt is None:
            state.dirty[session_id] = self.position + 1
            self._stale = True
            return
        if session_id not in self._told:
            reason = f"{reason}; and {doubt[0]}"
        state.quarantine(session_id, reason, doubt[1])

    def _look_again(self, fold: Fold) -> None:
        """After a replay from the beginning: what of the quarantined is damaged still."""
        for session_id, (reason, _) in self._told.items():
            head = self._state.heads.get(session_id)
            if head is None and not self._state.lost:
                continue
            turn = 0 if head is None else broken_turn(self._journal, head.head)
            if head is None or turn or fold.unsure(session_id):
                self._state.quarantine(session_id, reason, turn)

    def _replace(
        self,
        whole: WholeRows,
        rows: dict[bytes, bytes | None],
        bad: dict[bytes, str],
        rebuilt: Rebuilt,
    ) -> None:
        """Load the rows that are damaged or missing as the journal gives them."""
        assert whole.load is not None
        named = self._named[whole.prefix]
        for name, row in rows.items():
            if row is not None and (name in bad or name not in named):
                whole.load(name, row)
                whole.stale(name)
                self._stale = True
        for name, reason in bad.items():
            if name not in rows:
                lost = ", ".join(map(str, list(rebuilt.state.lost)[:5]))
                raise Damaged(
                    repr(self._prefix + whole.prefix + name),
                    f"{reason}; the journal it is made from has lost what it says (records"
                    f" {lost or 'none'} are damaged): restore a backup, or save the others with"
                    " `mob doctor --repair`",
                )

    def _rebuildable(self) -> list[WholeRows]:
        return [whole for whole in self._whole if whole.rebuild is not None]

    def rebuilders(self) -> list[Callable[[RealmState], WholeRows]]:
        return [whole.rebuild for whole in self._whole if whole.rebuild is not None]

    def _short(self, prefix: bytes) -> bool:
        """Whether there are fewer rows than there were written."""
        return len(self._named[prefix]) < self._said.get(prefix, 0)

    async def rebuilt(self) -> Rebuilt:
        """The state that the whole journal gives now, damaged or not."""
        rebuilt = Rebuilt(self._journal, self.rebuilders())
        await rebuilt.fold_all()
        return rebuilt

    @property
    def tail(self) -> int:
        """How many records a reader would have to replay now."""
        return self._state.applied - self.position

    def step(self, most: int = ROWS) -> list[Put | Delete]:
        """The operations of one checkpoint: longest dirty sessions first, at most `most` of them.

        Empty if there is nothing to write. They are one batch; the last one holds the position.
        """
        state = self._state
        damage = self._damage_rows()
        if self.position >= state.applied and not damage and not self._stale:
            return []
        self._stale = False
        operations: list[Put | Delete] = damage
        for session_id in list(itertools.islice(state.dirty, most)):
            del state.dirty[session_id]
            operations.append(self._row(b"s/", session_id.encode(), state.row(session_id)))
        replaced, state.restoring.replaced = state.restoring.replaced, False
        for whole in self._whole:
            rows = dict(whole.changed())
            if replaced and whole.load is not None and not whole.outlives:
                # All that is there now has changed: what else there are rows of is left behind.
                rows = {**dict.fromkeys(sorted(self._named[whole.prefix])), **rows}
            for name, row in rows.items():
                if whole.load is None and whole.prefix not in TELL_ERAS:
                    name = era_name(name, state.era)
                operations.append(self._row(whole.prefix, name, row))
        oldest = next(iter(state.dirty.values()), None)
        position = state.applied if oldest is None else oldest - 1
        sizes = [(prefix, len(names)) for prefix, names in self._named.items()]
        eras = (state.era, pack_past(state.past)) if state.era or state.past else ()
        row = pack_row(position, state.applied, sizes, *eras)
        operations.append(Put(self._prefix + b"position", row))
        return operations

    def _row(self, prefix: bytes, name: bytes, row: bytes | None) -> Put | Delete:
        """The operation that writes a row (None: deletes it), which is counted."""
        key = self._prefix + prefix + name
        names = self._named.get(prefix)
        if names is not None:
            (names.discard if row is None else names.add)(name)
        return Delete(key) if row is None else Put(key, row)

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

    async def capture(
        self,
        then: Callable[[list[tuple[bytes, bytes, bytes]], list[Put | Delete]], Ticket],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Write everything that is not written yet in one commit with what `then` submits: it is
        given all rows of the state, and the operations that belong to its batch. What was accepted
        by now is on disk before; what `check` then raises leaves everything as it is.

        Cancelling leaves the commit in the store's queue; the next step waits for it.
        """
        async with self._lock:
            if self._ticket is not None:
                await self._ticket.wait()
            await self._store.barrier()
            check()
            operations = self.step(len(self._state.dirty))
            self._ticket = then(self.rows(operations), operations)
            await self._ticket.wait()
            if operations:
                last = operations[-1]
                assert isinstance(last, Put)
                self.position = unpack_row(last.value)[0]

    def rows(self, unwritten: Iterable[Put | Delete] = ()) -> list[tuple[bytes, bytes, bytes]]:
        """All rows of the state but for those that are read one by one and those that outlive it:
        prefix, name and value. `unwritten` are those of a step that is not on disk yet."""
        state = self._state
        found: dict[tuple[bytes, bytes], bytes] = {}
        for session_id in sorted(state.heads):
            row = state.row(session_id)
            if row is not None:
                found[b"s/", session_id.encode()] = row
        kept = [part.prefix for part in self._whole if part.load is not None and not part.outlives]
        for prefix in kept:
            start = self._prefix + prefix
            for key, row in self._store.scan(start):
                found[prefix, key[len(start) :]] = row
        for each in unwritten:
            prefix, name = self._placed(each.key)
            if prefix in kept:
                found.pop((prefix, name), None)
                if isinstance(each, Put):
                    found[prefix, name] = each.value
        return [(prefix, name, row) for (prefix, name), row in found.items()]

    def _placed(self, key: bytes) -> tuple[bytes, bytes]:
        """Prefix and name of a row of this realm by its key."""
        rest = key[len(self._prefix) :]
        prefix = next((part.prefix for part in self._whole if rest.startswith(part.prefix)), b"")
        return prefix, rest[len(prefix) :]

    def key_row(self, prefix: bytes, name: bytes) -> bytes | None:
        """A whole row as stored, for parts that are read one by one and not at opening; if this
        realm has none, of one that it comes from."""
        eras = tuple(self._state.eras(self.realm))
        # Before eras had names of their own, rows of all of them had the plain one.
        plain = [(each.realm, name) for each in eras]
        named = [(each.realm, era_name(name, each.number)) for each in eras]
        for realm, each in dict.fromkeys(named + plain):
            stored = self.row_of(realm, prefix, each)
            if stored is not None:
                row, at = unmarked(stored)
                if not at or counts(eras, realm, at):
                    return row
        return None

    def row_of(self, realm: str, prefix: bytes, name: bytes) -> bytes | None:
        """As `key_row`, of one realm and as it is there: for parts that tell eras apart."""
        return self._store.get(b"fold/" + realm.encode() + b"/" + prefix + name)

    def key_rows(self, prefix: bytes, after: bytes | None, limit: int) -> list[bytes]:
        """At most `limit` such rows of this realm by name, those behind the name `after`."""
        start, eras = self._prefix + prefix, tuple(self._state.eras(self.realm))
        found: list[bytes] = []
        last = None if after is None else start + after + AFTER_ERAS
        while len(found) < limit:
            rows = self._store.scan(start, after=last, limit=limit)
            if not rows:
                break
            last = rows[-1][0]
            for row, at in map(unmarked, (row for _, row in rows)):
                if not at or counts(eras, self.realm, at):
                    found.append(row)
        return found[:limit]

    def _damage_rows(self) -> list[Put | Delete]:
        """The rows of what is quarantined and lost, as far as they differ from those on disk."""
        state, told = self._state, self._told
        if not (told or state.quarantined or self._told_lost or state.lost):
            return []
        prefix = self._prefix + b"q/"
        rows: list[Put | Delete] = []
        now = {each: (why, state.blamed.get(each, 0)) for each, why in state.quarantined.items()}
        rows += [
            Put(prefix + each.encode(), pack_row(*why))
            for each, why in now.items()
            if told.get(each) != why
        ]
        rows += [Delete(prefix + each.encode()) for each in told if each not in now]
        prefix = self._prefix + b"l/"
        for seq in state.lost.keys() - self._told_lost:
            rows.append(Put(prefix + seq.to_bytes(8, "big"), pack_row(state.lost[seq])))
        for seq in self._told_lost - state.lost.keys():
            rows.append(Delete(prefix + seq.to_bytes(8, "big")))
        self._told, self._told_lost = now, set(state.lost)
        return rows

    def _load_rows(
        self,
        prefix: bytes,
        load: Callable[[bytes, bytes], None],
        damaged: Callable[[bytes, str], object],
    ) -> None:
        """`load` every row; `damaged` those that cannot be, with the reason. All are counted."""
        names = self._named[prefix]

        def hit(name: bytes, reason: str) -> None:
            names.add(name)
            damaged(name, reason)

        for name, row in self._rows(prefix, hit):
            names.add(name)
            try:
                load(name, row)
            except _MISFITS as error:
                damaged(name, repr(error))

    def _rows(
        self, prefix: bytes, damaged: Callable[[bytes, str], object]
    ) -> Iterable[tuple[bytes, bytes]]:
        """The rows under `prefix` by name, one by one where one of them is damaged."""
        start = self._prefix + prefix
        after: bytes | None = None
        limit: int | None = None
        while True:
            try:
                rows = self._store.scan(start, after=after, limit=limit)
            except Damaged as error:
                if not error.key.startswith(start):
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


def _reason(row: bytes) -> tuple[str, int]:
    try:
        reason, *seq = unpack_row(row)
        return str(reason), int(seq[0]) if seq else 0
    except _MISFITS:
        return _UNTOLD, 0
