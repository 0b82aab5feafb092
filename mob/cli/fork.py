"""`mob fork`: make another mob that is what one is, or was.

Owns: the verb. Must not: copy a history.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from mob.app import stored_mobs
from mob.cli.exits import UsageWrong
from mob.cli.options import DEFAULT_STATE, Json, Labels, State
from mob.cli.output import narrate, result, result_json
from mob.cli.snapshot import MobId, place
from mob.cli.stored import looking_into
from mob.cli.target import addressed, instead_of_mob, reaching
from mob.errors import AddressInvalid
from mob.server.protocol import Fork
from mob.shapes import jsonable
from runtime.errors import RealmExists

EXAMPLES = """    mob fork research what-if
    mob fork research what-if --at "before the review"
    mob fork "research@before the review" what-if     # the same
"""


async def fork(
    mob: MobId,
    new: Annotated[
        str | None,
        Parameter(name="NEW", show_default=False, help="The id of the new mob."),
    ] = None,
    /,
    *,
    label: Labels = None,
    at: Annotated[
        str | None,
        Parameter(show_default=False, help="A point's label or a record's number; default: now."),
    ] = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Make another mob that is what one is, or was at a point or record.

    It shares the history up to there. Run it with a mob file whose id is NEW; mob gc
    keeps what both need. With -l, MOB may be left out: `mob fork -l team=blue NEW`.
    """
    of, new = instead_of_mob(mob, new, label)
    if new is None:
        raise UsageWrong(f"say what the new mob is called: mob fork {mob} NEW")
    address = addressed(state, of, label or ())
    if address.path:
        raise AddressInvalid(mob, "a mob is forked as a whole: write MOB or MOB@LABEL")
    if at is not None and address.at is not None:
        raise UsageWrong(f"--at {at} and {mob!r} name two moments: give one of them")
    where = address.at if at is None else place(at)
    point, seq = (None, where) if isinstance(where, int) else (where, None)
    with looking_into(state) as store:
        if new in stored_mobs(store):
            raise RealmExists(new)
    async with reaching(state, address.mob) as target:
        made = await target.call(Fork(new, point, seq))
    if json:
        result_json({"mob": address.mob, **jsonable(made)})
    else:
        result(new)
    narrate(f"mob: {new!r} is what {address.mob!r} was at record {made.at}")
    return 0
