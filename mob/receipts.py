"""What verbs of a mob hand back as proof of what they did.

Owns: `Receipt`, `StopReport`. Must not: do anything.
"""

from __future__ import annotations

import attrs

from runtime.ids import InputId, SessionId


@attrs.frozen
class Receipt:
    """Proof that an input is on disk: `session_id` will work on it, `input_id` names it."""

    input_id: InputId
    session_id: SessionId
    member: str


@attrs.frozen
class StopReport:
    """What `stop` found: members whose turns finished in time, and those it had to cancel."""

    drained: tuple[str, ...]
    cancelled: tuple[str, ...]
