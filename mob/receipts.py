"""What verbs of a mob hand back as proof of what they did.

Owns: `Receipt`, `MemberHandle`, `EnsureReport`, `StopReport`. Must not: do anything.
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
class MemberHandle:
    """One generation of a member, and the token that fences its successors off: verbs that are
    given it refuse to act on another generation (`StaleFence`)."""

    name: str
    generation: int
    token: str


@attrs.frozen
class EnsureReport:
    """What `ensure` had to do, each in the order of the declaration (leavers in that of joining).

    `respawned` are members that were there with another profile; `kept` those that were right.
    """

    spawned: tuple[str, ...]
    respawned: tuple[str, ...]
    retired: tuple[str, ...]
    kept: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything was not as declared."""
        return bool(self.spawned or self.respawned or self.retired)


@attrs.frozen
class StopReport:
    """What `stop` found: members whose turns finished in time, and those it had to cancel; and the
    child sessions, of members or in the background, that were cancelled too, oldest first.

    `stuck` are those of the cancelled that did not unwind (members by name, children in the
    background by session): they were given up on, and write nothing any more."""

    drained: tuple[str, ...]
    cancelled: tuple[str, ...]
    children: tuple[SessionId, ...] = ()
    stuck: tuple[str, ...] = ()
