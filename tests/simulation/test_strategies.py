"""What the strategies make is what the library takes."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mob.definition import MobDefinition
from mob.simulation import FaultPlan, World, attempt
from mob.simulation.strategies import definitions, fault_plans, messages, replies, tools
from runtime.models.base import ModelReply
from runtime.models.scripted import ScriptedModel
from runtime.tools.base import Tool


@given(fault_plans())
def test_a_plan_is_the_one_that_its_text_says(plan: FaultPlan) -> None:
    assert str(FaultPlan.parse(str(plan))) == str(plan)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(definitions(["t"]), messages(), replies(["t"]), tools("t"), st.integers(0, 99))
def test_any_mob_hears_anything_and_holds(
    definition: MobDefinition, text: str, reply: ModelReply, tool: Tool, seed: int
) -> None:
    async def scenario(world: World) -> None:
        said = [reply]

        def model(_request: object) -> ModelReply:
            return said.pop() if said else ModelReply("done")

        models = {alias: ScriptedModel(model) for alias in definition.models}
        process = await world.start(definition, models=models, tools={"t": tool})
        await process.do(lambda: process.mob.send(definition.lead, text))

    run = attempt(scenario, seed)
    assert run.failure is None, run.failure
