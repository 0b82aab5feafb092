"""Bugs in hosted sessions of a mob, and in interrupts whose callers go away.

Owns: the patches. Must not: know a workload.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any
from unittest.mock import patch

import trio

from runtime.checkpoint import CheckpointGate
from runtime.driver import TurnDriver
from runtime.service.hosting import POLICY, SessionHosts
from stores import StoreClosed
from tests.simulation.planted.table import planted


@planted("nothing_is_left_behind", "healed, everything finishes", within=300)
def hosts_sleep_on_after_a_stop() -> Iterator[None]:
    """What hosted sessions have left is not taken up again: neither what an earlier process left nor
    what a stop cut off. Breaks CONTRACTS 4.10: they work on what their peers send them."""
    with patch.object(SessionHosts, "resume", lambda _self: None):
        yield


@planted("hosted_sessions_are_saved", within=300)
def hosts_are_saved_now_and_then() -> Iterator[None]:
    """A hosted session is checkpointed after sixty-four turns. Breaks CONTRACTS 4.10: after each
    interaction."""
    turn_ended = CheckpointGate.turn_ended

    def seldom(self: CheckpointGate, record: Any) -> None:
        if self._policy is not POLICY:
            turn_ended(self, record)

    with patch.object(CheckpointGate, "turn_ended", seldom):
        yield


@planted(
    "an_interrupt_is_not_lost",
    within=2000,
    mended="End a turn as interrupted also if its caller goes away in the same moment",
)
def interrupts_are_lost_with_their_callers() -> Iterator[None]:
    """A turn that somebody was told is interrupted stays in flight when whoever waits for it goes
    away, and the next caller gets its answer. Breaks CONTRACTS 4.3."""
    commit = TurnDriver._commit

    async def unless_cancelled(self: TurnDriver, ending: Any) -> Any:
        if trio.current_effective_deadline() == -inf:
            raise StoreClosed("nobody waits for this")
        return await commit(self, ending)

    with patch.object(TurnDriver, "_commit", unless_cancelled):
        yield
