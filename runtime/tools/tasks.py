"""Tools over the session seam: what a model does with its children in the background.

Owns: `list_tasks`, `get_task`, `message_task`, `wait_task`, `cancel_task`. Must not: touch the
runtime other than through `LocalSessionRunner`, reach another session's children.

Each may be repeated after a crash: looking changes nothing, a message is sent once for its call,
and a task that has ended stays as it is. An unknown task id is data for the model.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import attrs

from runtime.errors import SessionError, TaskNotFound
from runtime.ids import SessionId
from runtime.models.base import ToolSpec
from runtime.session import TaskState
from runtime.tasks import TaskView
from runtime.tools.base import Tool, ToolContext, ToolFailed

LIST_TASKS: Final = "list_tasks"
GET_TASK: Final = "get_task"
MESSAGE_TASK: Final = "message_task"
WAIT_TASK: Final = "wait_task"
CANCEL_TASK: Final = "cancel_task"
TASK_TOOLS: Final = (LIST_TASKS, GET_TASK, MESSAGE_TASK, WAIT_TASK, CANCEL_TASK)

#: Longest that one call of `wait_task` may wait, in seconds.
MAX_WAIT_S: Final = 3600.0

_Does: TypeAlias = Callable[[Mapping[str, Any], ToolContext], Awaitable[Any]]


@attrs.frozen
class TaskTool:
    """One of the task tools. Safe to repeat."""

    spec: ToolSpec
    does: _Does
    idempotent: bool = True
    timeout_s: float | None = None

    @property
    def waits_for_others(self) -> bool:
        return self.spec.name == WAIT_TASK

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Raises `ToolFailed` for a task that is not there or takes no message any more."""
        try:
            return await self.does(arguments, context)
        except (TaskNotFound, SessionError) as error:
            raise ToolFailed(str(error)) from error


def shown(task: TaskView, *, whole: bool = True) -> dict[str, Any]:
    """What the model reads of a task; without its answer unless `whole`."""
    told: dict[str, Any] = {
        "task_id": task.task_id,
        "name": task.name,
        "state": task.state.value,
        "lifetime": task.lifetime.value,
    }
    if task.state is TaskState.RUNNING:
        told["turns"] = task.turns
        if task.doing:
            told["doing"] = task.doing
    if task.error is not None:
        told["error"] = task.error
    if whole and task.answer is not None:
        told["answer"] = task.answer if task.output is None else task.output
    if task.timed_out:
        told["timed_out"] = True
    return told


async def _list(_: Mapping[str, Any], context: ToolContext) -> Any:
    tasks: Sequence[TaskView] = await context.runner.list_tasks(context.session_id)
    return [shown(each, whole=False) for each in tasks]


async def _get(arguments: Mapping[str, Any], context: ToolContext) -> Any:
    return shown(await context.runner.get_task(context.session_id, _id(arguments)))


async def _message(arguments: Mapping[str, Any], context: ToolContext) -> Any:
    task = await context.runner.message_task(
        context.session_id, _id(arguments), arguments["message"], key=context.key
    )
    return shown(task, whole=False)


async def _wait(arguments: Mapping[str, Any], context: ToolContext) -> Any:
    # A wait that is repeated after a crash ends when the first one would have.
    timeout_s = max(arguments.get("timeout_s", MAX_WAIT_S) - context.since_s, 0.0)
    return shown(await context.runner.wait_task(context.session_id, _id(arguments), timeout_s))


async def _cancel(arguments: Mapping[str, Any], context: ToolContext) -> Any:
    reason = arguments.get("reason") or "cancelled by its parent"
    return shown(await context.runner.cancel_task(context.session_id, _id(arguments), reason))


def _id(arguments: Mapping[str, Any]) -> SessionId:
    return SessionId(arguments["task_id"])


_TASK_ID: Final = {"type": "string", "minLength": 1, "description": "As spawn_agent returned it."}


def _tool(name: str, description: str, does: _Does, **properties: Mapping[str, Any]) -> Tool:
    schema = {
        "type": "object",
        "properties": properties,
        "required": [each for each in properties if each in ("task_id", "message")],
        "additionalProperties": False,
    }
    return TaskTool(ToolSpec(name, description, schema), does)


def task_tools() -> tuple[Tool, ...]:
    """The tools, in the order of `TASK_TOOLS`."""
    return (
        _tool(LIST_TASKS, "List the helpers you started in the background, oldest first.", _list),
        _tool(
            GET_TASK,
            "How one background helper stands, with its whole answer once it has one.",
            _get,
            task_id=_TASK_ID,
        ),
        _tool(
            MESSAGE_TASK,
            "Tell a background helper something more; it works on it after what it does now.",
            _message,
            task_id=_TASK_ID,
            message={"type": "string", "minLength": 1},
        ),
        _tool(
            WAIT_TASK,
            "Wait for a background helper to end. After timeout_s seconds you get how it stands,"
            " marked timed_out, and it goes on.",
            _wait,
            task_id=_TASK_ID,
            timeout_s={"type": "number", "minimum": 0, "maximum": MAX_WAIT_S},
        ),
        _tool(
            CANCEL_TASK,
            "Stop a background helper at once. One that has ended stays as it is.",
            _cancel,
            task_id=_TASK_ID,
            reason={"type": "string"},
        ),
    )
