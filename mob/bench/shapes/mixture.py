"""A mixture: layers of proposers that see what the layer before them said, then an aggregator.

Mixture-of-Agents (Wang et al. 2024). The first layer knows something (`accuracy`), the others
follow what most of the layer before said (`follows`), and so does the aggregator, whose answer
counts.
"""

from __future__ import annotations

from mob.bench import closed
from mob.bench.plan import Expected, Plan
from mob.bench.shapes.base import Figures, Shape
from mob.bench.shapes.vote import CHOICES
from mob.bench.stage import Stage, names


def _expect(plan: Plan) -> dict[str, Expected]:
    width, layers = plan.settings["width"], plan.settings["layers"]
    questions = plan.size["questions"]
    first = closed.majority_right(width, plan.option("accuracy", 1.0))
    widths = [width] * (layers - 1)
    right = closed.layers_right(first, [*widths, 1], plan.option("follows", 1.0))
    return {
        "turns": Expected((width * layers + 1) * questions),
        "accuracy": closed.share(right, questions),
    }


async def _run(stage: Stage) -> Figures:
    plan, proposers = stage.plan, names(stage.plan.definition, "proposer")
    questions, right = plan.size["questions"], 0
    async with stage.open() as mob:
        for number in range(questions):
            answer = CHOICES[(number + plan.seed) % 2]
            asked = f"Question {number}.\nchoices: {' '.join(CHOICES)}"
            told = f"{asked}\nanswer: {answer}"
            for _ in range(plan.settings["layers"]):
                said = await stage.ask_all(mob, [(name, told) for name in proposers])
                told = f"{asked}\nsaid: {' '.join(said)}"
            right += await stage.ask(mob, "aggregator", told) == answer
    return {"accuracy": right / questions}


SHAPE = Shape(
    "layers of proposers, then an aggregator (members: proposer, aggregator)",
    size={"questions": 1},
    settings={"width": 5, "layers": 3},
    figures=("accuracy",),
    expect=_expect,
    run=_run,
)
