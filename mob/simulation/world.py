"""What a scenario is given: one machine, its disk, and the processes that follow each other on it.

Owns: `World`: starting and restarting processes, healing, the first failure of the run. Must not:
decide which faults strike, judge what is on the disk (the oracle does).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar, final

import attrs
import trio

from mob.definition import MobDefinition
from mob.errors import MobClosed
from mob.lifecycle import MobState, VerbRefused
from mob.mob import Mob
from mob.simulation.desk import decide_all, decide_now
from mob.simulation.disk import Commit, SimDisk
from mob.simulation.faults import Faults
from mob.simulation.ledger import Ledger
from mob.simulation.oracle import Oracle, Violation
from mob.simulation.ports import SimClock, sim_ports
from mob.simulation.process import Process, ProcessDied, summary
from mob.simulation.promises import Promise
from mob.simulation.streams import Streams
from mob.simulation.tasks import parked
from mob.simulation.trace import Trace
from runtime.ports import Ports
from stores import StoreError, StoreInUse

_T = TypeVar("_T")

#: Virtual seconds that a process may take to unwind once it is dead or asked to leave.
UNWIND_S: Final = 120.0

#: How often a process that dies while it opens is started again before that counts as a failure.
_STARTS: Final = 20


@attrs.frozen
class Failure:
    """Why a run failed: the `invariant` that did not hold, and the number of the last commit."""

    invariant: str
    message: str
    commit: int

    def __str__(self) -> str:
        return f"{self.invariant} (after commit {self.commit}): {self.message}"


@final
class World:
    """A simulated machine and everything a scenario may do with it. Made by `simulate`."""

    def __init__(
        self,
        nursery: trio.Nursery,
        streams: Streams,
        faults: Faults,
        trace: Trace,
        disk: SimDisk,
        oracle: Oracle,
        keep: Callable[[int], bool] | None = None,
    ) -> None:
        self.seed: Final = streams.seed
        self.streams: Final = streams
        self.faults: Final = faults
        self.trace: Final = trace
        self.disk: Final = disk
        self.oracle: Final = oracle
        self.nursery: Final = nursery
        self.clock: Final = SimClock()
        #: For scenarios; each process has ids of its own.
        self.ports: Final[Ports] = sim_ports(self.clock, 0, streams.stream("ids/0"))
        #: The process that was started last, alive or dead.
        self.process: Process | None = None
        self.processes: Final[list[Process]] = []
        #: How often each way of coming back was gone, by name.
        self.recoveries: Final[Counter[str]] = Counter()
        self.failure: Failure | None = None
        self.error: BaseException | None = None
        #: How many items were offered to `keep`, and how many of them it kept.
        self.offered = 0
        self.kept = 0
        #: Whether everything must finish without a restart once the faults have ceased. A scenario
        #: says so that has nothing which hangs for ever.
        self.heals_alone = False
        #: Around everything that may still matter; cancelled by the first failure.
        self.scope: Final = trio.CancelScope()
        #: Those who finish what nobody drives when a run heals; each says whether there was any.
        self.caretakers: Final[list[Callable[[Mob], Awaitable[bool]]]] = []
        #: Those who help while a run heals, beside whoever decides, until all is idle.
        self.helpers: Final[list[Callable[[Process], Awaitable[None]]]] = []
        self._keep = keep
        self._options: dict[str, Any] = {}
        disk.listeners.append(self._committed)

    # -- processes -------------------------------------------------------------------------

    async def start(
        self,
        definition: MobDefinition,
        *,
        take_over: bool = False,
        aside: bool = False,
        **options: Any,
    ) -> Process:
        """Start a process that opens the mob of `definition` on the disk; return it when it has.
        `aside`: it is not that of this world's mob, whose own has ended and comes again.

        `options` (``models``, ``tools``, ``adopt``, ``grace_s``, ...) go to `mob.open_mob`.

        Raises:
            StoreInUse: a process that lives has the disk, and `take_over` is false.
            ProcessDied: it died while it was opening.
            mob.errors.DefinitionInvalid, mob.errors.DefinitionChanged: as `mob.open_mob`.
        """
        process = Process(self, len(self.processes) + 1, definition)
        self.processes.append(process)
        before = self.process
        if not aside and (before is None or not before.alive or take_over):
            self.process = process
        if not aside:
            self._options = options
        try:
            await self.nursery.start(process.run, take_over, options, name=f"p{process.number}")
        except StoreInUse:
            raise
        except (StoreError, ExceptionGroup) as error:
            if process.alive or self.failure is not None:
                raise
            raise ProcessDied(process.number, summary(error)) from error
        return process

    async def restart(self, *, take_over: bool = False) -> Process:
        """Start the last process again, with what it was started with, once its tasks are gone.

        One that lives is crashed first, or with `take_over` left alone and fenced off. Dying while
        it opens does not stop it: it is started again.
        """
        last = self.process
        if last is None:
            raise RuntimeError("nothing was started yet")
        if not take_over:
            last.crash("restarted")
            await last.ended.wait()
        for _ in range(_STARTS):
            try:
                return await self.start(last.definition, take_over=take_over, **self._options)
            except ProcessDied:
                continue
        raise ProcessDied(len(self.processes), f"while opening, {_STARTS} times in a row")

    def store_opened(self, process: Process) -> None:
        """Told by a process that has taken the disk and read nothing yet."""
        generation = process.store.generation
        self.trace.note("process.started", f"generation {generation}")
        now_s = trio.current_time()
        opened = partial(self.oracle.opened, process.number, generation, now_s, process.definition)
        self._judged(opened)

    def process_opened(self, process: Process) -> None:
        """Told by a process that has opened its mob."""
        mob = process.mob
        state = mob.realm.state
        unfinished = [head for head in state.heads.values() if head.inputs]
        self.recoveries["mob.created" if process.fresh else "mob.continued"] += 1
        if mob.state is MobState.STOPPED:
            self.recoveries["mob.stopped"] += 1
        if unfinished:
            self.recoveries["mob.with_work"] += 1
        if any(head.partial is not None for head in unfinished):
            self.recoveries["mob.with_turn_in_flight"] += 1
        self.trace.note(
            "process.opened", f"{mob.state.value}, {len(unfinished)} sessions with work"
        )
        self._judged(partial(self.oracle.recovered, process.number, mob))
        if self.faults.crashes_at("opened"):
            process.crash("opened")

    def process_died(self, process: Process) -> None:
        """Told by a process in the instant of its death: no commit of it may land any more."""
        self._judged(partial(self.oracle.closed, process.number))

    def process_ended(self, process: Process) -> None:
        """Told by a process that is dead and whose tasks are gone."""
        if process.opened:
            for incident in process.store.incidents:
                self.recoveries[f"store.{incident.outcome.replace(' ', '_')}"] += 1

    # -- steps -----------------------------------------------------------------------------

    def keep(self, items: Sequence[_T]) -> list[_T]:
        """Those of `items` that take part in this run: all, unless a shrinker leaves some out."""
        kept: list[_T] = []
        for item in items:
            if self._keep is None or self._keep(self.offered):
                kept.append(item)
            self.offered += 1
        self.kept += len(kept)
        return kept

    # -- healing and the end ---------------------------------------------------------------

    async def heal(self, deadline_s: float) -> None:
        """No fault strikes any more: everything accepted must be finished within `deadline_s`.

        A process that is dead, broken or paused is replaced, a mob that is stopped resumed. What
        still waits after half of the time (for a model that hangs, say) gets a restart, as it would
        from an operator; unless it must heal alone (`heals_alone`).
        """
        self.faults.active = False
        if self.process is None:
            return
        self.trace.note("heal", f"within {deadline_s:g} s")
        for process in self.processes:
            if process.paused:
                process.unpause()
        with trio.move_on_after(deadline_s) as patience:
            with trio.move_on_after(deadline_s if self.heals_alone else deadline_s / 2):
                if await self._finish():
                    return
            self.recoveries["mob.restarted_to_heal"] += 1
            await self.restart()
            if await self._finish():
                return
        if patience.cancelled_caught:
            self.fail(
                "healed, everything finishes",
                f"not within {deadline_s:g} virtual seconds; parked are\n{parked()}",
            )

    async def _finish(self) -> bool:
        """Have all work finished by a process that lives."""
        while True:
            process = self.process
            assert process is not None
            if not process.alive or not process.opened:
                process.crash("it never opened")
                await process.ended.wait()
                process = await self.restart()
            try:
                await process.do(partial(_finished, self, process))
            except ProcessDied:
                continue
            except MobClosed:  # stopped, and going down: too late to resume it
                await process.ended.wait()
                continue
            except StoreError:
                process.crash("its store does not write any more")
                continue
            if not process.leaving:
                return True
            await process.ended.wait()

    async def end(self) -> None:
        """Close what lives, and see that no task is left."""
        with trio.move_on_after(UNWIND_S):
            for process in self.processes:
                process.unpause()
                if process is not self.process:
                    process.crash("the run is over")
            if self.process is not None and self.process.alive:
                await self.process.close()
            for process in self.processes:
                await process.ended.wait()
            return
        self.fail("every process ends", f"parked are\n{parked()}")

    def kill(self) -> None:
        """The run has failed: end every process."""
        for process in self.processes:
            process.unpause()
            process.crash("the run has failed")

    # -- failing ---------------------------------------------------------------------------

    def fail(self, invariant: str, message: str, error: BaseException | None = None) -> None:
        """The run has failed, with its first failure; everything is cancelled."""
        if self.failure is None:
            self.failure = Failure(invariant, message, len(self.disk.commits))
            self.error = error
            self.trace.note("failure", invariant, 0)
            self.scope.cancel()

    def failed(self, invariant: str, error: BaseException) -> None:
        """As `fail`, with an exception for a message."""
        self.fail(invariant, summary(error), error)

    def check(self) -> None:
        """Fail with what the oracle has found, whoever it told and whatever they made of it."""
        self._judged(self.oracle.check)

    def promised(
        self, promise: Promise, mob_id: str | None = None, asked: Ledger | None = None
    ) -> None:
        """Somebody was told something by a process that lives, in this very step. See
        `Oracle.promised`."""
        self._judged(partial(self.oracle.promised, promise, mob_id, asked))

    def came_back(self, mob: Mob) -> None:
        """Told by whoever has brought the mob back to an earlier point, in this very step."""
        last = self.process
        if last is not None and last.alive:
            self._judged(partial(self.oracle.recovered, last.number, mob))

    def judge_the_end(self, *, healed: bool) -> None:
        """Have the oracle look at everything: while the last process still runs, and again when it
        has written its last rows."""
        last = self.process
        mob = last.mob if last is not None and last.alive and last.opened else None
        self._judged(partial(self.oracle.ended, mob, healed=healed and mob is not None))

    def _committed(self, commit: Commit) -> None:
        # Raised here, a violation would look to the writer like a bug of the engine.
        self._judged(partial(self.oracle.committed, commit))

    def _judged(self, question: Callable[[], None]) -> None:
        # What the oracle reads through the process is no read of the process, and meets no fault.
        reads, active = self.disk.reads, self.faults.active
        self.faults.active = False
        try:
            question()
        except Violation as violation:
            self.fail(violation.name, violation.message, violation)
        finally:
            self.disk.reads, self.faults.active = reads, active


async def _finished(world: World, process: Process) -> None:
    mob = process.mob
    while True:
        if mob.state is MobState.STOPPED:
            await mob.resume()
        async with trio.open_nursery() as nursery:
            # A call that waits for approval waits for ever if nobody decides.
            nursery.start_soon(decide_all, world, process)
            for help_out in world.helpers:
                nursery.start_soon(help_out, process)
            await mob.wait_idle()
            nursery.cancel_scope.cancel()
        try:
            found = await decide_now(world, mob)
            for tidy in () if mob.state is MobState.COMPLETED else world.caretakers:
                found = await tidy(mob) or found
        except VerbRefused:
            found = True  # a failure went up and stops the mob; once more when it is resumed
        if mob._changing is not None:  # a failure that went up stops the mob
            await trio.sleep(0.1)
        elif not found and mob.state is not MobState.STOPPED:
            break
    # Nothing to write: it raises if the store does not write any more, and the mob was idle because
    # of that. One that goes down for another reason is idle as well: see `Process.leaving`.
    await process.store.commit([])
