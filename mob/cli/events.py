"""`mob events`: the records of a mob as JSON lines.

Owns: the verb. Must not: interpret a record.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from mob.app import stored_mob
from mob.cli.exits import UsageWrong
from mob.cli.options import DEFAULT_STATE, Labels, State, Which
from mob.cli.output import narrate, result_json
from mob.cli.stored import looking_into
from mob.cli.target import whole_mob
from mob.errors import NotServed
from mob.server.client import open_client
from mob.shapes import event_shape

EXAMPLES = """    mob events research | jq -c 'select(.type == "TurnEnded")'
    mob events research --after 120 --follow
    mob events research --after "$(cat cursor)" --type TurnEnded,MemberExited
"""


async def events(
    mob: Which = None,
    /,
    *,
    after: Annotated[
        int, Parameter(help="Begin behind the record of this number: the `seq` of the last seen.")
    ] = 0,
    follow: Annotated[
        bool,
        Parameter(
            name=["--follow", "-f"],
            negative=(),
            show_default=False,
            help="Go on with what comes, until the mob's process ends.",
        ),
    ] = False,
    type: Annotated[  # noqa: A002 what the option is called
        str | None,
        Parameter(show_default=False, help="Only these, such as TurnEnded,MemberExited."),
    ] = None,
    label: Labels = None,
    state: State = DEFAULT_STATE,
) -> int:
    """Print the records of a mob as JSON lines: {"type", "seq", ...}, oldest first.

    Works on a stopped mob and on one that a process runs. Each record once, in order,
    without gaps: whoever keeps the last `seq` goes on behind it with --after.
    """
    if after < 0:
        raise UsageWrong(f"--after {after}: records are numbered from 1")
    mob_id = whole_mob(state, mob, label, needed=False)
    wanted = None if type is None else frozenset(type.split(","))
    with looking_into(state) as store:
        journal = stored_mob(store, mob_id).journal
        while page := journal.read(after):
            for event in page:
                if wanted is None or event.record.__class__.__name__ in wanted:
                    result_json(event_shape(event), line=True)
            after = page[-1].seq
    if not follow:
        return 0
    try:
        async with open_client(state, mob_id) as client, client.events(after) as found:
            async for each in found:
                if wanted is None or each["type"] in wanted:
                    result_json(each, line=True)
                after = each["seq"]
    except NotServed:
        narrate(f"mob: no process runs {mob_id!r}: nothing comes after record {after}")
        return 0
    narrate(f"mob: the process that ran {mob_id!r} has ended, after record {after}")
    return 0
