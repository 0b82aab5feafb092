"""A debate: all answer, are told what all have said, and answer again.

Multiagent debate (Du et al. 2023). In the first round each debater is right with the probability
`accuracy`; later each says what most have said with the probability `follows`, else the opposite.
What most say in the last round is the answer: a chain of votes, each about what the last one said.
"""

from __future__ import annotations

from mob.bench import closed
from mob.bench.plan import Expected, Plan
from mob.bench.shapes.base import Figures, Shape
from mob.bench.shapes.vote import CHOICES
from mob.bench.stage import Stage, names
from runtime.models.solver import majority


def _expect(plan: Plan) -> dict[str, Expected]:
    debaters, rounds = plan.settings["debaters"], plan.settings["rounds"]
    questions, follows = plan.size["questions"], plan.option("follows", 1.0)
    first = closed.majority_right(debaters, plan.option("accuracy", 1.0))
    right = closed.layers_right(first, [debaters] * (rounds - 1), follows)
    alike = follows if rounds > 1 else plan.option("accuracy", 1.0)
    return {
        "turns": Expected(debaters * rounds * questions),
        "accuracy": closed.share(right, questions),
        "unanimous": closed.share(alike**debaters + (1 - alike) ** debaters, questions),
    }


async def _run(stage: Stage) -> Figures:
    plan, debaters = stage.plan, names(stage.plan.definition, "debater")
    questions = plan.size["questions"]
    right = unanimous = 0
    async with stage.open() as mob:
        for number in range(questions):
            answer = CHOICES[(number + plan.seed) % 2]
            asked = f"Question {number}.\nchoices: {' '.join(CHOICES)}"
            said = await stage.ask_all(mob, [(n, f"{asked}\nanswer: {answer}") for n in debaters])
            for _ in range(plan.settings["rounds"] - 1):
                told = f"{asked}\nsaid: {' '.join(said)}"
                said = await stage.ask_all(mob, [(name, told) for name in debaters])
            right += majority(tuple(said)) == answer
            unanimous += len(set(said)) == 1
    return {"accuracy": right / questions, "unanimous": unanimous / questions}


SHAPE = Shape(
    "all answer, hear all, and answer again (members: debater)",
    size={"questions": 1},
    settings={"debaters": 5, "rounds": 3},
    figures=("accuracy", "unanimous"),
    expect=_expect,
    run=_run,
)
