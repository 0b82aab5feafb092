"""`mob approve`: let a tool call run that waits for approval.

Owns: the verb, and finding the mob of a call (also for `mob deny`). Must not: run the call: whoever
runs the mob takes its turn up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mob.app import stored_mob, stored_mobs
from mob.cli.approvals import user
from mob.cli.options import DEFAULT_STATE, Json, State
from mob.cli.output import narrate, one_line, result_json
from mob.cli.stored import looking_into
from mob.cli.target import Resting, reaching
from mob.server.protocol import Approve, Deny
from mob.shapes import jsonable
from runtime.errors import ApprovalNotFound
from runtime.ids import SessionId

EXAMPLES = """    mob approve KEY                       # `mob approvals` lists the keys
    mob approve KEY --arguments '{"amount": 5}'
"""

By = Annotated[
    str | None,
    Parameter(name="--by", show_default=False, help="Who decides; default: the user's name."),
]
Key = Annotated[str, Parameter(name="KEY", help="Which call, as `mob approvals` lists it.")]


async def approve(
    key: Key,
    /,
    *,
    arguments: Annotated[
        str | None,
        Parameter(
            show_default=False,
            allow_leading_hyphen=True,
            help="Run it with these instead of the model's, as JSON.",
        ),
    ] = None,
    by: By = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Let a tool call run that waits for approval.

    The decision is on disk when this returns. A process that runs the mob goes on at
    once, else the next `mob run` does. The first decision about a call counts.
    """
    await decided(state, key, Approve(key, by or user(), arguments), json=json)
    return 0


async def decided(state: Path, key: str, decide: Approve | Deny, *, json: bool) -> None:
    """Decide about a call of whichever mob has it, and say so."""
    mob_id = _mob_of(state, key)
    async with reaching(state, mob_id) as target:
        call = await target.call(decide)
        then = "goes on"
        if isinstance(target, Resting):
            then = f"`mob run` of {mob_id!r} goes on"
    if json:
        result_json({"mob": mob_id, **jsonable(call)})
    narrate(f"mob: {call.verdict}: {call.tool} {one_line(call.arguments)}; {then}")


def _mob_of(state: Path, key: str) -> str:
    """The mob whose session the key begins with. Raises `ApprovalNotFound`."""
    waiting: list[str] = []
    with looking_into(state) as store:
        for mob_id in stored_mobs(store):
            found = stored_mob(store, mob_id).state
            if SessionId(key.partition(":")[0]) in found.heads:
                return mob_id
            waiting += [each.key for each in found.approvals if each.waits]
    raise ApprovalNotFound(key, tuple(waiting))
