"""The tasks in which members work, used again while the mob is at work.

Owns: `Workers`: finding a task for an activation, and how long one without work stays. Must not:
know what an activation does, or count members.

An activation is short, often one turn, and making and ending a task takes 4 us, a fifteenth of a
durable turn. So a task whose activation has ended parks, and the next activation of any member is
run in it. A member without work still has no task (CONTRACTS 6.13): parked tasks belong to nobody,
are bounded, and end when nobody works any more.

To whatever an activation calls, a used task looks as a new one does: it has the name of its
member, and the context variables of whoever gave it work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import Final

import trio
from trio.lowlevel import Abort

from mob.jobs import LiveMember
from runtime.lanes import Lane

#: Tasks that stay without work while others work. Each takes 2 KB.
_PARKED: Final = 4096

#: Scheduler passes for which the last one at work waits for more. Whoever was told of a turn asks
#: the next question in the pass after that; with one commit for all turns in flight, all members
#: rest at the same moment, and none for longer than that.
_PASSES: Final = 2


class _Worker:
    """A parked task, and whose activation it is to run next."""

    __slots__ = ("live", "parked", "task")

    def __init__(self, task: trio.lowlevel.Task, parked: dict[_Worker, None]) -> None:
        self.task = task
        self.parked = parked
        self.live: LiveMember | None = None

    def leave(self, _: object) -> Abort:
        """It is cancelled while it is parked."""
        del self.parked[self]
        return Abort.SUCCEEDED


class Workers:
    """The tasks of one mob's activations. Lives as long as its nursery."""

    def __init__(
        self, nursery: trio.Nursery, run: Callable[[LiveMember, Lane], Awaitable[None]]
    ) -> None:
        self._nursery = nursery
        self._run = run
        #: How many tasks have an activation.
        self._busy = 0
        self._parked: dict[_Worker, None] = {}

    def begin(self, live: LiveMember) -> None:
        """Run the member's activation, in a task that begins with the next scheduler pass."""
        self._busy += 1
        if not self._parked:
            self._nursery.start_soon(self._work, live, name=live.row.name)
            return
        worker, _ = self._parked.popitem()
        worker.live = live
        worker.task.name = live.row.name
        worker.task.context = copy_context()
        trio.lowlevel.reschedule(worker.task)

    async def _work(self, live: LiveMember | None) -> None:
        worker = _Worker(trio.lowlevel.current_task(), self._parked)
        lane = Lane()
        try:
            while live is not None:
                try:
                    await self._run(live, lane)
                finally:
                    self._busy -= 1
                if not self._busy:
                    await self._all_rest()
                if not self._busy or len(self._parked) >= _PARKED:
                    return
                self._parked[worker] = None
                await trio.lowlevel.wait_task_rescheduled(worker.leave)
                live, worker.live = worker.live, None
        finally:
            lane.close()

    async def _all_rest(self) -> None:
        """Nobody works: if that stays so, end the parked tasks."""
        for _ in range(_PASSES):
            await trio.lowlevel.checkpoint()
        while self._parked and not self._busy:
            worker, _ = self._parked.popitem()
            trio.lowlevel.reschedule(worker.task)
