"""Tasks that are done by a tool call, each tried several times.

Reliability as tau-bench measures it (Yao et al. 2024): pass^k is the share of tasks of which all k
trials succeed, p^k if a trial succeeds with the probability p. A trial succeeds if the tool was
called once with what is right: the tool judges, not what the model says of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mob.bench import closed
from mob.bench.plan import Expected, Plan
from mob.bench.shapes.base import Figures, Shape
from mob.bench.shapes.vote import CHOICES
from mob.bench.stage import Stage, every, names
from runtime.models.base import ToolSpec
from runtime.tools.base import ToolContext

TOOL = "submit"


class Submit:
    """The tool: remembers what each session has submitted."""

    spec = ToolSpec(
        TOOL,
        "Submits the answer.",
        {
            "type": "object",
            "properties": {"answer": {"type": "string"}},
            "required": ["answer"],
            "additionalProperties": False,
        },
    )
    idempotent = True
    timeout_s = None

    def __init__(self) -> None:
        self.submitted: dict[str, list[str]] = {}
        self.calls = 0

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> str:
        self.calls += 1
        self.submitted.setdefault(context.session_id, []).append(arguments["answer"])
        return "submitted"


def _expect(plan: Plan) -> dict[str, Expected]:
    tasks, trials = plan.size["tasks"], plan.settings["trials"]
    accuracy = plan.option("accuracy", 1.0)
    return {
        "turns": Expected(tasks * trials),
        "tool_calls": Expected(tasks * trials),
        "pass_1": closed.share(accuracy, tasks * trials),
        "pass_k": closed.share(accuracy**trials, tasks),
    }


async def _run(stage: Stage) -> Figures:
    plan, agents, tool = stage.plan, names(stage.plan.definition, "agent"), Submit()
    stage.tools[TOOL] = tool
    tasks, trials = plan.size["tasks"], plan.settings["trials"]
    passed = [0] * tasks

    async with stage.open() as mob:

        async def work(worker: int) -> None:
            session = mob.session_of(agents[worker])
            for task in range(worker, tasks, len(agents)):
                answer = CHOICES[(task + plan.seed) % 2]
                text = f"Task {task}.\nchoices: {' '.join(CHOICES)}\nanswer: {answer}"
                for _ in range(trials):
                    tool.submitted.pop(session, None)
                    await stage.ask(mob, agents[worker], text)
                    passed[task] += tool.submitted.get(session) == [answer]

        await every(len(agents), work)
    return {
        "tool_calls": tool.calls,
        "pass_1": sum(passed) / tasks / trials,
        "pass_k": sum(each == trials for each in passed) / tasks,
    }


SHAPE = Shape(
    "tasks done by a tool call, each tried several times (members: agent; tool: submit)",
    size={"tasks": 1},
    settings={"trials": 4, "agents": 20},
    figures=("tool_calls", "pass_1", "pass_k"),
    expect=_expect,
    run=_run,
)
