"""`mob diff`: how a mob differs from what it was, or from another one.

Owns: the verb. Must not: write to the store.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from mob.cli.options import DEFAULT_STATE, Json, State
from mob.cli.output import result, result_json
from mob.cli.snapshot import MobId, place
from mob.cli.stored import looking_into
from mob.cli.target import chosen_mob
from mob.elsewhere import diff_mobs
from mob.shapes import jsonable

EXAMPLES = """    mob diff research --from start                  # to what it is now
    mob diff research --from start --to "before the review"
    mob diff research --with what-if                # two mobs
"""


def diff(
    mob: MobId,
    /,
    *,
    from_: Annotated[
        str | None,
        Parameter(
            name="--from", show_default=False, help="A point's label or a record's number; now."
        ),
    ] = None,
    to: Annotated[str | None, Parameter(show_default=False, help="Likewise.")] = None,
    with_: Annotated[
        str | None,
        Parameter(name="--with", show_default=False, help="Another mob; default: the same."),
    ] = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Show how a mob differs between two moments, or from another mob.

    Members, turns, tokens, tasks, edges and flows. Works while a process runs the mobs.
    """
    with looking_into(state) as store:
        mob = chosen_mob(store, mob)
        two = mob if with_ is None else chosen_mob(store, with_)
        one = (mob, None if from_ is None else place(from_))
        other = (two, None if to is None else place(to))
        found = diff_mobs(store, one, other)
    if json:
        told = {name: value for name, value in jsonable(found).items() if name != "wires"}
        wires = [
            {"from": a, "to": b, "was": was, "is": now}
            for (a, b), (was, now) in found.wires.items()
        ]
        result_json({**told, "wires": wires})
    else:
        result(str(found))
    return 0
