"""A run that goes on only while it is told to: for rules of Hypothesis, which are not async.

Owns: `Stepper`: Trio's loop as a guest in this thread, pinned, and the hand-over of calls. Must
not: start a thread; on a virtual clock the loop never has to wait for anything.

Between two calls virtual time stands still, and so does every task. Each call runs in the task of
the scenario, as if a scenario were written one line at a time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from random import Random
from typing import Final, TypeVar, final

import outcome
import trio

from mob.simulation.faults import FaultPlan
from mob.simulation.guards import suspend
from mob.simulation.invariants import UserInvariant
from mob.simulation.ledger import Ledger
from mob.simulation.pinning import pinned, still
from mob.simulation.run import DEADLINE_S, HEAL_S, WATCHDOG_S, Counterexample, Run, run_of
from mob.simulation.stage import Stage, logged
from mob.simulation.streams import Streams
from mob.simulation.world import World

_T = TypeVar("_T")


@final
class Stepper:
    """One run under `seed`, played call by call. See `attempt` for the options."""

    def __init__(
        self,
        seed: int,
        *,
        faults: str | FaultPlan = "none",
        invariants: Sequence[UserInvariant | Callable[[Ledger], None]] = (),
        heal_s: float = HEAL_S,
        deadline_s: float = DEADLINE_S,
        watchdog_s: float = WATCHDOG_S,
    ) -> None:
        streams = Streams(seed)
        plan = FaultPlan.parse(faults) if isinstance(faults, str) else faults
        self._stage = Stage(
            self._serve,
            streams,
            plan.drawn(streams),
            None,
            heal_s=heal_s,
            deadline_s=deadline_s,
            invariants=invariants,
        )
        self._dice: Final = Random(seed)
        self._watchdog_s = watchdog_s
        self._began_s = time.process_time()
        self._ticks: deque[Callable[[], object]] = deque()
        self._ended: outcome.Outcome[None] | None = None
        self._send, self._receive = trio.open_memory_channel[Callable[[], Awaitable[None]]](1)
        #: Refuses the real world again: between two calls it is let be.
        self._refuse: Callable[[], None] = lambda: None
        self._open = ExitStack()
        self._open.enter_context(logged(self._stage.trace))
        with pinned(self._dice):
            trio.lowlevel.start_guest_run(
                self._stage.play,
                run_sync_soon_threadsafe=self._ticks.append,
                done_callback=self._end,
                clock=self._stage.clock,
            )
        self._pump(lambda: self._stage.world is not None)

    @property
    def world(self) -> World:
        """The world that the calls are about."""
        assert self._stage.world is not None, "it was made before the first call"
        return self._stage.world

    def do(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Run ``await work()`` to its end, with everything that goes on meanwhile; return what it
        returns.

        Raises:
            Counterexample: the run has failed, now or before.
        """
        results: list[outcome.Outcome[_T]] = []

        async def captured() -> None:
            try:
                value = await work()
            except Exception as error:  # noqa: BLE001 raised again where the call was made
                results.append(outcome.Error(error))
            else:
                results.append(outcome.Value(value))

        if self._ended is None:
            self._first(lambda: self._send.send_nowait(captured))
            self._pump(lambda: bool(results))
        self._check()
        assert results, "a run that has not failed answers"
        return results[0].unwrap()

    def finish(self) -> Run:
        """Heal, judge the end, and close; as after the last line of a scenario.

        Raises:
            Counterexample: the run has failed.
        """
        if self._ended is None:
            self._first(self._send.close)
            self._pump(lambda: False)
        self._open.close()
        self._check()
        return self._run()

    def abandon(self) -> None:
        """Clear everything away, whatever state it is in. Idempotent."""
        if self._ended is None:
            self._first(lambda: self.world.fail("the run is finished", "it was abandoned"))
            self._pump(lambda: False)
        self._open.close()

    def _first(self, call: Callable[[], object]) -> None:
        # Before the loop's next tick: that one would find everything parked, and let the virtual
        # clock jump to the next deadline.
        self._ticks.appendleft(call)

    def _run(self) -> Run:
        return run_of(self._stage, self._began_s)

    def _check(self) -> None:
        if self._stage.failure is not None:
            self._pump(lambda: False)
            raise Counterexample(self._run()) from self._stage.error

    def _pump(self, done: Callable[[], bool]) -> None:
        """Let the loop run until `done` or until its end."""
        self._refuse()
        with pinned(self._dice), self._stage.watched(self._watchdog_s):
            try:
                while self._ended is None and not done():
                    self._ticks.popleft()()
            finally:
                self._refuse = suspend()
                if self._ended is not None:
                    self._stage.clock._real_clock = still

    def _end(self, ended: outcome.Outcome[None]) -> None:
        self._ended = ended
        if isinstance(ended, outcome.Error):
            self._stage.ended_by(ended.error)

    async def _serve(self, _world: World) -> None:
        async for work in self._receive:
            await work()
