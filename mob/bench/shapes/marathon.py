"""A marathon: one session, turn after turn.

Long-running agents (Vending-Bench, Backlund and Petersson 2025, runs one for thousands of
messages): a turn must not cost more because many came before it. What a turn costs in the last
tenth is held against the first tenth.
"""

from __future__ import annotations

import time

from mob.bench.plan import Expected, Plan
from mob.bench.shapes.base import Figures, Shape
from mob.bench.stage import Stage, names


def _expect(plan: Plan) -> dict[str, Expected]:
    turns = plan.size["turns"]
    return {
        "turns": Expected(turns),
        "messages": Expected(2 * turns),
        "own_answers": Expected(turns),
    }


async def _run(stage: Stage) -> Figures:
    turns, [runner] = stage.plan.size["turns"], names(stage.plan.definition, "runner")
    tenth = max(1, turns // 10)
    own, marks = 0, dict[int, float]()
    async with stage.open() as mob:
        for turn in range(turns):
            if turn in (0, tenth, turns - tenth):
                marks[turn] = time.process_time()
            own += await stage.ask(mob, runner, f"step {turn}") == f"step {turn}"
        ended_s = time.process_time()
        messages = mob.realm.state.heads[mob.session_of(runner)].message_count
    first_s, last_s = marks[tenth] - marks[0], ended_s - marks[turns - tenth]
    return {"messages": messages, "own_answers": own, "late_over_early": last_s / first_s}


SHAPE = Shape(
    "one session of many turns (members: runner)",
    size={"turns": 20},
    figures=("messages", "own_answers", "late_over_early"),
    expect=_expect,
    run=_run,
)
