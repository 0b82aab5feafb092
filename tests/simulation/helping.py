"""Helpers in the simulation: an addition to the default workload (`mob.simulation.additions`).

Owns: `HELPERS`. Must not: judge; what holds of members and answers holds of these.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Final

import trio

from mob.definition import MobDefinition
from mob.mob import Mob
from mob.simulation import promises
from mob.simulation.additions import Addition, Player
from mob.simulation.steps import Step

if TYPE_CHECKING:
    from mob.simulation.client import Client
    from mob.simulation.workload import Machine
    from mob.simulation.world import World

#: Virtual seconds after which whoever asked a helper goes away.
PATIENCE_S: Final = 20.0


def _steps(_: MobDefinition, random: Random) -> list[str]:
    return ["help"] * random.randrange(4)


def _vary(_table: dict[str, Any], _random: Random) -> None:
    """The mob stays as it is."""


def _play(world: World, client: Client, _machine: Machine) -> Player:
    async def helped(step: Step) -> None:
        """Ask a helper, one in two with a key, one in two a fork; sometimes leave early; with a key
        ask again."""
        first, second, third = (int(draw * 10) for draw in step.draws[:3])
        text = f"help {step.number}"
        key = f"help-{step.number}" if first % 2 else None
        history: str | int = "full" if third % 2 else third

        async def call(mob: Mob) -> promises.Answered:
            if second % 2:
                result = await mob.spawn_helper(step.who, text, key=key)
            else:
                result = await mob.fork_helper(step.who, text, history=history, key=key)
            name = mob.realm.state.heads[result.session_id].agent_id or ""
            if not name.startswith(f"{step.who}~"):
                world.fail("a helper is its member's", f"{name!r} answered for {step.who!r}")
            kept = None if key is None else f"helper:{key}"
            return promises.Answered(name, text, result, kept)

        for _ in range(1 if key is None else 2):
            with trio.move_on_after(1.0 if second < 3 else PATIENCE_S):
                await client._call("help", call)

    return Player({"help": helped})


HELPERS: Final = Addition("helpers", _vary, _steps, _play)
