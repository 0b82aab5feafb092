"""A crowd: everybody has one turn, so many at a time.

The size that social simulations name (a million agents; OASIS, AgentScope): with members as records
and turns as tasks, memory is that of the records and of the turns in flight, and no more.
"""

from __future__ import annotations

import math

from mob.bench.plan import Expected, Plan
from mob.bench.shapes.base import Figures, Shape
from mob.bench.stage import Stage, every, names


def _expect(plan: Plan) -> dict[str, Expected]:
    members = plan.size["members"]
    return {"turns": Expected(members), "own_answers": Expected(members), "astray": Expected(0)}


async def _run(stage: Stage) -> Figures:
    plan, crowd = stage.plan, names(stage.plan.definition, "m")
    waiting, own = iter(crowd), 0
    async with stage.open() as mob:

        async def work(_: int) -> None:
            nonlocal own
            for name in waiting:
                answer = await stage.ask(mob, name, name)
                own += answer == name

        await every(min(plan.settings["at_once"], len(crowd)), work)
        heads = mob.realm.state.heads
        astray = sum(heads[mob.session_of(name)].turns != 1 for name in crowd)
    waves = math.ceil(len(crowd) / plan.settings["at_once"])
    return {"own_answers": own, "astray": astray, "waves": waves}


SHAPE = Shape(
    "everybody has one turn, so many at a time (members: m)",
    size={"members": 2},
    settings={"at_once": 20_000},
    figures=("own_answers", "astray", "waves"),
    expect=_expect,
    run=_run,
)
