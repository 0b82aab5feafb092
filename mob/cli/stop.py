"""`mob stop`: stop a mob durably.

Owns: the verb. Must not: kill a process: the one that runs the mob ends by itself.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from mob.cli.exits import UsageWrong
from mob.cli.options import DEFAULT_STATE, DryRun, Json, Labels, State, Which
from mob.cli.output import result, result_json, say_would
from mob.cli.target import is_served, reaching, whole_mob
from mob.cli.would import would
from mob.life import DRAIN_S
from mob.server.protocol import Stop
from mob.shapes import jsonable

EXAMPLES = """    mob stop research
    mob stop research --deadline 0      # cut turns in flight off at once
    mob stop -l team=blue --json
"""


async def stop(
    mob: Which = None,
    /,
    *,
    deadline: Annotated[
        float, Parameter(help="Seconds that turns in flight may take to end.")
    ] = DRAIN_S,
    label: Labels = None,
    dry_run: DryRun = False,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Stop a mob: refuse new work, let turns in flight end, save, record it as stopped.

    What is cut off goes on when the mob is resumed. A `mob run` of it ends.
    """
    if deadline < 0:
        raise UsageWrong(f"--deadline {deadline:g}: seconds are 0 or more")
    mob_id = whole_mob(state, mob, label)
    if dry_run:
        would(state, mob_id, "stop")
        where = "in the process that runs it" if is_served(state, mob_id) else "in the store"
        say_would(mob_id, f"stop {mob_id!r} {where}", json=json)
        return 0
    async with reaching(state, mob_id) as target:
        report = await target.call(Stop(deadline))
    if json:
        result_json({"mob": mob_id, **jsonable(report)})
        return 0
    cut = f"; cut off and to be continued: {', '.join(report.cancelled)}"
    result(f"{mob_id}: stopped{cut if report.cancelled else ''}")
    return 0
