"""The desk under pytest; needs the extra `simulation`: pytest examples/simulation/test_desk.py."""

import sys
from pathlib import Path

from mob.simulation import World, simulate
from mob.simulation.machine import MobStateMachine

sys.path.insert(0, str(Path(__file__).parent))

from rules import (
    clerks_leave_each_other_alone,
    no_question_is_taken_twice,
    the_desk_is_staffed,
)
from scenario import DESK, customers


@simulate(seeds=25, faults="store,process", invariants=[no_question_is_taken_twice])
async def test_every_customer_is_served_whatever_fails(world: World) -> None:
    await customers(world)


async def test_the_lead_says_what_the_model_says(world: World, scripted_model) -> None:
    await world.start(DESK, models={"main": scripted_model("good morning")})
    answer = await world.process.mob.ask("lead", "hello?")
    assert answer.text == "good morning"


class DeskMachine(MobStateMachine):
    """Hypothesis chooses what people do, and when the machine dies."""

    definition = DESK
    must_hold = (clerks_leave_each_other_alone, the_desk_is_staffed)


TestDesk = DeskMachine.TestCase
