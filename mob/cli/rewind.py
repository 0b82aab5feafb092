"""`mob rewind`: bring a mob back to what it was.

Owns: the verb. Must not: take a record away.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from mob.cli.exits import UsageWrong
from mob.cli.options import DEFAULT_STATE, DryRun, Json, Labels, State
from mob.cli.output import narrate, result, result_json
from mob.cli.snapshot import MobId, place
from mob.cli.stored import looking_into
from mob.cli.target import addressed, instead_of_mob, reaching
from mob.cli.would import would
from mob.elsewhere import diff_mobs
from mob.errors import AddressInvalid
from mob.server.protocol import Rewind
from mob.shapes import jsonable

EXAMPLES = """    mob rewind research "before the review"
    mob rewind research before-rewind-1   # undoes it
"""


async def rewind(
    mob: MobId,
    at: Annotated[
        str | None,
        Parameter(name="AT", show_default=False, help="A point's label, or a record's number."),
    ] = None,
    /,
    *,
    dry_run: DryRun = False,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Bring a mob back to what it was at a point or record.

    Prints the label of the point that it was at until now: rewinding to that one undoes
    it. Nobody may be at work. MOB@AT says both, and with -l, MOB may be left out:
    `mob rewind -l team=blue AT`.
    """
    of, at = instead_of_mob(mob, at, label)
    address = addressed(state, of, label or ())
    if address.path:
        raise AddressInvalid(mob, "a mob is brought back as a whole: write MOB AT or MOB@AT")
    if (at is None) == (address.at is None):
        raise UsageWrong(f"say once where to: mob rewind {address.mob} AT, or {address.mob}@AT")
    mob_id = address.mob
    where = address.at if at is None else place(at)
    assert where is not None
    if dry_run:
        would(state, mob_id, "rewind")
        with looking_into(state) as store:
            found = diff_mobs(store, (mob_id, None), (mob_id, where))
        if json:
            result_json({"mob": mob_id, "dry_run": True, "differences": str(found).splitlines()})
        else:
            result(str(found))
        narrate("mob: nothing was changed")
        return 0
    point, seq = (None, where) if isinstance(where, int) else (where, None)
    async with reaching(state, mob_id) as target:
        left = await target.call(Rewind(point, seq))
    if json:
        result_json({"mob": mob_id, "left": jsonable(left)})
    else:
        result(left.label)
    narrate(f"mob: {mob_id!r} is what it was at {where!r}; what it left is {left.label!r}")
    return 0
