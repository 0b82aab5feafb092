"""`mob restore`: bring back what a rewind left.

Owns: the verb. Must not: lose what is there now: it is left as a rewind leaves it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from mob.addresses import Address
from mob.app import stored_mob
from mob.cli.completing import whole_or_members
from mob.cli.exits import NothingThere
from mob.cli.options import DEFAULT_STATE, DryRun, Json, Labels, State
from mob.cli.output import result, result_json, say_would
from mob.cli.stored import looking_into
from mob.cli.target import addressed, chosen_session, reaching, say_where
from mob.cli.would import check_branch, would
from mob.elsewhere import mob_at, points_of
from mob.server.protocol import RestoreSession, Rewind

EXAMPLES = """    mob restore research              # undoes the latest rewind of the mob
    mob restore research@before-rewind-1
    mob restore research/lead         # the latest branch of a session
    mob restore research/lead --branch 0
"""


async def restore(
    what: Annotated[
        str,
        Parameter(
            name="MOB/MEMBER/SESSION",
            help="MOB, MOB@LABEL, or a session: MOB/MEMBER or one below it.",
            completer=whole_or_members,
        ),
    ],
    /,
    *,
    branch: Annotated[
        int, Parameter(help="Of a session: which of its branches, from 0; -1 is the latest.")
    ] = -1,
    dry_run: DryRun = False,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Bring back what a rewind left: of a mob, or of one session.

    What is there now is left in its turn and can be restored, too. Nobody may be at
    work.
    """
    address = addressed(state, what, label or ())
    if address.path:
        return await _session(state, address, branch, dry_run=dry_run, json=json)
    back = address.at if address.at is not None else _latest(state, address.mob)
    if dry_run:
        would(state, address.mob, "rewind")
        with looking_into(state) as store:
            at = mob_at(store, address.mob, back).last
        say_would(address.mob, f"bring {address.mob!r} back to {back!r}, record {at}", json=json)
        return 0
    async with reaching(state, address.mob) as target:
        left = await target.call(Rewind(seq=back) if isinstance(back, int) else Rewind(label=back))
        say_where(target)
    if json:
        result_json({"mob": address.mob, "restored": back, "left": left.label})
    else:
        result(left.label)
    return 0


async def _session(state: Path, address: Address, branch: int, *, dry_run: bool, json: bool) -> int:
    session_id = chosen_session(state, address)
    with looking_into(state) as store:
        check_branch(stored_mob(store, address.mob), session_id, branch)
    if dry_run:
        say_would(address.mob, f"restore branch {branch} of session {session_id}", json=json)
        return 0
    async with reaching(state, address.mob) as target:
        await target.call(RestoreSession(session_id, branch))
        say_where(target)
    if json:
        result_json({"mob": address.mob, "session_id": session_id, "branch": branch})
    else:
        result(session_id)
    return 0


def _latest(state: Path, mob_id: str) -> str:
    """The label of what the latest rewind left. Raises `NothingThere`."""
    with looking_into(state) as store:
        kept = [each.label for each in points_of(store, mob_id) if each.kept]
    if not kept:
        raise NothingThere(f"mob {mob_id!r} was never brought back: there is nothing to restore")
    return kept[-1]
