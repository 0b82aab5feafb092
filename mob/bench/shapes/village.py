"""A village: in each step everybody talks with somebody, and talks take unequally long.

By ticks, as a generative village was first run (Generative Agents, Park et al. 2023), all wait for
the longest talk of the step. Out of order (AI Metropolis, Xie et al. 2024) a pair begins as soon as
both have ended their last talk. Both are run, on a virtual clock, and held against the longest
path.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

import trio

from mob.bench import closed
from mob.bench.plan import Expected, Plan
from mob.bench.shapes.base import Figures, Shape
from mob.bench.stage import Stage, names
from mob.mob import Mob

#: Seconds of a talk in the mean. A talk has a turn of each of the two, one after the other.
_MEAN_S = 2.0


def talks_of(plan: Plan) -> list[list[tuple[int, int, float]]]:
    """Who talks with whom in each step, and how long: drawn from the seed, some talks much longer
    than most (exponential, as the lengths of answers are)."""
    random, steps = Random(plan.seed), []
    villagers = plan.size["villagers"] // 2 * 2
    for _ in range(plan.settings["steps"]):
        order = random.sample(range(villagers), villagers)
        pairs = zip(order[::2], order[1::2], strict=True)
        steps.append([(a, b, round(random.expovariate(1 / _MEAN_S), 3)) for a, b in pairs])
    return steps


def _expect(plan: Plan) -> dict[str, Expected]:
    talks = talks_of(plan)
    ticks_s, out_of_order_s = closed.pairs_makespans(talks)
    return {
        "turns": Expected(4 * sum(map(len, talks))),
        "ticks_s": Expected(ticks_s),
        "out_of_order_s": Expected(out_of_order_s),
        "speedup": Expected(ticks_s / out_of_order_s),
    }


async def _run(stage: Stage) -> Figures:
    talks, villagers = talks_of(stage.plan), names(stage.plan.definition, "villager")

    async def talk(mob: Mob, one: int, other: int, length_s: float) -> None:
        text = f"Good morning.\ntakes: {length_s / 2}"
        said = await stage.ask(mob, villagers[one], text)
        await stage.ask(mob, villagers[other], f"{said}\ntakes: {length_s / 2}")

    async with stage.open() as mob:
        began_s = trio.current_time()
        for step in talks:
            async with trio.open_nursery() as tick:
                for each in step:
                    tick.start_soon(talk, mob, *each)
        ticks_s = trio.current_time() - began_s
        began_s = trio.current_time()
        await _out_of_order(mob, talks, talk)
        out_of_order_s = trio.current_time() - began_s
    speedup = ticks_s / out_of_order_s
    return {"ticks_s": ticks_s, "out_of_order_s": out_of_order_s, "speedup": speedup}


async def _out_of_order(
    mob: Mob, talks: list[list[tuple[int, int, float]]], talk: Callable[..., Awaitable[None]]
) -> None:
    """Begin each talk as soon as both have ended their last one."""
    latest: dict[int, trio.Event] = {}

    async def when_free(waits: list[trio.Event], ended: trio.Event, *pair: float) -> None:
        for each in waits:
            await each.wait()
        await talk(mob, *pair)
        ended.set()

    async with trio.open_nursery() as nursery:
        for step in talks:
            for one, other, length_s in step:
                ended = trio.Event()
                waits = [latest[each] for each in (one, other) if each in latest]
                latest[one] = latest[other] = ended
                nursery.start_soon(when_free, waits, ended, one, other, length_s)


SHAPE = Shape(
    "pairs talk, tick by tick and out of order (members: villager)",
    size={"villagers": 4},
    settings={"steps": 20},
    figures=("ticks_s", "out_of_order_s", "speedup"),
    expect=_expect,
    run=_run,
)
