"""`mob fork`: make another mob that is what a stored one was.

Owns: the verb. Must not: copy a history.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from mob.cli.options import DEFAULT_STATE, State, existing_store
from mob.cli.output import narrate, result
from mob.cli.snapshot import MobId, place
from mob.elsewhere import fork_mob
from stores import open_lmdb

EXAMPLES = """    mob fork research what-if
    mob fork research what-if --at "before the review"
"""


async def fork(
    mob: MobId,
    new: Annotated[str, Parameter(name="NEW", help="The id of the new mob.")],
    /,
    *,
    at: Annotated[
        str | None,
        Parameter(show_default=False, help="A point's label or a record's number; default: now."),
    ] = None,
    state: State = DEFAULT_STATE,
) -> int:
    """Make another mob that is what a stored one is, or was at a point or record.

    It shares the history up to there. Run it with a mob file whose id is NEW; mob gc
    keeps what both need. Needs the store for itself.
    """
    existing_store(state)
    async with open_lmdb(state) as store:
        where = await fork_mob(store, mob, new, at=None if at is None else place(at))
    result(new)
    narrate(f"mob: {new!r} is what {mob!r} was at record {where}")
    return 0
