"""`mob respawn`: give a member a new session.

Owns: the verb. Must not: delete the old one.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from mob.cli.options import DEFAULT_STATE, DryRun, Json, Labels, State, Whom
from mob.cli.output import result, result_json, say_would
from mob.cli.target import addressed, chosen_member, reaching, say_where
from mob.cli.would import check_profile, would
from mob.server.protocol import Respawn
from mob.shapes import jsonable

EXAMPLES = """    mob respawn research/lead --reason "will not be talked out of it"
    mob respawn research/lead --profile careful-lead
"""


async def respawn(
    whom: Whom,
    /,
    *,
    profile: Annotated[
        str | None, Parameter(show_default=False, help="Another profile of the mob file.")
    ] = None,
    reason: Annotated[str, Parameter(help="Why; it is recorded.")] = "respawned",
    dry_run: DryRun = False,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Give a member a new session and the next generation.

    What waits for it goes to the new session; its turn in flight ends as interrupted.
    The old session is archived and can be read.
    """
    address = addressed(state, whom, label or ())
    member = chosen_member(state, address)
    if dry_run:
        check_profile(would(state, address.mob, "respawn"), profile)
        say_would(address.mob, f"respawn {address.mob}/{member}", json=json)
        return 0
    async with reaching(state, address.mob) as target:
        handle = await target.call(Respawn(member, reason, profile))
        say_where(target)
    if json:
        result_json({"mob": address.mob, **jsonable(handle)})
    else:
        result(f"{address.mob}/{member}: generation {handle.generation}")
    return 0
