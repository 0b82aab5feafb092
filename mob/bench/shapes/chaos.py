"""Chaos: processes are killed, the provider answers 429 in storms, some calls are slow.

The faults of chaos engineering (Basiri et al. 2016) at the three places where an agent system has
them. What must hold is simple: each request is answered once, and what somebody was told is what is
on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from mob.bench import closed
from mob.bench.plan import Expected, Plan
from mob.bench.shapes.base import Figures, Shape
from mob.bench.stage import Stage, every, names, totals
from mob.bench.victim import victim
from mob.runs import past
from runtime.records import ModelRetried


def _expect(plan: Plan) -> dict[str, Expected]:
    requests, fails = plan.size["requests"], plan.option("fails", 0.0)
    # Calls are refused in runs of a storm's length, all or none: so many of them are independent.
    storms = max(1, round(requests / (1 - fails) / plan.option("storm", 1.0)))
    return {
        "turns": Expected(requests),
        "kills": Expected(plan.settings["kills"]),
        "lost": Expected(0),
        "told_otherwise": Expected(0),
        "refused_share": closed.share(fails, storms),
    }


def _text(request: int) -> str:
    return f"request {request}"


async def _serve(stage: Stage, say: Callable[[Any], None]) -> None:
    """The process that is killed: it answers all requests, and says each answer."""
    members = names(stage.plan.definition, "m")

    async with stage.open() as mob:

        async def ask(request: int) -> None:
            name = members[request % len(members)]
            answer = await mob.ask(name, _text(request), idempotency_key=f"r-{request}")
            say([request, answer.text])

        await every(stage.plan.size["requests"], ask)


async def _run(stage: Stage) -> Figures:
    plan, members = stage.plan, names(stage.plan.definition, "m")
    requests, kills = plan.size["requests"], plan.settings["kills"]
    told: dict[int, str] = {}
    killed = otherwise = 0
    with stage.measured():
        for life in range(kills + 1):
            goal = requests * (life + 1) // (kills + 1) if life < kills else requests + 1
            async with victim(stage, life, ends=life == kills) as process:
                async with aclosing(process.said()) as said:
                    async for request, text in said:
                        otherwise += told.setdefault(request, text) != text
                        if len(told) >= goal:
                            process.kill()
            killed += process.killed
            stage.restarts += process.killed
    async with stage.open() as mob:
        done = totals(mob)
        stage.count(**done)
        refused = sum(isinstance(each.record, ModelRetried) for each in past(mob.realm.journal))
        lost = 0
        for request in range(requests):
            name = members[request % len(members)]
            # Its key joins the answer that is on disk; without one it would be a turn more.
            answer = await mob.ask(name, _text(request), idempotency_key=f"r-{request}")
            lost += not answer.text == told.get(request) == _text(request)
    return {
        "kills": killed,
        "lost": lost,
        "told_otherwise": otherwise,
        "refused_share": refused / (refused + done["turns"]),
    }


SHAPE = Shape(
    "requests under kills, storms of 429 and slow calls (members: m)",
    size={"requests": 20},
    settings={"members": 20, "kills": 2},
    figures=("kills", "lost", "told_otherwise", "refused_share"),
    expect=_expect,
    run=_run,
    victim=_serve,
    needs_disk="processes are killed, and what they had must outlive them",
)
