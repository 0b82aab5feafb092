"""The state of a realm as a fold of its journal: which sessions there are and where each stands.

Owns: `RealmState` and its literal table from record type to transition. Must not: import Trio, read
a clock, touch a store. Applying the same records in the same order gives the same state, in the
running process and in the one that recovers.

Work per record is constant: nothing here walks a history or a list of sessions.

A session of which something stored is damaged is *quarantined*: it stays in `heads`, so that it is
listed and its children find it, but `head` raises for it, no record is applied to it and its row is
not written again. The rest of the realm goes on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from runtime.addenda import is_context
from runtime.approvals import ApprovalBook
from runtime.budget import Ledger
from runtime.chain import extend
from runtime.contexts import context_transitions
from runtime.errors import SessionNotFound, SessionQuarantined
from runtime.heads import pack_head, unpack_head
from runtime.ids import HarnessId, InputId, SessionId
from runtime.keyed import KeyedInput
from runtime.ledger import RunBook
from runtime.messages import (
    CONTEXT,
    TASKS,
    AssistantMessage,
    ToolResult,
    UserMessage,
    check_sequence,
    open_calls,
)
from runtime.particulars import particular_transitions
from runtime.parts import WholeRows, part_of
from runtime.points import ALWAYS, Era, PointBook
from runtime.records import (
    Erased,
    HookReported,
    InputAbandoned,
    InputAccepted,
    ModelRetried,
    SessionArchived,
    SessionCreated,
    TurnEnded,
    TurnOutcome,
    TurnProgressed,
)
from runtime.restoring import Restoring
from runtime.session import (
    NO_LINEAGE,
    NO_SPEC,
    PartialTurn,
    PendingInput,
    SessionHead,
    SessionStatus,
)
from runtime.tasks import archived_task, notices_of, task_transitions
from runtime.tree import tree_transitions


class RealmState:
    """All session heads of one realm, with the two indexes that make spawning and sending safe.

    A state may begin from rows that a checkpoint wrote: then records that are in a row already are
    passed over (see `runtime.recovery` for the two kinds of rows).
    """

    def __init__(self) -> None:
        self.heads: dict[SessionId, SessionHead] = {}
        #: Idempotency keys seen since the last checkpoint, for joining the outcome of the first
        #: input with that key; `lookup` finds those before it.
        self.keyed: dict[str, KeyedInput] = {}
        self.lookup: Callable[[str], KeyedInput | None] = lambda _: None
        #: The era, and those before it as far as they count (`runtime.points`).
        self.era = 0
        self.past: tuple[Era, ...] = ()
        #: As `keyed`, of earlier eras of this realm.
        self.keyed_before: dict[int, dict[str, KeyedInput]] = {}
        #: Spawn keys seen, so that a replayed spawn finds the child it already made.
        self.spawned: dict[str, SessionId] = {}
        #: Per root: descendants that are not archived, and all that were ever made.
        self.descendants: dict[SessionId, tuple[int, int]] = {}
        #: Sessions that may have something to be told about their children.
        self._noticed: set[SessionId] = set()
        #: Sessions that may have something for the turn in flight: context, messages to steer it.
        self.addressed: set[SessionId] = set()
        #: Background children that have not ended.
        self.tasks: dict[SessionId, None] = {}
        #: Sessions whose deletion is on its way to the disk: no record may speak of them any more.
        self.leaving: set[SessionId] = set()
        #: Sessions that are quarantined, and why.
        self.quarantined: dict[SessionId, str] = {}
        #: The lost record that is to blame for it, where one is known.
        self.blamed: dict[SessionId, int] = {}
        #: Records that are damaged or missing, and what is known of them. What was lost with them
        #: nobody knows, so sessions that do not fit what is left are quarantined.
        self.lost: dict[int, str] = {}
        #: The number of the last record applied.
        self.applied = 0
        #: Keys and other whole parts hold every record up to this one.
        self.folded = 0
        #: Told of what is spent, if anybody has a budget (`runtime.spending`).
        self.ledger: Ledger | None = None
        #: What was asked and decided about calls of turns in flight.
        self.approvals = ApprovalBook(self)
        #: Runs that were applied, and failed attempts of inputs.
        self.runs = RunBook(self)
        #: Points to go back to, and the replacement of this state by one of them.
        self.points = PointBook(self)
        self.restoring = Restoring(self)
        #: The parts that are written whole, by the prefix of their rows. A mob adds its own.
        self.parts: dict[bytes, WholeRows] = {
            b"i/": part_of(b"i/", self.runs, lambda state: state.runs),
            b"a/": part_of(b"a/", self.approvals, lambda state: state.approvals),
            b"p/": part_of(b"p/", self.points, lambda state: state.points, outlives=True),
        }
        #: Sessions that differ from their row, with the first record in which they do, ascending.
        self.dirty: dict[SessionId, int] = {}
        #: The literal table. A mob adds its own record types to the same one.
        self.transitions: dict[type, Callable[[int, Any], None]] = {
            SessionCreated: self._created,
            SessionArchived: self._archived,
            InputAccepted: self._accepted,
            InputAbandoned: self._abandoned,
            TurnProgressed: self._progressed,
            TurnEnded: self._ended,
            ModelRetried: lambda _seq, _record: None,
            HookReported: lambda _seq, _record: None,
            Erased: lambda _seq, _record: None,
            **tree_transitions(self),
            **context_transitions(self),
            **particular_transitions(self),
            **task_transitions(self),
            **self.approvals.transitions(),
            **self.runs.transitions(),
            **self.restoring.transitions(),
        }

    def apply(self, seq: int, record: object) -> None:
        """Apply the committed record number `seq`; records must come in order of `seq`.

        Raises:
            KeyError: the record's type is in no table (our bug).
            SessionNotFound: the record speaks of a session this realm never created.
        """
        self.transitions[type(record)](seq, record)
        self.applied = seq

    def head(self, session_id: SessionId) -> SessionHead:
        """The head of `session_id`. Raises `SessionNotFound`, `SessionQuarantined`."""
        if session_id in self.quarantined:
            raise SessionQuarantined(session_id, self.quarantined[session_id])
        head = self.heads.get(session_id)
        if head is None or session_id in self.leaving:
            raise SessionNotFound(session_id)
        return head

    def find_key(self, key: str) -> KeyedInput | None:
        """Where the input with this idempotency key stands; None if there never was one."""
        return self.keyed.get(key) or self.lookup(key)

    def eras(self, realm: str) -> Iterator[Era]:
        """The eras that count, newest first, beginning with that of the realm itself."""
        yield Era(realm, self.era, ALWAYS)
        yield from self.past

    # -- damage ----------------------------------------------------------------------------

    def quarantine(self, session_id: SessionId, reason: str, seq: int = 0) -> None:
        """Set a session apart; the first reason stands. `seq` is the record that is to blame."""
        if session_id in self.quarantined:
            return
        self.quarantined[session_id] = reason
        if seq:
            self.blamed[session_id] = seq
        self.dirty.pop(session_id, None)
        head = self.heads.get(session_id)
        if head is None:  # no row and no record says anything of it but its id
            head = SessionHead(
                session_id, HarnessId(""), None, None, None, NO_LINEAGE, NO_SPEC, 0, 0
            )
            self.heads[session_id] = head
        head.quarantined = reason
        if not head.archived:
            head.status = SessionStatus.FAILED
        head.inputs = head.partial = None

    def lift(self, session_id: SessionId) -> None:
        """The session is not set apart any more; its head is somebody else's to replace."""
        self.quarantined.pop(session_id, None)
        self.blamed.pop(session_id, None)

    def known(self, session_id: SessionId) -> SessionHead:
        """As `head`, for what may also be done to a quarantined session."""
        head = self.heads.get(session_id)
        if head is None or session_id in self.leaving:
            raise SessionNotFound(session_id)
        return head

    def check_partials(self) -> None:
        """Quarantine turns in flight that are not whole, after records were lost."""
        for head in list(self.heads.values()):
            if head.partial is None:
                continue
            told = head.partial.messages
            calls = open_calls(told)
            closed = [*told, *(ToolResult(call.id, call.name, "") for call in calls)]
            begins = bool(told) and isinstance(told[0], UserMessage)
            if not begins or check_sequence(closed) is not None:
                reason = f"its turn in flight is not whole: of {self._losses()}, one was part of it"
                self.quarantine(head.session_id, reason)

    def _losses(self) -> str:
        some = ", ".join(map(str, itertools.islice(self.lost, 5)))
        return f"the records {some}{' and more' if len(self.lost) > 5 else ''}, which are damaged"

    # -- rows ------------------------------------------------------------------------------

    def row(self, session_id: SessionId) -> bytes | None:
        """The row of a session as it is now; None if it was deleted."""
        head = self.heads.get(session_id)
        return None if head is None else pack_head(head)

    def restore(self, row: bytes) -> None:
        """Take a session row back. Call `restored` after the last one."""
        head = unpack_head(row)
        self.heads[head.session_id] = head

    def restored(self) -> None:
        """Link children to their parents, which may have come after them: ids sort by time only
        as long as no clock steps back."""
        for head in self.heads.values():
            self._link(head)

    def link_anew(self) -> None:
        """Make all that is known of sessions by others anew, after they were replaced."""
        for known in (self.spawned, self.descendants, self._noticed, self.addressed, self.tasks):
            known.clear()
        self.sort()
        for head in self.heads.values():
            head.children = None
        self.restored()

    def sort(self) -> None:
        """Put the sessions in the order of their rows, after some were made anew."""
        heads = sorted(self.heads.items())
        self.heads.clear()
        self.heads.update(heads)

    # -- for transitions -------------------------------------------------------------------

    def add(self, head: SessionHead, seq: int) -> None:
        """Enter a new session, which is dirty as of record `seq`."""
        self.dirty[head.session_id] = seq
        self.heads[head.session_id] = head
        self._link(head)

    def notices(self, head: SessionHead) -> tuple[PendingInput, ...]:
        """What the session has not been told yet about its children. For most it costs nothing,
        however many inputs wait."""
        if head.session_id not in self._noticed:
            return ()
        found = notices_of(head)
        if not found:
            self._noticed.discard(head.session_id)
        return found

    def index(self, head: SessionHead) -> None:
        """Keep `tasks` true to what became of the head's."""
        if head.task is not None and head.task.running:
            self.tasks[head.session_id] = None
        else:
            self.tasks.pop(head.session_id, None)

    def _link(self, head: SessionHead) -> None:
        if head.task is not None:
            self.index(head)
        if head.inputs is not None:
            if notices_of(head):
                self._noticed.add(head.session_id)
            if any(each.steer or is_context(each) for each in head.inputs.values()):
                self.addressed.add(head.session_id)
        if head.spawn_key is not None:
            self.spawned[head.spawn_key] = head.session_id
        if head.lineage.parent is not None:
            parent = self.heads.get(head.lineage.parent)
            if parent is None:
                self.missing(head.applied, head.lineage.parent)
                return
            if parent.children is None:
                parent.children = []
            parent.children.append(head.session_id)
            self._count(head.lineage.budget_root, active=0 if head.archived else 1, total=1)

    def remove(self, session_id: SessionId) -> None:
        """Take a session out; it stays dirty until its row is deleted."""
        head = self.heads.pop(session_id)
        self.tasks.pop(session_id, None)
        self.approvals.forget(session_id)
        self.runs.forget(session_id)
        self._noticed.discard(session_id)
        self.addressed.discard(session_id)
        if head.spawn_key is not None:
            self.spawned.pop(head.spawn_key, None)
        parent = self.heads.get(head.lineage.parent) if head.lineage.parent is not None else None
        if parent is not None:
            if parent.children is not None and session_id in parent.children:
                parent.children.remove(session_id)
                parent.children = parent.children or None
            self._count(head.lineage.budget_root, active=0 if head.archived else -1, total=-1)

    def missing(self, seq: int, session_id: SessionId) -> None:
        """A record speaks of a session that is not here. That is damage, unless the session was
        deleted later and its row is gone already."""
        if seq <= self.folded or session_id in self.quarantined:
            return
        if not self.lost:
            raise SessionNotFound(session_id)
        self.quarantine(session_id, f"what made it is lost: one of {self._losses()}")

    def touch(self, seq: int, session_id: SessionId) -> SessionHead | None:
        """The head to change, marked dirty; None if its row has this record already."""
        head = self.heads.get(session_id)
        if head is None:
            self.missing(seq, session_id)
            return None
        if seq <= head.applied or head.quarantined is not None:
            return None
        head.applied = seq
        if session_id not in self.dirty:
            self.dirty[session_id] = seq
        return head

    # -- transitions -----------------------------------------------------------------------

    def _created(self, seq: int, record: SessionCreated) -> None:
        if record.session_id in self.heads:
            return
        head = SessionHead(
            session_id=record.session_id,
            harness_id=record.harness_id,
            agent_id=record.agent_id,
            title=record.title,
            locale=record.locale,
            lineage=record.lineage,
            spec=record.spec,
            created_at_ns=record.at_ns,
            updated_at_ns=record.at_ns,
            spawn_key=record.spawn_key,
            external_id=record.external_id,
            applied=seq,
        )
        if record.lineage.parent is not None:
            above = self.heads.get(record.lineage.parent)
            if above is None:
                self.missing(seq, record.lineage.parent)
            elif above.archived:
                head.status = SessionStatus.ARCHIVED  # it ended while this one was being made
        self.add(head, seq)

    def _archived(self, seq: int, record: SessionArchived) -> None:
        head = self.touch(seq, record.session_id)
        if head is None:
            return
        if not head.archived and head.lineage.parent is not None:
            self._count(head.lineage.budget_root, active=-1, total=0)
        for input_id in list(head.inputs or ()):
            reason = f"its session was archived: {record.reason}"
            self._consume(seq, head, input_id, abandoned=reason)
        head.status = SessionStatus.ARCHIVED
        if head.task is not None:
            archived_task(self, head, record)
        head.cut_off(self.ledger)
        head.updated_at_ns = record.at_ns
        self.approvals.forget(record.session_id)

    def _accepted(self, seq: int, record: InputAccepted) -> None:
        key = record.idempotency_key
        if key is not None and seq > self.folded:
            self.keyed[key] = KeyedInput(record.session_id, record.input_id, seq=seq)
        head = self.touch(seq, record.session_id)
        if head is None:
            return
        if head.inputs is None:
            head.inputs = {}
        head.inputs[record.input_id] = PendingInput(
            record.input_id, record.text, record.sender, key, record.skills, record.steer
        )
        if record.sender == TASKS:
            self._noticed.add(record.session_id)
        elif record.steer or (record.sender is not None and record.sender.startswith(CONTEXT)):
            self.addressed.add(record.session_id)
        if head.archived:  # it ended while the input was on its way to the disk
            self._consume(seq, head, record.input_id, abandoned="its session was archived")

    def _abandoned(self, seq: int, record: InputAbandoned) -> None:
        head = self.touch(seq, record.session_id)
        if head is None:
            return
        self._consume(seq, head, record.input_id, abandoned=record.reason)
        head.updated_at_ns = record.at_ns

    def _progressed(self, seq: int, record: TurnProgressed) -> None:
        head = self.touch(seq, record.session_id)
        if self.ledger is not None and head is not None:
            self.ledger.progressed(record.session_id, record.usage)
        if head is None or head.spends_late(record.run_id, record.usage):  # nobody continues that
            return
        partial = head.partial
        if partial is None or partial.run_id != record.run_id:
            partial = head.partial = PartialTurn(
                record.run_id, record.input_ids, [], record.usage, 0, record.at_ns
            )
        partial.input_ids = record.input_ids  # a turn takes system context in as it goes
        partial.messages.extend(record.messages)
        partial.usage = record.usage
        partial.step = record.step
        if record.messages and isinstance(record.messages[-1], AssistantMessage):
            partial.called_at_ns = record.at_ns
        waits = bool(self.approvals) and self.approvals.waits(record.session_id)
        head.status = SessionStatus.WAITING if waits else SessionStatus.ACTIVE
        head.updated_at_ns = record.at_ns

    def waited(self, seq: int, session_id: SessionId, decided_at_ns: int | None) -> None:
        """A call of the session's turn was asked about, or decided. When nothing is left to wait
        for, the wait is no time of the turn's."""
        head = self.touch(seq, session_id)
        if head is None or head.partial is None or head.archived:
            return
        if self.approvals.waits(session_id):
            head.status = SessionStatus.WAITING
            return
        head.status = SessionStatus.ACTIVE
        if decided_at_ns is not None:
            head.partial.started_at_ns += max(decided_at_ns - head.updated_at_ns, 0)
            head.partial.called_at_ns = decided_at_ns
            head.updated_at_ns = decided_at_ns

    def _ended(self, seq: int, record: TurnEnded) -> None:
        head = self.touch(seq, record.session_id)
        if head is None:
            return
        if self.approvals:
            self.approvals.forget(record.session_id, record.run_id)
        prev = record.prev if record.prev >= 0 else seq + record.prev
        if prev != head.head:
            self.quarantine(
                head.session_id,
                f"its turn in record {seq} continues record {prev}, but its history ends with"
                f" record {head.head}: something between them is lost",
            )
            return
        head.partial = None
        head.head = seq
        head.turns += 1
        head.message_count += len(record.messages)
        head.links = extend(head.links, seq, head.turns, record.skip_turn)
        head.usage = head.usage + record.usage
        active_ns = record.ended_at_ns - record.started_at_ns
        if head.cut is not None:
            active_ns -= head.ended_late()
        if active_ns > 0:  # a clock may jump
            head.active_ns += active_ns
        if self.ledger is not None:
            self.ledger.ended(head.session_id, record.usage, max(active_ns, 0))
        head.updated_at_ns = record.ended_at_ns
        if head.status is not SessionStatus.ARCHIVED:  # a late turn record never revives it
            head.status = (
                SessionStatus.FAILED if record.outcome is TurnOutcome.FAILED else SessionStatus.IDLE
            )
        for input_id in record.input_ids:
            self._consume(seq, head, input_id)

    def _consume(
        self, seq: int, head: SessionHead, input_id: InputId, abandoned: str | None = None
    ) -> None:
        if head.inputs is None:
            return
        pending = head.inputs.pop(input_id, None)
        if self.runs.attempts:
            self.runs.forget(head.session_id, input_id)
        if not head.inputs:
            head.inputs = None
            if self.addressed:
                self.addressed.discard(head.session_id)
        if pending is not None and pending.idempotency_key is not None:
            turn = seq if abandoned is None else 0
            known = KeyedInput(head.session_id, input_id, turn, abandoned, seq)
            self.keyed[pending.idempotency_key] = known

    def _count(self, root: SessionId | None, *, active: int, total: int) -> None:
        if root is not None:
            now_active, now_total = self.descendants.get(root, (0, 0))
            self.descendants[root] = (now_active + active, now_total + total)
