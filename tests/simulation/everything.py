"""The scenario of the long proof: the default workload, with every way of coming back counted.

Owns: `everything`, the names in `BRANCHES` and how each is noticed: by what is in the journal and
in the trace at the end, and by wrappers around production functions that stand for one run. Must
not: change what any of them does.

    mob sim replay tests/simulation/everything.py:everything --seed 17 --faults heavy
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Final
from unittest.mock import patch

import attrs

from mob.activation import Activations
from mob.autonomy import SELF
from mob.flows.records import FlowEnded, FlowRoundEnded, FlowStarted, FlowStepEnded, FlowStepRetried
from mob.groups import SUPERVISOR
from mob.helpers import is_helper
from mob.lifecycle import MobState
from mob.mob import Mob
from mob.records import (
    BoardTaskMoved,
    MemberExited,
    MemberRespawned,
    MemberRetired,
    MemberSpawned,
    MobStateChanged,
)
from mob.simulation.facts import is_context
from mob.simulation.ledger import Ledger
from mob.simulation.workload import Workload
from mob.simulation.world import World
from runtime.approvals import ApprovalDecided
from runtime.driver import TurnDriver
from runtime.inputs import Inputs
from runtime.ledger import InputsRequeued, RunApplied
from runtime.live import Trailing
from runtime.messages import ToolOutcome, ToolResult
from runtime.realm import Realm
from runtime.records import (
    InputAbandoned,
    InputAccepted,
    ModelRetried,
    SessionCreated,
    SessionForked,
    TurnEnded,
    TurnOutcome,
    TurnProgressed,
)
from runtime.recovery import Recovery
from runtime.service import HARNESS

#: Every way of coming back that a long run must have gone. Not among them are those for which the
#: workload has no cause: recovery from damage (tests/runtime/test_quarantine.py), an exit after the
#: turn is on disk, which takes a hook that fails (tests/runtime/test_hooks.py), and an input that
#: is abandoned, which takes two for one child (tests/runtime/test_runner.py).
BRANCHES: Final = (
    "mob.created", "mob.continued", "mob.stopped", "mob.with_work", "mob.with_turn_in_flight",
    "store.found", "store.repeated", "store.given_up",
    "process.took_over", "process.late_write_refused", "process.failed_with_its_store",
    "recovery.from_rows", "recovery.from_the_beginning", "recovery.with_a_tail",
    "recovery.no_tail", "recovery.rows_written",
    "member.restarted", "member.given_up", "member.work_restored",
    "member.waited_for_what_was_cut_off",
    "turn.continued", "turn.continued_elsewhere", "turn.model_retried", "turn.interrupted",
    "turn.failed", "turn.saved_when_cut_off",
    "tool.outcome_unknown", "tool.cut_off",
    "input.key_joined", "input.key_joined_from_its_row", "spawn.replayed",
    "stop.taken_back", "mob.rewound", "fork.opened",
    "approval.approved", "approval.edited", "approval.denied", "approval.decided_elsewhere",
    "approval.decided_while_stopped", "approval.begun_elsewhere", "approval.cut_off",
    "run.applied", "run.queued_again", "run.given_up", "run.continued_elsewhere",
    "wiring.changed", "message.steered", "message.silent", "message.between_members",
    "request.replied", "request.passed", "request.failed", "request.ended_elsewhere",
    "context.said", "guest.turn", "guest.told_by_peer", "guest.archived",
    "guest.hosted",
    "member.respawned", "member.respawned_with_work", "member.cut_off_with_its_group",
    "member.goes_on", "group.told_a_member", "group.stopped_the_mob", "mob.completed",
    "flow.succeeded", "flow.failed", "flow.cancelled", "flow.ended_elsewhere", "flow.tried_again",
    "flow.timed_out", "flow.another_round",
    "helper.spawned", "helper.forked", "helper.left", "helper.answered_elsewhere",
    "helper.ended_elsewhere", "newcomer.joined", "newcomer.came_back",
    "dependent.went_on_after", "dependent.told",
    "board.claim", "board.release", "board.finish", "board.cancel", "board.owner_left",
)  # fmt: skip


async def everything(world: World) -> None:
    """Play the default workload in `world`."""
    with _counted(world):
        await Workload()(world)
    _count_journal(world)
    _count_trace(world)


def _count_journal(world: World) -> None:
    count = world.recoveries
    by: dict[str, int] = {}
    for ledger in world.oracle.ledgers.values():
        for written in ledger.written:
            record = written.record
            if isinstance(record, MemberExited):
                count["member.given_up" if record.restart_in_s is None else "member.restarted"] += 1
            elif isinstance(record, ModelRetried):
                count["turn.model_retried"] += 1
            elif isinstance(record, TurnProgressed | TurnEnded):
                process = written.commit.process
                count["turn.continued_elsewhere"] += by.setdefault(record.run_id, process) < process
                _count_turn(world, record)
        _count_questions(count, ledger)
        _count_guests(count, ledger)
        _count_exchange(count, ledger)
        _count_staff(count, ledger)
        count_flows(count, ledger)
        _count_company(count, ledger)


def _count_company(count: Counter[str], ledger: Ledger) -> None:
    """Helpers, newcomers, and members that depend on others."""
    attendance = ledger.attendance
    came: dict[str, int] = {}
    for written in ledger.written:
        record, process = written.record, written.commit.process
        if isinstance(record, SessionForked):
            count["helper.forked"] += is_helper(record.agent_id or "")
        elif isinstance(record, MemberSpawned) and is_helper(record.name):
            count["helper.spawned"] += 1
            came[record.name] = process
        elif isinstance(record, MemberSpawned) and record.name in attendance.by_message:
            count["newcomer.joined"] += 1
            count["newcomer.came_back"] += record.name in came
            came[record.name] = process
        elif isinstance(record, MemberRetired) and is_helper(record.name):
            count["helper.left"] += 1
            count["helper.ended_elsewhere"] += process != came[record.name]
        elif isinstance(record, TurnEnded):
            helper = attendance.helpers.get(record.session_id)
            answered = helper is not None and helper.question in record.input_ids
            count["helper.answered_elsewhere"] += (
                answered and helper is not None and process != came[helper.name]
            )
        elif isinstance(record, InputAccepted):
            count["dependent.told"] += "on which you depend, has given up" in record.text
    count["dependent.went_on_after"] += attendance.went_on


def count_flows(count: Counter[str], ledger: Ledger) -> None:
    """How runs of flows ended, and what became of tasks of the board."""
    begun: dict[str, int] = {}  # by what is written: a rewind takes runs away that had ended
    for written in ledger.written:
        record, process = written.record, written.commit.process
        if isinstance(record, FlowStarted):
            begun[record.run_id] = process
        elif isinstance(record, FlowStepRetried):
            count["flow.tried_again"] += 1
        elif isinstance(record, FlowStepEnded):
            count["flow.timed_out"] += (record.error or "").startswith("timed out")
        elif isinstance(record, FlowRoundEnded):
            count["flow.another_round"] += record.verdict.value == "again"
        elif isinstance(record, FlowEnded):
            count[f"flow.{record.state.value}"] += 1
            count["flow.ended_elsewhere"] += process != begun[record.run_id]
        elif isinstance(record, BoardTaskMoved):
            count[f"board.{record.verb}"] += 1
    for stands in ledger.board.tasks.values():
        seqs = (each.seq for each in stands)
        count["board.owner_left"] += sum(
            isinstance(ledger.written[seq - 1].record, MemberRetired) for seq in seqs
        )


def _count_staff(count: Counter[str], ledger: Ledger) -> None:
    """Members that began anew, went on by themselves and failed in groups, and mobs that ended."""
    for written in ledger.written:
        record = written.record
        if isinstance(record, MemberRespawned):
            count["member.respawned"] += 1
        elif isinstance(record, InputAccepted):
            count["member.goes_on"] += record.sender == SELF
            count["group.told_a_member"] += record.sender == SUPERVISOR
        elif isinstance(record, MobStateChanged):
            count["mob.completed"] += record.state == "completed"
            count["group.stopped_the_mob"] += "(group " in record.reason
    count["member.respawned_with_work"] += len(ledger.tenures.carried)
    failures = ledger.failures.known
    count["member.cut_off_with_its_group"] += sum(each.together is not None for each in failures)


def _count_guests(count: Counter[str], ledger: Ledger) -> None:
    """What became of runs that callers applied, of system context and of sessions without a
    member."""
    begun: dict[str, int] = {}
    for written in ledger.written:
        record, process = written.record, written.commit.process
        if isinstance(record, TurnProgressed):
            begun.setdefault(record.run_id, process)
        elif isinstance(record, RunApplied):
            count["run.applied"] += 1
            count["run.continued_elsewhere"] += begun.get(record.run_id, process) != process
        elif isinstance(record, InputsRequeued):
            count["run.queued_again"] += bool(record.input_ids)
        elif isinstance(record, InputAbandoned):
            count["run.given_up"] += record.reason.startswith("failed ")
    for known in ledger.inputs.values():
        count["context.said"] += is_context(known.sender) and bool(known.turn)
        count["guest.told_by_peer"] += known.sender == "outside" and bool(known.turn)
    for session in ledger.sessions.values():
        if session.harness == HARNESS:
            count["guest.turn"] += session.turns
            count["guest.archived"] += session.archived
    _count_hosted(count, ledger)


def _count_hosted(count: Counter[str], ledger: Ledger) -> None:
    """Turns that hosted sessions began by themselves."""
    hosted = {
        each.record.session_id
        for each in ledger.written
        if isinstance(each.record, SessionCreated) and each.record.spec.host_mode
    }
    for known in ledger.inputs.values():
        told = known.session_id in hosted and known.sender == "outside"
        count["guest.hosted"] += told and bool(known.turn)


def _count_exchange(count: Counter[str], ledger: Ledger) -> None:
    """What became of edges, of messages between members, and of requests."""
    exchange = ledger.exchange
    count["wiring.changed"] += len(exchange.changed)
    for known in ledger.inputs.values():
        count["message.steered"] += bool(known.turn) and exchange.steers(known.input_id)
        count["message.between_members"] += bool(known.turn) and known.sender in exchange.ever
        count["message.silent"] += bool(known.turn) and " (fyi): " in known.text
    for request in exchange.requests.values():
        how = "failed" if request.how in ("unwired", "left") else request.how
        count[f"request.{how}"] += 1
        count["request.ended_elsewhere"] += request.how is not None and (
            request.process != request.sent_by
        )


def _count_questions(count: Counter[str], ledger: Ledger) -> None:
    """What became of the calls that were asked about; of which process and of which state."""
    where = {
        (each.record.session_id, each.record.run_id, each.record.call_id): each
        for each in ledger.written
        if isinstance(each.record, ApprovalDecided)
    }
    states = [(0, "creating"), *ledger.states]
    for known in ledger.questions.known.values():
        asked, decided = known.asked, known.decided
        if decided is None:
            count["approval.cut_off"] += asked.run_id in ledger.ended
            continue
        at = where[asked.session_id, asked.run_id, asked.call_id]
        process = at.commit.process
        state = next(state for seq, state in reversed(states) if seq < at.seq)
        count["approval.decided_while_stopped"] += state == "stopped"
        count[f"approval.{decided.verdict.value}"] += 1
        count["approval.edited"] += decided.arguments is not None
        count["approval.decided_elsewhere"] += process != known.process
        begun = known.begun and ledger.written[known.begun - 1].commit.process
        count["approval.begun_elsewhere"] += bool(begun) and begun != process


def _count_turn(world: World, record: TurnProgressed | TurnEnded) -> None:
    count = world.recoveries
    if isinstance(record, TurnEnded):
        count["turn.interrupted"] += record.outcome is TurnOutcome.INTERRUPTED
        count["turn.failed"] += record.outcome is TurnOutcome.FAILED
    for message in record.messages:
        if isinstance(message, ToolResult):
            count["tool.outcome_unknown"] += message.outcome is ToolOutcome.UNKNOWN
            count["tool.cut_off"] += message.outcome is ToolOutcome.INTERRUPTED


def _count_trace(world: World) -> None:
    count = world.recoveries
    gone = {0}
    for line in world.trace.lines:
        if line.kind == "process.started":
            count["process.took_over"] += line.process - 1 not in gone
        elif line.kind in ("process.died", "process.failed", "process.ended"):
            gone.add(line.process)
            count["process.late_write_refused"] += "StoreLost" in line.text
            count["process.failed_with_its_store"] += line.kind == "process.failed"


@contextmanager
def _counted(world: World) -> Iterator[None]:
    """Count what leaves no trace, in this block."""
    notes = _Notes(world.recoveries)
    with ExitStack() as stack:
        for owner, name, note in (
            (Recovery, "load", notes.loads),
            (Recovery, "step", notes.steps),
            (Inputs, "_join", notes.joins),
            (Realm, "create", notes.creates),
            (TurnDriver, "run", notes.begins),
            (TurnDriver, "_keep", notes.keeps),
            (Trailing, "landed", notes.waits),
            (Activations, "restore", notes.restores),
            (Mob, "stop", notes.stops),
        ):
            stack.enter_context(_noting(owner, name, note))
        yield


def _noting(owner: Any, name: str, note: Any) -> AbstractContextManager[Any]:
    """Have `note` called with what the method `name` is given, and what that returns with what the
    method does."""
    method = getattr(owner, name)

    def call(self: Any, *args: Any, **options: Any) -> Any:
        then = note(self, *args, **options)
        result = method(self, *args, **options)
        return result if then is None else then(result)

    return patch.object(owner, name, call)


@attrs.frozen
class _Notes:
    """What is noted of each call."""

    count: Counter[str]

    def loads(self, recovery: Recovery) -> Any:
        def then(last: int) -> int:
            rows = "from_rows" if recovery.position else "from_the_beginning"
            self.count[f"recovery.{rows}"] += 1
            tail = "with_a_tail" if last > recovery.position else "no_tail"
            self.count[f"recovery.{tail}"] += 1
            return last

        return then

    def steps(self, _: Recovery, *_most: int) -> None:
        self.count["recovery.rows_written"] += 1

    def joins(self, inputs: Inputs, key: str) -> Any:
        row = key not in inputs._state.keyed and key not in inputs._admitted

        def then(known: Any) -> Any:
            self.count["input.key_joined"] += known is not None
            self.count["input.key_joined_from_its_row"] += row and known is not None
            return known

        return then

    def creates(self, realm: Realm, *_args: Any, **options: Any) -> None:
        key = options.get("spawn_key")
        known = key in realm.state.spawned or key in realm.spawning.keyed
        self.count["spawn.replayed"] += key is not None and known

    def begins(self, driver: TurnDriver, _inputs: Any) -> None:
        self.count["turn.continued"] += driver._live.head.partial is not None

    def keeps(self, _: TurnDriver, results: Any) -> None:
        self.count["turn.saved_when_cut_off"] += bool(results)

    def waits(self, trailing: Trailing, session_id: Any) -> None:
        self.count["member.waited_for_what_was_cut_off"] += session_id in trailing

    def restores(self, *_: Any) -> None:
        self.count["member.work_restored"] += 1

    def stops(self, mob: Mob, *_: Any, **_options: Any) -> Any:
        async def then(stopping: Any) -> Any:
            begun = mob._changing is None
            try:
                return await stopping
            except BaseException:
                self.count["stop.taken_back"] += begun and mob.state is MobState.RUNNING
                raise

        return then
