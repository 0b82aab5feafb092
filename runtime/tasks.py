"""Tasks: background children as they are known to the fold, and what their parents are told. Pure.

Owns: the transitions of a task, what a turn's end means for it, its view, the words of a notice.
Must not: run one (`runtime.background` does), touch a store.

    (made) --TaskStarted--> RUNNING --TaskEnded--------> COMPLETED, FAILED, CANCELLED
                            RUNNING --SessionArchived--> CANCELLED

A terminal state is final: a later end is dropped whole (CONTRACTS 1.12). The answer of a task is
the last turn of its session, which stays readable as long as the session is there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs

from runtime.addenda import is_context
from runtime.ids import InputId, SessionId
from runtime.messages import TASKS
from runtime.records import (
    InputAccepted,
    SessionArchived,
    SessionCreated,
    TaskEnded,
    TaskStarted,
    TurnEnded,
    TurnOutcome,
)
from runtime.results import last_text
from runtime.session import Lifetime, PendingInput, SessionHead, Task, TaskState

if TYPE_CHECKING:
    from runtime.state import RealmState

#: Characters of an answer in a notice; `get_task` has the whole.
NOTICE_CHARS: Final = 2_000


@attrs.frozen
class NewTask:
    """What a session is begun with to be a background child."""

    lifetime: Lifetime
    instructions: str

    def records(self, made: SessionCreated, input_id: InputId) -> tuple[Any, ...]:
        """What is committed together with the session: so none is ever there without its work."""
        return (
            TaskStarted(made.session_id, self.lifetime, made.at_ns),
            InputAccepted(made.session_id, input_id, self.instructions, None, None, made.at_ns),
        )


@attrs.frozen
class TaskView:
    """A background child at one moment, as its parent sees it.

    `answer` is its last reply and `output` the parsed JSON of it under a schema, both once it has
    completed. `doing` is what it does now. `timed_out` is whether somebody waited in vain.
    """

    task_id: SessionId
    name: str
    state: TaskState
    lifetime: Lifetime
    turns: int
    answer: str | None = None
    output: Any = None
    error: str | None = None
    doing: str = ""
    timed_out: bool = False


def viewed(head: SessionHead, task: Task, last: TurnEnded | str, doing: str) -> TaskView:
    """A child as it stands; `last` is its last turn, or why that cannot be read, and is looked at
    once it has completed."""
    state, error = task.state, task.error
    answer, output = None, None
    if task.running and head.quarantined is not None:
        state, error = TaskState.FAILED, f"it is quarantined: {head.quarantined}"
    elif state is TaskState.COMPLETED and isinstance(last, str):
        error = f"its answer cannot be read any more: {last}"
    elif state is TaskState.COMPLETED and not isinstance(last, str):
        answer = last_text(last)
        output = None if last.output is None else json.loads(last.output)
    return TaskView(
        head.session_id,
        head.title or head.session_id,
        state,
        task.lifetime,
        head.turns,
        answer,
        output,
        error,
        doing if state is TaskState.RUNNING else "",
    )


# -- the fold --------------------------------------------------------------------------------


def task_started(state: RealmState, seq: int, record: TaskStarted) -> None:
    """The session is a task; one whose parent had ended by then never runs."""
    head = state.touch(seq, record.session_id)
    if head is None or head.task is not None:
        return
    head.task = Task(record.lifetime)
    if head.archived:
        reason = "its parent ended before it began"
        head.task = Task(record.lifetime, TaskState.CANCELLED, 0, reason, record.at_ns)
    state.index(head)


def task_ended(state: RealmState, seq: int, record: TaskEnded) -> None:
    """Terminal, unless it was before: what comes late changes nothing."""
    head = state.heads.get(record.session_id)
    if head is not None and head.task is not None and not head.task.running:
        return
    head = state.touch(seq, record.session_id)
    if head is None or head.task is None:
        return
    head.task = Task(head.task.lifetime, record.state, record.turn, record.error, record.at_ns)
    head.updated_at_ns = record.at_ns
    state.index(head)


def archived_task(state: RealmState, head: SessionHead, record: SessionArchived) -> None:
    """Its session was archived: if it still ran, that cancels it."""
    assert head.task is not None
    if head.task.running:
        head.task = Task(head.task.lifetime, TaskState.CANCELLED, 0, record.reason, record.at_ns)
        state.index(head)


def task_transitions(state: RealmState) -> dict[type, Callable[[int, Any], None]]:
    """The part of a realm's table that this module owns."""
    return {TaskStarted: partial(task_started, state), TaskEnded: partial(task_ended, state)}


# -- what is to do, and how it ended ---------------------------------------------------------


def outlives(head: SessionHead) -> bool:
    """Whether the session goes on when its parent ends: it is detached and runs."""
    task = head.task
    return task is not None and task.running and task.lifetime is Lifetime.DETACHED


def is_notice(pending: PendingInput) -> bool:
    """Whether the input tells of a child that ended: it begins no turn unless asked to."""
    return pending.sender == TASKS


def waits(pending: PendingInput) -> bool:
    """Whether the input goes with any turn and begins none by itself."""
    return pending.sender is not None and (is_notice(pending) or is_context(pending))


def notices_of(head: SessionHead) -> tuple[PendingInput, ...]:
    """What the session has not been told yet about its children."""
    if head.inputs is None:
        return ()
    return tuple([each for each in head.inputs.values() if each.sender == TASKS])


def due(head: SessionHead) -> tuple[PendingInput, ...] | None:
    """The inputs of the task's next turn, the one in flight first; None if nothing is left."""
    waiting = head.inputs or {}
    if head.partial is not None:
        return tuple(waiting[each] for each in head.partial.input_ids if each in waiting)
    first = next((each for each in waiting.values() if not waits(each)), None)
    return None if first is None else (first,)


_ENDS: Final = {
    TurnOutcome.COMPLETED: TaskState.COMPLETED,
    TurnOutcome.FAILED: TaskState.FAILED,
    TurnOutcome.OVER_BUDGET: TaskState.FAILED,
    TurnOutcome.INTERRUPTED: TaskState.CANCELLED,
}


def ending(head: SessionHead, last: TurnEnded | None, at_ns: int) -> TaskEnded:
    """How the task ends whose last turn was this one."""
    if last is None:
        return TaskEnded(head.session_id, TaskState.FAILED, 0, "it ran no turn", at_ns)
    state = _ENDS[last.outcome]
    error = None if state is TaskState.COMPLETED else last.error or "no reason was recorded"
    return TaskEnded(head.session_id, state, head.head, error, at_ns)


def notice(head: SessionHead, ended: TaskEnded, answer: str) -> str:
    """What the parent is told of the end."""
    said = f"Your background task {head.title!r} ({head.session_id}) has {_WORDS[ended.state]}."
    if ended.state is not TaskState.COMPLETED:
        return f"{said} {ended.error}"
    if len(answer) > NOTICE_CHARS:
        cut = len(answer) - NOTICE_CHARS
        answer = f"{answer[:NOTICE_CHARS]}\n[{cut} more characters: get_task has the whole]"
    return f"{said} Its answer:\n{answer}"


_WORDS: Final = {
    TaskState.COMPLETED: "completed",
    TaskState.FAILED: "failed",
    TaskState.CANCELLED: "been cancelled",
}
