"""Rounds with a barrier: all are asked at once, and nobody goes on before all have answered.

The game is Guess 2/3 of the Average, as it is played by large crowds of agents (AgentScope's
large-scale simulations, Pan et al. 2024): each is told his step towards the new guess, and what all
have said is averaged. The steps of two neighbours cancel each other out, so that the average after
r rounds is 50 (2/3)^r, and whose answer is missing or another's shows in it.
"""

from __future__ import annotations

from mob.bench.plan import Expected, Plan
from mob.bench.shapes.base import Figures, Shape
from mob.bench.stage import Stage, names

_START = 50.0


def _expect(plan: Plan) -> dict[str, Expected]:
    members, rounds = plan.size["members"], plan.settings["rounds"]
    return {
        "turns": Expected(members * rounds),
        "average": Expected(_START * (2 / 3) ** rounds),
        "own_answers": Expected(members * rounds),
    }


def _step(index: int, crowd: int) -> float:
    """What member `index` adds to the new guess; the last of an odd number adds nothing."""
    if index == crowd - 1 and crowd % 2:
        return 0.0
    return (index // 2 + 1) / crowd * (1 if index % 2 else -1)


async def _run(stage: Stage) -> Figures:
    crowd = names(stage.plan.definition, "m")
    average, own = _START, 0
    async with stage.open() as mob:
        for _ in range(stage.plan.settings["rounds"]):
            guesses = [
                repr(2 / 3 * average + _step(index, len(crowd))) for index in range(len(crowd))
            ]
            answers = await stage.ask_all(mob, zip(crowd, guesses, strict=True))
            own += sum(map(str.__eq__, guesses, answers))
            average = sum(map(float, answers)) / len(answers)
    return {"average": average, "own_answers": own}


SHAPE = Shape(
    "rounds with a barrier: all members answer before the next round begins (members: m)",
    size={"members": 2},
    settings={"rounds": 10},
    figures=("average", "own_answers"),
    expect=_expect,
    run=_run,
)
