"""A commons: everybody takes from what is there, and it doubles, up to what it can hold.

The fishery of GovSim (Piatti et al. 2024), after Hardin (1968) and Ostrom. A moderate player takes
half of an equal share, so that a lake of moderate players stays full; a greedy one takes a whole
share. Each is moderate with the probability `accuracy` in each round.
"""

from __future__ import annotations

from mob.bench import closed
from mob.bench.plan import Expected, Plan
from mob.bench.shapes.base import Figures, Shape
from mob.bench.stage import Stage, names

MODERATE, GREEDY = "moderate", "greedy"


def _expect(plan: Plan) -> dict[str, Expected]:
    players, rounds = plan.settings["players"], plan.settings["rounds"]
    games, moderate = plan.size["games"], plan.option("accuracy", 1.0)
    return {
        "turns": Expected(players * rounds * games),
        "left": closed.commons_left(players, moderate, rounds, games),
        "untouched": closed.share(moderate ** (players * rounds), games),
    }


async def _run(stage: Stage) -> Figures:
    plan, players = stage.plan, names(stage.plan.definition, "player")
    games, left, untouched = plan.size["games"], 0.0, 0
    async with stage.open() as mob:
        for _ in range(games):
            stock = 1.0
            for month in range(plan.settings["rounds"]):
                text = f"Month {month}: {stock:.3f} is there.\nchoices: {MODERATE} {GREEDY}"
                asked = [(name, f"{text}\nanswer: {MODERATE}") for name in players]
                for said in (taken := await stage.ask_all(mob, asked)):
                    assert said in (MODERATE, GREEDY), said
                greedy = taken.count(GREEDY)
                share = stock / len(players)
                stock = min(1.0, 2 * (stock - share * (greedy + (len(players) - greedy) / 2)))
            left += stock
            untouched += stock == 1.0
    return {"left": left / games, "untouched": untouched / games}


SHAPE = Shape(
    "players take from a commons that grows again (members: player)",
    size={"games": 1},
    settings={"players": 5, "rounds": 6},
    figures=("left", "untouched"),
    expect=_expect,
    run=_run,
)
