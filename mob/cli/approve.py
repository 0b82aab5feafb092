"""`mob approve`: let a tool call run that waits for approval, in a store that nobody runs.

Owns: the verb, and finding the mob of a call (also for `mob deny`). Must not: run the call: the
next `mob run` of the mob takes its turn up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mob.app import stored_mobs, stored_realm
from mob.cli.approvals import user
from mob.cli.options import DEFAULT_STATE, State, existing_store
from mob.cli.output import narrate, one_line
from runtime.approvals import Approval
from runtime.deciding import Decisions
from runtime.errors import ApprovalNotFound
from runtime.ids import SessionId
from stores import open_lmdb

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
) -> int:
    """Let a tool call run that waits for approval.

    The decision is on disk when this returns; the next `mob run` continues the turn.
    Needs the store for itself. The first decision about a call counts.
    """

    async def decide(decisions: Decisions) -> Approval:
        return await decisions.approve(key, by=by or user(), arguments=arguments)

    await decided(state, key, decide)
    return 0


async def decided(
    state: Path, key: str, decide: Callable[[Decisions], Awaitable[Approval]]
) -> None:
    """Decide about a call of whichever mob has it, and say so."""
    existing_store(state)
    async with open_lmdb(state) as store:
        waiting: list[str] = []
        for mob_id in stored_mobs(store):
            realm, _ = stored_realm(store, mob_id)
            if SessionId(key.partition(":")[0]) not in realm.state.heads:
                waiting += [each.key for each in realm.decisions.waiting()]
                continue
            approval = await decide(realm.decisions)
            assert approval.verdict is not None
            call = f"{approval.tool} {one_line(approval.edited or approval.arguments)}"
            narrate(f"mob: {approval.verdict.value}: {call}; `mob run` of {mob_id!r} goes on")
            return
    raise ApprovalNotFound(key, tuple(waiting))
