"""Carrying requests out on the handle of a mob.

Owns: which method of the handle each request is. Must not: know whether it came over a socket or
from a command that has opened the store itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

import trio

from mob.mob import Mob
from mob.receipts import Receipt, StopReport
from mob.server import protocol
from mob.server.protocol import Done, Request
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


_PERFORMED: Final[dict[type[Request[Any]], Callable[[Mob, Any], Awaitable[Any]]]] = {
    protocol.Send: _send,
    protocol.Ask: _ask,
    protocol.Interrupt: _interrupt,
    protocol.Stop: _stop,
}
