"""`mob wire`: let two members send to each other.

Owns: the verb. Must not: send anything.
"""

from __future__ import annotations

from typing import Annotated

import attrs
from cyclopts import Parameter

from mob.cli.options import DEFAULT_STATE, Directed, Json, Labels, State, Whom
from mob.cli.output import narrate, result, result_json
from mob.cli.target import addressed, chosen_member, reaching, say_where
from mob.server.protocol import Wire
from mob.shapes import jsonable

EXAMPLES = """    mob wire research/lead r-4
    mob wire research/lead r-4 --directed     # only lead to r-4
"""


async def wire(
    whom: Whom,
    other: Annotated[str, Parameter(name="OTHER", help="Another member of the mob.")],
    /,
    *,
    directed: Directed = False,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Let two members send to each other, whatever the mob file says of them."""
    address = addressed(state, whom, label or ())
    one = chosen_member(state, address)
    two = chosen_member(state, attrs.evolve(address, path=(other,)))
    async with reaching(state, address.mob) as target:
        done = await target.call(Wire(one, two, directed))
        say_where(target)
    if json:
        result_json(
            {"mob": address.mob, "from": one, "to": two, "directed": directed, **jsonable(done)}
        )
    elif done.changed:
        result(f"{address.mob}: wired {one} {'->' if directed else '<->'} {two}")
    if not done.changed:
        narrate(f"mob: {one!r} and {two!r} have such an edge already")
    return 0
