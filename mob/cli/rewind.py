"""`mob rewind`: bring a mob back to what it was.

Owns: the verb. Must not: take a record away.
"""

from __future__ import annotations

from mob.cli.options import DEFAULT_STATE, DryRun, Json, State
from mob.cli.output import narrate, result, result_json
from mob.cli.snapshot import At, MobId, place
from mob.cli.stored import looking_into
from mob.cli.target import reaching, whole_mob
from mob.elsewhere import diff_mobs
from mob.server.protocol import Rewind
from mob.shapes import jsonable

EXAMPLES = """    mob rewind research "before the review"
    mob rewind research before-rewind-1   # undoes it
"""


async def rewind(
    mob: MobId,
    at: At,
    /,
    *,
    dry_run: DryRun = False,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Bring a mob back to what it was at a point or record.

    Prints the label of the point that it was at until now: rewinding to that one undoes
    it. Nobody may be at work.
    """
    mob_id = whole_mob(state, mob, None)
    where = place(at)
    if dry_run:
        with looking_into(state) as store:
            found = diff_mobs(store, (mob_id, None), (mob_id, where))
        if json:
            result_json({"mob": mob_id, "dry_run": True, "differences": str(found).splitlines()})
        else:
            result(str(found))
        narrate("mob: nothing was changed")
        return 0
    label, seq = (None, where) if isinstance(where, int) else (where, None)
    async with reaching(state, mob_id) as target:
        left = await target.call(Rewind(label, seq))
    if json:
        result_json({"mob": mob_id, "left": jsonable(left)})
    else:
        result(left.label)
    narrate(f"mob: {mob_id!r} is what it was at {at}; what it left is {left.label!r}")
    return 0
