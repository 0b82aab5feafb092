"""`mob interrupt`: cancel the turn of a member that is in flight.

Owns: the verb. Must not: end anything else.
"""

from __future__ import annotations

from mob.cli.exits import CONFLICT
from mob.cli.options import DEFAULT_STATE, Json, Labels, State, Whom
from mob.cli.output import narrate, result, result_json
from mob.cli.target import addressed, chosen_member, reaching
from mob.server.protocol import Interrupt

EXAMPLES = """    mob interrupt research/lead
"""


async def interrupt(
    whom: Whom,
    /,
    *,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Cancel the turn of a member that is in flight, also inside a slow model or tool call.

    The turn ends as interrupted, and whoever waits for it is told. Exits with 7 if
    none was in flight.
    """
    address = addressed(state, whom, label or ())
    member = chosen_member(state, address)
    async with reaching(state, address.mob) as mob:
        done = await mob.call(Interrupt(member))
    if json:
        result_json({"mob": address.mob, "member": member, "interrupted": done.changed})
    elif done.changed:
        result(f"{address.mob}/{member}")
    if not done.changed:
        narrate(f"mob: {member!r} has no turn in flight")
    return 0 if done.changed else CONFLICT
