"""`mob snapshot`: make a point of a stored mob, or list its points.

Owns: the verb, and how a place in a mob's past is written on the command line. Must not: decide
what a point holds (`runtime.travel` does).
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from cyclopts import Parameter

from mob.cli.options import DEFAULT_STATE, Json, State, existing_store
from mob.cli.output import narrate, result, result_json
from mob.cli.stored import looking_into, when
from mob.elsewhere import points_of, snapshot_mob
from runtime.points import Point
from stores import open_lmdb

EXAMPLES = """    mob snapshot research "before the review"
    mob snapshot research                 # lists the points
"""

MobId: TypeAlias = Annotated[str, Parameter(name="MOB", help="Which mob of the store.")]
At: TypeAlias = Annotated[str, Parameter(name="AT", help="A point's label, or a record's number.")]


def place(at: str) -> str | int:
    """The label or the number that the command line says."""
    return int(at) if at.isdigit() else at


async def snapshot(
    mob: MobId,
    label: Annotated[
        str | None,
        Parameter(name="LABEL", show_default=False, help="What the point is called."),
    ] = None,
    /,
    *,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Make a point of a stored mob, to go back to and to fork from; without a LABEL, list them.

    Making one needs the store for itself; listing works while a process runs the mob.
    """
    if label is None:
        with looking_into(state) as store:
            points = points_of(store, mob)
    else:
        existing_store(state)
        async with open_lmdb(state) as owned:
            points = (await snapshot_mob(owned, mob, label),)
    if json:
        result_json({"mob": mob, "points": [_row(each) for each in points]})
        return 0
    for each in points:
        kept = "  (left by a rewind)" if each.kept else ""
        result(f"{each.label}  record {each.at}  {when(each.made_at_ns)}{kept}")
    if not points:
        narrate(f"mob: {mob!r} has no points yet")
    return 0


def _row(point: Point) -> dict[str, object]:
    return {
        "label": point.label,
        "at": point.at,
        "made_at_ns": point.made_at_ns,
        "kept": point.kept,
    }
