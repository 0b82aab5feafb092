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
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final, TypeAlias, final

import trio

from mob.simulation.disk import SimDisk
from mob.simulation.faults import FaultPlan, Faults
from mob.simulation.guards import RealWorldRefused, guarded
from mob.simulation.invariants import UserInvariant
from mob.simulation.ledger import Ledger
from mob.simulation.oracle import Oracle
from mob.simulation.pinning import run_pinned, still, virtual_clock
from mob.simulation.process import summary
from mob.simulation.streams import Streams
from mob.simulation.tasks import force, in_trio, parked
from mob.simulation.trace import Trace
from mob.simulation.world import UNWIND_S, Failure, World

Scenario: TypeAlias = Callable[[World], Awaitable[None]]

#: Real seconds between alarms once the first has gone off.
_AGAIN_S: Final = 0.5

#: Alarms after which Trio's loop is made to fail.
_ALARMS: Final = 20

#: Times that a task is thrown out of where it is parked before the loop is made to fail.
_FORCED: Final = 50

#: Loggers whose records go into the trace.
_LOGGERS: Final = ("mob", "runtime", "stores")


class Hung(BaseException):
    """Raised by the alarm in whatever code is running; nobody takes it for an error of theirs."""


class Abandoned(BaseException):
    """Raised where a task is parked that does not end by cancellation; at last in Trio's loop."""


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
        invariants: Sequence[UserInvariant | Callable[[Ledger], None]] = (),
    ) -> None:
        self.clock: Final = virtual_clock()
        self.trace: Final = Trace(self.clock.current_time)
        self.disk: Final = SimDisk()
        self.streams: Final = streams
        self.faults: Final = Faults(plan, streams, self.trace.note)
        self.world: World | None = None
        self.oracle: Final = Oracle(invariants)
        self._main = main
        self._keep = keep
        self._heal_s = heal_s
        self._deadline_s = deadline_s
        self._failure: Failure | None = None
        self._error: BaseException | None = None
        self._alarms = 0
        self._token: trio.lowlevel.TrioToken | None = None
        self._played = trio.Event()
        self._over = trio.Event()

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
        with logged(self.trace), self.watched(watchdog_s):
            try:
                run_pinned(self.play, self.streams.seed, self.clock)
            except (Exception, BaseExceptionGroup, Abandoned, Hung) as error:  # noqa: BLE001 judged
                self.ended_by(error)
            finally:
                self.clock._real_clock = still

    def ended_by(self, error: BaseException) -> None:
        """What came out of the loop: that the run was cut short, or what the scenario raised that
        is no `Exception`, as pytest's failures are."""
        strange = [leaf for leaf in _leaves(error) if not isinstance(leaf, _EXPECTED)]
        for leaf in strange:
            if isinstance(leaf, KeyboardInterrupt | SystemExit | GeneratorExit):
                raise leaf
        if self.failure is None and strange:
            told = strange[0]
            commits = len(self.disk.commits)
            self._failure = Failure("the scenario raises nothing", summary(told), commits)
            self._error = told
        elif self.failure is None:
            raise error

    async def play(self) -> None:
        """The whole run; called by `run`, or by whoever drives Trio's loop in its place."""
        self._token = trio.lowlevel.current_trio_token()
        with guarded() as refusals:
            async with trio.open_nursery() as nursery:
                world = self.world = World(
                    nursery, self.streams, self.faults, self.trace, self.disk, self.oracle,
                    self._keep,
                )  # fmt: skip
                nursery.start_soon(self._perform, world, name="scenario")
                await self._watch(world)
                if world.failure is not None:
                    world.kill()
                await self._clear(nursery)
            self._check_refusals(world, refusals)

    async def _perform(self, world: World) -> None:
        try:
            with world.scope:
                try:
                    await self._main(world)
                finally:
                    self._played.set()
                world.check()
                if self._heal_s:
                    await world.heal(self._heal_s)
                world.judge_the_end(healed=self._heal_s > 0)
                await world.end()
                world.judge_the_end(healed=False)
        except Exception as error:  # noqa: BLE001 told as the run's failure
            world.check()
            world.failed("the scenario raises nothing", error)
        finally:
            self._over.set()

    async def _watch(self, world: World) -> None:
        """Wait for the end of the scenario, and say what is parked where if it does not come."""
        for event, seconds, what in (
            (self._played, self._deadline_s, "the scenario ends"),
            (self._over, self._heal_s + 3 * UNWIND_S, "the run ends"),
        ):
            with trio.move_on_after(seconds):
                await event.wait()
            if not event.is_set():
                world.fail(what, f"not within {seconds:g} virtual seconds; parked are\n{parked()}")

    async def _clear(self, nursery: trio.Nursery) -> None:
        """End every task that is left, in the end by force: a failed run must end too."""
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            for second in range(round(UNWIND_S) + _FORCED):
                if not nursery.child_tasks:
                    return
                if second > UNWIND_S:
                    force(nursery, Abandoned)
                await trio.sleep(1)
        self._abandon()

    def _check_refusals(self, world: World, refusals: list[RealWorldRefused]) -> None:
        if refusals:
            world.failed("the real world is left alone", refusals[0])

    def _abandon(self) -> None:
        """End the run although tasks of it are left: Trio's loop is made to fail."""

        def fail() -> float:
            raise Abandoned("tasks of a failed run did not end")

        self.clock._real_clock = fail

    @contextmanager
    def watched(self, seconds: float) -> Iterator[None]:
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
        """First ask the loop to end the run, which does for tasks that take turns without end; then
        raise, but in nobody's code except the scenario's and ours: Trio would not survive it."""
        self._alarms += 1
        if self._alarms == 1:
            stack = "".join(traceback.format_stack(frame, limit=12))
            if self.failure is None:
                told = f"the code that does not park:\n{stack}"
                self._failure = Failure("virtual time goes on", told, len(self.disk.commits))
            if self.world is not None and self._token is not None:
                self._token.run_sync_soon(self.world.fail, "virtual time goes on", stack)
        elif self._alarms > _ALARMS:
            self._abandon()
        elif frame is not None and not in_trio(frame.f_code):
            raise Hung


class _IntoTrace(logging.Handler):
    """What the library logs is part of what happened."""

    def __init__(self, trace: Trace) -> None:
        super().__init__(logging.WARNING)
        self._trace = trace

    def emit(self, record: logging.LogRecord) -> None:
        self._trace.note(f"log.{record.levelname.lower()}", record.getMessage())


@contextmanager
def logged(trace: Trace) -> Iterator[None]:
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


#: What comes out of a run that has failed for a reason that is known.
_EXPECTED: Final = (Exception, Abandoned, Hung, trio.Cancelled)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error
