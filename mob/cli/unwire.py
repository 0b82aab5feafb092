"""`mob unwire`: let two members send to each other no more.

Owns: the verb. Must not: do what `mob wire` does alike.
"""

from __future__ import annotations

from mob.cli.options import DEFAULT_STATE, DryRun, Json, Labels, State, Whom
from mob.cli.output import say_nothing_to_do, say_would
from mob.cli.wire import Directed, Other, as_it_is, changed, pair
from mob.cli.would import may_send, would
from mob.server.protocol import Unwire

EXAMPLES = """    mob unwire research/lead r-4
"""


async def unwire(
    whom: Whom,
    other: Other,
    /,
    *,
    directed: Directed = False,
    dry_run: DryRun = False,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Let two members send to each other no more, whatever the mob file says of them."""
    mob_id, one, two = pair(state, whom, other, label or ())
    wanted = Unwire(one, two, directed)
    if dry_run:
        if may_send(would(state, mob_id, "unwire"), one, two, directed=directed):
            say_would(mob_id, f"unwire {one!r} and {two!r} of {mob_id!r}", json=json)
        else:
            say_nothing_to_do(mob_id, as_it_is(wanted), json=json)
        return 0
    await changed(state, mob_id, wanted, json=json)
    return 0
