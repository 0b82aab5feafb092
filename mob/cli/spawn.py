"""`mob spawn`: add a member to a mob.

Owns: the verb. Must not: give it work.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from mob.addresses import parse
from mob.cli.completing import newcomers
from mob.cli.options import DEFAULT_STATE, Json, Labels, MobFile, State
from mob.cli.output import result, result_json
from mob.cli.target import addressed, reaching, say_where
from mob.cli.validate import read
from mob.errors import AddressInvalid
from mob.server.protocol import Spawn
from mob.shapes import jsonable

EXAMPLES = """    mob spawn research/r-4 --profile researcher
    mob spawn research/r-4 --profile researcher --key on-call --json
"""


async def spawn(
    new: Annotated[
        str,
        Parameter(name="MOB/NAME", help="Of which mob, and its name to be.", completer=newcomers),
    ],
    /,
    *,
    profile: Annotated[str, Parameter(help="A profile of the mob file.")],
    key: Annotated[
        str | None,
        Parameter(show_default=False, help="Added once however often this is run with the key."),
    ] = None,
    label: Labels = None,
    file: MobFile = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Add a member to a mob. Prints its session's id once it is on disk."""
    typed = parse(new)
    if len(typed.path) != 1 or typed.at is not None:
        raise AddressInvalid(new, "write MOB/NAME, the name of the member to be")
    mob_id = addressed(state, typed.mob, label or ()).mob
    definition = None if file is None else read(file)
    async with reaching(state, mob_id, definition) as target:
        made = await target.call(Spawn(typed.path[0], profile, key))
        say_where(target)
    if json:
        result_json({"mob": mob_id, **jsonable(made)})
    else:
        result(made.session_id)
    return 0
