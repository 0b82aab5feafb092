"""Waiting until a mob, or a member of it, is in a state.

Owns: which states can be waited for, and how. Must not: poll: what changes a state is a record, or
the end of somebody's work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

import trio

from mob.errors import RequestInvalid
from mob.lifecycle import MobState
from mob.mob import Mob
from mob.server.protocol import Wait, Waited
from mob.view import resting

#: Of a mob: nobody is at work; only decisions are waited for; or its recorded state.
IDLE: Final = "idle"
WAITING: Final = "waiting"
OF_MOBS: Final = (IDLE, WAITING, *[each.value for each in MobState])
#: Of a member: those of `mob.view.Node` that are on disk, and that it has left.
RETIRED: Final = "retired"
OF_MEMBERS: Final = (
    *(IDLE, "queued", "unfinished", "waiting", "failed", "archived", "quarantined", RETIRED),
)


async def wait(mob: Mob, asked: Wait) -> Waited:
    """Wait as `mob.server.protocol.Wait` says; a limit of 0 looks once.

    Raises:
        RequestInvalid: there is no such state.
        MemberNotFound: there never was such a member.
    """
    known = OF_MOBS if asked.member is None else OF_MEMBERS
    unknown = [each for each in asked.states if each not in known]
    if unknown or not asked.states:
        named = ", ".join(unknown) or "no state"
        raise RequestInvalid(f"{named} cannot be waited for; these can: {', '.join(known)}")
    await trio.lowlevel.checkpoint()
    now = _states(mob, asked.member)
    limit = float("inf") if asked.timeout_s is None else asked.timeout_s
    held = [each for each in now if each in asked.states]
    if held or limit <= 0:
        return Waited(bool(held), [*held, *now][0])
    reached: list[str] = []
    with trio.move_on_after(limit):
        async with trio.open_nursery() as nursery:

            async def until(state: str, parked: Callable[[], Awaitable[None]]) -> None:
                await parked()
                reached.append(state)
                nursery.cancel_scope.cancel()

            if asked.member is None and IDLE in asked.states:
                nursery.start_soon(until, IDLE, mob.wait_idle)
            if asked.member is None and WAITING in asked.states:
                nursery.start_soon(until, WAITING, mob.wait_blocked)
            async with aclosing(mob.events(mob.realm.journal.last)) as events:
                async for _ in events:
                    now = _states(mob, asked.member)
                    if held := [each for each in now if each in asked.states]:
                        reached.extend(held)
                        break
            nursery.cancel_scope.cancel()
    return Waited(bool(reached), [*reached, *_states(mob, asked.member)][0])


def _states(mob: Mob, member: str | None) -> tuple[str, ...]:
    """What can be said of it now, the most telling first."""
    if member is not None:
        row = mob.roster.members.get(member)
        if row is None and member in mob.roster.retired:
            return (RETIRED,)
        return (resting(mob.realm.state.heads[mob.session_of(member)]),)
    recorded = mob.state.value
    if mob.at_work or mob.realm.background.running:
        return (recorded,)
    rests = WAITING if mob.approvals() else IDLE
    return (rests, recorded) if mob.state is MobState.RUNNING else (recorded, rests)
