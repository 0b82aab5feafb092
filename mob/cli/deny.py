"""`mob deny`: let a tool call not run that waits for approval.

Owns: the verb. Must not: anything that `mob approve` does.
"""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from mob.cli.approvals import user
from mob.cli.approve import By, Key, OfMob, decided
from mob.cli.options import DEFAULT_STATE, Json, State
from mob.server.protocol import Deny

EXAMPLES = """    mob deny KEY --reason "too expensive"
"""


async def deny(
    key: Key,
    /,
    *,
    reason: Annotated[
        str, Parameter(show_default=False, help="Why; the model reads it and goes on.")
    ] = "",
    by: By = None,
    mob: OfMob = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Let a tool call not run that waits for approval.

    As `mob approve`.
    """
    await decided(state, Deny(key, by or user(), reason), mob, json=json)
    return 0
