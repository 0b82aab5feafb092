"""`mob snapshot`: make a point of a mob, or list its points.

Owns: the verb, and how a place in a mob's past is written on the command line. Must not: decide
what a point holds (`runtime.travel` does).
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from cyclopts import Parameter

from mob.cli.completing import mobs
from mob.cli.options import DEFAULT_STATE, Json, Labels, State, Which
from mob.cli.output import narrate, result, result_json
from mob.cli.stored import looking_into, when
from mob.cli.target import instead_of_mob, reaching, whole_mob
from mob.elsewhere import points_of
from mob.server.protocol import Place, Snapshot
from runtime.points import Point

EXAMPLES = """    mob snapshot research "before the review"
    mob snapshot research                 # lists the points
    mob snapshot -l team=blue "before the review"
"""

MobId: TypeAlias = Annotated[
    str,
    Parameter(name="MOB", help="Which mob of the store; may be shortened.", completer=mobs),
]


def place(at: str) -> str | int:
    """The label or the number that the command line says."""
    return int(at) if at.isascii() and at.isdigit() else at


async def snapshot(
    mob: Which = None,
    name: Annotated[
        str | None,
        Parameter(name="LABEL", show_default=False, help="What the point is called."),
    ] = None,
    /,
    *,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Make a point of a mob, to go back to and to fork from; without a LABEL, list them.

    With -l, MOB may be left out: `mob snapshot -l team=blue LABEL`.
    """
    if mob is not None:
        mob, name = instead_of_mob(mob, name, label)
    mob = whole_mob(state, mob, label)
    points: tuple[Point | Place, ...]
    if name is None:
        with looking_into(state) as store:
            points = points_of(store, mob)
    else:
        async with reaching(state, mob) as target:
            made = await target.call(Snapshot(name))
        points = (made,)
    if json:
        result_json({"mob": mob, "points": [_row(each) for each in points]})
        return 0
    for each in points:
        kept = "  (left by a rewind)" if each.kept else ""
        result(f"{each.label}  record {each.at}  {when(each.made_at_ns)}{kept}")
    if not points:
        narrate(f"mob: {mob!r} has no points yet")
    return 0


def _row(point: Point | Place) -> dict[str, object]:
    return {
        "label": point.label,
        "at": point.at,
        "made_at_ns": point.made_at_ns,
        "kept": point.kept,
    }
