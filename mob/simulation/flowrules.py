"""What must hold of runs of flows: when steps begin and end, who is asked, and what comes of it.

Owns: the invariants. Must not: change the ledger, share code with `mob.flows` but its records.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from mob.flows.records import (
    FlowEnded,
    FlowRoundEnded,
    FlowStarted,
    FlowStepEnded,
    FlowStepRetried,
    FlowStepStarted,
)
from mob.simulation.flowing import (
    CancelsFlow,
    FlowBegun,
    FlowCancelled,
    FlowsListed,
    FlowTold,
    KnownRun,
    KnownStep,
    place_in,
)
from runtime.errors import encodable
from runtime.messages import CONTINUED, AssistantMessage, SystemMessage, UserMessage
from runtime.records import InputAccepted, TurnEnded, TurnOutcome, TurnProgressed
from runtime.structured import Invalid, parse_output

if TYPE_CHECKING:
    from mob.simulation.facts import KnownTurn, Written
    from mob.simulation.ledger import Ledger

_NANO: Final = 1_000_000_000
#: By how much two ends of a span of time may differ in the two clocks before the wall clock is
#: known to have been set in between: a commit is stamped before it is on the disk.
_SLOW_S: Final = 20.0
#: By how much a wait may be shorter than it was to be: it is counted in floats.
_EARLY_NS: Final = 1_000_000
#: Transactions after a withdrawal in which records may come that were made before it was known.
_ON_ITS_WAY: Final = 3
_TIMED_OUT: Final = "timed out after "


def _about(record: Any) -> str:
    return f"{type(record).__name__} of run {record.run_id}"


# -- runs and steps ----------------------------------------------------------------------------


def flows_start_and_end_once(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.9, 6.10: a run starts once for a key, ends once, and nothing is said of it after
    that; it is cancelled only if somebody wants that, and succeeds or fails as its steps did."""
    record, flows = written.record, ledger.flows
    run = flows.runs.get(record.run_id)
    if isinstance(record, FlowStarted):
        if run is not None:
            return f"run {record.run_id} starts again"
        if record.idempotency_key in flows.keys:
            return f"key {record.idempotency_key!r} starts another run"
        return None
    if run is None or run.state != "running":
        return f"{_about(record)}, which {'never started' if run is None else f'is {run.state}'}"
    if not isinstance(record, FlowEnded):
        return None
    if record.state.value == "cancelled":
        return None if run.run_id in flows.cancelled else f"nobody cancelled run {run.run_id}"
    return _deserved(run, record)


def _deserved(run: KnownRun, record: FlowEnded) -> str | None:
    going = [name for name in (*run.steps, *run.loops) if run.outcome(name) is None]
    if going:
        return f"run {run.run_id} is {record.state.value}, and {going} have not ended"
    inside = {name for loop in run.loops.values() for name in loop.plain["steps"]}
    bad = [name for name in run.steps if name not in inside and run.counts(name)]
    bad += [name for name, loop in run.loops.items() if loop.verdict == "failed"]
    if bool(bad) == (record.state.value == "failed"):
        return None
    return f"run {run.run_id} is {record.state.value}, and what failed is {bad}"


def steps_wait_for_what_they_need(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.10: a step begins when its needs have succeeded, what it comes after has ended
    and those before it in its branch have failed; one that has ended does not begin again, and it
    is tried no more often than it may be, and not before its time."""
    record: FlowStepStarted = written.record
    run = ledger.flows.runs[record.run_id]
    step = run.steps[record.step]
    name = f"step {record.step!r} of run {run.run_id}"
    if step.state not in ("pending", "ready"):
        return f"{name} begins, and is {step.state}"
    waits = _waits(run, record.step, step)
    if waits is not None:
        return f"{name} begins, and {waits}"
    if (record.round, record.attempt) != (step.round, step.attempt + 1):
        return f"{name} begins with round {record.round}, attempt {record.attempt}, after {step}"
    if record.attempt > step.plain.get("retries", 0) + 1:
        return f"{name} is tried for the {record.attempt}th time"
    if step.state == "ready" and _early(step, written, record.at_ns, step.due_ns):
        return f"{name} is tried again {(step.due_ns - record.at_ns) / _NANO:g} s too early"
    if step.plain.get("member") is not None and set(record.members) - {step.plain["member"]}:
        return f"{name} asks {record.members}"
    timeout_s = step.plain.get("timeout_s")
    wanted = None if timeout_s is None else record.at_ns + int(timeout_s * _NANO)
    if record.deadline_ns != wanted:
        return f"{name} has the deadline {record.deadline_ns}, not {wanted}"
    return None


def _waits(run: KnownRun, name: str, step: KnownStep) -> str | None:
    """What the step is to wait for still."""
    for need in step.plain.get("needs", ()):
        if run.outcome(need) != "succeeded":
            return f"{need!r}, which it needs, is {run.outcome(need)}"
    for other in step.plain.get("after", ()):
        if run.outcome(other) is None:
            return f"{other!r}, which it comes after, has not ended"
    for other, each in run.branch(step.plain.get("branch", "")):
        if other == name:
            break
        if not each.over or each.state == "succeeded":
            return f"{other!r} before it in its branch is {each.state}"
    return None


def _early(step: KnownStep, written: Written, at_ns: int, wanted_ns: int) -> bool:
    """Whether something happens before its time, by all that is known: when the wall clock was set
    in between, it is not. Set by less than a disk may be slow, that shows by the other clock."""
    assert step.commit is not None
    gone_s = (at_ns - step.at_ns) / _NANO
    passed_s = written.commit.at_s - step.commit.at_s
    if gone_s < 0 or abs(gone_s - passed_s) > _SLOW_S:
        return False
    due = wanted_ns - _EARLY_NS
    return at_ns < due and passed_s < (due - step.at_ns) / _NANO


def steps_end_once_and_as_they_may(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.10: a step ends once in a round, is skipped only for what others came to, and is
    tried again only as often as it may be; a deadline never fires early."""
    record: FlowStepEnded | FlowStepRetried = written.record
    run = ledger.flows.runs[record.run_id]
    step = run.steps[record.step]
    name = f"step {record.step!r} of run {run.run_id}"
    if step.over or record.round != step.round:
        return f"{name} ends in round {record.round}, and is {step.state} in round {step.round}"
    state = "ready" if isinstance(record, FlowStepRetried) else record.state.value
    if state in ("ready", "succeeded") and step.state != "running":
        return f"{name} is {state}, and nobody was asked"
    if state == "ready" and step.attempt > step.plain.get("retries", 0):
        return f"{name} is to be tried again after attempt {step.attempt}"
    if state == "skipped" and not _skipped(run, record.step, step):
        return f"{name} is skipped, for no reason: {record.error}"
    late = step.deadline_ns
    timed_out = (record.error or "").startswith(_TIMED_OUT)
    if timed_out and (late is None or _early(step, written, record.at_ns, late)):
        return f"{name} timed out before its time, which is {late}"
    return None


def _skipped(run: KnownRun, name: str, step: KnownStep) -> bool:
    if step.state != "pending":
        return False
    if any(run.outcome(need) not in (None, "succeeded") for need in step.plain.get("needs", ())):
        return True
    branch = step.plain.get("branch")
    won = branch is not None and run.outcome(branch) == "succeeded"
    return won or "condition" in step.plain


def rounds_are_bounded(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.10: a round of a loop ends when its steps have, and there are only so many."""
    record: FlowRoundEnded = written.record
    run = ledger.flows.runs[record.run_id]
    loop = run.loops[record.loop]
    name = f"loop {record.loop!r} of run {run.run_id}"
    if loop.verdict != "again" or record.round != loop.round:
        return f"{name} ends round {record.round}, and is {loop.verdict} in round {loop.round}"
    going = [each for each in loop.plain["steps"] if not run.steps[each].over]
    if going:
        return f"{name} ends a round, and {going} have not ended"
    if record.verdict.value == "again" and record.round >= loop.plain["max_rounds"]:
        return f"{name} goes on after round {record.round}"
    failed = any(run.counts(each) for each in loop.plain["steps"])
    if failed and record.verdict.value != "failed":
        return f"{name} is {record.verdict.value}, and a step in it has failed"
    return None


# -- questions and answers -----------------------------------------------------------------------


def steps_ask_once(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.9, 6.10: a question is put only while its attempt is under way, to whom that
    asks, and once as long as whoever was asked is there."""
    record: InputAccepted = written.record
    place = place_in(record.idempotency_key)
    run = None if place is None else ledger.flows.runs.get(place[0])
    if place is None or run is None:
        return None
    _, name, round_, attempt, index = place
    step = run.steps[name]
    if (step.state, step.round, step.attempt) != ("running", round_, attempt):
        return f"{record.idempotency_key!r} is asked, and the step is {step.state}"
    member = ledger.sessions[record.session_id].agent
    if index >= len(step.members) or step.members[index] != member:
        return f"{record.idempotency_key!r} is asked of {member!r}, and not of {step.members}"
    for input_id in ledger.flows.asked.get(str(record.idempotency_key), ()):
        if ledger.inputs[input_id].session_id == record.session_id:
            return f"{record.idempotency_key!r} is asked again"
    return None


def outputs_are_what_members_answered(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.10: a step that succeeds has as many answers as it takes, and they are what its
    members said in turns that completed, in the order of the questions."""
    record: FlowStepEnded = written.record
    if record.state.value != "succeeded":
        return None
    step = ledger.flows.runs[record.run_id].steps[record.step]
    said = [
        [_fits(each) for each in _answers(ledger, record, step, index)]
        for index in range(len(step.members))
    ]
    output = json.loads(record.output or "null")
    collect = step.plain.get("collect", "all")
    fans = step.plain.get("profile") is not None or step.plain.get("for_each") is not None
    if not fans or collect == "any":
        right = any(output in each for each in said)
    else:
        count = len(said) if collect == "all" else step.plain["quorum"]
        right = isinstance(output, list) and len(output) == count and _in_order(output, said)
    if right:
        return None
    return (
        f"step {record.step!r} of run {record.run_id} has the output {record.output!r:.200}, and"
        f" its members answered {said!r:.200}"
    )


def _fits(answer: Any) -> Any:
    """An answer as a journal can hold it: half a surrogate pair fits none."""
    return json.loads(encodable(json.dumps(answer, ensure_ascii=False)))


def _in_order(output: list[Any], said: list[list[Any]]) -> bool:
    ahead = iter(said)
    return all(any(each in answers for answers in ahead) for each in output)


def _answers(ledger: Ledger, record: Any, step: KnownStep, index: int) -> Iterator[Any]:
    """What came of a question, in this attempt or an earlier one, of whoever was asked then."""
    for attempt in range(step.attempt, 0, -1):
        key = f"flow:{record.run_id}:{record.step}:{record.round}:{index}:{attempt}"
        for input_id in ledger.flows.asked.get(key, ()):
            seq = ledger.inputs[input_id].turn
            turn = ledger.turns[seq]
            if seq and turn.outcome is TurnOutcome.COMPLETED:
                yield from _answer(turn, step.plain.get("output_schema"))


def _answer(turn: KnownTurn, schema: dict[str, Any] | None) -> Iterator[Any]:
    if turn.output is not None:
        yield json.loads(turn.output)
    text = _last_text(turn)
    if schema is None:
        yield text
    elif not isinstance(found := parse_output(schema, text), Invalid):
        yield found.value


def _last_text(turn: KnownTurn) -> str:
    # A reply that was cut off and what continues it are one.
    text, before = "", None
    for message in turn.messages:
        if isinstance(message, AssistantMessage):
            goes_on = isinstance(before, UserMessage) and before.sender == CONTINUED
            text = text + message.text if goes_on else message.text
        if not isinstance(message, SystemMessage):
            before = message
    return text


def withdrawn_questions_rest(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.10: once it is on disk that nobody waits for an answer, no turn goes on with the
    question, in this process or a later one."""
    record: TurnProgressed | TurnEnded = written.record
    if isinstance(record, TurnEnded) and record.outcome is not TurnOutcome.COMPLETED:
        return None
    if not record.input_ids:
        return None
    known = ledger.inputs.get(record.input_ids[0])
    place = None if known is None else place_in(known.key)
    over = None if place is None else ledger.flows.withdrawn.get(place[:4])
    if known is None or over is None or ledger.sessions[known.session_id].archived:
        return None
    later = written.commit.transaction - over.transaction
    # A tool that is deaf to its end is waited for, and what it did is told before the turn ends.
    deaf = not any(isinstance(each, AssistantMessage) for each in record.messages)
    if written.commit.process == over.process and (later < _ON_ITS_WAY or deaf):
        return None
    what = "goes on" if isinstance(record, TurnProgressed) else "is answered"
    return f"{known.key!r} {what} in transaction {written.commit.transaction}, after {over.number}"


# -- what people are told ------------------------------------------------------------------------


def what_flows_told_is_on_disk(ledger: Ledger, promise: object) -> str | None:
    """CONTRACTS 6.9, 6.10: a run that somebody was given is on disk under its key, one that was
    cancelled stays so, and what is told of a run is what its records say, in any process."""
    flows = ledger.flows
    if isinstance(promise, CancelsFlow):
        flows.cancelled.add(promise.run_id)
        return None
    if isinstance(promise, FlowsListed):
        there = [each.run_id for each in flows.runs.values() if each.seq <= promise.applied]
        missing = [each for each in there if each not in promise.run_ids]
        if missing or list(promise.run_ids) != sorted(promise.run_ids):
            return f"the runs are {there}, and {promise.run_ids} were listed"
        return None
    if not isinstance(promise, FlowBegun | FlowCancelled | FlowTold):
        return None
    run = flows.runs.get(promise.run_id)
    if run is None:
        return f"run {promise.run_id} was told of and is not on disk"
    if isinstance(promise, FlowBegun):
        if (run.flow, run.key) == (promise.flow, promise.key):
            return None
        return f"run {run.run_id} is of {run.flow!r} with key {run.key!r}, not {promise}"
    if isinstance(promise, FlowCancelled):
        right = run.state == "cancelled" if promise.this else run.state != "running"
        return None if right else f"run {run.run_id} was said to be cancelled and is {run.state}"
    if run.last > promise.applied:
        return None  # there is more on disk than the process knew of
    steps = {
        name: (each.state, each.round, each.output if each.state == "succeeded" else None)
        for name, each in run.steps.items()
    }
    if (run.state, steps) == (promise.state, dict(promise.steps)):
        return None
    return f"run {run.run_id} is {run.state}, {steps!r:.300}; told was {promise!r:.300}"


def healed_flows_have_ended(ledger: Ledger, _: object) -> str | None:
    """CONTRACTS 6.10: once the mob has healed and is idle, no run is under way."""
    going = [each.run_id for each in ledger.flows.runs.values() if each.state == "running"]
    return f"runs {going} have not ended" if going else None
