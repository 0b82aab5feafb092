"""`mob stop`: stop a mob durably.

Owns: the verb. Must not: kill a process: the one that runs the mob ends by itself.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from mob.cli.exits import UsageWrong
from mob.cli.options import DEFAULT_STATE, Json, Labels, State
from mob.cli.output import narrate, result, result_json
from mob.cli.target import Resting, addressed, reaching
from mob.errors import AddressInvalid
from mob.life import DRAIN_S
from mob.server.protocol import Stop
from mob.shapes import jsonable

EXAMPLES = """    mob stop research
    mob stop research --deadline 0      # cut turns in flight off at once
    mob stop -l team=blue --json
"""


async def stop(
    mob: Annotated[
        str | None, Parameter(name="MOB", show_default=False, help="Which; may be shortened.")
    ] = None,
    /,
    *,
    deadline: Annotated[
        float, Parameter(help="Seconds that turns in flight may take to end.")
    ] = DRAIN_S,
    label: Labels = None,
    dry_run: Annotated[
        bool,
        Parameter(negative=(), show_default=False, help="Stop nothing; say what would be stopped."),
    ] = False,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Stop a mob: refuse new work, let turns in flight end, save, record it as stopped.

    What is cut off goes on when the mob is resumed. A `mob run` of it ends.
    """
    if mob is None and not label:
        raise UsageWrong("say which mob: MOB, or -l KEY=VALUE")
    if deadline < 0:
        raise UsageWrong(f"--deadline {deadline:g}: seconds are 0 or more")
    address = addressed(state, mob, label or ())
    if address.path or address.at is not None:
        raise AddressInvalid(mob or "", "a mob is stopped as a whole; a member is interrupted")
    async with reaching(state, address.mob) as target:
        where = "in the store" if isinstance(target, Resting) else "in the process that runs it"
        if dry_run:
            narrate(f"mob: would stop {address.mob!r} {where}")
            return 0
        report = await target.call(Stop(deadline))
    if json:
        result_json({"mob": address.mob, **jsonable(report)})
        return 0
    cut = f"; cut off and to be continued: {', '.join(report.cancelled)}"
    result(f"{address.mob}: stopped{cut if report.cancelled else ''}")
    return 0
