"""Deep research: leads start helpers of their own, each of which calls tools one after the other.

The orchestrator with workers of deep-research agents (Anthropic's "How we built our multi-agent
research system", 2025: a lead with 3 to 10 subagents, 10 to 15 tool calls each; GAIA and BrowseComp
are what such systems are measured by). How many of each is drawn, uniformly, between the bounds of
the mob's options.
"""

from __future__ import annotations

from mob.bench import closed
from mob.bench.plan import Expected, Plan
from mob.bench.shapes.base import Figures, Shape
from mob.bench.stage import Stage, names


def _bounds(plan: Plan, profile: str) -> tuple[int, int]:
    least, most = plan.definition.profiles[profile].options["calls"]
    return least, most


def _expect(plan: Plan) -> dict[str, Expected]:
    questions, helpers = plan.size["questions"], _bounds(plan, "lead")
    # There are more helpers than this, so the error of their mean is rather too wide.
    fewest = questions * helpers[0]
    return {
        "helpers_per_question": closed.mean_of_uniform(*helpers, questions),
        "calls_per_helper": closed.mean_of_uniform(*_bounds(plan, "researcher"), fewest),
        "astray": Expected(0),
    }


async def _run(stage: Stage) -> Figures:
    leads, questions = names(stage.plan.definition, "lead"), stage.plan.size["questions"]
    async with stage.open() as mob:
        asked = [(leads[each % len(leads)], f"Question {each}") for each in range(questions)]
        await stage.ask_all(mob, asked)
        heads = list(mob.realm.state.heads.values())
        sessions = {mob.session_of(name) for name in leads}
    helpers = [head for head in heads if head.lineage.parent is not None]
    # Everything has one parent, one turn and an end; nobody has calls of others.
    astray = sum(
        head.lineage.parent not in sessions or head.turns != 1 or not head.archived
        for head in helpers
    )
    astray += abs(sum(head.turns for head in heads) - questions - len(helpers))
    calls = sum(head.usage.tool_calls for head in helpers)
    return {
        "helpers_per_question": len(helpers) / questions,
        "calls_per_helper": calls / len(helpers) if helpers else 0.0,
        "astray": astray,
    }


SHAPE = Shape(
    "leads start helpers, which call tools (members: lead; profiles: lead, researcher)",
    size={"questions": 2},
    settings={"leads": 10},
    figures=("helpers_per_question", "calls_per_helper", "astray"),
    expect=_expect,
    run=_run,
)
