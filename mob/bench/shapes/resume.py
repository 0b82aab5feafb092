"""A swarm that is killed in the middle of a round, reopened, stopped, resumed, forked and rewound.

What durable execution promises (Temporal, DBOS; checkpoints and time travel of LangGraph), for all
members at once: after each verb everybody has the turns that he must have.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import attrs

from mob.bench.plan import Expected, Plan
from mob.bench.shapes.base import Figures, Shape
from mob.bench.stage import Stage, every, names, totals
from mob.bench.victim import victim
from mob.mob import Mob

_TWIN = "twin"


def _expect(plan: Plan) -> dict[str, Expected]:
    return {
        # Two rounds; the third is rewound; the twin has one more.
        "turns": Expected(2 * plan.size["members"] + 1),
        "kills": Expected(1),
        "astray": Expected(0),
    }


async def _round(mob: Mob, crowd: list[str], number: int, say: Callable[[Any], None]) -> None:
    async def ask(index: int) -> None:
        key = f"{number}-{crowd[index]}"
        await mob.ask(crowd[index], f"round {number}", idempotency_key=key)
        say([number, index])

    await every(len(crowd), ask)


async def _serve(stage: Stage, say: Callable[[Any], None]) -> None:
    """The process that is killed in its second round."""
    crowd = names(stage.plan.definition, "m")
    async with stage.open() as mob:
        for number in (1, 2):
            await _round(mob, crowd, number, say)


def _astray(mob: Mob, crowd: list[str], turns: int) -> int:
    """How many have not so many turns."""
    heads = mob.realm.state.heads
    return sum(heads[mob.session_of(name)].turns != turns for name in crowd)


async def _run(stage: Stage) -> Figures:
    plan, crowd = stage.plan, names(stage.plan.definition, "m")
    took: Figures = {}

    async def timed(name: str, work: Awaitable[Any]) -> None:
        began_s = time.perf_counter()
        await work
        took[name] = time.perf_counter() - began_s

    with stage.measured():
        async with victim(stage, 0) as process:
            async with aclosing(process.said()) as said:
                async for number, _ in said:
                    if number == 2:
                        process.kill()
    stage.restarts += process.killed
    async with stage.open_store() as store:
        began_s = time.perf_counter()
        async with stage.open(store=store) as mob:
            took["reopen_s"] = time.perf_counter() - began_s
            stage.count(**totals(mob))
            await _round(mob, crowd, 2, lambda _: None)
            astray = _astray(mob, crowd, 2)
            await timed("stop_s", mob.stop())
            await timed("resume_s", mob.resume())
            await timed("snapshot_s", mob.snapshot("two"))
            await timed("fork_s", mob.fork(_TWIN, at="two"))
            await _round(mob, crowd, 3, lambda _: None)
            astray += _astray(mob, crowd, 3)
            await timed("rewind_s", mob.rewind("two"))
            astray += _astray(mob, crowd, 2)
        twin = attrs.evolve(plan.definition, id=_TWIN)
        async with stage.open(twin, store=store) as mob:
            astray += _astray(mob, crowd, 2)
            await mob.ask(crowd[0], "and on")
            astray += _astray(mob, crowd[:1], 3) + _astray(mob, crowd[1:], 2)
        async with stage.open(store=store) as mob:
            astray += _astray(mob, crowd, 2)
    return {**took, "astray": astray, "kills": process.killed}


SHAPE = Shape(
    "a swarm killed, reopened, stopped, resumed, forked and rewound (members: m)",
    size={"members": 20},
    figures=(
        "astray",
        "kills",
        "reopen_s",
        "stop_s",
        "resume_s",
        "snapshot_s",
        "fork_s",
        "rewind_s",
    ),
    expect=_expect,
    run=_run,
    victim=_serve,
    needs_disk="its process is killed, and what it had must outlive it",
)
