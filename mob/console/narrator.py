"""A mob's journal in words: one line per event worth telling.

Owns: what each record is called in front of people. Must not: write anywhere, keep more than the
names it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from mob.console.words import count, one_line, readable, shown, spent_text
from mob.flows.records import (
    FlowEnded,
    FlowStarted,
    FlowStepEnded,
    FlowStepRetried,
    FlowStepStarted,
)
from mob.records import (
    BlueprintAdopted,
    BoardTaskAdded,
    BoardTaskMoved,
    MemberExited,
    MemberRespawned,
    MemberRetired,
    MemberSpawned,
    MobCreated,
    MobStateChanged,
)
from runtime.approvals import ApprovalAsked, ApprovalDecided, Verdict
from runtime.contexts import CompactionFailed, ContextCompacted
from runtime.ids import SessionId
from runtime.journal import Event
from runtime.messages import AssistantMessage
from runtime.models.redaction import remembered
from runtime.records import (
    HookReported,
    InputAbandoned,
    InputAccepted,
    ModelRetried,
    SessionCreated,
    TaskEnded,
    TurnEnded,
    TurnOutcome,
    TurnProgressed,
)
from runtime.results import last_text
from runtime.state import RealmState

#: Characters of somebody's words in a line.
QUOTE: Final = 70


def path_of(state: RealmState, session_id: SessionId) -> str:
    """Who a session is: the member's name, and the titles down to a child: ``r-1/summary``."""
    names: list[str] = []
    here: SessionId | None = session_id
    while here is not None:
        head = state.heads.get(here)
        if head is None:  # it was deleted since
            names.append(here)
            break
        names.append(shown(head.title or head.agent_id or here, 24))
        here = head.lineage.parent
    return "/".join(reversed(names))


def _arguments(text: str) -> str:
    return one_line(readable(remembered().written(text)), QUOTE)


class Narrator:
    """Turns events, given in order, into pairs of who and what; None for what nobody asks for."""

    def __init__(self, state: RealmState) -> None:
        self._state = state

    def tell(self, event: Event) -> tuple[str, str] | None:
        """Who it happened to and what, in words."""
        teller = _TELLERS.get(type(event.record))
        return None if teller is None else teller(self._state, event.record)


def _input(state: RealmState, record: InputAccepted) -> tuple[str, str]:
    words = f'"{shown(record.text, QUOTE)}"'
    who = path_of(state, record.session_id)
    if record.sender is not None:
        return who, f"is asked by {record.sender}: {words}"
    head = state.heads.get(record.session_id)
    if head is not None and head.lineage.parent is not None:
        return who, f"is told: {words}"
    return who, f"is asked: {words}"


def _created(state: RealmState, record: SessionCreated) -> tuple[str, str] | None:
    if record.lineage.parent is None:
        return None  # the member's own record tells it
    return path_of(state, record.lineage.parent), f"starts child {record.title or '(no name)'!r}"


def _progressed(state: RealmState, record: TurnProgressed) -> tuple[str, str] | None:
    calls = [
        call.name
        for message in record.messages
        if isinstance(message, AssistantMessage)
        for call in message.tool_calls
    ]
    if not calls:
        return None
    return path_of(state, record.session_id), f"calls {shown(', '.join(dict.fromkeys(calls)), 300)}"


_ENDED_HOW: Final = {
    TurnOutcome.FAILED: "failed",
    TurnOutcome.INTERRUPTED: "was interrupted",
    TurnOutcome.OVER_BUDGET: "was stopped",
}


def _ended(state: RealmState, record: TurnEnded) -> tuple[str, str]:
    who = path_of(state, record.session_id)
    usage = record.usage
    # The run's last line says what was not priced; in every turn's it would be noise.
    spent = spent_text(usage) if usage.priced_calls else f"{count(usage.total_tokens)} tokens"
    if record.outcome is TurnOutcome.COMPLETED:
        if record.error is not None:
            spent = f"{spent}; {shown(record.error, 300)}"
        return who, f'turn ended ({spent}): "{shown(last_text(record), QUOTE)}"'
    how = _ENDED_HOW[record.outcome]
    return who, f"turn {how} ({spent}): {shown(record.error or '', 300)}"


def _retried(state: RealmState, record: ModelRetried) -> tuple[str, str]:
    next_ = f"tries again in {record.delay_ms / 1000:.1f} s"
    if record.then != record.model:
        next_ = f"asks {record.then} instead"
    return path_of(state, record.session_id), f"{next_}: {shown(record.error, 300)}"


def _hooked(state: RealmState, record: HookReported) -> tuple[str, str]:
    why = f": {shown(record.reason, 300)}" if record.reason else ""
    return path_of(
        state, record.session_id
    ), f"hook {record.hook} {record.what} at {record.point}{why}"


def _compacted(state: RealmState, record: ContextCompacted) -> tuple[str, str]:
    tokens = count(record.usage.total_tokens)
    told = f"context compacted: a summary stands for {record.turns} turns ({tokens} tokens)"
    return path_of(state, record.session_id), told


def _not_compacted(state: RealmState, record: CompactionFailed) -> tuple[str, str]:
    return path_of(state, record.session_id), (
        f"context not compacted: {shown(record.reason, 300)}"
    )


def _approval_asked(state: RealmState, record: ApprovalAsked) -> tuple[str, str]:
    call = f"{record.tool} {_arguments(record.arguments)}"
    return path_of(state, record.session_id), f"waits for approval of {call}"


def _approval_decided(state: RealmState, record: ApprovalDecided) -> tuple[str, str]:
    what = f"call {record.verdict.value} by {shown(record.by, 24)}"
    if record.arguments is not None:
        what = f"{what} with other arguments: {_arguments(record.arguments)}"
    if record.verdict is Verdict.DENIED and record.reason:
        what = f"{what}: {shown(record.reason, 300)}"
    return path_of(state, record.session_id), what


def _task_ended(state: RealmState, record: TaskEnded) -> tuple[str, str]:
    why = f": {shown(record.error, 300)}" if record.error else ""
    return path_of(state, record.session_id), f"background task {record.state.value}{why}"


def _exited(_: RealmState, record: MemberExited) -> tuple[str, str]:
    cause = shown(record.cause, 300)
    if record.restart_in_s is None:
        return record.name, f"crashed and is not restarted: {cause}"
    return record.name, f"crashed ({cause}) and will restart in {record.restart_in_s:g} s"


def _spawned(_: RealmState, record: MemberSpawned) -> tuple[str, str]:
    return record.name, f"joined as {record.profile}"


def _respawned(_: RealmState, record: MemberRespawned) -> tuple[str, str]:
    what = f"begins anew as {record.profile}, generation {record.generation}"
    return record.name, f"{what}: {shown(record.reason, 200)}"


def _retired(_: RealmState, record: MemberRetired) -> tuple[str, str]:
    return record.name, f"left: {shown(record.reason, 200)}"


def _abandoned(state: RealmState, record: InputAbandoned) -> tuple[str, str]:
    return path_of(state, record.session_id), f"input given up: {shown(record.reason, 200)}"


def _mob(_: RealmState, record: MobCreated) -> tuple[str, str]:
    return "mob", f"{record.mob_id!r} is new"


def _adopted(_: RealmState, __: BlueprintAdopted) -> tuple[str, str]:
    return "mob", "took the changed definition over"


def _state(_: RealmState, record: MobStateChanged) -> tuple[str, str]:
    return "mob", f"is {record.state}"


def _task_added(_: RealmState, record: BoardTaskAdded) -> tuple[str, str]:
    return "board", f"{record.task_id} added: {shown(record.title, QUOTE)}"


def _task_moved(_: RealmState, record: BoardTaskMoved) -> tuple[str, str]:
    whose = f" by {record.owner}" if record.owner is not None else ""
    result = f": {shown(record.result, QUOTE)}" if record.result else ""
    return "board", f"{record.task_id} is {record.state}{whose}{result}"


#: The literal table: records that are not in it are not told.
def _step_ended(_: RealmState, record: FlowStepEnded) -> tuple[str, str]:
    why = f": {shown(record.error, 300)}" if record.error else ""
    return record.step, f"step {record.state.value}{why}"


def _step_retried(_: RealmState, record: FlowStepRetried) -> tuple[str, str]:
    after_s = max(record.due_ns - record.at_ns, 0) / 1e9
    return record.step, f"step tries again in {after_s:.1f} s: {shown(record.error, 300)}"


def _step_started(_: RealmState, record: FlowStepStarted) -> tuple[str, str]:
    who = ", ".join(dict.fromkeys(record.members))
    again = f", round {record.round}" if record.round > 1 else ""
    again += f", attempt {record.attempt}" if record.attempt > 1 else ""
    return record.step, f"step asks {shown(who, QUOTE) or 'nobody'}{again}"


def _flow_ended(_: RealmState, record: FlowEnded) -> tuple[str, str]:
    why = f": {shown(record.error, 300)}" if record.error else ""
    return "flow", f"{record.state.value}{why}"


_TELLERS: Final[dict[type, Callable[[RealmState, Any], tuple[str, str] | None]]] = {
    InputAccepted: _input,
    SessionCreated: _created,
    TurnProgressed: _progressed,
    TurnEnded: _ended,
    ModelRetried: _retried,
    HookReported: _hooked,
    ContextCompacted: _compacted,
    CompactionFailed: _not_compacted,
    TaskEnded: _task_ended,
    ApprovalAsked: _approval_asked,
    ApprovalDecided: _approval_decided,
    InputAbandoned: _abandoned,
    MemberExited: _exited,
    MemberSpawned: _spawned,
    MemberRetired: _retired,
    MemberRespawned: _respawned,
    MobCreated: _mob,
    BlueprintAdopted: _adopted,
    BoardTaskAdded: _task_added,
    BoardTaskMoved: _task_moved,
    MobStateChanged: _state,
    FlowStarted: lambda _, r: ("flow", f"{r.flow} started"),
    FlowStepStarted: _step_started,
    FlowStepRetried: _step_retried,
    FlowStepEnded: _step_ended,
    FlowEnded: _flow_ended,
}
