"""The course of a run: the scenario under faults, the healing, the end, and what cuts it short.

Owns: `Stage`, the deadline and the watchdog. Must not: judge what is on the disk.

Two clocks watch over a run. On the virtual one a run that has nothing left to do jumps straight to
its deadline, so a deadlock costs nothing and is told with the list of parked tasks. On the real
one an alarm ends a loop that never parks: virtual time stands still for that.
"""

from __future__ import annotations

import logging
import signal
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, TypeAlias, final

import trio

from mob.simulation.disk import Commit, SimDisk
from mob.simulation.faults import FaultPlan, Faults
from mob.simulation.guards import RealWorldRefused, guarded
from mob.simulation.pinning import run_pinned, still, virtual_clock
from mob.simulation.process import Process
from mob.simulation.streams import Streams
from mob.simulation.tasks import parked
from mob.simulation.trace import Trace
from mob.simulation.world import Breach, Failure, Judge, World
from runtime.realm import Realm

Scenario: TypeAlias = Callable[[World], Awaitable[None]]

#: Real seconds between alarms once the first has gone off.
_AGAIN_S: Final = 5.0

#: Alarms after which the run is not asked to end any more.
_ALARMS: Final = 3

#: Loggers whose records go into the trace.
_LOGGERS: Final = ("mob", "runtime", "stores")


class Hung(BaseException):
    """Raised by the alarm in whatever code is running; nobody takes it for an error of theirs."""


class Abandoned(Exception):
    """Raised in Trio's loop, to end a run whose tasks cannot be ended."""


@final
class Stage:
    """One run of `main`: set up, played and cleared away."""

    def __init__(
        self,
        main: Scenario,
        streams: Streams,
        plan: FaultPlan,
        keep: Callable[[int], bool] | None,
        *,
        heal_s: float,
        deadline_s: float,
    ) -> None:
        self.clock: Final = virtual_clock()
        self.trace: Final = Trace(self.clock.current_time)
        self.disk: Final = SimDisk()
        self.streams: Final = streams
        self.faults: Final = Faults(plan, streams, self.trace.note)
        self.world: World | None = None
        self.oracle: Judge = NoJudge()
        self._main = main
        self._keep = keep
        self._heal_s = heal_s
        self._deadline_s = deadline_s
        self._failure: Failure | None = None
        self._error: BaseException | None = None
        self._alarms = 0
        self._played = False

    @property
    def failure(self) -> Failure | None:
        """Why the run failed; None if it did not."""
        return self._failure or (self.world and self.world.failure)

    @property
    def error(self) -> BaseException | None:
        """The exception that `failure` was made from, if there was one."""
        return self._error or (self.world and self.world.error)

    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self.clock.current_time()

    def run(self, watchdog_s: float) -> None:
        """Play. Raises only what is not the run's fault."""
        with _logged(self.trace), self._watched(watchdog_s):
            try:
                run_pinned(self._play, self.streams.seed, self.clock)
            except (Exception, BaseExceptionGroup, Hung) as error:
                if self.failure is None or not _ours(error):
                    raise
            finally:
                self.clock._real_clock = still

    async def _play(self) -> None:
        with guarded() as refusals:
            async with trio.open_nursery() as nursery:
                world = self.world = World(
                    nursery, self.streams, self.faults, self.trace, self.disk, self.oracle,
                    self._keep,
                )  # fmt: skip
                nursery.start_soon(self._wait_for_the_scenario, world, name="deadline")
                try:
                    with world.scope:
                        await self._acts(world)
                except Exception as error:  # noqa: BLE001 told as the run's failure
                    world.failed("the scenario raises nothing", error)
                if world.failure is not None and not await world.unwind():
                    self._abandon()
                nursery.cancel_scope.cancel()
            self._check_refusals(world, refusals)

    async def _acts(self, world: World) -> None:
        await self._main(world)
        self._played = True
        world.check()
        if self._heal_s:
            await world.heal(self._heal_s)
        await world.end()
        self.oracle.ended(world)
        world.check()

    async def _wait_for_the_scenario(self, world: World) -> None:
        await trio.sleep(self._deadline_s)
        if not self._played:
            world.fail(
                "the scenario ends",
                f"it did not within {self._deadline_s:g} virtual seconds; parked are\n{parked()}",
            )

    def _check_refusals(self, world: World, refusals: list[RealWorldRefused]) -> None:
        if refusals:
            world.failed("the real world is left alone", refusals[0])

    def _abandon(self) -> None:
        """End the run although tasks of it are left: Trio's loop is made to fail."""

        def fail() -> float:
            raise Abandoned("tasks of a failed run did not end")

        self.clock._real_clock = fail

    @contextmanager
    def _watched(self, seconds: float) -> Iterator[None]:
        """Raise `Hung` in the running code after so many real seconds. Only in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handler = signal.signal(signal.SIGALRM, self._alarm)
        timer = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, *timer)
            signal.signal(signal.SIGALRM, handler)

    def _alarm(self, _signal: int, frame: FrameType | None) -> None:
        self._alarms += 1
        if self._failure is None and self.failure is None:
            stack = "".join(traceback.format_stack(frame, limit=12))
            commits = len(self.disk.commits)
            self._failure = Failure(
                "virtual time goes on", f"the code that does not park:\n{stack}", commits
            )
        if self._alarms >= _ALARMS:
            self._abandon()
        raise Hung


class NoJudge:
    """An oracle that finds nothing."""

    violation: Breach | None = None

    def committed(self, commit: Commit) -> None:
        """Nothing."""

    def opened(self, process: Process, generation: int) -> None:
        """Nothing."""

    def recovered(self, process: Process, realm: Realm) -> None:
        """Nothing."""

    def closed(self, process: Process) -> None:
        """Nothing."""

    def ended(self, world: World) -> None:
        """Nothing."""


class _IntoTrace(logging.Handler):
    """What the library logs is part of what happened."""

    def __init__(self, trace: Trace) -> None:
        super().__init__(logging.WARNING)
        self._trace = trace

    def emit(self, record: logging.LogRecord) -> None:
        self._trace.note(f"log.{record.levelname.lower()}", record.getMessage())


@contextmanager
def _logged(trace: Trace) -> Iterator[None]:
    """The library's log records go into `trace`, and nowhere else."""
    handler = _IntoTrace(trace)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.propagate for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, propagate in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.propagate = propagate


def _ours(error: BaseException) -> bool:
    """Whether it only says that the run was cut short, or what is known already."""
    if isinstance(error, BaseExceptionGroup):
        return all(_ours(each) for each in error.exceptions)
    return isinstance(error, Exception | Hung | trio.Cancelled)
