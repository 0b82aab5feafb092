"""`mob unwire`: let two members send to each other no more.

Owns: the verb. Must not: send anything.
"""

from __future__ import annotations

from typing import Annotated

import attrs
from cyclopts import Parameter

from mob.cli.options import DEFAULT_STATE, Directed, DryRun, Json, Labels, State, Whom
from mob.cli.output import narrate, result, result_json, say_would
from mob.cli.target import addressed, chosen_member, reaching, say_where
from mob.server.protocol import Unwire
from mob.shapes import jsonable

EXAMPLES = """    mob unwire research/lead r-4
"""


async def unwire(
    whom: Whom,
    other: Annotated[str, Parameter(name="OTHER", help="Another member of the mob.")],
    /,
    *,
    directed: Directed = False,
    dry_run: DryRun = False,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Let two members send to each other no more, whatever the mob file says of them."""
    address = addressed(state, whom, label or ())
    one = chosen_member(state, address)
    two = chosen_member(state, attrs.evolve(address, path=(other,)))
    if dry_run:
        say_would(address.mob, f"would unwire {one!r} and {two!r} of {address.mob!r}", json=json)
        return 0
    async with reaching(state, address.mob) as target:
        done = await target.call(Unwire(one, two, directed))
        say_where(target)
    if json:
        result_json(
            {"mob": address.mob, "from": one, "to": two, "directed": directed, **jsonable(done)}
        )
    elif done.changed:
        result(f"{address.mob}: unwired {one} {'->' if directed else '<->'} {two}")
    if not done.changed:
        narrate(f"mob: {one!r} and {two!r} may not send to each other as it is")
    return 0
