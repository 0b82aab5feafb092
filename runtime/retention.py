"""Retention: letting go of what a journal no longer needs.

Owns: what of a realm may be erased, and erasing it. Must not: decide when; touch what anything
reaches; know members (whoever calls says what else is to be kept).

Theory. Recovery begins from rows, so a record is needed for one of three reasons: a history reads
it, something unfinished continues from it, or it says what the rows cannot. The walk goes through
the journal once, from its end to its beginning, with a mark for each turn that is reached: by a
head, a branch or an idempotency key of a session that is there, or by the turn after it in such a
chain. A chain only ever leads to smaller numbers, so when the walk comes to a turn its mark is
final, and turns that only a deleted session reached have none. Besides unreached turns it erases

* inputs that were consumed or abandoned: the rows have their keys, the turns their words;
* the progress of turns that have ended: the turn's own record has all of it;
* what was told of failed attempts at model calls and of hooks: nothing is folded from it;
* what was said of sessions that were deleted, and summaries of theirs that no fork has (not that
  they were made, forked and deleted: with those, the journal alone still folds to the same
  sessions).

All of these are final, so nothing that happens meanwhile makes one of them needed again. Each
batch is one transaction, and an erased record is as good as one that is still to be erased: a
crash anywhere leaves a store that the next run finishes. Sequence numbers and cursors stay.

Points (`runtime.points`) are heads like others: what they reach stays. Of a realm that has forks
nothing goes up to the latest of them: they share it, and what is final here need not be there. When
it was last erased, and how many records there were, is written down: only from there on the state
at any record is still what the records up to it say.

Sources: mark and sweep; Erlang's `disk_log` truncation is the alternative, and breaks cursors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs

from runtime.approvals import ApprovalAsked, ApprovalDecided, ApprovalUsed
from runtime.contexts import CompactionFailed, ContextCompacted
from runtime.errors import MobError
from runtime.heads import pack_row, unpack_head, unpack_row
from runtime.journal import PAGE, Event, Journal, forks_of
from runtime.ledger import InputsRequeued, RunApplied
from runtime.particulars import SessionRespecified, SessionTracked
from runtime.points import SESSIONS, StateRows
from runtime.realm import Realm
from runtime.records import (
    HookReported,
    InputAbandoned,
    InputAccepted,
    ModelRetried,
    SessionArchived,
    SessionLabelled,
    SessionRewound,
    TaskEnded,
    TaskStarted,
    TurnEnded,
    TurnProgressed,
)
from runtime.session import SessionHead
from stores import Damaged, Delete, Operation, Put, Store

#: The newest records of a journal that are kept whole unless another number is asked for: what
#: subscribers that were away for a while, and people who look for the cause of something, read.
KEEP_EVENTS: Final = 10_000

#: Operations of one transaction: it holds others up for about 5 ms.
BATCH: Final = 512

#: Rows read from the store in one go.
_ROWS: Final = 256


@attrs.define
class Freed:
    """What was erased, or would be: counts, and the bytes of payloads and rows."""

    inputs: int = 0
    progress: int = 0
    turns: int = 0
    #: Labels, rewinds and the like of deleted sessions, and failed attempts at model calls.
    others: int = 0
    snapshot_rows: int = 0
    key_rows: int = 0
    bytes: int = 0

    @property
    def records(self) -> int:
        """All erased records."""
        return self.inputs + self.progress + self.turns + self.others

    def __iadd__(self, other: Freed) -> Freed:
        for field in attrs.fields(Freed):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        return self


#: Which count a record type goes to.
_COUNTED: Final = {InputAccepted: "inputs", TurnProgressed: "progress", TurnEnded: "turns"}

#: What only says what happened on the way to a turn's end.
_TOLD: Final = (ModelRetried, HookReported)

#: What is said of a session and means nothing once it is deleted.
_SAID: Final = (
    SessionTracked,
    SessionRespecified,
    SessionArchived,
    SessionLabelled,
    SessionRewound,
    InputAbandoned,
    TaskStarted,
    TaskEnded,
    ContextCompacted,
    CompactionFailed,
    ApprovalAsked,
    ApprovalDecided,
    ApprovalUsed,
    RunApplied,
    InputsRequeued,
)


class Retention:
    """One walk over a realm, whose state must have been recovered. Used once."""

    def __init__(
        self,
        realm: Realm,
        keep_events: int = KEEP_EVENTS,
        keep: Callable[[Any], bool] = lambda _: False,
    ) -> None:
        """`keep_events` is how many of the newest records stay whole; `keep` is asked about each
        record that could go, and may say that it stays.

        Raises:
            ValueError: `keep_events` is negative.
        """
        if keep_events < 0:
            raise ValueError(f"keep_events is a number of records, not {keep_events}")
        self._realm = realm
        self._heads = realm.state.heads
        self._keep_events = keep_events
        self._keep = keep
        forks = forks_of(realm.store, realm.realm_id)
        #: Nothing up to here goes.
        self._floor = max((realm.journal.base, *forks.values()))
        self._forked = bool(forks)
        #: The sessions that are there, or were at some point.
        self._kept = {*self._heads}

    async def run(self, told: Callable[[Freed], None] = lambda _: None) -> Freed:
        """Erase, in batches; `told` hears after each what is gone so far. Cancelling ends it
        between two batches or leaves the last one in the store's queue.

        Raises:
            MobError: something stored is damaged; nothing is erased.
            stores.Damaged, RecordUnreadable: the journal cannot be read; nothing more is erased.
            stores.StoreError: a commit failed.
        """
        await self._realm.checkpoint()
        freed = Freed()
        journal = self._realm.journal
        mark = Put(_erased_key(self._realm.realm_id), pack_row(journal.last))
        for operations, part in self._batches():
            await self._realm.store.commit([*operations, mark])
            freed += part
            told(freed)
        return freed

    def plan(self) -> Freed:
        """What `run` would free now; writes nothing, so that a reader's store will do. Key rows
        that are not on disk yet are not counted.

        Raises:
            MobError, stores.Damaged, RecordUnreadable: something stored is damaged.
        """
        freed = Freed()
        for _, part in self._batches():
            freed += part
        return freed

    # -- the walk --------------------------------------------------------------------------

    def _batches(self) -> Iterator[tuple[list[Operation], Freed]]:
        operations: list[Operation] = []
        part = Freed()
        for operation, kind, size in self._garbage():
            operations.append(operation)
            setattr(part, kind, getattr(part, kind) + 1)
            part.bytes += size
            if len(operations) >= BATCH:
                yield operations, part
                operations, part = [], Freed()
        if operations:
            yield operations, part

    def _garbage(self) -> Iterator[tuple[Operation, str, int]]:
        """Each operation with what it counts as and the bytes that it frees."""
        state = self._realm.state
        if state.quarantined or state.lost:
            raise MobError(
                f"{len(state.quarantined)} sessions are quarantined and {len(state.lost)} records"
                f" lost in {self._realm.realm_id!r}: what they reach is not known, so nothing is"
                " erased; `mob doctor` says what is wrong"
            )
        marks = self._marks()
        newest = len(marks) - self._keep_events
        yield from self._rows_of_deleted()
        for event, size in self._backwards(len(marks) - 1):
            seq, record = event.seq, event.record
            if type(record) is TurnEnded and marks[seq]:
                marks[self._realm.journal.absolute(seq, record.prev)] = 1
            elif type(record) is ContextCompacted and marks[seq]:
                marks[0 if record.before is None else record.before.seq] = 1
            elif self._floor < seq < newest and self._may_go(seq, record, marks):
                erasure = self._realm.journal.erasure(seq)
                yield erasure, _COUNTED.get(type(record), "others"), size

    def _backwards(self, last: int) -> Iterator[tuple[Event, int]]:
        journal = self._realm.journal
        while last > journal.base:
            first = max(journal.base, last - PAGE)
            yield from reversed(journal.sized(first, last - first))
            last = first

    def _may_go(self, seq: int, record: Any, marks: bytearray) -> bool:
        """Whether nothing needs the record. It is no turn that is reached."""
        kind = type(record)
        if kind is TurnEnded:
            return not marks[seq] and not self._keep(record)
        if kind in _TOLD:
            return not self._keep(record)
        if kind not in _COUNTED and kind not in _SAID:
            return False
        head = self._heads.get(record.session_id)
        if head is not None and (kind in _SAID or seq == head.applied or _unfinished(head, record)):
            return False  # `applied` is the session's revision, also for a fold of the journal
        return not self._keep(record)

    def _marks(self) -> bytearray:
        """One byte for each record: whether a head, a branch or a key leads to it. Place 0 is
        nobody's, and stands for the turn before the first."""
        marks = bytearray(self._realm.state.applied + 1)
        for head in (*self._heads.values(), *self._heads_of_points()):
            self._kept.add(head.session_id)
            places = [(each.head, each.compaction) for each in head.branches]
            for seq, compaction in ((head.head, head.compaction), *places):
                marks[seq] = 1
                if compaction is not None:
                    marks[compaction.seq] = 1
            if head.task is not None:
                marks[head.task.turn] = 1
        for _, _, session_id, turn in self._key_rows():
            if session_id in self._kept and turn < len(marks):  # for `plan`, beside an owner
                marks[turn] = 1
        for keyed in self._realm.state.keyed.values():
            if keyed.session_id in self._kept:
                marks[keyed.turn] = 1
        return marks

    def _heads_of_points(self) -> Iterator[SessionHead]:
        """The heads in the points that were made here."""
        journal = self._realm.journal
        for point in self._realm.state.points.points.values():
            after = point.record
            while journal.base < after < point.last:
                for event in journal.read(after, min(PAGE, point.last - after)):
                    after = event.seq
                    if type(event.record) is StateRows and event.record.prefix.encode() == SESSIONS:
                        yield from (unpack_head(row) for _, row in event.record.rows)

    # -- rows ------------------------------------------------------------------------------

    def _rows_of_deleted(self) -> Iterator[tuple[Operation, str, int]]:
        for key, row, session_id, _ in self._key_rows():
            if session_id not in self._kept and not self._forked:
                yield Delete(key), "key_rows", len(row)
        prefix = b"snapshot/" + self._realm.realm_id.encode() + b"/"
        for key, row in self._scan(prefix):
            rest = key[len(prefix) :]
            if b"/" not in rest:
                rest = rest.replace(b"\xff", b"/")  # as `runtime.store.name_of` has it
            # A row is named by the session, a segment of it by "/" and four more bytes; ids that
            # contain a "/" make a name that could be either, and is left alone if one of them is.
            owners = {rest, rest[:-5]} if rest[-5:-4] == b"/" else {rest}
            if not any(owner.decode("utf-8", "replace") in self._heads for owner in owners):
                yield Delete(key), "snapshot_rows", len(row)

    def _key_rows(self) -> Iterator[tuple[bytes, bytes, str, int]]:
        """Key, row, session and turn of every idempotency key that is in a row."""
        prefix = b"fold/" + self._realm.realm_id.encode() + b"/k/"
        for key, row in self._scan(prefix):
            try:
                _, session_id, _, turn, _, *_ = unpack_row(row)
            except (ValueError, TypeError) as error:
                raise Damaged(repr(key), f"not a row of this realm: {error!r}") from error
            yield key, row, session_id, turn

    def _scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        after: bytes | None = None
        while rows := self._realm.store.scan(prefix, after=after, limit=_ROWS):
            yield from rows
            after = rows[-1][0]


def _erased_key(realm: str) -> bytes:
    return b"erased/" + realm.encode()


def erased_until(store: Store, journal: Journal, at: int) -> int | None:
    """How many records there were when some were last erased of those that the state at record `at`
    is folded from; None if nobody wrote that down."""
    rows = [
        store.get(_erased_key(realm)) for realm in journal.realms_between(journal.base_of(at), at)
    ]
    return max((unpack_row(row)[0] for row in rows if row is not None), default=None)


def _unfinished(head: SessionHead, record: Any) -> bool:
    """Whether the session still works on this input or turn, or nothing else says of the turn what
    it has spent."""
    if type(record) is InputAccepted:
        return record.input_id in (head.inputs or ())
    turns = (head.partial, head.cut)
    return any(turn is not None and turn.run_id == record.run_id for turn in turns)
