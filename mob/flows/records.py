"""The journal's records of flows. Kinds 56 to 71. Pure.

Owns: the record types. Must not: repeat what the turns say: how a question was answered is in
the turn of whoever answered it, until the step takes it.

What a run has come to is a fold of these alone, so a run that was cut off anywhere goes on from the
last of them, and another process sees the same.
"""

from __future__ import annotations

import enum
from typing import Final, NewType, TypeAlias

import attrs

from runtime.records import cold

#: Names a run for ever; made by the realm's ids, so that they sort by time of starting.
FlowRunId = NewType("FlowRunId", str)


class StepState(enum.Enum):
    """Where a step of a run stands. The values are stored."""

    #: It waits for other steps.
    PENDING = "pending"
    #: An attempt has failed; it waits for nothing but the time of the next one.
    READY = "ready"
    #: Its questions are, or are about to be, with members.
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    #: It was not to run: a condition did not hold, what it needs did not succeed, a branch was won.
    SKIPPED = "skipped"
    #: The run was cancelled before it had ended.
    CANCELLED = "cancelled"


class RunState(enum.Enum):
    """Where a run stands; all but the first are final. The values are stored."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Verdict(enum.Enum):
    """What the end of a loop's round means. The values are stored."""

    AGAIN = "again"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"


@attrs.frozen
class FlowStarted:
    """A run exists. `definition` is the flow that it follows to its end, as JSON, `params` what it
    was given, with defaults filled in, as JSON."""

    run_id: FlowRunId
    flow: str
    definition: str
    params: str
    idempotency_key: str | None
    at_ns: int


@attrs.frozen
class FlowStepStarted:
    """An attempt at a step has begun. `members` are those who are asked, one for each question;
    after `deadline_ns` nobody is waited for."""

    run_id: FlowRunId
    step: str
    round: int
    attempt: int
    members: tuple[str, ...]
    deadline_ns: int | None
    at_ns: int


@attrs.frozen
class FlowStepRetried:
    """The attempt has failed, and the next one begins at `due_ns`."""

    run_id: FlowRunId
    step: str
    round: int
    attempt: int
    error: str
    due_ns: int
    at_ns: int


@attrs.frozen
class FlowStepEnded:
    """The step has ended, in this round for good. `output` is JSON, None if there is none; `error`
    says why it failed or was skipped."""

    run_id: FlowRunId
    step: str
    round: int
    state: StepState
    output: str | None
    error: str | None
    at_ns: int


@attrs.frozen
class FlowRoundEnded:
    """A round of a loop has ended: its steps begin again, or the loop has ended."""

    run_id: FlowRunId
    loop: str
    round: int
    verdict: Verdict
    error: str | None
    at_ns: int


@attrs.frozen
class FlowEnded:
    """The run has ended, once and for good. `error` says why it failed or was cancelled."""

    run_id: FlowRunId
    state: RunState
    error: str | None
    at_ns: int


FlowRecord: TypeAlias = (
    FlowStarted | FlowStepStarted | FlowStepRetried | FlowStepEnded | FlowRoundEnded | FlowEnded
)

FLOW_RECORDS: Final = (
    cold(56, FlowStarted),
    cold(57, FlowStepStarted),
    cold(58, FlowStepRetried),
    cold(59, FlowStepEnded),
    cold(60, FlowRoundEnded),
    cold(61, FlowEnded),
)
