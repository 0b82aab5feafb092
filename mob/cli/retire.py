"""`mob retire`: let a member leave.

Owns: the verb. Must not: delete its history.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from mob.cli.options import DEFAULT_STATE, DryRun, Json, Labels, State, Whom
from mob.cli.output import result, result_json, say_would
from mob.cli.target import addressed, chosen_member, reaching, say_where
from mob.server.protocol import Retire

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
        say_would(address.mob, f"would retire {address.mob}/{member}", json=json)
        return 0
    async with reaching(state, address.mob) as target:
        await target.call(Retire(member, reason))
        say_where(target)
    if json:
        result_json({"mob": address.mob, "member": member, "retired": True})
    else:
        result(f"{address.mob}/{member}: retired")
    return 0
