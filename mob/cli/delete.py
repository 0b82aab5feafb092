"""`mob delete`: delete a mob with all it has said, or one session of it.

Owns: the verb, asking first. Must not: delete anything of a mob that runs but a session at rest.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import trio
from cyclopts import Parameter

from mob.addresses import Address
from mob.app import stored_mob
from mob.cli.completing import whole_or_members
from mob.cli.exits import StillRunning, UsageWrong
from mob.cli.options import DEFAULT_STATE, DryRun, Json, Labels, State
from mob.cli.output import (
    bytes_text,
    narrate,
    plural,
    result,
    result_json,
    say_nothing_to_do,
    say_would,
)
from mob.cli.stored import looking_into
from mob.cli.target import addressed, chosen_session, is_served, reaching
from mob.errors import AddressInvalid
from mob.lifecycle import MobState
from mob.removing import delete_mob
from mob.server.protocol import DeleteSession
from mob.shapes import jsonable
from stores import open_lmdb

EXAMPLES = """    mob delete research                   # asks first
    mob delete research --yes --json
    mob delete research/r-4/bees --dry-run
"""


async def delete(
    what: Annotated[
        str,
        Parameter(
            name="MOB/MEMBER/SESSION",
            help="MOB, or a session: MOB/MEMBER or one below it.",
            completer=whole_or_members,
        ),
    ],
    /,
    *,
    yes: Annotated[
        bool,
        Parameter(name=["--yes", "-y"], negative=(), show_default=False, help="Do not ask."),
    ] = False,
    dry_run: DryRun = False,
    label: Labels = None,
    state: State = DEFAULT_STATE,
    json: Json = False,
) -> int:
    """Delete a mob with all its sessions, or one session with those below it.

    A mob must not run: `mob stop` it first. What its points and its forks need stays;
    its id is not used again. A member's session is deleted when it has left.
    """
    address = addressed(state, what, label or ())
    if address.at is not None:
        raise AddressInvalid(what, "a moment cannot be deleted")
    if not address.path and is_served(state, address.mob):
        raise StillRunning(
            f"mob {address.mob!r} runs: `mob stop {address.mob}` first; nothing was deleted"
        )
    described = _described(state, address)
    if dry_run:
        if described is None:
            say_nothing_to_do(address.mob, f"mob {address.mob!r} is deleted already", json=json)
        else:
            say_would(address.mob, f"delete {described}", json=json)
        return 0
    if described is not None and not yes:
        await _confirm(described)
    if address.path:
        session_id = chosen_session(state, address)
        async with reaching(state, address.mob) as target:
            await target.call(DeleteSession(session_id))
        shape, words = {"mob": address.mob, "session_id": session_id}, f"deleted {session_id}"
    else:
        async with open_lmdb(state) as store:
            done = await delete_mob(store, address.mob)
        shape = {"mob": address.mob, **jsonable(done)}
        count = plural(done.sessions, "session")
        words = f"{address.mob}: deleted, {count}, {bytes_text(done.freed.bytes)} free"
        if done.points:
            narrate(f"mob: what its points reach is kept: {', '.join(done.points)}")
    if json:
        result_json(shape)
    else:
        result(words)
    return 0


def _described(state: Path, address: Address) -> str | None:
    """What there is to delete; None if the mob is deleted already."""
    with looking_into(state) as store:
        stored = stored_mob(store, address.mob)
    heads = stored.state.heads
    if not address.path and not heads and stored.roster.mob_state is MobState.DESTROYED:
        return None
    if not address.path:
        return f"mob {address.mob!r} with {plural(len(heads), 'session')}"
    session_id = chosen_session(state, address)
    for row in stored.roster.members.values():
        if row.session_id == session_id:
            raise StillRunning(
                f"session {session_id} is that of member {row.name!r}: `mob retire"
                f" {address.mob}/{row.name}` first; nothing was deleted"
            )
    head = heads[session_id]
    below = plural(len(head.children or ()), "child session")
    turns = plural(head.turns, "turn")
    return f"session {head.title or head.session_id} of {address.mob!r}: {turns}, {below}"


async def _confirm(described: str) -> None:
    """Ask on the terminal. Raises `UsageWrong` without one, or for any answer but yes."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageWrong(f"this deletes {described}: give --yes, or --dry-run to look first")
    sys.stderr.write(f"mob: delete {described}? This cannot be undone. [yes/no] ")
    sys.stderr.flush()
    line = await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    if line.strip().lower() not in ("y", "yes"):
        raise UsageWrong("nothing was deleted")
