"""One life of the program under simulation: a store, a mob on it, and an end.

Owns: `Process`: opening, crashing, pausing and closing one incarnation, and showing that none of
its tasks is left afterwards. Must not: decide when any of that happens (scenarios and faults do).

A real process that dies takes its tasks along in one instant. Here they are cancelled and unwind,
through the production code's own clean-up; they do so without effect, because in the instant of the
crash the store settles every ticket with `StoreLost` and writes nothing more, and nothing that a
dead process says is noted. `ended` is set when the last of its tasks is gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

import trio

from mob.app import open_mob
from mob.definition import MobDefinition
from mob.mob import Mob
from mob.simulation.ports import sim_ports
from mob.simulation.store import Life, SimStore, open_sim
from mob.simulation.tasks import below, living_tasks, where
from mob.simulation.trace import SPEAKING, Incarnation
from stores import StoreError

if TYPE_CHECKING:
    from mob.simulation.world import World

_T = TypeVar("_T")


class ProcessDied(Exception):
    """The process `number` died before it could do what it was asked to; `why` says how."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"process {number} died: {why}")
        self.number = number
        self.why = why


@final
class Process:
    """An incarnation. Get one from `World.start`."""

    mob: Mob
    store: SimStore

    def __init__(self, world: World, number: int, definition: MobDefinition) -> None:
        self._world = world
        self.number: Final = number
        self.definition = definition
        self.who: Final = Incarnation(number)
        self.life: Final = Life(self.who, self.crash)
        #: How it ended; None while it lives.
        self.why: str | None = None
        #: Set when it is dead and all its tasks are gone.
        self.ended: Final = trio.Event()
        #: Whether its mob may be used.
        self.opened = False
        #: Whether it is on its way out, asked to or because something in it failed for good.
        self.leaving = False
        self._started = False
        #: Whether it found an empty disk.
        self.fresh = not world.disk.commits
        self._scope = trio.CancelScope()
        self._leaving = trio.Event()
        #: Calls under way from outside, by the task that makes them.
        self._callers: dict[trio.CancelScope, trio.lowlevel.Task] = {}

    @property
    def alive(self) -> bool:
        """Whether it has not ended; true while it is paused."""
        return self.who.alive

    @property
    def paused(self) -> bool:
        """Whether its commits hang."""
        return not self.life.moving.is_set()

    def crash(self, why: str = "killed") -> None:
        """Die, at once: nothing it does from now on reaches the disk, the trace or the oracle.

        May be called by its own tasks; they are cancelled at their next checkpoint. Idempotent.
        """
        if self.alive:
            self._world.trace.note("process.died", why, self.number)
            self._end(why)
            self._scope.cancel()
            for scope in list(self._callers):
                scope.cancel()

    def pause(self) -> None:
        """Let its commits hang until `unpause`, as if the machine had stopped it; it keeps its
        disk, which another may take over meanwhile."""
        if self.alive and not self.paused:
            self._world.trace.note("process.paused", "", self.number)
            self.life.moving = trio.Event()

    def unpause(self) -> None:
        """Go on. If another process has taken the disk over, the late write is refused."""
        if self.alive and self.paused:
            self._world.trace.note("process.unpaused", "", self.number)
            self.life.moving.set()

    async def close(self) -> None:
        """Leave in order: turns in flight get the mob's grace period. Returns when it has ended."""
        self._leaving.set()
        await self.ended.wait()

    async def do(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Await ``call()`` in the caller's task as a caller inside this process would.

        Raises:
            ProcessDied: it died before the answer was there, whatever the call made of that.
        """
        if self.alive:
            with trio.CancelScope() as scope:
                self._callers[scope] = trio.lowlevel.current_task()
                token = SPEAKING.set(self.who)
                try:
                    answer = await call()
                except Exception as error:
                    if self.alive:
                        raise
                    raise ProcessDied(self.number, self.why or "") from error
                finally:
                    SPEAKING.reset(token)
                    del self._callers[scope]
                if self.alive:
                    return answer
        raise ProcessDied(self.number, self.why or "")

    async def run(
        self,
        take_over: bool,
        options: dict[str, Any],
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Live. Raises, before it has opened, what kept it from opening; later nothing: what ends
        it is noted, and what may not end it is reported to the world."""
        SPEAKING.set(self.who)
        try:
            with self._scope:
                await self._live(take_over, options, task_status)
        except Exception as error:
            if not self._started:
                self.why = self.why or summary(error)
                raise
            # A dead one's clean-up meets a store that is gone; what it makes of that concerns
            # nobody.
            if self.alive and not _is_store_failure(error):
                self._world.failed("no process fails by itself", error)
            if self.alive:
                self._world.trace.note("process.failed", summary(error), self.number)
                self.why = summary(error)
        finally:
            if self.alive:
                self._world.trace.note("process.ended", self.why or "closed", self.number)
            self._end(self.why or "closed")
            self._check_tasks()
            self._world.process_ended(self)
            self.ended.set()
        if not self._started:
            raise ProcessDied(self.number, self.why or "while it was opening")

    async def _live(
        self,
        take_over: bool,
        options: dict[str, Any],
        task_status: trio.TaskStatus[None],
    ) -> None:
        world = self._world
        ports = sim_ports(world.clock, self.number, world.streams.stream(f"ids/{self.number}"))
        async with open_sim(
            world.disk, world.faults, world.streams, self.life, take_over=take_over
        ) as self.store:
            world.store_opened(self)
            async with open_mob(
                self.definition, store=self.store, ports=ports, **options
            ) as self.mob:
                self.opened = True
                world.process_opened(self)
                self._started = True
                task_status.started()
                try:
                    await self._leaving.wait()
                finally:
                    self.leaving = True
                world.trace.note("process.closing", "")

    def _end(self, why: str) -> None:
        if self.why is None:
            self.why = why
        self.life.end()
        self._world.disk.release(self.number)
        self._world.process_died(self)

    def _check_tasks(self) -> None:
        """Nothing of it may be left but the task that looks."""
        # A call from outside ends a little later, with whatever it does in tasks of its own.
        known = {trio.lowlevel.current_task(), *below(*self._callers.values())}
        left = [task for task in living_tasks(self.who) if task not in known]
        if left:
            named = "; ".join(f"{task.name}: {where(task)}" for task in left)
            self._world.fail(
                "no task outlives its nursery", f"of process {self.number} there are: {named}"
            )


def summary(error: BaseException) -> str:
    """The error's type and message; of a group, those of its leaves."""
    if isinstance(error, BaseExceptionGroup):
        return " + ".join(dict.fromkeys(summary(each) for each in error.exceptions))
    return f"{type(error).__name__}: {error}"


def _is_store_failure(error: BaseException) -> bool:
    """Whether the store ended the process, which is what it is for: its disk failed for good."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_store_failure(each) for each in error.exceptions)
    return isinstance(error, StoreError)
