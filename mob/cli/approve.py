"""`mob approve`: let a tool call run that waits for approval.

Owns: the verb, and finding the mob of a call (also for `mob deny`). Must not: run the call: whoever
runs the mob takes its turn up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import attrs
from cyclopts import Parameter

from mob.app import stored_mob
from mob.cli.approvals import user
from mob.cli.completing import mobs
from mob.cli.options import DEFAULT_STATE, Json, State
from mob.cli.output import narrate, one_line, result_json
from mob.cli.stored import looking_into
from mob.cli.target import Resting, chosen_mobs, reaching
from mob.errors import AddressAmbiguous
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
OfMob = Annotated[
    str | None,
    Parameter(
        name="--mob",
        show_default=False,
        help="Whose call: a mob and its fork may wait under the same key.",
        completer=mobs,
    ),
]
Key = Annotated[
    str,
    Parameter(name="KEY", help="Which call, as `mob approvals` lists it; may be shortened."),
]


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
    mob: OfMob = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Let a tool call run that waits for approval.

    The decision is on disk when this returns. A process that runs the mob goes on at
    once, else the next `mob run` does. The first decision about a call counts.
    """
    await decided(state, Approve(key, by or user(), arguments), mob, json=json)
    return 0


async def decided(state: Path, decide: Approve | Deny, mob: str | None, *, json: bool) -> None:
    """Decide about a call of whichever mob has it, and say so."""
    mob_id, key = _found(state, decide.key, mob)
    async with reaching(state, mob_id) as target:
        call = await target.call(attrs.evolve(decide, key=key))
        then = "goes on"
        if isinstance(target, Resting):
            then = f"`mob run` of {mob_id!r} goes on"
    if json:
        result_json({"mob": mob_id, **jsonable(call)})
    narrate(f"mob: {call.verdict}: {call.tool} {one_line(call.arguments)}; {then}")


def _found(state: Path, key: str, mob: str | None) -> tuple[str, str]:
    """The mob of the call that waits under this key, or under one that begins so, and the whole
    key.

    Raises:
        AddressAmbiguous: several do.
        ApprovalNotFound: none does.
    """
    waiting: list[tuple[str, str]] = []
    knows = None
    with looking_into(state) as store:
        for mob_id in chosen_mobs(store, mob):
            found = stored_mob(store, mob_id).state
            waiting += [(mob_id, each.key) for each in found.approvals if each.waits]
            if SessionId(key.partition(":")[0]) in found.heads:
                knows = knows or mob_id
    fit = [each for each in waiting if each[1] == key]
    fit = fit or [each for each in waiting if key and each[1].startswith(key)]
    if len(fit) > 1:
        raise AddressAmbiguous(key, "call", tuple(f"--mob {of} {each}" for of, each in fit))
    if fit:
        return fit[0]
    if knows is not None:  # what became of it
        return knows, key
    raise ApprovalNotFound(key, tuple(each for _, each in waiting))
