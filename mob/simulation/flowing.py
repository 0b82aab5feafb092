"""Runs of flows, told a second time.

Owns: what is known of each run, step and question, and the promises about runs. Must not: judge
(`mob.simulation.flowrules` does), share code with the scheduler and the fold of `mob.flows`: only
their records.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

import attrs

from mob.flows.records import (
    FlowEnded,
    FlowRoundEnded,
    FlowStarted,
    FlowStepEnded,
    FlowStepRetried,
    FlowStepStarted,
)
from runtime.records import InputAccepted

if TYPE_CHECKING:
    from mob.simulation.disk import Commit
    from mob.simulation.facts import Written

_OVER: Final = frozenset({"succeeded", "failed", "skipped", "cancelled"})


@attrs.frozen
class FlowBegun:
    """A promise: `run_flow` returned this run."""

    run_id: str
    flow: str
    key: str | None


@attrs.frozen
class CancelsFlow:
    """A promise: somebody is about to cancel this run."""

    run_id: str


@attrs.frozen
class FlowCancelled:
    """A promise: `FlowRun.cancel` returned; `this`: it was this call that ended the run."""

    run_id: str
    this: bool


@attrs.frozen
class FlowTold:
    """A promise: a run stands so, by a process whose fold had `applied` records then."""

    run_id: str
    applied: int
    state: str
    #: Of each step: state, round and output, if it has succeeded.
    steps: Mapping[str, tuple[str, int, Any]]


@attrs.frozen
class FlowsListed:
    """A promise: these are all runs that there are, in their order; `applied` as above."""

    run_ids: tuple[str, ...]
    applied: int


#: What somebody is told of runs.
FlowPromise: TypeAlias = FlowBegun | CancelsFlow | FlowCancelled | FlowTold | FlowsListed


@attrs.define
class KnownStep:
    """A step of a run: its definition, and where it stands."""

    plain: Mapping[str, Any]
    state: str = "pending"
    round: int = 1
    attempt: int = 0
    members: tuple[str, ...] = ()
    deadline_ns: int | None = None
    due_ns: int = 0
    output: Any = None
    #: When it came to where it stands: the wall clock's time and the commit.
    at_ns: int = 0
    commit: Commit | None = None

    @property
    def over(self) -> bool:
        return self.state in _OVER


@attrs.define
class KnownLoop:
    """A loop of a run."""

    plain: Mapping[str, Any]
    verdict: str = "again"
    round: int = 1


@attrs.define
class KnownRun:
    """A run. `last` is the number of the last record about it."""

    run_id: str
    flow: str
    key: str | None
    seq: int
    steps: dict[str, KnownStep]
    loops: dict[str, KnownLoop]
    state: str = "running"
    last: int = 0

    def outcome(self, name: str) -> str | None:
        """How a step, branch or loop has ended; None while it has not."""
        if name in self.loops:
            return None if self.loops[name].verdict == "again" else self.loops[name].verdict
        if name in self.steps:
            return self.steps[name].state if self.steps[name].over else None
        group = [each for _, each in self.branch(name)]
        if any(each.state == "succeeded" for each in group):
            return "succeeded"
        if not all(each.over for each in group):
            return None
        return "failed" if any(each.state == "failed" for each in group) else "skipped"

    def branch(self, name: str) -> list[tuple[str, KnownStep]]:
        """The steps of a branch, in order."""
        return [each for each in self.steps.items() if each[1].plain.get("branch") == name]

    def counts(self, name: str) -> bool:
        """Whether a step has failed, and nothing has made up for it."""
        branch = self.steps[name].plain.get("branch")
        if self.steps[name].state != "failed":
            return False
        return branch is None or self.outcome(branch) != "succeeded"


@final
class KnownFlows:
    """The runs of one mob."""

    def __init__(self) -> None:
        self.runs: dict[str, KnownRun] = {}
        self.keys: dict[str, str] = {}
        #: The inputs that were accepted under the key of each question.
        self.asked: defaultdict[str, list[str]] = defaultdict(list)
        #: The commit by which the questions of an attempt were withdrawn or had been answered.
        self.withdrawn: dict[tuple[str, str, int, int], Commit] = {}
        #: Runs that somebody cancels.
        self.cancelled: set[str] = set()

    def table(self) -> Mapping[type, Callable[[Written, Any], None]]:
        """Which record is told to what."""
        return {
            FlowStarted: self._started,
            FlowStepStarted: self._step_started,
            FlowStepRetried: self._step_retried,
            FlowStepEnded: self._step_ended,
            FlowRoundEnded: self._round_ended,
            FlowEnded: self._ended,
            InputAccepted: self._accepted,
        }

    def _started(self, written: Written, record: FlowStarted) -> None:
        plain = json.loads(record.definition)
        self.runs[record.run_id] = KnownRun(
            record.run_id,
            record.flow,
            record.idempotency_key,
            written.seq,
            {name: KnownStep(step) for name, step in plain["steps"]},
            {name: KnownLoop(loop) for name, loop in plain.get("repeats", {}).items()},
            last=written.seq,
        )
        if record.idempotency_key is not None:
            self.keys[record.idempotency_key] = record.run_id

    def _step(self, written: Written, record: Any, state: str) -> KnownStep:
        run = self.runs[record.run_id]
        run.last = written.seq
        step = run.steps[record.step]
        if step.state == "running":
            place = (run.run_id, record.step, step.round, step.attempt)
            self.withdrawn[place] = written.commit
        step.state, step.at_ns, step.commit = state, record.at_ns, written.commit
        return step

    def _step_started(self, written: Written, record: FlowStepStarted) -> None:
        step = self._step(written, record, "running")
        step.attempt, step.members = record.attempt, record.members
        step.deadline_ns = record.deadline_ns

    def _step_retried(self, written: Written, record: FlowStepRetried) -> None:
        self._step(written, record, "ready").due_ns = record.due_ns

    def _step_ended(self, written: Written, record: FlowStepEnded) -> None:
        step = self._step(written, record, record.state.value)
        step.output = None if record.output is None else json.loads(record.output)

    def _round_ended(self, written: Written, record: FlowRoundEnded) -> None:
        run = self.runs[record.run_id]
        run.last = written.seq
        loop = run.loops[record.loop]
        loop.verdict = record.verdict.value
        if loop.verdict != "again":
            return
        loop.round += 1
        for name in loop.plain["steps"]:
            step = run.steps[name]
            step.state, step.round, step.attempt = "pending", loop.round, 0

    def _ended(self, written: Written, record: FlowEnded) -> None:
        run = self.runs[record.run_id]
        run.last, run.state = written.seq, record.state.value
        for name, step in run.steps.items():
            if step.state == "running":
                self.withdrawn[run.run_id, name, step.round, step.attempt] = written.commit
            if not step.over:
                step.state = "cancelled"

    def _accepted(self, _: Written, record: InputAccepted) -> None:
        if place_in(record.idempotency_key) is not None:
            self.asked[str(record.idempotency_key)].append(record.input_id)


def place_in(key: str | None) -> tuple[str, str, int, int, int] | None:
    """Run, step, round, attempt and number of the question that a key stands for."""
    parts = (key or "").split(":")
    if len(parts) != 6 or parts[0] != "flow":
        return None
    return parts[1], parts[2], int(parts[3]), int(parts[5]), int(parts[4])
