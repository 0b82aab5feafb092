"""The state of a run as a fold of its records, with literal tables. Pure.

Owns: what is known of a run and of each of its steps and loops, and what each record does to it.
Must not: decide what comes next (`mob.flows.scheduler` does).

What a table does not list raises `RunMisuse`: a step that has ended is never begun again but by the
next round of its loop, and a run ends once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from mob.flows.definition import FlowDefinition, unpacked
from mob.flows.records import (
    FlowEnded,
    FlowRecord,
    FlowRoundEnded,
    FlowRunId,
    FlowStarted,
    FlowStepEnded,
    FlowStepRetried,
    FlowStepStarted,
    RunState,
    StepState,
    Verdict,
)
from runtime.errors import MobError

_P, _Y, _R = StepState.PENDING, StepState.READY, StepState.RUNNING

#: The states in which a step has ended.
ENDED: Final = frozenset(
    {StepState.SUCCEEDED, StepState.FAILED, StepState.SKIPPED, StepState.CANCELLED}
)

#: What may follow each state of a step. Of those that have ended, by the next round of a loop.
TRANSITIONS: Final[dict[StepState, frozenset[StepState]]] = {
    # Failed without having run: what it was to say could not be made.
    _P: frozenset({_R, StepState.SKIPPED, StepState.FAILED, StepState.CANCELLED}),
    _Y: frozenset({_R, StepState.FAILED, StepState.CANCELLED}),
    _R: frozenset({_Y, StepState.SUCCEEDED, StepState.FAILED, StepState.CANCELLED}),
    StepState.SUCCEEDED: frozenset({_P}),
    StepState.FAILED: frozenset({_P}),
    StepState.SKIPPED: frozenset({_P}),
    StepState.CANCELLED: frozenset(),
}

#: What may follow each state of a run.
RUN_TRANSITIONS: Final[dict[RunState, frozenset[RunState]]] = {
    RunState.RUNNING: frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}),
    RunState.SUCCEEDED: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELLED: frozenset(),
}


class RunMisuse(MobError):
    """A record says of a run what the tables do not list."""


@attrs.frozen
class StepRun:
    """A step in a run. `output` is kept into the next round of a loop, until there is another.

    `attempt` counts the begun ones, from 1; `due_ns` is when a READY step goes on, `deadline_ns`
    until when a RUNNING one is waited for.
    """

    state: StepState = StepState.PENDING
    round: int = 1
    attempt: int = 0
    members: tuple[str, ...] = ()
    due_ns: int = 0
    deadline_ns: int | None = None
    output: Any = None
    error: str | None = None
    started_at_ns: int = 0
    ended_at_ns: int = 0

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@attrs.frozen
class LoopRun:
    """A loop in a run. AGAIN while it goes round."""

    verdict: Verdict = Verdict.AGAIN
    round: int = 1
    error: str | None = None

    @property
    def ended(self) -> bool:
        return self.verdict is not Verdict.AGAIN


@attrs.frozen
class Run:
    """A run of a flow as far as it is recorded."""

    run_id: FlowRunId
    name: str
    flow: FlowDefinition
    definition: str
    params: Mapping[str, Any]
    idempotency_key: str | None
    started_at_ns: int
    steps: Mapping[str, StepRun]
    loops: Mapping[str, LoopRun]
    state: RunState = RunState.RUNNING
    error: str | None = None
    ended_at_ns: int = 0

    @property
    def ended(self) -> bool:
        return self.state is not RunState.RUNNING


def started(record: FlowStarted) -> Run:
    """The run that a record begins. Raises `ValueError`, `TypeError` if its flow cannot be read."""
    flow = unpacked(record.definition)
    return Run(
        record.run_id,
        record.flow,
        flow,
        record.definition,
        json.loads(record.params),
        record.idempotency_key,
        record.at_ns,
        {name: StepRun() for name in flow.steps},
        {name: LoopRun() for name in flow.repeats},
    )


def apply(run: Run, record: FlowRecord) -> Run:
    """The run after `record`. Raises `RunMisuse` if the tables do not list that."""
    if isinstance(record, FlowStarted) or run.ended:
        raise RunMisuse(f"run {run.run_id} is {run.state.value}, and there is {record!r}")
    return _APPLIED[type(record)](run, record)


def state_of(run: Run, name: str) -> StepState | None:
    """How a step, branch or loop has ended; None while it has not."""
    if name in run.loops:
        loop = run.loops[name]
        return StepState(loop.verdict.value) if loop.ended else None
    if name in run.steps:
        return run.steps[name].state if run.steps[name].ended else None
    group = [run.steps[each] for each in run.flow.branches()[name]]
    states = {each.state for each in group}
    if StepState.SUCCEEDED in states:
        return StepState.SUCCEEDED
    if not all(each.ended for each in group):
        return None
    return StepState.FAILED if StepState.FAILED in states else StepState.SKIPPED


def _step_started(run: Run, record: FlowStepStarted) -> Run:
    return _moved(
        run,
        record.step,
        record.round,
        StepState.RUNNING,
        attempt=record.attempt,
        members=record.members,
        deadline_ns=record.deadline_ns,
        started_at_ns=record.at_ns,
    )


def _step_retried(run: Run, record: FlowStepRetried) -> Run:
    return _moved(
        run,
        record.step,
        record.round,
        StepState.READY,
        due_ns=record.due_ns,
        error=record.error,
    )


def _step_ended(run: Run, record: FlowStepEnded) -> Run:
    return _moved(
        run,
        record.step,
        record.round,
        record.state,
        output=None if record.output is None else json.loads(record.output),
        error=record.error,
        ended_at_ns=record.at_ns,
    )


def _round_ended(run: Run, record: FlowRoundEnded) -> Run:
    loop = run.loops[record.loop]
    if loop.ended or loop.round != record.round:
        raise RunMisuse(f"loop {record.loop!r} is in round {loop.round}, and there is {record!r}")
    again = record.verdict is Verdict.AGAIN
    after = attrs.evolve(
        loop,
        verdict=record.verdict,
        round=loop.round + again,
        error=record.error,
    )
    run = attrs.evolve(run, loops={**run.loops, record.loop: after})
    for step in run.flow.repeats[record.loop].steps if again else ():
        run = _moved(run, step, loop.round, StepState.PENDING, round=after.round, attempt=0)
    return run


def _ended(run: Run, record: FlowEnded) -> Run:
    if record.state not in RUN_TRANSITIONS[run.state]:
        raise RunMisuse(f"run {run.run_id} cannot become {record.state.value}")
    for name, step in run.steps.items():
        if not step.ended:
            run = _moved(run, name, step.round, StepState.CANCELLED, ended_at_ns=record.at_ns)
    return attrs.evolve(run, state=record.state, error=record.error, ended_at_ns=record.at_ns)


def _moved(run: Run, name: str, round_: int, state: StepState, **changes: Any) -> Run:
    step = run.steps[name]
    if state not in TRANSITIONS[step.state] or step.round != round_:
        raise RunMisuse(
            f"step {name!r} is {step.state.value} in round {step.round} and cannot become"
            f" {state.value} in round {round_}"
        )
    return attrs.evolve(run, steps={**run.steps, name: attrs.evolve(step, state=state, **changes)})


_APPLIED: Final[dict[type, Callable[[Run, Any], Run]]] = {
    FlowStepStarted: _step_started,
    FlowStepRetried: _step_retried,
    FlowStepEnded: _step_ended,
    FlowRoundEnded: _round_ended,
    FlowEnded: _ended,
}


def pack(run: Run) -> tuple[Any, ...]:
    """The run as the fields of a row."""
    return (
        run.run_id,
        run.name,
        run.definition,
        json.dumps(run.params),
        run.idempotency_key,
        run.started_at_ns,
        [_step_fields(name, step) for name, step in run.steps.items()],
        [(name, loop.verdict.value, loop.round, loop.error) for name, loop in run.loops.items()],
        run.state.value,
        run.error,
        run.ended_at_ns,
    )


def unpack(fields: tuple[Any, ...]) -> Run:
    """The run that `pack` made these of. Raises as `started`."""
    run_id, name, definition, params, key, at_ns, steps, loops, state, error, ended_at_ns = fields
    begun = started(FlowStarted(run_id, name, definition, params, key, at_ns))
    return attrs.evolve(
        begun,
        steps={each[0]: _step_of(each) for each in steps},
        loops={name: LoopRun(Verdict(verdict), *rest) for name, verdict, *rest in loops},
        state=RunState(state),
        error=error,
        ended_at_ns=ended_at_ns,
    )


def _step_fields(name: str, step: StepRun) -> tuple[Any, ...]:
    return (
        name,
        step.state.value,
        json.dumps(step.output, ensure_ascii=False),
        step.round,
        step.attempt,
        step.members,
        step.due_ns,
        step.deadline_ns,
        step.error,
        step.started_at_ns,
        step.ended_at_ns,
    )


def _step_of(fields: tuple[Any, ...]) -> StepRun:
    _, state, output, round_, attempt, members, *rest = fields
    due_ns, deadline_ns, error, started_at_ns, ended_at_ns = rest
    return StepRun(
        StepState(state),
        round_,
        attempt,
        tuple(members),
        due_ns,
        deadline_ns,
        json.loads(output),
        error,
        started_at_ns,
        ended_at_ns,
    )
