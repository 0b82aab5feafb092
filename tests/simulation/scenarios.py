"""Small scenarios that several tests play, and that a fresh interpreter can be told to play.

Owns: `ticking` and what it is made of; as a program it prints the digests of seeds. Must not:
assert anything.
"""

from __future__ import annotations

import sys
from functools import partial

import trio

from mob.definition import MobDefinition
from mob.errors import MobClosed
from mob.simulation import ProcessDied, World, attempt
from runtime.errors import MobError
from runtime.models.base import ModelRequest
from runtime.models.scripted import ScriptedModel
from stores import StoreError

NAMES = ("a", "b", "c")


def team(*names: str) -> MobDefinition:
    return MobDefinition.from_table(
        {
            "mob": {"id": "t", "lead": (names or NAMES)[0]},
            "models": {"m": {"model": "sim:echo"}},
            "profiles": {"p": {"model": "m"}},
            "members": {name: {"profile": "p"} for name in names or NAMES},
            "wiring": {"default": "allow"},
        }
    )


def ticks(world: World) -> ScriptedModel:
    """A model that takes up to a virtual second for each answer."""
    draws = world.streams.stream("model")

    async def answer(request: ModelRequest) -> str:
        for _ in range(draws.randrange(4)):
            await trio.sleep(draws.random() / 4)
        return f"answer {draws.randrange(1000)}"

    return ScriptedModel(answer)


async def ticking(world: World, messages: int = 20) -> None:
    """Questions to three members from as many tasks, and a process that is kept alive."""
    await start(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_alive, world)
        async with trio.open_nursery() as asking:
            for number in range(messages):
                asking.start_soon(ask, world, NAMES[number % 3], number)
        nursery.cancel_scope.cancel()


async def start(world: World) -> None:
    """Start a process, again if it dies while it opens."""
    try:
        await world.start(team(), models={"m": ticks(world)})
    except ProcessDied:
        await world.restart()


async def keep_alive(world: World) -> None:
    """Start the process again whenever it has died."""
    while True:
        assert world.process is not None
        await world.process.ended.wait()
        await trio.sleep(0.1)
        await world.restart()


async def ask(world: World, member: str, number: int) -> None:
    """Ask until there is an answer, or one that says why there is none."""
    await trio.sleep(number * 0.2)
    key = f"key {number}"
    while True:
        process = world.process
        assert process is not None
        if not (process.alive and process.opened):
            await trio.sleep(0.05)
            continue
        question = partial(process.mob.ask, member, f"question {number}", idempotency_key=key)
        try:
            result = await process.do(question)
        except (MobClosed, ProcessDied, StoreError):
            await trio.sleep(0.05)
            continue
        except MobError as error:
            world.trace.note("refused", f"{number}: {type(error).__name__}")
        else:
            world.trace.note("answered", f"{number}: {result.text}")
        return


if __name__ == "__main__":
    for seed in sys.argv[2:]:
        run = attempt(ticking, int(seed), faults=sys.argv[1])
        assert run.failure is None, run.failure
        sys.stdout.write(f"{run.digest}\n")
