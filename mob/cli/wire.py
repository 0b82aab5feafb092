"""`mob wire`: let two members send to each other.

Owns: the verb; whom it and `mob unwire` are about, and what they say. Must not: send anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypeAlias

import attrs
from cyclopts import Parameter

from mob.cli.options import DEFAULT_STATE, Json, Labels, State, Whom
from mob.cli.output import narrate, result, result_json
from mob.cli.target import addressed, chosen_member, reaching, say_where
from mob.server.protocol import Unwire, Wire
from mob.shapes import jsonable

EXAMPLES = """    mob wire research/lead r-4
    mob wire research/lead r-4 --directed     # only lead to r-4
"""

Other: TypeAlias = Annotated[str, Parameter(name="OTHER", help="Another member of the mob.")]
Directed: TypeAlias = Annotated[
    bool,
    Parameter(negative=(), show_default=False, help="Only from the first to the second."),
]


async def wire(
    whom: Whom,
    other: Other,
    /,
    *,
    directed: Directed = False,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Let two members send to each other, whatever the mob file says of them."""
    mob_id, one, two = pair(state, whom, other, label or ())
    await changed(state, mob_id, Wire(one, two, directed), json=json)
    return 0


def pair(state: Path, whom: str, other: str, labels: Sequence[str]) -> tuple[str, str, str]:
    """The mob, and the whole names of the two members. Raises as `chosen_member`."""
    address = addressed(state, whom, labels)
    one = chosen_member(state, address)
    return address.mob, one, chosen_member(state, attrs.evolve(address, path=(other,)))


async def changed(state: Path, mob_id: str, wanted: Wire | Unwire, *, json: bool) -> None:
    """Have the edge changed, and say so."""
    async with reaching(state, mob_id) as target:
        done = await target.call(wanted)
        say_where(target)
    if json:
        edge = {"from": wanted.a, "to": wanted.b, "directed": wanted.directed}
        result_json({"mob": mob_id, **edge, **jsonable(done)})
    elif done.changed:
        arrow = "->" if wanted.directed else "<->"
        result(f"{mob_id}: {wanted.verb}d {wanted.a} {arrow} {wanted.b}")
    if not done.changed:
        narrate(f"mob: {as_it_is(wanted)}")


def as_it_is(wanted: Wire | Unwire) -> str:
    """Why nothing has to be changed."""
    so = "have such an edge already"
    if isinstance(wanted, Unwire):
        so = "may not send to each other as it is"
    return f"{wanted.a!r} and {wanted.b!r} {so}"
