"""What must hold of sessions, members and the mob: who may be there, and what may be said of them.

Owns: the invariants of sessions being made, ended and deleted, of the roster, of the mob's states
and of ids. Must not: change the ledger. Those that take a `Written` are asked before the ledger
takes it in, those that take a `Batch` after all of its records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from mob.comms.records import MembersUnwired, MembersWired
from mob.flows.records import (
    FlowEnded,
    FlowRoundEnded,
    FlowStarted,
    FlowStepEnded,
    FlowStepRetried,
    FlowStepStarted,
    RunState,
)
from mob.mob import Mob
from mob.records import (
    MemberExited,
    MemberRetired,
    MemberSpawned,
    MobCreated,
    MobStateChanged,
)
from mob.simulation.facts import Batch, Written, waits
from mob.simulation.flowing import place_in
from mob.simulation.ledger import Ledger
from runtime.approvals import ApprovalUsed
from runtime.contexts import CompactionFailed, ContextCompacted
from runtime.messages import CONTEXT
from runtime.peering import SOURCE
from runtime.records import (
    InputAbandoned,
    InputAccepted,
    ModelRetried,
    SessionArchived,
    SessionCreated,
    SessionDeleted,
    SessionForked,
    TaskEnded,
    TaskStarted,
    TurnEnded,
    TurnOutcome,
    TurnProgressed,
)
from runtime.session import Lineage
from stores import Put

#: Limits where no profile says anything (`runtime.spawning.SpawnLimits`).
MAX_DEPTH: Final = 2
MAX_ACTIVE: Final = 16
MAX_TOTAL: Final = 200

#: Which state may follow which.
FOLLOWS: Final = {
    "creating": frozenset({"running"}),
    "running": frozenset({"stopped", "completed"}),
    "stopped": frozenset({"running", "destroyed"}),
    "completed": frozenset({"destroyed"}),
    "destroyed": frozenset(),
}

#: The states in which nothing is worked on.
AT_REST: Final = frozenset({"stopped", "completed", "destroyed"})


def _session_ids(record: Any) -> Iterator[str]:
    if isinstance(record, SessionForked):
        yield record.source
    elif isinstance(record, SessionCreated):
        if record.lineage.parent is not None:
            yield record.lineage.parent
    elif not isinstance(record, MemberExited):
        session_id = getattr(record, "session_id", None)
        if session_id is not None:
            yield session_id


def records_speak_of_sessions_that_are_there(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 3.7, 3.8: every record speaks of a session that was made, and of none that was
    deleted; a parent is there when its child is made, a source when it is forked."""
    for session_id in _session_ids(written.record):
        session = ledger.sessions.get(session_id)
        if session is None:
            return f"{_name(written)} speaks of session {session_id}, which was never made"
        if session.deleted:
            return f"{_name(written)} speaks of session {session_id}, which was deleted"
    return None


def _name(written: Written) -> str:
    return f"{type(written.record).__name__} in record {written.seq}"


def nothing_is_damaged(_: Ledger, written: Written) -> str | None:
    """CONTRACTS 2.2: nothing is damaged in a simulation, so nothing is ever mended."""
    return f"{_name(written)}: a session was quarantined, and no fault damages anything"


def ids_never_repeat(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 2.9: an id stands for one thing, in whatever process it was made."""
    record = written.record
    made = record.input_id if isinstance(record, InputAccepted) else record.session_id
    for what, known in (
        ("session", ledger.sessions),
        ("input", ledger.inputs),
        ("run", ledger.runs),
    ):
        if made in known:
            return f"{_name(written)} makes {made}, which is the id of a {what} already"
    return None


def a_spawn_key_makes_one_session(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 1.9: a spawn that is repeated finds the child it made."""
    record: SessionCreated = written.record
    known = ledger.spawned.get(record.spawn_key or "")
    if known is None:
        return None
    return f"spawn key {record.spawn_key!r} made session {known} and makes {record.session_id}"


def lineage_is_true(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 1.7: a child is one deeper than its parent and charged to the parent's root."""
    record: SessionCreated = written.record
    lineage = record.lineage
    if lineage.parent is None:
        return None if not lineage.depth else f"{record.session_id} is deep and has no parent"
    parent = ledger.sessions[lineage.parent]
    if lineage.depth != parent.depth + 1:
        return f"a child at depth {lineage.depth} of a parent at depth {parent.depth}"
    root = parent.root or parent.session_id
    return (
        None
        if lineage.budget_root == root
        else f"a child of the tree {root} is charged to" + (f" {lineage.budget_root}")
    )


def children_keep_to_their_slots(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 1.8: depth, active and total descendants stay within the limits at every commit."""
    record: SessionCreated = written.record
    lineage = record.lineage
    if lineage.parent is None or lineage.budget_root is None:
        return None
    depth, most = _limits(ledger, lineage)
    if lineage.depth > depth:
        return f"a child at depth {lineage.depth}, and {depth} is the limit"
    active = ledger.active[lineage.budget_root]
    if not ledger.sessions[lineage.parent].archived and active >= most:
        return f"a child beside {active} active ones of one root, and {most} is the limit"
    total = ledger.descendants[lineage.budget_root]
    if total >= MAX_TOTAL:
        return f"a child beside {total} of one root, and {MAX_TOTAL} is the limit"
    return None


def _limits(ledger: Ledger, lineage: Lineage) -> tuple[int, int]:
    """How deep the parent's profile lets a child be, and how many the member's lets be active."""
    own, top = (
        ledger.profile(ledger.sessions[each or ""].harness).get("subagents")
        for each in (lineage.parent, lineage.budget_root)
    )
    most = top or own
    return (
        own["max_depth"] if own else MAX_DEPTH,
        most["max_children"] if most else MAX_ACTIVE,
    )


def tasks_begin_with_their_sessions(ledger: Ledger, batch: Batch) -> str | None:
    """CONTRACTS 1.8, 1.12: a background child, that it is one, and its work are one commit."""
    made = {each.record.session_id for each in batch.written if _is(each, SessionCreated)}
    told = {each.record.session_id for each in batch.written if _is(each, InputAccepted)}
    for written in batch.written:
        if _is(written, TaskStarted):
            session_id = written.record.session_id
            if session_id not in made or session_id not in told:
                return f"{_name(written)}: session {session_id} was not made, or told, with it"
    return None


def tasks_end_with_their_last_turn(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 1.12: a background child ends once nothing is left for it, as its last turn did."""
    record: TaskEnded = written.record
    session = ledger.sessions[record.session_id]
    if session.stands is None:
        return f"{_name(written)}: session {record.session_id} is no background child"
    if session.stands != "running":
        return None  # late, and dropped
    if session.partial is not None or any(
        not waits(each.sender) for each in session.pending.values()
    ):
        return f"{_name(written)}: session {record.session_id} has work left"
    outcome = ledger.turns[session.head].outcome if session.head else TurnOutcome.FAILED
    if record.turn != session.head or record.state.value != _ENDS[outcome]:
        return (
            f"{_name(written)} says {record.state.value} by turn {record.turn}, and the last turn"
            f" is {session.head}, which ended as {outcome.name}"
        )
    return None


_ENDS: Final = {
    TurnOutcome.COMPLETED: "completed",
    TurnOutcome.FAILED: "failed",
    TurnOutcome.OVER_BUDGET: "failed",
    TurnOutcome.INTERRUPTED: "cancelled",
}


def no_orphans(ledger: Ledger, batch: Batch) -> str | None:
    """CONTRACTS 1.10, 3.7: a session that is archived or deleted takes what is below it with it in
    the same commit, and so does a turn that fails or is interrupted; a background child that is
    detached goes on, except when its parent is deleted."""
    for written in batch.written:
        record = written.record
        if isinstance(record, SessionArchived):
            left = _left(ledger, record.session_id)
        elif isinstance(record, SessionDeleted):
            left = list(_children(ledger, record.session_id))
        elif isinstance(record, TurnEnded) and record.outcome is not TurnOutcome.COMPLETED:
            left = _left(ledger, record.session_id)
        else:
            continue
        if left:
            ids = ", ".join(each.session_id for each in left)
            return f"{_name(written)} leaves children of {record.session_id} behind: {ids}"
    return None


def _left(ledger: Ledger, session_id: str) -> list[Any]:
    """The children that are there still, and should not be when their parent ends."""
    children = _children(ledger, session_id)
    return [each for each in children if not each.archived and not each.outlives]


def _children(ledger: Ledger, session_id: str) -> Iterator[Any]:
    return (ledger.sessions[child] for child in ledger.sessions[session_id].children)


# -- the mob and its members -------------------------------------------------------------------


def the_mob_is_made_once(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.1: the first record makes the mob, and no other does."""
    if (written.seq == 1) != isinstance(written.record, MobCreated):
        return f"{_name(written)}: the mob is made by its first record, once"
    return None


def states_follow_the_table(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 5.12, 5.13, 6.1: from a state only to those that may follow it."""
    record: MobStateChanged = written.record
    back = ledger.voyages.back
    if back is not None and back[0] is written.commit:  # whatever it was then
        if record.state == back[1]:
            return None
        return f"the mob is {back[1]}, and a rewind says that it is {record.state}"
    if record.state in FOLLOWS[ledger.state]:
        return None
    return f"the mob is {ledger.state} and becomes {record.state}"


#: What is said of a mob that is stopped: its states, members that leave, and what people do to
#: sessions at rest.
_WORK: Final = (
    InputAccepted,
    InputAbandoned,
    TurnProgressed,
    ModelRetried,
    MemberExited,
    MemberSpawned,
    TaskStarted,
    TaskEnded,
    ContextCompacted,
    CompactionFailed,
    ApprovalUsed,
    FlowStarted,
    FlowStepStarted,
    FlowStepRetried,
    FlowStepEnded,
    FlowRoundEnded,
)


#: What may be done to a mob at rest that members, or sessions that are no member's, are told of.
_OF_PEERS: Final = (MembersWired, MembersUnwired, MemberRetired, SessionArchived)


def a_stopped_mob_does_nothing(ledger: Ledger, batch: Batch) -> str | None:
    """CONTRACTS 5.9, 5.11, 5.13: between stop and resume no input is taken, no turn goes on, no
    member joins, no child is made, no run of a flow goes on and no snapshot is written. A run
    may be cancelled, with what it asked."""
    state = batch.state
    cancelled = [
        each.record.run_id
        for each in batch.written
        if isinstance(each.record, FlowEnded) and each.record.state is RunState.CANCELLED
    ]
    for written in batch.written:
        record = written.record
        if isinstance(record, MobStateChanged):
            state = record.state
        elif state in AT_REST and (
            (
                isinstance(record, _WORK)
                and not _is_notice(record, batch)
                and not _asked_by(ledger, record, cancelled)
            )
            or (isinstance(record, FlowEnded) and record.run_id not in cancelled)
            or (isinstance(record, TurnEnded) and record.input_ids)
            or (isinstance(record, SessionCreated) and record.lineage.parent is not None)
        ):
            return f"the mob is {state}, and there is {_name(written)}"
    if state in AT_REST and not batch.written:
        prefix = b"snapshot/" + ledger.mob_id.encode() + b"/"
        for operation in batch.commit.operations:
            if isinstance(operation, Put) and operation.key.startswith(prefix):
                return f"the mob is {state}, and a snapshot is written: {operation.key!r}"
    return None


def _is_notice(record: object, batch: Batch) -> bool:
    """Whether sessions are told who their peers are, in the commit that made them others."""
    return (
        isinstance(record, InputAccepted)
        and record.sender == f"{CONTEXT}: {SOURCE}"
        and any(isinstance(each.record, _OF_PEERS) for each in batch.written)
    )


def _asked_by(ledger: Ledger, record: Any, run_ids: Sequence[str]) -> bool:
    """Whether an input is abandoned that one of these runs had asked."""
    if not run_ids or not isinstance(record, InputAbandoned):
        return False
    place = place_in(ledger.inputs[record.input_id].key)
    return place is not None and place[0] in run_ids


def names_are_members_names(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.2, 6.3: a name joins once, leaves once, and is that of a member while it is
    spoken of; its session is its own."""
    record: MemberSpawned | MemberRetired | MemberExited = written.record
    row = ledger.members.get(record.name)
    if isinstance(record, MemberSpawned):
        if row is not None:
            return f"{record.name!r} joins and is a member already"
        session = ledger.sessions.get(record.session_id)
        if session is None or session.agent != record.name or session.parent is not None:
            return f"{record.name!r} joins with the session {record.session_id}"
        return None
    if row is None:
        return f"{_name(written)}: {record.name!r} is no member"
    if isinstance(record, MemberExited) and row.session_id != record.session_id:
        return f"{record.name!r} exits with the session {record.session_id}, not {row.session_id}"
    return None


def members_and_sessions_come_and_go_together(ledger: Ledger, batch: Batch) -> str | None:
    """CONTRACTS 6.2, 6.3, 3.8: session and roster row are one commit, when a member joins and when
    it leaves."""
    kinds = (SessionCreated, SessionForked)
    made = {each.record.session_id for each in batch.written if isinstance(each.record, kinds)}
    for written in batch.written:
        record = written.record
        if isinstance(record, MemberSpawned) and record.session_id not in made:
            return f"{record.name!r} joins, and its session was made in another commit"
        if isinstance(record, MemberRetired):
            session = ledger.sessions[ledger.retired[record.name]]
            if not session.archived and not session.deleted:
                return f"{record.name!r} leaves, and its session {session.session_id} stays"
    return None


def _is(written: Written, kind: type) -> bool:
    return isinstance(written.record, kind)


def no_slot_is_leaked(_: Ledger, mob: Mob | None) -> str | None:
    """CONTRACTS 1.8: once the mob is idle no slot is reserved for a child that is being made."""
    if mob is None or not mob.realm.spawning.taken:
        return None
    making = sorted(mob.realm.spawning.creating)
    return f"{mob.realm.spawning.taken} slots are reserved, and what is being made is {making}"
