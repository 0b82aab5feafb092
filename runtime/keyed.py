"""Where the input with an idempotency key stands. Pure.

Owns: `KeyedInput`. Must not: keep any (`runtime.state` and `runtime.inputs` do).
"""

from __future__ import annotations

import attrs

from runtime.ids import InputId, SessionId


@attrs.frozen
class KeyedInput:
    """Where the input with a known idempotency key stands.

    `turn` is the sequence number of the turn that consumed it, 0 while it is pending;
    `abandoned` is the reason if it was given up. `seq` is the record that said the last of this (0:
    nobody wrote it down), by which an earlier era is told from a later one.
    """

    session_id: SessionId
    input_id: InputId
    turn: int = 0
    abandoned: str | None = None
    seq: int = attrs.field(default=0, eq=False)

    @property
    def settled(self) -> bool:
        """Whether its fate is decided."""
        return self.turn != 0 or self.abandoned is not None
