"""`mob rename`: give a session another name.

Owns: the verb. Must not: rename a mob or a member: their names are how others address them, and the
journal, its forks and messages under way are full of them.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from mob.cli.completing import members
from mob.cli.exits import UsageWrong
from mob.cli.options import DEFAULT_STATE, Json, Labels, State
from mob.cli.output import result, result_json
from mob.cli.target import addressed, chosen_session, reaching, say_where
from mob.server.protocol import RenameSession

EXAMPLES = """    mob rename research/lead "first attempt"
    mob rename research/lead/bees "bees, done right"
"""


async def rename(
    what: Annotated[
        str,
        Parameter(
            name="MOB/MEMBER/SESSION",
            help="Which session: MOB/MEMBER or one below it.",
            completer=members,
        ),
    ],
    name: Annotated[str, Parameter(name="NAME", help="Its name to be, 1 to 200 characters.")],
    /,
    *,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Give a session of a mob another name.

    A mob's id and a member's name stay: others address them by it. `mob fork MOB NEW`
    makes a mob of another id with the same history.
    """
    address = addressed(state, what, label or ())
    if not address.path:
        raise UsageWrong(
            f"a mob keeps its id: `mob fork {address.mob} {name}` makes one of another id with the"
            " same history; here a session is renamed, MOB/MEMBER or one below it"
        )
    session_id = chosen_session(state, address)
    async with reaching(state, address.mob) as target:
        await target.call(RenameSession(session_id, name))
        say_where(target)
    if json:
        result_json({"mob": address.mob, "session_id": session_id, "name": name})
    else:
        result(session_id)
    return 0
