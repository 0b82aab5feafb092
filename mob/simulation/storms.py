"""What people do at the worst moment: the faults of control, of messages and of the wall clock.

Owns: what each ``control.*``, ``message.*`` and ``clock.*`` fault of a workload does, and the
process faults that people cause: a kill, a second start, a pause. Must not: decide when one
strikes.

Each storm is given the step at whose site it fires; all that it draws belongs to that site.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final, final

import trio

from mob.simulation.client import Client
from mob.simulation.desk import Desk
from mob.simulation.guests import Guests
from mob.simulation.kinds import FaultKind
from mob.simulation.steps import GUESTS, Step
from mob.simulation.store import OPENS_S
from runtime.ids import SessionId
from stores import StoreError, StoreInUse

if TYPE_CHECKING:
    from mob.simulation.workload import Machine
    from mob.simulation.world import World

#: How many take part in a storm.
_CROWD: Final = 8
#: How often a storm strikes everybody, and how long it rests, in virtual seconds.
_ROUNDS: Final = 8
_REST_S: Final = 0.07
#: The same for a storm of kills, which is to meet members again once they are restarted.
_KILL_REST_S: Final = 0.7
#: Passes of the scheduler within which a member that was sent something is at work.
PASSES: Final = 6
#: Characters of a huge message.
_HUGE: Final = 200_000
#: Most seconds by which the wall clock is set wrong: ten days.
_JUMP_S: Final = 864_000.0


@final
class Storms:
    """The storms of one workload."""

    def __init__(
        self, world: World, client: Client, machine: Machine, desk: Desk, guests: Guests
    ) -> None:
        self._world = world
        self._client = client
        self._machine = machine
        #: What the guests of a storm are of, one after the other.
        self._one, self._other = (machine.profiles * 2)[:2]
        #: In the order in which a step asks for them.
        self.by_kind: Final[dict[FaultKind, Callable[[Step, float], Awaitable[None]]]] = {
            FaultKind.CLOCK_FORWARDS: self._forwards,
            FaultKind.CLOCK_BACKWARDS: self._backwards,
            FaultKind.CRASH: self._crash,
            FaultKind.DOUBLE_START: self._double_start,
            FaultKind.PAUSE: self._pause,
            FaultKind.STOP_DURING_SAVE: self._stop_during_save,
            FaultKind.RESUME_DURING_STOP: self._resume_during_stop,
            FaultKind.CANCEL_STORM: self._cancel_storm,
            FaultKind.SPAWN_STORM: self._spawn_storm,
            FaultKind.RETIRE_STORM: self._retire_storm,
            FaultKind.INTERRUPT_STORM: self._interrupt_storm,
            FaultKind.KILL_STORM: self._kill_storm,
            FaultKind.DECISION_STORM: desk.storm,
            FaultKind.DECIDE_WHILE_STOPPED: partial(desk.while_stopped, machine=machine),
            FaultKind.CRASH_WHILE_WAITING: desk.crash_while_waiting,
            FaultKind.SESSION_STORM: guests.session_storm,
            FaultKind.APPLY_STORM: guests.apply_storm,
            FaultKind.CONTEXT_CONFLICT: guests.context_storm,
            FaultKind.MESSAGE_DUPLICATE: self._duplicate,
            FaultKind.MESSAGE_HUGE: self._huge,
        }

    async def strike(self, step: Step) -> None:
        """Let every storm break out that fires at this step, at the same time."""
        faults = self._world.faults
        async with trio.open_nursery() as nursery:
            for kind, storm in self.by_kind.items():
                if faults.fires(kind, "step", step.number):
                    much = faults.amount(kind, "step", step.number)
                    nursery.start_soon(storm, step, much, name=f"{kind.value} {step.number}")

    # -- the machine -----------------------------------------------------------------------

    async def _forwards(self, _step: Step, much: float) -> None:
        await trio.lowlevel.checkpoint()
        self._world.clock.jump(much * _JUMP_S)

    async def _backwards(self, _step: Step, much: float) -> None:
        await trio.lowlevel.checkpoint()
        self._world.clock.jump(-much * _JUMP_S)

    async def _crash(self, _step: Step, much: float) -> None:
        await trio.sleep(much)
        if self._world.process is not None:
            self._world.process.crash("killed")

    async def _double_start(self, _step: Step, _much: float) -> None:
        """A second process on the disk of one that lives must be refused, and harm nobody."""
        before = self._world.process
        if before is None or not before.alive:
            return
        try:
            second = await self._machine.start_second()
        except StoreInUse:
            return
        except StoreError as error:
            self._world.trace.note("second start", type(error).__name__)
            return
        if second is not None and before.alive:
            self._world.fail("one owner", "a second process opened the store of one that lives")

    async def _pause(self, _step: Step, much: float) -> None:
        """It hangs, is replaced after a while or not, and goes on writing."""
        process = self._world.process
        if process is None or not process.alive or process.paused:
            return
        process.pause()
        try:
            await trio.sleep(4 * much)
            if much < 0.7 and self._world.process is process:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._machine.take_over)
                    if much < 0.35:  # it was not dead: it goes on while the other one opens
                        await trio.sleep(OPENS_S * much / 0.35)
                        process.unpause()
                await trio.sleep(much)
        finally:
            process.unpause()
        if self._world.process is not process:
            # It learns of it when it writes; if it never does, it ends as any program does.
            with trio.move_on_after(5.0):
                await process.ended.wait()
            process.crash("it was replaced")

    # -- control ---------------------------------------------------------------------------

    async def _stop_during_save(self, step: Step, much: float) -> None:
        """Begin turns everywhere and stop in the moment in which the first of them is written;
        bring old branches of histories back meanwhile."""
        async with trio.open_nursery() as nursery:
            for index, name in enumerate(self._everybody()):
                text = f"storm {step.number}.{index}"
                nursery.start_soon(self._client.ask, name, text)
            await self._machine.wait_commit(2 + int(much * 6))
            for head in self._with_branches():
                nursery.start_soon(self._client.restore, head)
            await self._client.stop(0.0 if much < 0.5 else much)
            await trio.sleep(much)
            await self._machine.resume()

    async def _resume_during_stop(self, step: Step, much: float) -> None:
        """Resume again and again while a stop is under way."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._client.ask, step.who, f"storm {step.number}")
            nursery.start_soon(self._client.stop, 2.0 * much)
            for _ in range(_CROWD):
                await trio.sleep(much / 2)
                nursery.start_soon(self._client.resume)
        await self._machine.resume()

    async def _cancel_storm(self, step: Step, much: float) -> None:
        """Many callers who all go away at the same moment."""
        client, number = self._client, step.number
        with trio.move_on_after(0.3 * much):
            async with trio.open_nursery() as nursery:
                for index, name in enumerate(self._everybody() * 2):
                    nursery.start_soon(client.ask, name, f"storm {number}.{index}")
                    nursery.start_soon(client.send, name, f"storm {number}.{index} sent")
                for name in GUESTS:
                    nursery.start_soon(client.spawn, name, self._other)
                    nursery.start_soon(client.retire, name)
                if much < 0.5:
                    nursery.start_soon(self._back_and_forth)
                nursery.start_soon(trio.sleep_forever)
        await self._machine.resume()

    async def _back_and_forth(self) -> None:
        """Stop and resume in turn, until whoever does it goes away."""
        while True:
            await self._client.stop(0.01)
            await self._client.resume()
            await trio.sleep(0.005)

    async def _spawn_storm(self, step: Step, much: float) -> None:
        name = GUESTS[int(much * len(GUESTS))]
        async with trio.open_nursery() as nursery:
            for index in range(_CROWD):
                nursery.start_soon(self._client.spawn, name, (self._other, self._one)[index % 2])
        await self._client.ask(name, f"storm {step.number}")

    async def _retire_storm(self, step: Step, much: float) -> None:
        name = GUESTS[int(much * len(GUESTS))] if much < 0.8 else step.who
        await self._client.spawn(name, self._one)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._client.ask, name, f"storm {step.number}")
            await trio.sleep(0.5 * much)
            for _ in range(_CROWD):
                nursery.start_soon(self._client.retire, name)
            nursery.start_soon(self._client.spawn, name, self._other)
        await self._client.spawn(name, self._one)

    async def _interrupt_storm(self, step: Step, much: float) -> None:
        await self._rounds(step, much, self._client.interrupt, _REST_S)

    async def _kill_storm(self, step: Step, much: float) -> None:
        await self._rounds(step, much, self._client.kill, _KILL_REST_S)

    async def _rounds(
        self, step: Step, much: float, verb: Callable[[str], Awaitable[None]], rest_s: float
    ) -> None:
        """Do it to everybody, again and again, while all of them work, and first when they have
        only just begun."""
        async with trio.open_nursery() as nursery:
            for index, name in enumerate(self._everybody()):
                nursery.start_soon(self._client.ask, name, f"storm {step.number}.{index}")
            await passes(int(much * 10 * PASSES) % PASSES)
            for _ in range(1 + int(much * _ROUNDS)):
                for name in self._everybody():
                    await verb(name)
                await trio.sleep(rest_s * (0.1 + much))

    # -- messages --------------------------------------------------------------------------

    async def _duplicate(self, step: Step, much: float) -> None:
        await self._client.send_again(
            step.who, f"twice {step.number}", key=f"twice-{step.number}", times=2 + int(much * 3)
        )

    async def _huge(self, step: Step, _much: float) -> None:
        await self._client.ask(step.who, f"huge {step.number} " + "word " * (_HUGE // 5))

    def _with_branches(self) -> list[SessionId]:
        """Some sessions whose history was rewound."""
        process = self._world.process
        if process is None or not process.opened or not process.alive:
            return []
        heads = process.mob.realm.state.heads.values()
        return [head.session_id for head in heads if head.branches][:4]

    def _everybody(self) -> tuple[str, ...]:
        process = self._world.process
        if process is None or not process.opened or not process.alive:
            return ()
        return process.mob.members


async def passes(count: int) -> None:
    """Let the scheduler run everybody who can run, `count` times, in no time."""
    for _ in range(count):
        await trio.lowlevel.checkpoint()
