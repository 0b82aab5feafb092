"""A feed: of a large crowd a few act in each step, some much more often than most.

The workload of social simulations (OASIS, Yang et al. 2024: agents are activated by probability, up
to a million of them): what counts is that those who do nothing cost nothing. Who acts is drawn by
Zipf's law. Each reads what was posted last, and posts.
"""

from __future__ import annotations

import math
from random import Random

from mob.bench import closed
from mob.bench.plan import Expected, Plan
from mob.bench.shapes.base import Figures, Shape
from mob.bench.stage import Stage, names


def _acting(plan: Plan) -> int:
    return math.ceil(float(plan.settings["active"]) * plan.size["members"])


def _expect(plan: Plan) -> dict[str, Expected]:
    chances = closed.power_law(plan.size["members"], plan.settings["exponent"])
    posts = _acting(plan) * plan.settings["steps"]
    return {
        "turns": Expected(posts),
        "ever_active": closed.distinct(chances, posts),
        "silent_turns": Expected(0),
    }


async def _run(stage: Stage) -> Figures:
    plan, random = stage.plan, Random(stage.plan.seed)
    crowd = names(plan.definition, "m")
    chances = closed.power_law(len(crowd), plan.settings["exponent"])
    latest, posted = "the beginning", dict.fromkeys(crowd, 0)
    async with stage.open() as mob:
        for step in range(plan.settings["steps"]):
            acting = random.choices(crowd, chances, k=_acting(plan))
            for name in acting:
                posted[name] += 1
            posts = await stage.ask_all(
                mob, [(name, f"{name} after {latest}, step {step}") for name in acting]
            )
            latest = posts[-1].partition(" ")[0]
        heads = mob.realm.state.heads
        done = {name: heads[mob.session_of(name)].turns for name in crowd}
    # Turns that somebody else than the one who posted has, or has not.
    astray = sum(abs(done[name] - posted[name]) for name in crowd)
    return {"ever_active": sum(turns > 0 for turns in done.values()), "silent_turns": astray}


SHAPE = Shape(
    "of a crowd a share acts in each step, drawn by a power law (members: m)",
    size={"members": 10},
    settings={"steps": 20, "active": 0.01, "exponent": 1.0},
    figures=("ever_active", "silent_turns"),
    expect=_expect,
    run=_run,
)
