"""`mob resume`: let a stopped mob run again.

Owns: the verb. Must not: run it: a process that has it open does, or the next one.
"""

from __future__ import annotations

from mob.cli.options import DEFAULT_STATE, Json, Labels, State, Which
from mob.cli.output import narrate, result, result_json
from mob.cli.target import Resting, reaching, whole_mob
from mob.server.protocol import Resume

EXAMPLES = """    mob resume research && mob run research.toml --detach
"""


async def resume(
    mob: Which = None,
    /,
    *,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Let a stopped mob run again, and go on with what was cut off.

    If a process has it open it goes on at once; otherwise it takes messages from now
    on, and works when it is next run (`mob run` resumes a stopped mob by itself).
    """
    mob_id = whole_mob(state, mob, label)
    async with reaching(state, mob_id) as target:
        await target.call(Resume())
        if isinstance(target, Resting):
            narrate(f"mob: no process runs {mob_id!r}: `mob run FILE` goes on with it")
    if json:
        result_json({"mob": mob_id, "state": "running"})
    else:
        result(f"{mob_id}: running")
    return 0
