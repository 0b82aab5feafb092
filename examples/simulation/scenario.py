"""A scenario of one's own: customers ask again and again while the machine dies under them.

mob sim run examples/simulation/scenario.py:customers --seeds 0..49 --faults store,process
"""

from pathlib import Path

import trio
from rules import no_question_is_taken_twice  # noqa: F401 what is imported holds as well

from mob import MobDefinition
from mob.simulation import World
from mob.simulation.client import Client
from mob.simulation.workload import Machine

DESK = MobDefinition.load(Path(__file__).with_name("mob.toml"))


async def customers(world: World) -> None:
    """Five customers; a process that dies is replaced after a while."""
    machine, client = Machine(world, DESK), Client(world)
    await machine.start()
    async with trio.open_nursery() as service:
        service.start_soon(machine.keep)
        async with trio.open_nursery() as nursery:
            # Whatever goes through `keep` can be left out when a failing run is shrunk.
            for number in world.keep(range(5)):
                nursery.start_soon(customer, client, number)
        service.cancel_scope.cancel()


async def customer(client: Client, number: int) -> None:
    """Ask, lose patience, and ask the same again under the same key."""
    await trio.sleep(number / 4)
    for _ in range(3):
        await client.ask("lead", f"question {number}", key=f"customer {number}", patience_s=3.0)
        await trio.sleep(1)
