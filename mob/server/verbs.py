"""Carrying requests out on the handle of a mob.

Owns: which method of the handle each request is. Must not: know whether it came over a socket or
from a command that has opened the store itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

import trio

from mob.errors import RequestInvalid
from mob.mob import Mob
from mob.receipts import MemberHandle, Receipt, StopReport
from mob.server import protocol
from mob.server.protocol import Done, Request
from mob.server.waiting import wait
from runtime.approvals import Approval
from runtime.points import Point
from runtime.results import TurnResult

R = TypeVar("R")


async def perform(mob: Mob, request: Request[R]) -> R:
    """Do what is asked, and return its reply. Raises what the handle raises."""
    return cast("R", await _PERFORMED[type(request)](mob, request))


async def _send(mob: Mob, asked: protocol.Send) -> Receipt:
    return await mob.send(
        asked.to,
        asked.text,
        sender=asked.sender,
        mode=asked.mode,
        intent=asked.intent,
        when_full=asked.when_full,
        idempotency_key=asked.idempotency_key,
        skills=asked.skills,
    )


async def _ask(mob: Mob, asked: protocol.Ask) -> TurnResult:
    return await mob.ask(
        asked.member, asked.text, idempotency_key=asked.idempotency_key, skills=asked.skills
    )


async def _interrupt(mob: Mob, asked: protocol.Interrupt) -> Done:
    await trio.lowlevel.checkpoint()
    return Done(mob.interrupt(asked.member))


async def _stop(mob: Mob, asked: protocol.Stop) -> StopReport:
    return await mob.stop(asked.deadline_s, reason=asked.reason)


async def _resume(mob: Mob, asked: protocol.Resume) -> Done:
    await mob.resume()
    return Done()


async def _spawn(mob: Mob, asked: protocol.Spawn) -> protocol.Spawned:
    session_id = await mob.spawn(asked.name, profile=asked.profile, spawn_key=asked.spawn_key)
    return protocol.Spawned(asked.name, session_id)


async def _retire(mob: Mob, asked: protocol.Retire) -> Done:
    there = asked.member in mob.roster.members
    await mob.retire(asked.member, asked.reason)
    return Done(there)


async def _respawn(mob: Mob, asked: protocol.Respawn) -> MemberHandle:
    return await mob.respawn(asked.member, asked.reason, profile=asked.profile)


async def _wire(mob: Mob, asked: protocol.Wire) -> Done:
    return Done(await mob.wire(asked.a, asked.b, directed=asked.directed))


async def _unwire(mob: Mob, asked: protocol.Unwire) -> Done:
    return Done(await mob.unwire(asked.a, asked.b, directed=asked.directed))


async def _approvals(mob: Mob, asked: protocol.Approvals) -> protocol.Calls:
    await trio.lowlevel.checkpoint()
    return protocol.Calls(tuple([waiting_of(each) for each in mob.approvals()]))


async def _approve(mob: Mob, asked: protocol.Approve) -> protocol.Waiting:
    return waiting_of(await mob.approve(asked.key, by=asked.by, arguments=asked.arguments))


async def _deny(mob: Mob, asked: protocol.Deny) -> protocol.Waiting:
    return waiting_of(await mob.deny(asked.key, by=asked.by, reason=asked.reason))


def waiting_of(call: Approval) -> protocol.Waiting:
    """A call as it is told: with the arguments that it is to run with."""
    return protocol.Waiting(
        call.key,
        call.session_id,
        call.tool,
        call.arguments if call.edited is None else call.edited,
        call.asker,
        call.asked_at_ns,
        None if call.verdict is None else call.verdict.value,
    )


async def _snapshot(mob: Mob, asked: protocol.Snapshot) -> protocol.Place:
    return _place(await mob.snapshot(asked.label))


async def _fork(mob: Mob, asked: protocol.Fork) -> protocol.Forked:
    at = asked.label if asked.seq is None else asked.seq
    return protocol.Forked(asked.new, await mob.fork(asked.new, at=at))


async def _rewind(mob: Mob, asked: protocol.Rewind) -> protocol.Place:
    at = asked.label if asked.seq is None else asked.seq
    if at is None:
        raise RequestInvalid("rewind needs a label or a seq")
    return _place(await mob.rewind(at))


def _place(point: Point) -> protocol.Place:
    return protocol.Place(point.label, point.at, point.made_at_ns, point.kept)


async def _cancel_flow(mob: Mob, asked: protocol.CancelFlow) -> Done:
    return Done(await mob.flow_run(asked.run_id).cancel(asked.reason))


async def _restore_session(mob: Mob, asked: protocol.RestoreSession) -> Done:
    await mob.sessions.restore(asked.session_id, asked.branch)
    return Done()


async def _tag_session(mob: Mob, asked: protocol.TagSession) -> Done:
    if asked.add:
        await mob.sessions.tag(asked.session_id, asked.add)
    if asked.remove:
        await mob.sessions.untag(asked.session_id, asked.remove)
    return Done(bool(asked.add or asked.remove))


async def _rename_session(mob: Mob, asked: protocol.RenameSession) -> Done:
    await mob.sessions.rename(asked.session_id, asked.name)
    return Done()


async def _delete_session(mob: Mob, asked: protocol.DeleteSession) -> Done:
    await mob.sessions.delete(asked.session_id)
    return Done()


_PERFORMED: Final[dict[type[Request[Any]], Callable[[Mob, Any], Awaitable[Any]]]] = {
    protocol.Send: _send,
    protocol.Ask: _ask,
    protocol.Interrupt: _interrupt,
    protocol.Stop: _stop,
    protocol.Resume: _resume,
    protocol.Wait: wait,
    protocol.Spawn: _spawn,
    protocol.Retire: _retire,
    protocol.Respawn: _respawn,
    protocol.Wire: _wire,
    protocol.Unwire: _unwire,
    protocol.Approvals: _approvals,
    protocol.Approve: _approve,
    protocol.Deny: _deny,
    protocol.Snapshot: _snapshot,
    protocol.Fork: _fork,
    protocol.Rewind: _rewind,
    protocol.CancelFlow: _cancel_flow,
    protocol.RestoreSession: _restore_session,
    protocol.TagSession: _tag_session,
    protocol.RenameSession: _rename_session,
    protocol.DeleteSession: _delete_session,
}
