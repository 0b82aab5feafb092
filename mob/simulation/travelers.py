"""Travellers: people who make points of a whole mob, fork it, and bring it back.

Owns: the verbs of a workload about time, the fault that is about them, and having a fork open for a
while. Must not: judge (`mob.simulation.voyages` does).

A quarter of the runs without wiring, groups and flows have them, and of the others one in twelve: a
rewind takes work back, and what work meets would be met less.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any, Final, final

import attrs
import trio

from mob.definition import MobDefinition
from mob.mob import Mob
from mob.simulation import voyages
from mob.simulation.additions import Addition, Player
from mob.simulation.client import Client
from mob.simulation.kinds import FaultKind
from mob.simulation.staff import has_staff
from mob.simulation.steps import Step

if TYPE_CHECKING:
    from mob.simulation.workload import Machine
    from mob.simulation.world import World

#: Chance that a run has travellers; where members write to each other, are supervised in groups or
#: limited, or run flows; and how many steps of theirs.
_TRAVELS: Final = 0.25
_TRAVELS_BUSILY: Final = 0.08
_STEPS: Final = (3, 8)
#: Most virtual seconds for which somebody waits until nobody works.
_PATIENCE_S: Final = 8.0


@final
class Travellers:
    """Those of one run."""

    def __init__(self, world: World, client: Client, machine: Machine) -> None:
        self._world = world
        self._client = client
        self._machine = machine

    async def step(self, step: Step) -> None:
        """What a step of the workload does."""
        first, second, third, fourth = step.draws
        if first < 0.25:
            await self.snapshot(f"point {step.number}")
        elif first < 0.7:
            await self._back_and_again(second, third, fourth)
        elif first < 0.85:
            await self.fork(f"fork-{step.number}", self._somewhere(second, third))
            if third < 0.3:  # there is one of this name by now
                await self.fork(f"fork-{step.number}", None)
        else:
            new_id = f"visited-{step.number}"
            if await self.fork(new_id, self._somewhere(second, third)):
                await self._visit(new_id, step)

    async def _back_and_again(self, where: float, how: float, then: float) -> None:
        """Go back, at once or when nobody works or while the mob is stopped; stay, or return."""
        if how < 0.4:
            await self._client.stop(0.3)
        elif how < 0.85:
            await self._quiet()
        at = self._somewhere(where, then)
        left = None if at is None else await self.rewind(at)
        if left is not None and then < 0.4:
            await trio.sleep(then)
            await self._quiet()
            await self.rewind(left)
        if how < 0.4 and how > 0.05:
            await self._machine.resume()

    async def _quiet(self) -> None:
        """Wait until nobody works, or not any longer."""

        async def call(mob: Mob) -> None:
            await mob.wait_blocked()

        with trio.move_on_after(_PATIENCE_S):
            await self._client._call("wait", call)

    def _somewhere(self, where: float, which: float) -> str | int | None:
        """A point or a record, drawn from those there are; None: now."""
        process, ledger = self._world.process, self._world.oracle.ledger
        if process is None or not process.opened or not process.alive or not ledger.members:
            return None
        points = process.mob.points()
        if points and where < 0.5:
            return points[int(where * 2 * len(points))].label
        # What is within a commit no mob ever was.
        known = ledger.written
        place = min(int((0.3 + 0.7 * which) * len(known)), len(known) - 1)
        while place + 1 < len(known) and known[place + 1].commit is known[place].commit:
            place += 1
        return known[place].seq

    # -- verbs -----------------------------------------------------------------------------

    async def snapshot(self, label: str) -> None:
        """Make a point."""

        async def call(mob: Mob) -> voyages.Snapped:
            return voyages.Snapped(await mob.snapshot(label))

        await self._client._call("snapshot", call, "snapshot.begun", "snapshot.done")

    async def rewind(self, at: str | int) -> str | None:
        """Bring the mob back; the label of what it was until then, if it did."""

        async def call(mob: Mob) -> voyages.WentBack:
            left = await mob.rewind(at)
            self._world.came_back(mob)
            return voyages.WentBack(at, left)

        done = await self._client._call("rewind mob", call, "rewind.begun", "rewind.done")
        if done is None:
            return None
        self._world.recoveries["mob.rewound"] += 1
        return done.left.label

    async def fork(self, new_id: str, at: str | int | None) -> bool:
        """Fork the mob; whether it did."""

        async def call(mob: Mob) -> voyages.Parted:
            return voyages.Parted(new_id, await mob.fork(new_id, at=at))

        done = await self._client._call("fork mob", call, "fork.begun", "fork.done")
        return done is not None

    # -- a fork at work --------------------------------------------------------------------

    async def _visit(self, new_id: str, step: Step) -> None:
        """Have the fork open instead of the mob for a while, and let it do some work."""

        async def use(mob: Mob) -> None:
            with trio.move_on_after(10.0 * step.draws[3]):
                async with trio.open_nursery() as nursery:
                    for index, name in enumerate(mob.members[:2]):
                        nursery.start_soon(_ask, mob, name, f"fork {step.number}.{index}")
                await mob.snapshot("in the fork")

        await self._machine.visit(lambda own: attrs.evolve(own, id=new_id), use)
        self._world.recoveries["fork.opened"] += 1

    # -- faults ----------------------------------------------------------------------------

    async def storm(self, step: Step, much: float) -> None:
        """Make points, forks and rewinds at once while turns run and the mob stops."""
        label, number = f"storm {step.number}", step.number
        await self.snapshot(label)
        async with trio.open_nursery() as nursery:
            process = self._world.process
            members = process.mob.members if process is not None and process.opened else ()
            for index, name in enumerate(members):
                nursery.start_soon(self._client.ask, name, f"storm {number}.{index}")
            await trio.sleep(much * 0.5)
            if much < 0.7:
                nursery.start_soon(self._client.stop, 0.0 if much < 0.35 else 0.2)
                await trio.sleep(0.1 * much)
            verbs: list[tuple[Callable[..., Awaitable[Any]], tuple[Any, ...]]] = [
                (self.snapshot, (f"{label} again",)),
                (self.snapshot, (f"{label} again",)),
                (self.fork, (f"storm-{number}", label)),
                (self.fork, (f"storm-{number}-now", None)),
                (self.rewind, (label,)),
                (self.rewind, (label,)),
            ]
            start = int(much * 100) % len(verbs)
            for verb, given in verbs[start:] + verbs[:start]:
                nursery.start_soon(verb, *given)
                if much < 0.5:
                    await trio.sleep(0.02 * much)
        await self.rewind(label)
        await self._machine.resume()


async def _ask(mob: Mob, name: str, text: str) -> None:
    from runtime.errors import MobError

    try:
        await mob.ask(name, text)
    except MobError:
        pass  # its turn failed, or it is stopped: what is on disk is judged


def _travels(definition: MobDefinition, random: Random) -> bool:
    writes = any(each.comms.tools for each in definition.profiles.values())
    busy = writes or bool(definition.flows) or has_staff(definition)
    return random.random() < (_TRAVELS_BUSILY if busy else _TRAVELS)


def _steps(definition: MobDefinition, random: Random) -> list[str]:
    if not _travels(definition, random):
        return []
    return ["travel"] * random.randint(*_STEPS) + ["ask"] * random.randint(2, 6)


def _play(world: World, client: Client, machine: Machine) -> Player:
    # What its steps are drawn from says whether there are any.
    random = world.streams.stream("variant/travel/steps")
    state = random.getstate()
    travels = _travels(machine.definition, random)
    random.setstate(state)
    people = Travellers(world, client, machine)
    # Of another mob its author says what may become of it.
    storms = {FaultKind.TRAVEL_STORM: people.storm} if travels and machine.is_default else {}
    return Player({"travel": people.step}, storms)


#: What this adds to the workload.
TRAVELLERS: Final = Addition("travel", lambda _table, _random: None, _steps, _play)
