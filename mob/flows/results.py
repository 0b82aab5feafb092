"""What people are told of a run. Pure.

Owns: `FlowResult`, `StepResult` and how they are read from a run's state. Must not: wait for one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from mob.flows.asks import output_of
from mob.flows.records import FlowRunId, RunState, StepState
from mob.flows.state import Run
from runtime.notebook import table


@attrs.frozen
class StepResult:
    """How a step stands: its output (parsed if it has a schema, a list if it has several answers),
    why it failed or was skipped, and how often it was tried in the last round of its loop."""

    state: StepState
    output: Any = None
    error: str | None = None
    attempts: int = 0
    round: int = 1


@attrs.frozen
class FlowResult:
    """A run as it stands; final once `state` is not running. `output` is that of the step the flow
    names (text, or parsed if there is a schema; a list if several answered), None before; `steps`
    has every step by name. Times are nanoseconds since the epoch, `ended_at_ns` is 0 before the
    end."""

    run_id: FlowRunId
    flow: str
    state: RunState
    output: Any
    steps: Mapping[str, StepResult]
    error: str | None
    params: Mapping[str, Any]
    started_at_ns: int
    ended_at_ns: int

    def _repr_html_(self) -> str:
        """For notebooks: how it stands, a row for each step."""
        names = ("step", "state", "attempts", "round", "output or error")
        rows = (
            (name, step.state.value, step.attempts, step.round, _said(step))
            for name, step in self.steps.items()
        )
        why = f": {self.error}" if self.error else ""
        return table(f"run {self.run_id} of flow {self.flow}: {self.state.value}{why}", names, rows)

    @property
    def outputs(self) -> dict[str, Any]:
        """The outputs of the steps that succeeded."""
        return {
            name: step.output
            for name, step in self.steps.items()
            if step.state is StepState.SUCCEEDED
        }


def _said(step: StepResult) -> str:
    if step.error is not None:
        return step.error
    if step.output is None or isinstance(step.output, str):
        return step.output or ""
    return json.dumps(step.output, ensure_ascii=False)


def result_of(run: Run) -> FlowResult:
    """What there is to say of a run."""
    steps = {
        name: StepResult(
            step.state,
            step.output if step.state is StepState.SUCCEEDED else None,
            step.error if step.state is not StepState.SUCCEEDED else None,
            step.attempt,
            step.round,
        )
        for name, step in run.steps.items()
    }
    output = output_of(run) if run.state is RunState.SUCCEEDED else None
    return FlowResult(
        run.run_id,
        run.name,
        run.state,
        output,
        steps,
        run.error,
        run.params,
        run.started_at_ns,
        run.ended_at_ns,
    )
