"""Random flows and a run of one without a mob.

Owns: graphs that Hypothesis draws, and `Play`: the records of a run whose members answer as drawn.
Must not: know how the scheduler decides.
"""

from __future__ import annotations

import json
from typing import Any

import attrs
from hypothesis import strategies as st

from mob.definition import MobDefinition
from mob.flows.checks import flow_mistakes
from mob.flows.definition import (
    AtLimit,
    FlowDefinition,
    RepeatDefinition,
    StepDefinition,
    packed,
)
from mob.flows.records import FlowEnded, FlowRecord, FlowRunId, FlowStarted
from mob.flows.scheduler import Note, Now, Wake, Work, after_failure, after_success, cancelled, step
from mob.flows.state import Run, apply, started
from tests.mob.mobs import define

BASE = define("a", "b", "c")
#: What an attempt comes to: an output, or None for a failure.
Outcomes = st.sampled_from([0, 1, 2, None, None])


def checked(flow: FlowDefinition) -> MobDefinition:
    """A mob with this flow; fails if it has mistakes."""
    definition = attrs.evolve(BASE, flows={"f": flow})
    assert list(flow_mistakes(definition)) == []
    return definition


@st.composite
def flows(draw: st.DrawFn) -> FlowDefinition:
    """Graphs of up to eight steps with branches, conditions, retries and a loop, all valid."""
    count = draw(st.integers(1, 8))
    names = [f"s{index}" for index in range(count)]
    first = draw(st.integers(0, count))
    body = names[first : first + draw(st.integers(0, 3))]
    steps: dict[str, StepDefinition] = {}
    for index, name in enumerate(names):
        # Before the loop, in it, behind it: what is behind waits for the loop by its name.
        same = [each for each in names[:index] if (each in body) == (name in body)]
        before = [each for each in names[:index] if each not in body] if name in body else same
        known = sorted({*same, *before}) + (["loop"] if body and index >= first + len(body) else [])
        waits = draw(st.lists(st.sampled_from(known), unique=True, max_size=3)) if known else []
        split = draw(st.integers(0, len(waits)))
        seen = [each for each in waits if each != "loop"]
        condition = None
        if seen and draw(st.booleans()):
            condition = f"steps.{seen[0]}.output {draw(st.sampled_from(['>', '==', '!=']))} 0"
        branch = draw(st.sampled_from([None, None, "in" if name in body else "out"]))
        needs = tuple(waits[:split])
        if branch is not None:
            rivals = {n for n, each in steps.items() if each.branch == branch}
            needs = tuple(each for each in needs if each not in rivals)
        steps[name] = StepDefinition(
            "go",
            member=draw(st.sampled_from("abc")),
            needs=needs,
            after=tuple(waits[split:]),
            condition=condition,
            retries=draw(st.integers(0, 2)),
            backoff_s=draw(st.sampled_from([0.0, 5.0])),
            branch=branch,
            output_schema={"type": "integer"},
        )
    repeats = {}
    if body:
        until = f"steps.{draw(st.sampled_from(body))}.output == 1"
        limit = draw(st.sampled_from(list(AtLimit)))
        repeats["loop"] = RepeatDefinition(tuple(body), until, draw(st.integers(1, 3)), limit)
    return FlowDefinition(steps, {}, repeats)


class Play:
    """A run carried out without a mob: `records` is its journal, `begun` each attempt's start."""

    def __init__(self, flow: FlowDefinition, journal: list[Any] | None = None) -> None:
        begin = FlowStarted(FlowRunId("r"), "f", packed(flow), "{}", None, 1)
        self.records: list[FlowRecord] = journal or [begin]
        run = started(self.records[0])  # type: ignore[arg-type]
        for record in self.records[1:]:
            run = apply(run, record)
        self.run: Run = run
        self.at_ns = 1 + max(record.at_ns for record in self.records)
        self.working: list[Work] = []
        self._do(None)

    def _now(self) -> Now:
        return Now(self.at_ns, lambda profile: ("a", "b", "c"))

    def _do(self, event: FlowRecord | None) -> None:
        before = self.run
        after, effects = step(before, event, self._now())
        batch = [] if event is None else [event]
        batch += [each.record for each in effects if isinstance(each, Note)]
        for record in batch:
            before = apply(before, record)
        assert before == after, "what is committed is what was decided"
        self.records += batch
        self.run = after
        for effect in effects:
            if isinstance(effect, Work) and effect not in self.working:
                self.working.append(effect)
            elif isinstance(effect, Wake):
                self.wake = effect.at_ns

    def answer(self, index: int, output: int | None) -> None:
        """One of the attempts under way comes to its end."""
        work = self.working.pop(index % len(self.working))
        self.at_ns += 1
        if output is None:
            self._do(after_failure(self.run, work.step, "no", self._now(), final=False))
        else:
            self._do(after_success(self.run, work.step, output, self._now()))

    def cancel(self) -> None:
        """Somebody ends the run."""
        self._do(cancelled(self.run, "enough", self._now()))

    def sleep(self) -> None:
        """Nothing is under way: the time of the next attempt comes."""
        self.at_ns = max(self.at_ns, self.wake)
        self._do(None)

    def finish(self, told: Any) -> FlowEnded:
        """Answer until the run has ended. `told` gives the outcome of (step, round, attempt)."""
        for _ in range(1000):
            if self.run.ended:
                last = self.records[-1]
                assert isinstance(last, FlowEnded)
                return last
            if not self.working:
                self.sleep()
                continue
            work = self.working[0]
            self.answer(0, told((work.step, work.round, work.attempt)))
        raise AssertionError(f"it does not end: {json.dumps(str(self.run.steps))}")
