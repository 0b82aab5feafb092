"""Leavers: members that answer once more, leave, and are forgotten at once.

Owns: the verb of a workload that retires a member and deletes its session before the dust has
settled. Must not: judge (what must hold of sessions and of the roster judges it).

A third of the runs have them. Elsewhere in the workload a session is deleted long after its last
turn, when its snapshot has been written and nothing is under way.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Final, final

import trio

from mob.definition import MobDefinition
from mob.errors import MemberNotFound
from mob.simulation.additions import Addition, Player
from mob.simulation.client import Client
from mob.simulation.steps import Step
from runtime.ids import SessionId

if TYPE_CHECKING:
    from mob.simulation.workload import Machine
    from mob.simulation.world import World

#: Chance that a run has leavers, and how many steps of theirs.
_LEAVES: Final = 0.35
_STEPS: Final = (2, 6)
#: What they are called: nobody else asks for them.
_NAMES: Final = ("z-0", "z-1")


@final
class Leavers:
    """Those of one run."""

    def __init__(self, world: World, client: Client, machine: Machine) -> None:
        self._world = world
        self._client = client
        self._profiles = sorted(machine.definition.profiles)

    async def step(self, step: Step) -> None:
        """Have one spawned and asked, and gone again while what it said is being saved."""
        first, second, third, fourth = step.draws
        name = _NAMES[int(first * len(_NAMES))]
        await self._client.spawn(name, self._profiles[int(second * len(self._profiles))])
        session_id = self._session_of(name)
        if session_id is None:
            return
        async with trio.open_nursery() as nursery:
            for index in range(1 + int(3 * third)):
                nursery.start_soon(self._client.ask, name, f"last words {step.number}.{index}")
            if fourth < 0.3:  # while it still works
                await trio.sleep(fourth)
                nursery.start_soon(self._client.retire, name)
        await self._client.retire(name)
        await self._client.delete(session_id)

    def _session_of(self, name: str) -> SessionId | None:
        process = self._world.process
        if process is None or not process.opened or not process.alive:
            return None
        try:
            return process.mob.session_of(name)
        except MemberNotFound:
            return None  # it was not hired, or leaves by somebody else's hand


def _steps(definition: MobDefinition, random: Random) -> list[str]:
    if random.random() >= _LEAVES:
        return []
    return ["leave"] * random.randint(*_STEPS)


def _play(world: World, client: Client, machine: Machine) -> Player:
    return Player({"leave": Leavers(world, client, machine).step})


#: What this adds to the workload.
LEAVERS: Final = Addition("leave", lambda _table, _random: None, _steps, _play)
