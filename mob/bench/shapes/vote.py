"""A vote: every question is put to all voters, and what most of them say is the mob's answer.

Condorcet's jury (1785), as self-consistency and agent ensembles use it (Wang et al. 2022; More
Agents Is All You Need, Li et al. 2024). Each voter is right with the probability `accuracy`,
independently.
"""

from __future__ import annotations

from mob.bench import closed
from mob.bench.plan import Expected, Plan
from mob.bench.shapes.base import Figures, Shape
from mob.bench.stage import Stage, names
from runtime.models.solver import majority

CHOICES = ("A", "B")


def _expect(plan: Plan) -> dict[str, Expected]:
    voters, questions = plan.settings["voters"], plan.size["questions"]
    accuracy = plan.option("accuracy", 1.0)
    return {
        "turns": Expected(voters * questions),
        "accuracy": closed.share(closed.majority_right(voters, accuracy), questions),
        "voter_accuracy": closed.share(accuracy, voters * questions),
    }


async def _run(stage: Stage) -> Figures:
    voters = names(stage.plan.definition, "voter")
    questions = stage.plan.size["questions"]
    right = voted = 0
    async with stage.open() as mob:
        for number in range(questions):
            answer = CHOICES[(number + stage.plan.seed) % 2]
            text = f"Question {number}.\nchoices: {' '.join(CHOICES)}\nanswer: {answer}"
            answers = await stage.ask_all(mob, [(voter, text) for voter in voters])
            right += majority(tuple(answers)) == answer
            voted += answers.count(answer)
    return {"accuracy": right / questions, "voter_accuracy": voted / questions / len(voters)}


SHAPE = Shape(
    "questions put to all voters, the majority's answer counts (members: voter)",
    size={"questions": 1},
    settings={"voters": 7},
    figures=("accuracy", "voter_accuracy"),
    expect=_expect,
    run=_run,
)
