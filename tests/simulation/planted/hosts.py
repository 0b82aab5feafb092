"""Bugs in hosted sessions of a mob.

Owns: the patches. Must not: know a workload.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from runtime.checkpoint import CheckpointGate
from runtime.service.hosting import POLICY, SessionHosts
from tests.simulation.planted.table import planted


@planted("nothing_is_left_behind", "healed, everything finishes", within=300)
def hosts_sleep_on_after_a_stop() -> Iterator[None]:
    """What hosted sessions have left to do is not taken up again. Breaks CONTRACTS 4.10: they work
    on what their peers send them, also after a crash or a stop."""
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
