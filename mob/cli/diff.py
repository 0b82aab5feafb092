"""`mob diff`: how a mob differs from what it was, or from another one.

Owns: the verb. Must not: write to the store.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from mob.cli.options import DEFAULT_STATE, Json, Labels, State, Which
from mob.cli.output import result, result_json
from mob.cli.snapshot import place
from mob.cli.stored import looking_into
from mob.cli.target import addressed
from mob.elsewhere import diff_mobs
from mob.errors import AddressInvalid
from mob.shapes import jsonable

EXAMPLES = """    mob diff research --from start                  # to what it is now
    mob diff research --from start --to "before the review"
    mob diff "research@before the review"           # the same from there
    mob diff research --with what-if                # two mobs
"""


def diff(
    mob: Which = None,
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
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Show how a mob differs between two moments, or from another mob.

    Members, turns, tokens, tasks, edges and flows. Works while a process runs the mobs.
    MOB@LABEL and --with MOB@LABEL name moments, too.
    """
    of = addressed(state, mob, label or ())
    two = of if with_ is None else addressed(state, with_)
    if of.path or two.path:
        raise AddressInvalid(mob or "", "mobs are compared as a whole: write MOB or MOB@LABEL")
    with looking_into(state) as store:
        one = (of.mob, of.at if from_ is None else place(from_))
        other = (two.mob, (None if two is of else two.at) if to is None else place(to))
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
