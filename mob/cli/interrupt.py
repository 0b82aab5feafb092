"""`mob interrupt`: cancel the turn of a member that is in flight.

Owns: the verb. Must not: end anything else.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from mob.cli.completing import whole_or_members
from mob.cli.exits import CONFLICT, UsageWrong
from mob.cli.options import DEFAULT_STATE, Json, Labels, State
from mob.cli.output import narrate, result, result_json
from mob.cli.target import addressed, chosen_member, reaching
from mob.server.protocol import Interrupt

EXAMPLES = """    mob interrupt research/lead
    mob interrupt -l team=blue       # the lead of the one mob with this label
"""


async def interrupt(
    whom: Annotated[
        str | None,
        Parameter(
            name="MOB/MEMBER",
            show_default=False,
            help="Whose; names may be shortened. MOB alone, or -l alone, means the lead.",
            completer=whole_or_members,
        ),
    ] = None,
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
    if whom is None and not label:
        raise UsageWrong("say whose turn: MOB/MEMBER, MOB for its lead, or -l KEY=VALUE")
    address = addressed(state, whom, label or ())
    member = chosen_member(state, address, lead=True)
    async with reaching(state, address.mob) as mob:
        done = await mob.call(Interrupt(member))
    if json:
        result_json({"mob": address.mob, "member": member, "interrupted": done.changed})
    elif done.changed:
        result(f"{address.mob}/{member}")
    if not done.changed:
        narrate(f"mob: {member!r} has no turn in flight")
    return 0 if done.changed else CONFLICT
