"""What is sent by one to one. Pure.

Owns: `Letter` and its modes. Must not: know how it is delivered (`mob.comms.sending` does).
"""

from __future__ import annotations

from typing import Final

import attrs

from runtime import peering

#: How a message reaches its member: it begins a turn, or is taken in by the one in flight.
QUEUE: Final = "queue"
STEER: Final = "steer"


@attrs.frozen
class Letter:
    """A message of the member `sender`, or with None from outside; `key` makes it idempotent,
    `skills` are in the prompt of its turn."""

    sender: str | None
    text: str
    intent: str = peering.MESSAGE
    mode: str = QUEUE
    key: str | None = None
    skills: tuple[str, ...] = ()
