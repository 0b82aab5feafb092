"""`mob rewind`: bring a stored mob back to what it was.

Owns: the verb. Must not: take a record away.
"""

from __future__ import annotations

from mob.cli.options import DEFAULT_STATE, State, existing_store
from mob.cli.output import narrate, result
from mob.cli.snapshot import At, MobId, place
from mob.elsewhere import rewind_mob
from stores import open_lmdb

EXAMPLES = """    mob rewind research "before the review"
    mob rewind research before-rewind-1   # undoes it
"""


async def rewind(mob: MobId, at: At, /, *, state: State = DEFAULT_STATE) -> int:
    """Bring a stored mob back to what it was at a point or record.

    Prints the label of the point that it was at until now: rewinding to that one undoes
    it. Needs the store for itself.
    """
    existing_store(state)
    async with open_lmdb(state) as store:
        left = await rewind_mob(store, mob, place(at))
    result(left.label)
    narrate(f"mob: {mob!r} is what it was at {at}; what it left is {left.label!r}")
    return 0
