"""`mob retire`: let a member leave.

Owns: the verb. Must not: delete its history.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from mob.cli.options import DEFAULT_STATE, DryRun, Json, Labels, State, Whom
from mob.cli.output import narrate, result, result_json, say_nothing_to_do, say_would
from mob.cli.target import addressed, chosen_member, reaching, say_where
from mob.cli.would import would
from mob.server.protocol import Retire
from mob.shapes import jsonable

EXAMPLES = """    mob retire research/r-4 --reason "talks nonsense"
    mob retire research/r-4 --dry-run
"""


async def retire(
    whom: Whom,
    /,
    *,
    reason: Annotated[str, Parameter(help="Why; it is recorded.")] = "retired",
    dry_run: DryRun = False,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Let a member leave: its turn is cancelled, its session archived, its history kept."""
    address = addressed(state, whom, label or ())
    member = chosen_member(state, address, gone=True)
    if dry_run:
        there = member in would(state, address.mob, "retire").roster.members
        if there:
            say_would(address.mob, f"retire {address.mob}/{member}", json=json)
        else:
            say_nothing_to_do(address.mob, f"{member!r} has left already", json=json)
        return 0
    async with reaching(state, address.mob) as target:
        done = await target.call(Retire(member, reason))
        say_where(target)
    if not done.changed:
        narrate(f"mob: {member!r} has left already")
    if json:
        result_json({"mob": address.mob, "member": member, "retired": True, **jsonable(done)})
    else:
        result(f"{address.mob}/{member}: retired")
    return 0
