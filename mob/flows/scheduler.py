"""What comes next in a run: ``step(run, event, now) -> (run, effects)``. Pure.

Owns: every decision about a run: who may begin, what is skipped, when a round, a branch, a run has
ended. Must not: ask anybody, wait, read a clock.

    event     a record that is about to be committed (a step has ended, the run is cancelled), or
              None: look what is to be done, after a crash or when a time has come
    effects   `Note`      commit this record, all of them in one commit with the event
              `Work`      ask the questions of this step's attempt and collect the answers
              `Withdraw`  nobody waits for this attempt's answers any more
              `Wake`      look again at this time

The run that is returned is the one given with the event and all notes applied, so after the commit
it equals the fold. What is due is a function of the run alone: a process that begins from any
prefix of the records decides as the one before it would have, and a crash between two commits
changes nothing but the time.

A step that has failed does not end the run: what needs it is skipped, what comes after it and what
is independent of it goes on, and then the run has failed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import attrs

from mob.flows.asks import dispatch, holds, scope_of, texts_of
from mob.flows.conditions import read_condition
from mob.flows.definition import AtLimit
from mob.flows.paths import FlowMistake
from mob.flows.records import (
    FlowEnded,
    FlowRecord,
    FlowRoundEnded,
    FlowStepEnded,
    FlowStepRetried,
    FlowStepStarted,
    RunState,
    StepState,
    Verdict,
)
from mob.flows.state import Run, apply, state_of
from runtime.errors import encodable

_NANO: Final = 1_000_000_000
#: Seconds: a step is not put off for longer between two attempts.
MAX_BACKOFF_S: Final = 3600.0


@attrs.frozen
class Now:
    """What a decision takes from outside: the time, and who there is of a profile."""

    at_ns: int
    team: Callable[[str], tuple[str, ...]]


@attrs.frozen
class Note:
    """Commit this record."""

    record: FlowRecord


@attrs.frozen
class Work:
    """Ask the questions of the step's attempt and collect the answers."""

    step: str
    round: int
    attempt: int


@attrs.frozen
class Withdraw:
    """Nobody waits for the answers of this attempt any more."""

    step: str
    round: int
    attempt: int


@attrs.frozen
class Wake:
    """Look again at this time, or after so many seconds: the wall clock may have been set back."""

    at_ns: int
    within_s: float


Effect: TypeAlias = Note | Work | Withdraw | Wake


def step(run: Run, event: FlowRecord | None, now: Now) -> tuple[Run, tuple[Effect, ...]]:
    """The run after `event`, and what is to be done. Raises `RunMisuse` as `apply`."""
    before = run
    if event is not None:
        run = apply(run, event)
    effects: list[Effect] = []
    while not run.ended:
        records = list(_due(run, now))
        for record in records:
            run = apply(run, record)
            effects.append(Note(record))
        if not records:
            break
    for name, was in before.steps.items():
        is_now = run.steps[name]
        same = (is_now.round, is_now.attempt) == (was.round, was.attempt)
        if was.state is StepState.RUNNING and not (same and is_now.state is StepState.RUNNING):
            effects.append(Withdraw(name, was.round, was.attempt))
        if is_now.state is StepState.RUNNING and (event is None or not same):
            effects.append(Work(name, is_now.round, is_now.attempt))
    waking = [name for name, each in run.steps.items() if each.state is StepState.READY]
    if waking:
        first = min(waking, key=lambda name: run.steps[name].due_ns)
        effects.append(Wake(run.steps[first].due_ns, _delay_s(run, first)))
    return run, tuple(effects)


def after_failure(
    run: Run, name: str, reason: str, now: Now, *, final: bool
) -> FlowStepRetried | FlowStepEnded:
    """What the failure of the step's present attempt means."""
    definition, at = run.flow.steps[name], run.steps[name]
    if final or at.attempt > definition.retries:
        return _ended(run, name, StepState.FAILED, now, reason)
    due_ns = now.at_ns + int(_delay_s(run, name) * _NANO)
    why = encodable(reason)
    return FlowStepRetried(run.run_id, name, at.round, at.attempt, why, due_ns, now.at_ns)


def _delay_s(run: Run, name: str) -> float:
    """Seconds between the step's present attempt and the next."""
    # An exponent beyond the bound would only be a large number.
    doubled = run.flow.steps[name].backoff_s * 2.0 ** min(run.steps[name].attempt - 1, 60)
    return min(doubled, MAX_BACKOFF_S)


def after_success(run: Run, name: str, output: object, now: Now) -> FlowStepEnded:
    """The record of a step that has what it wants."""
    text = encodable(json.dumps(output, ensure_ascii=False))
    return attrs.evolve(_ended(run, name, StepState.SUCCEEDED, now, None), output=text)


def cancelled(run: Run, reason: str, now: Now) -> FlowEnded:
    """The record that ends the run before its time."""
    return FlowEnded(run.run_id, RunState.CANCELLED, reason, now.at_ns)


# -- what is due ---------------------------------------------------------------------------


def _due(run: Run, now: Now) -> Iterator[FlowRecord]:
    """The records that the run is due as it stands. None of them keeps another from being due."""
    quiet = True
    for name, at in run.steps.items():
        if at.state is StepState.PENDING:
            record = _of_pending(run, name, now)
        elif at.state is StepState.READY and at.due_ns <= now.at_ns:
            record = _begin(run, name, now)
        else:
            record = None
        quiet = quiet and at.ended
        if record is not None:
            yield record
    for name, loop in run.loops.items():
        if not loop.ended:
            quiet = False
            body = [run.steps[each] for each in run.flow.repeats[name].steps]
            if all(each.ended for each in body):
                yield _round(run, name, now)
    if quiet:
        errors = tuple(_failures(run))
        state = RunState.FAILED if errors else RunState.SUCCEEDED
        yield FlowEnded(run.run_id, state, "; ".join(errors) or None, now.at_ns)


def _of_pending(run: Run, name: str, now: Now) -> FlowRecord | None:
    definition = run.flow.steps[name]
    for need in definition.needs:
        state = state_of(run, need)
        if state is not None and state is not StepState.SUCCEEDED:
            what = f"it needs {need!r}, which {_was(state)}"
            return _ended(run, name, StepState.SKIPPED, now, what)
    if any(state_of(run, other) is None for other in (*definition.needs, *definition.after)):
        return None
    if definition.branch is not None:
        group = run.flow.branches()[definition.branch]
        for other in group[: group.index(name)]:
            state = run.steps[other].state
            if state is StepState.SUCCEEDED:
                why = f"branch {definition.branch!r} was won by {other!r}"
                return _ended(run, name, StepState.SKIPPED, now, why)
            if not run.steps[other].ended:
                return None
    try:
        if not holds(run, name):
            return _ended(run, name, StepState.SKIPPED, now, "its condition does not hold")
    except FlowMistake as mistake:
        return _ended(run, name, StepState.FAILED, now, f"its condition: {mistake}")
    return _begin(run, name, now)


def _begin(run: Run, name: str, now: Now) -> FlowRecord:
    """The next attempt at a step, or its end if there is nothing that could be asked."""
    definition, at = run.flow.steps[name], run.steps[name]
    if definition.member is not None:
        team: tuple[str, ...] = (definition.member,)
    else:
        assert definition.profile is not None
        team = now.team(definition.profile)
    try:
        members = dispatch(run, name, team)
        texts_of(run, name, members, at.attempt + 1, definition)
    except FlowMistake as mistake:
        return _ended(run, name, StepState.FAILED, now, str(mistake))
    timeout_s = definition.timeout_s
    deadline_ns = None if timeout_s is None else now.at_ns + int(timeout_s * _NANO)
    return FlowStepStarted(
        run.run_id, name, at.round, at.attempt + 1, members, deadline_ns, now.at_ns
    )


def _round(run: Run, name: str, now: Now) -> FlowRoundEnded:
    loop, at = run.flow.repeats[name], run.loops[name]
    verdict, error = Verdict.AGAIN, None
    failed = [each for each in loop.steps if _counts_as_failed(run, each)]
    if failed:
        verdict, error = Verdict.FAILED, _failure(run, failed[0])
    elif all(run.steps[each].state is StepState.SKIPPED for each in loop.steps):
        verdict, error = Verdict.SKIPPED, run.steps[loop.steps[0]].error
    else:
        try:
            scope = {**scope_of(run), "round": at.round}
            if read_condition(loop.until).holds(scope):
                verdict = Verdict.SUCCEEDED
        except FlowMistake as mistake:
            verdict, error = Verdict.FAILED, f"until: {mistake}"
    if verdict is Verdict.AGAIN and at.round >= loop.max_rounds:
        error = f"{loop.until!r} did not hold within {loop.max_rounds} rounds"
        failed_now = loop.at_limit is AtLimit.FAIL
        verdict = Verdict.FAILED if failed_now else Verdict.SUCCEEDED
    return FlowRoundEnded(run.run_id, name, at.round, verdict, error, now.at_ns)


def _counts_as_failed(run: Run, name: str) -> bool:
    """Whether a step has failed, and no other of its branch has made up for it."""
    if run.steps[name].state is not StepState.FAILED:
        return False
    branch = run.flow.steps[name].branch
    return branch is None or state_of(run, branch) is not StepState.SUCCEEDED


def _failures(run: Run) -> Iterator[str]:
    inside = {step for loop in run.flow.repeats.values() for step in loop.steps}
    for name in run.steps:
        if name not in inside and _counts_as_failed(run, name):
            yield _failure(run, name)
    for name, loop in run.loops.items():
        if loop.verdict is Verdict.FAILED:
            yield f"loop {name!r} failed: {loop.error}"


def _failure(run: Run, name: str) -> str:
    return f"step {name!r} failed: {run.steps[name].error}"


def _ended(run: Run, name: str, state: StepState, now: Now, error: str | None) -> FlowStepEnded:
    error = None if error is None else encodable(error)
    return FlowStepEnded(run.run_id, name, run.steps[name].round, state, None, error, now.at_ns)


def _was(state: StepState) -> str:
    return "failed" if state is StepState.FAILED else f"was {state.value}"
