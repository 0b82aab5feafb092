"""The verbs of the task board, in Python.

Owns: `BoardVerbs` (``mob.board``): one commit for each verb, one verb after the other. Must not:
decide what a verb may do (`mob.board` does).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import trio

from mob.board import Board, BoardState, BoardTask
from mob.core import MobCore
from runtime.errors import encodable
from stores import Ticket


class BoardVerbs:
    """The board of one mob. Every verb is on disk when it returns, and idempotent with a `key`: the
    key is remembered with the task, and a verb that comes again with it changes nothing and returns
    the task as it is now. Cancelling a verb leaves it done or not done.

    All verbs that change something raise
        VerbRefused: the mob's state does not allow it.
        BoardTaskNotFound: there is no such task.
        BoardKeyUsed: the key was used for another verb, or on another task.
        BoardMisuse: the state of the task does not allow it.
    """

    def __init__(self, mob: MobCore, board: Board) -> None:
        self.mob = mob
        self._board = board
        self._lock = trio.Lock()
        #: The latest commit; it may be on its way still if whoever waited for it was cancelled.
        self._ticket: Ticket | None = None

    def list(
        self, state: BoardState | str | None = None, owner: str | None = None
    ) -> tuple[BoardTask, ...]:
        """The tasks in the order in which they were added: all, or those in this state, or of this
        owner. Raises `ValueError` for what is no state."""
        wanted = BoardState(state) if state is not None else None
        return tuple(
            task
            for task in self._board.tasks.values()
            if (wanted is None or task.state is wanted) and (owner is None or task.owner == owner)
        )

    def get(self, task: str) -> BoardTask:
        """One task. Raises `BoardTaskNotFound`."""
        return self._board.task(task)

    async def add(
        self,
        title: str,
        detail: str = "",
        blocked_by: Sequence[str] = (),
        key: str | None = None,
    ) -> BoardTask:
        """Add an open task, which nobody may claim before those in `blocked_by` are done."""
        title, detail = encodable(title), encodable(detail)
        return await self._do(
            "add", None, key, lambda at: self._board.add(title, detail, blocked_by, key, at)
        )

    async def claim(self, task: str, owner: str, key: str | None = None) -> BoardTask:
        """Make the member `owner` the owner of an open task.

        Raises:
            MemberNotFound: there is no such member.
            TaskBlocked: blockers are not done; it names them.
            BoardMisuse: it is somebody's, or not open any more.
        """

        def decide(at: int) -> Any:
            self.mob._row(owner)
            return self._board.move("claim", task, owner, "", key, at)

        return await self._do("claim", task, key, decide)

    async def release(
        self, task: str, owner: str | None = None, key: str | None = None
    ) -> BoardTask:
        """Make a claimed task open again; with an `owner` only if it is that one's."""
        return await self._move("release", task, owner, "", key)

    async def finish(
        self, task: str, result: str = "", owner: str | None = None, key: str | None = None
    ) -> BoardTask:
        """End a claimed task with a result; with an `owner` only if it is that one's."""
        return await self._move("finish", task, owner, encodable(result), key)

    async def cancel(self, task: str, reason: str = "", key: str | None = None) -> BoardTask:
        """End a task without a result. What waits for it goes on waiting: see `block`."""
        return await self._move("cancel", task, None, encodable(reason), key)

    async def block(
        self, task: str, blocked_by: Sequence[str], key: str | None = None
    ) -> BoardTask:
        """Give an open task these blockers instead of those it has; none frees it.

        Raises:
            BoardCycle: it would wait for itself.
        """
        return await self._do(
            "block", task, key, lambda at: self._board.block(task, blocked_by, key, at)
        )

    async def _move(
        self, verb: str, task: str, owner: str | None, result: str, key: str | None
    ) -> BoardTask:
        return await self._do(
            verb, task, key, lambda at: self._board.move(verb, task, owner, result, key, at)
        )

    async def _do(
        self, verb: str, task: str | None, key: str | None, decide: Callable[[int], Any]
    ) -> BoardTask:
        """Decide on what is on disk, and have the decision on disk before the next one."""
        self.mob._admit("board")
        async with self._lock:
            await self._landed()
            await self._left(task)
            self.mob._admit("board")
            known = self._board.keyed(key, verb, task)
            if known is not None:
                return known
            record = decide(self.mob.realm.ports.clock.now_ns())
            self._ticket = self.mob.realm.append(record)
            await self._landed()
            return self._board.tasks[record.task_id]

    async def _left(self, task: str | None) -> None:
        """An owner that leaves loses the task in a commit that is on its way: wait for it."""
        leaving = self.mob._leaving
        while (known := self._board.tasks.get(task or "")) and known.owner in leaving:
            await leaving[known.owner].wait()

    async def _landed(self) -> None:
        if self._ticket is None:
            return
        try:
            await self._ticket.wait()
        finally:
            if self._ticket.done:
                self._ticket = None
