"""The ledger: what a mob's journal says, told a second time, plainly.

Owns: an independent model of sessions, inputs, turns, members and states in dictionaries. Must
not: judge (`mob.simulation.invariants` does), share code with the folds that it is compared with
(`runtime.state`, `runtime.tree`, `runtime.chain`, `mob.roster`): only the record classes.

A model that shares the code of what it checks agrees with every mistake in it. So this one is
written from the contracts: what is abandoned is marked, not forgotten; nothing is removed; turns
keep their messages. Work per record is constant, apart from the inputs that an archive abandons.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, final

from mob.records import (
    BlueprintAdopted,
    MemberExited,
    MemberRespawned,
    MemberRetired,
    MemberSpawned,
    MobCreated,
    MobStateChanged,
    RunReported,
)
from mob.simulation.facts import (
    BEGINNING,
    UNTOLD,
    KnownCompaction,
    KnownExit,
    KnownInput,
    KnownMember,
    KnownPartial,
    KnownSession,
    KnownTurn,
    Written,
    absolute,
)
from mob.simulation.failures import comes_to_rest, spare_what_stopped
from mob.simulation.parts import Parts
from runtime.approvals import ApprovalAsked, ApprovalDecided, ApprovalUsed
from runtime.contexts import CompactionFailed, ContextCompacted
from runtime.ledger import InputsRequeued, RunApplied
from runtime.messages import Message, Usage
from runtime.particulars import SessionRespecified, SessionTracked
from runtime.records import (
    InputAbandoned,
    InputAccepted,
    SessionArchived,
    SessionCreated,
    SessionDeleted,
    SessionForked,
    SessionLabelled,
    SessionRewound,
    TaskEnded,
    TaskStarted,
    TurnEnded,
    TurnOutcome,
    TurnProgressed,
)


@final
class Ledger(Parts):
    """The journal of one mob, told plainly. Invariant of a correct run: no method raises."""

    def __init__(self, mob_id: str = "") -> None:
        super().__init__()
        self.mob_id = mob_id
        #: Every record, as it was before anything was erased; record n is at place n - 1.
        self.written: list[Written] = []
        self.erased: set[int] = set()
        self.sessions: dict[str, KnownSession] = {}
        self.inputs: dict[str, KnownInput] = {}
        self.by_text: defaultdict[str, list[KnownInput]] = defaultdict(list)
        self.turns: dict[int, KnownTurn] = {0: BEGINNING}
        self.compactions: dict[int, KnownCompaction] = {}
        #: What each session spent on summaries, made or not.
        self.summaries: defaultdict[str, Usage] = defaultdict(Usage)
        #: The record that ended each run.
        self.ended: dict[str, int] = {}
        #: The session of every run that was heard of.
        self.runs: dict[str, str] = {}
        self.keys: dict[str, KnownInput] = {}
        self.spawned: dict[str, str] = {}
        #: Per root: living descendants, and all that are not deleted.
        self.active: defaultdict[str, int] = defaultdict(int)
        self.descendants: defaultdict[str, int] = defaultdict(int)
        self.created = False
        self.blueprint: dict[str, Any] = {}
        self.state = "creating"
        #: Every change of the state: its record's number and the state.
        self.states: list[tuple[int, str]] = []
        self.members: dict[str, KnownMember] = {}
        self.retired: dict[str, str] = {}
        #: The session of a member that took over from another one.
        self.succeeded: dict[str, str] = {}
        self.reported: set[str] = set()
        #: Bad exits of each session, oldest first.
        self.exits: defaultdict[str, list[KnownExit]] = defaultdict(list)
        #: The last one, if the supervisor gave up and the failed turn is still to come.
        self.given_up: dict[str, KnownExit] = {}
        #: Turns that somebody was told are interrupted: the process that said so, by session.
        self.interrupts: dict[str, int] = {}
        #: Tool calls that ran: how often, and what the latest run returned.
        self.ran: defaultdict[str, int] = defaultdict(int)
        self.returned: dict[str, str] = {}
        #: The last event that each subscriber saw, and the revision of each session's snapshot.
        self.cursors: dict[str, int] = {}
        self.saved: dict[str, int] = {}
        #: When each process opened the store, in virtual seconds.
        self.opened_s: dict[int, float] = {}
        #: Who takes a record in: this ledger first, then its parts.
        self._heard = {
            kind: [table[kind] for table in (self._table(), *self.listeners) if kind in table]
            for kind in dict.fromkeys(chain(self._table(), *self.listeners))
        }

    # -- reading ---------------------------------------------------------------------------

    @property
    def last(self) -> int:
        """The number of the last record."""
        return len(self.written)

    @property
    def records(self) -> Iterator[Any]:
        """Every record, in order."""
        return (each.record for each in self.written)

    def turn_at(self, head: int, place: int) -> int:
        """The number of the turn at `place` of the chain that ends at `head`; 0 for none."""
        while self.turns[head].place > place:
            turn = self.turns[head]
            head = turn.skip if self.turns[turn.skip].place >= place else turn.prev
        return head if self.turns[head].place == place else 0

    def compaction_at(self, compaction: int, place: int) -> int:
        """Which of `compaction` and those before it was in force at turn `place`; 0 for none."""
        while compaction and self.compactions[compaction].turn > place:
            compaction = self.compactions[compaction].before
        return compaction

    def links(self, head: int) -> tuple[int, ...]:
        """The skip links of the chain that ends at `head`: number and size of each tree."""
        found: list[int] = []
        while head:
            turn = self.turns[head]
            found[:0] = [head, turn.place - self.turns[turn.skip].place]
            head = turn.skip
        return tuple(found)

    def history(self, head: int) -> list[Message]:
        """The messages of the chain that ends at `head`, oldest first. Walks it."""
        parts: list[tuple[Message, ...]] = []
        while head:
            turn = self.turns.get(head) or self.voyages.turns[head]
            parts.append(turn.messages)
            head = turn.prev
        return [message for part in reversed(parts) for message in part]

    def living(self) -> Iterator[KnownSession]:
        """The sessions that are not deleted."""
        return (each for each in self.sessions.values() if not each.deleted)

    def subtree(self, session_id: str) -> Iterator[KnownSession]:
        """The session and everything below it that is not deleted."""
        ahead = [session_id]
        while ahead:
            session = self.sessions[ahead.pop()]
            yield session
            ahead.extend(session.children)

    def spent(self, session_id: str) -> Usage:
        """The usage of the session and everything below it."""
        total = Usage()
        for session in self.subtree(session_id):
            total = total + session.usage
        return total

    def profile(self, name: str) -> dict[str, Any]:
        """A profile of the blueprint; empty if there is none."""
        found: dict[str, Any] = self.blueprint.get("profiles", {}).get(name, {})
        return found

    # -- telling ---------------------------------------------------------------------------

    def _table(self) -> dict[type, Callable[[Written, Any], None]]:
        return {
            MobCreated: self._adopted,
            BlueprintAdopted: self._adopted,
            MobStateChanged: self._state_changed,
            **dict.fromkeys((MemberSpawned, MemberRespawned), self._member_spawned),
            MemberRetired: self._member_retired,
            MemberExited: self._member_exited,
            RunReported: lambda _, record: self.reported.add(record.key),
            SessionCreated: self._session_created,
            SessionArchived: self._archived,
            SessionForked: self._forked,
            SessionRewound: self._rewound,
            SessionLabelled: self._labelled,
            SessionTracked: self._tracked,
            SessionRespecified: self._touch_at,
            SessionDeleted: self._deleted,
            **dict.fromkeys(UNTOLD, lambda written, record: None),
            ContextCompacted: self._compacted,
            CompactionFailed: self._charged,
            TaskStarted: self._task_started,
            TaskEnded: self._task_ended,
            InputAccepted: self._accepted,
            InputAbandoned: self._abandoned,
            **dict.fromkeys((ApprovalAsked, ApprovalDecided, ApprovalUsed), self._approval),
            **dict.fromkeys((RunApplied, InputsRequeued), self._run),
            TurnProgressed: self._progressed,
            TurnEnded: self._ended,
        }

    def tell(self, written: Written) -> None:
        """Take the next record in."""
        self.written.append(written)
        kind = type(written.record)
        for hear in self._heard[kind]:
            hear(written, written.record)

    def _touch(self, written: Written, session_id: str, at_ns: int | None = None) -> KnownSession:
        session = self.sessions[session_id]
        session.revision = written.seq
        if at_ns is not None:
            session.updated_at_ns = at_ns
        return session

    def _adopted(self, _: Written, record: MobCreated | BlueprintAdopted) -> None:
        self.blueprint = json.loads(record.blueprint)

    def _state_changed(self, written: Written, record: MobStateChanged) -> None:
        self.state = record.state
        self.states.append((written.seq, record.state))
        if record.state == "stopped":
            spare_what_stopped(self)

    def _member_spawned(self, _: Written, record: MemberSpawned | MemberRespawned) -> None:
        if isinstance(record, MemberRespawned):
            self.succeeded[self.members[record.name].session_id] = record.session_id
        self.members[record.name] = KnownMember(
            record.name, record.profile, record.session_id, record.generation
        )

    def _member_retired(self, _: Written, record: MemberRetired) -> None:
        self.retired[record.name] = self.members.pop(record.name).session_id

    def _member_exited(self, written: Written, record: MemberExited) -> None:
        exits = self.exits[record.session_id]
        process = written.commit.process
        same = bool(exits) and exits[-1].commit.process == process
        if not same:
            self.given_up.pop(record.session_id, None)
        # Not later than the one before: a stop cuts the backoff short.
        earliest_s = exits[-1].commit.at_s if same else self.opened_s.get(process, 0.0)
        exits.append(KnownExit(record, written.commit, earliest_s))
        if record.restart_in_s is None and not comes_to_rest(self, written):
            self.given_up[record.session_id] = exits[-1]
        row = self.members.get(record.name)
        if row is not None and row.session_id == record.session_id:
            row.last_exit = record.cause
            row.restarts += record.restart_in_s is not None

    def _session_created(self, written: Written, record: SessionCreated) -> None:
        lineage = record.lineage
        session = KnownSession(
            record.session_id,
            record.harness_id,
            record.agent_id,
            record.title,
            record.locale,
            lineage.parent,
            lineage.budget_root,
            lineage.depth,
            record.spawn_key,
            record.at_ns,
            record.at_ns,
            written.seq,
            lineage.forked_from,
            external_id=record.external_id,
        )
        self.sessions[record.session_id] = session
        if record.spawn_key is not None:
            self.spawned[record.spawn_key] = record.session_id
        if lineage.parent is None:
            return
        parent = self.sessions[lineage.parent]
        parent.children[record.session_id] = None
        session.archived = parent.archived  # it ended while this one was on its way
        self._count(session, 0 if session.archived else 1, 1)

    def _count(self, session: KnownSession, active: int, total: int) -> None:
        if session.parent is not None and session.root is not None:
            self.active[session.root] += active
            self.descendants[session.root] += total

    def _archived(self, written: Written, record: SessionArchived) -> None:
        session = self._touch(written, record.session_id, record.at_ns)
        if not session.archived:
            self._count(session, -1, 0)
        session.archived = True
        if session.partial is not None:
            session.cut, session.partial = session.partial.inputs, None
        self.given_up.pop(record.session_id, None)
        if session.stands == "running":
            session.stands, session.reason = "cancelled", record.reason
        for known in list(session.pending.values()):
            self._settle(known, abandoned=f"archived: {record.reason}")

    def _task_started(self, written: Written, record: TaskStarted) -> None:
        session = self._touch(written, record.session_id)
        session.detached = record.lifetime.value == "detached"
        session.stands = "cancelled" if session.archived else "running"
        session.reason = "its parent ended before it began" if session.archived else None

    def _task_ended(self, written: Written, record: TaskEnded) -> None:
        if self.sessions[record.session_id].stands != "running":
            return  # it comes late, and nothing of it stays
        session = self._touch(written, record.session_id, record.at_ns)
        session.stands = record.state.value
        session.answer, session.reason = record.turn, record.error

    def _accepted(self, written: Written, record: InputAccepted) -> None:
        session = self._touch(written, record.session_id)
        known = KnownInput(
            record.input_id,
            record.session_id,
            record.text,
            record.sender,
            record.idempotency_key,
            written.seq,
        )
        self.inputs[record.input_id] = known
        self.by_text[record.text].append(known)
        if known.key is not None:
            self.keys[known.key] = known
        session.pending[known.input_id] = known
        session.waiting.setdefault(known.sender, {})[known.input_id] = None
        if session.archived:
            self._settle(known, abandoned="archived")

    def _settle(self, known: KnownInput, *, turn: int = 0, abandoned: str | None = None) -> None:
        if not known.pending:
            return  # its session was archived before this turn, which comes late
        known.turn, known.abandoned = turn, abandoned
        session = self.sessions[known.session_id]
        del session.pending[known.input_id]
        del session.waiting[known.sender][known.input_id]

    def _abandoned(self, written: Written, record: InputAbandoned) -> None:
        self._touch(written, record.session_id, record.at_ns)
        self._settle(self.inputs[record.input_id], abandoned=record.reason)

    def _progressed(self, written: Written, record: TurnProgressed) -> None:
        session = self._touch(written, record.session_id)
        self.runs[record.run_id] = record.session_id
        if session.archived:
            return
        session.updated_at_ns = record.at_ns
        if session.partial is None:
            session.partial = KnownPartial(record.run_id, record.input_ids, record.at_ns)
        session.partial.inputs = record.input_ids
        session.partial.messages.extend(record.messages)
        session.partial.usage = record.usage
        session.partial.step = record.step

    def _approval(
        self, written: Written, record: ApprovalAsked | ApprovalDecided | ApprovalUsed
    ) -> None:
        self.questions.tell(written.seq, written.commit.process, record)
        session = self._touch(written, record.session_id)
        partial = session.partial
        if partial is None or partial.run_id != record.run_id:
            return
        if isinstance(record, ApprovalAsked):
            partial.asked[record.call_id] = "waiting"
        elif isinstance(record, ApprovalUsed):
            partial.asked.update(dict.fromkeys(record.call_ids, "begun"))
        elif partial.asked.get(record.call_id) == "waiting":
            partial.asked[record.call_id] = record.verdict.value
        decided = isinstance(record, ApprovalDecided)
        if decided and "waiting" not in partial.asked.values():  # the wait is no time of its own
            partial.started_at_ns += max(record.at_ns - session.updated_at_ns, 0)
            session.updated_at_ns = record.at_ns

    def _run(self, written: Written, record: RunApplied | InputsRequeued) -> None:
        self.receipts.tell(record)
        self._touch(written, record.session_id)

    def _ended(self, written: Written, record: TurnEnded) -> None:
        session = self._touch(written, record.session_id, record.ended_at_ns)
        seq = written.seq
        self.runs[record.run_id] = record.session_id
        self.ended[record.run_id] = seq
        self.turns[seq] = KnownTurn(
            record.session_id,
            record.run_id,
            record.turn,
            record.total,
            absolute(seq, record.prev),
            absolute(seq, record.skip),
            record.outcome,
            record.messages,
            record.input_ids,
            record.usage,
            record.output,
            record.error,
        )
        session.partial = None
        session.head = seq
        session.heads.add(seq)
        session.turns += 1
        session.total += len(record.messages)
        session.usage = session.usage + record.usage
        session.failed = record.outcome is TurnOutcome.FAILED
        if record.input_ids and not session.archived:
            session.driven = (written.commit.process, seq)
        for input_id in record.input_ids:
            self._settle(self.inputs[input_id], turn=seq)
        self.given_up.pop(record.session_id, None)
        self.interrupts.pop(record.session_id, None)

    def _forked(self, written: Written, record: SessionForked) -> None:
        source = self.sessions[record.source]
        session = KnownSession(
            record.session_id,
            source.harness,
            record.agent_id,
            record.title,
            source.locale,
            None,
            source.root or source.session_id,
            0,
            None,
            record.at_ns,
            record.at_ns,
            written.seq,
            record.source,
        )
        self.sessions[record.session_id] = session
        self._move(session, record.head)
        session.compaction = 0 if record.compaction is None else record.compaction.seq

    def _compacted(self, written: Written, record: ContextCompacted) -> None:
        self._charged(written, record)
        before = 0 if record.before is None else record.before.seq
        self.compactions[written.seq] = KnownCompaction(
            record.head, record.turn, record.turns, before
        )
        self.sessions[record.session_id].compaction = written.seq

    def _charged(self, written: Written, record: ContextCompacted | CompactionFailed) -> None:
        session = self._touch(written, record.session_id, record.at_ns)
        session.usage = session.usage + record.usage
        self.summaries[record.session_id] = self.summaries[record.session_id] + record.usage

    def _move(self, session: KnownSession, head: int) -> None:
        turn = self.turns[head]
        session.head, session.turns, session.total = head, turn.place, turn.total
        session.heads.add(head)

    def _rewound(self, written: Written, record: SessionRewound) -> None:
        session = self._touch(written, record.session_id, record.at_ns)
        if record.restored is not None:
            del session.branches[record.restored], session.aside[record.restored]
        if session.head:
            session.branches.append(session.head)
            session.aside.append(session.compaction)
        session.compaction = 0 if record.compaction is None else record.compaction.seq
        session.rewinds += 1
        session.branch += 1
        session.failed = False
        self._move(session, record.head)

    def _touch_at(self, written: Written, record: Any) -> None:
        self._touch(written, record.session_id, record.at_ns)

    def _tracked(self, written: Written, record: SessionTracked) -> None:
        session = self._touch(written, record.session_id, record.at_ns)
        session.external_id = record.external_id

    def _labelled(self, written: Written, record: SessionLabelled) -> None:
        session = self._touch(written, record.session_id, record.at_ns)
        session.title, session.tags = record.title, record.tags

    def _deleted(self, _: Written, record: SessionDeleted) -> None:
        session = self.sessions[record.session_id]
        session.deleted = True
        self._count(session, 0 if session.archived else -1, -1)
        if session.spawn_key is not None:
            self.spawned.pop(session.spawn_key, None)
        if session.parent is not None:
            self.sessions[session.parent].children.pop(record.session_id, None)
