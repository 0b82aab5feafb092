"""Tools over the task board: what a member's model does with shared tasks.

Owns: `board_list`, `board_add`, `board_claim`, `board_finish`. Must not: change a task other than
through the verbs of `mob.boarding`, let a member finish what is another's.

Each may be repeated after a crash: its key names the call for ever, so that a task is added once
and a claim that was won stays won. What does not go is data for the model.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from mob.board import BoardState, BoardTask
from mob.errors import BoardMisuse, BoardTaskNotFound
from mob.tooldefs import BOARD_TOOLS
from runtime.models.base import ToolSpec
from runtime.tools.base import Tool, ToolContext, ToolFailed
from stores import CommitUnknown, StoreUnavailable

if TYPE_CHECKING:
    from mob.boarding import BoardVerbs

_Does: TypeAlias = Callable[[Mapping[str, Any], str], Awaitable[Any]]


@attrs.frozen(eq=False)
class BoardTool:
    """One of the board's tools. Safe to repeat."""

    spec: ToolSpec
    does: _Does
    board: BoardVerbs
    idempotent: bool = True
    timeout_s: float | None = None

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Raises `ToolFailed` for what the board does not allow."""
        try:
            return await self.does(arguments, context.key)
        except (BoardMisuse, BoardTaskNotFound) as error:
            raise ToolFailed(str(error)) from error
        except (StoreUnavailable, CommitUnknown) as error:
            self.board.mob.realm.failed = error
            raise


def shown(task: BoardTask) -> dict[str, Any]:
    """What a model reads of a task: what there is to say of it."""
    told: dict[str, Any] = {"task": task.task_id, "title": task.title, "state": task.state.value}
    for name in ("owner", "detail", "result"):
        if value := getattr(task, name):
            told[name] = value
    if task.blocked_by:
        told["blocked_by"] = list(task.blocked_by)
    return told


def board_tools(board: BoardVerbs, member: str) -> tuple[Tool, ...]:
    """The tools of one member, in the order of `BOARD_TOOLS`."""

    async def listed(arguments: Mapping[str, Any], _: str) -> Any:
        owner = member if arguments.get("mine") else None
        return [shown(each) for each in board.list(arguments.get("state"), owner)]

    async def add(arguments: Mapping[str, Any], key: str) -> Any:
        return shown(
            await board.add(
                arguments["title"],
                arguments.get("detail", ""),
                arguments.get("blocked_by", ()),
                key,
            )
        )

    async def claim(arguments: Mapping[str, Any], key: str) -> Any:
        return shown(await board.claim(arguments["task"], member, key))

    async def finish(arguments: Mapping[str, Any], key: str) -> Any:
        return shown(await board.finish(arguments["task"], arguments["result"], member, key))

    list_, add_, claim_, finish_ = BOARD_TOOLS
    states = [state.value for state in BoardState]
    return (
        _tool(
            board,
            list_,
            "List the tasks on the board that all of you share, oldest first.",
            listed,
            (),
            state={"enum": states, "description": "Only those in this state."},
            mine={"type": "boolean", "description": "Only yours."},
        ),
        _tool(
            board,
            add_,
            "Put a task on the board that somebody else or you may claim.",
            add,
            ("title",),
            title={"type": "string", "minLength": 1},
            detail={"type": "string", "description": "What its owner must know."},
            blocked_by={
                "type": "array",
                "items": {"type": "string"},
                "description": "Tasks that must be done before it may be claimed.",
            },
        ),
        _tool(
            board,
            claim_,
            "Make an open task yours. Only one of you gets it.",
            claim,
            ("task",),
            task=_TASK,
        ),
        _tool(
            board,
            finish_,
            "End a task of yours; those that it blocks may be claimed then.",
            finish,
            ("task", "result"),
            task=_TASK,
            result={"type": "string", "description": "What came of it, for all to read."},
        ),
    )


_TASK: Final = {"type": "string", "minLength": 1, "description": "As board_list shows it."}


def _tool(
    board: BoardVerbs,
    name: str,
    description: str,
    does: _Does,
    required: tuple[str, ...],
    **properties: Any,
) -> Tool:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
    return BoardTool(ToolSpec(name, description, schema), does, board)
