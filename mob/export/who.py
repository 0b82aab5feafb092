"""Who a session is: the member it belongs to, and the way down to it. Pure.

Owns: these two names, each looked up once. Must not: know a journal.
"""

from __future__ import annotations

from mob.roster import Roster
from runtime.ids import SessionId
from runtime.models.redaction import Redactor
from runtime.state import RealmState


class Who:
    """Names of the sessions of one mob, as they stand. Of a deleted session the id is its name."""

    def __init__(self, state: RealmState, roster: Roster, redactor: Redactor) -> None:
        self._state = state
        self._clean = redactor
        self._members: dict[str, str] = dict(roster.former.items())
        self._members |= {session: name for name, session in roster.retired.items()}
        self._members |= {row.session_id: row.name for row in roster.members.values()}
        self._known: dict[str, tuple[str | None, str]] = {}

    def __call__(self, session_id: str) -> tuple[str | None, str]:
        """The member (None: nobody's) and the path of a session."""
        known = self._known.get(session_id)
        if known is None:
            member, path = self._look(session_id)  # models give their children titles
            known = self._known[session_id] = (member, self._clean.text(path))
        return known

    def _look(self, session_id: str) -> tuple[str | None, str]:
        head = self._state.heads.get(SessionId(session_id))
        own = self._members.get(session_id)
        if own is not None:
            return own, own
        if head is None:
            return None, session_id
        name = head.title or head.agent_id or session_id
        if head.lineage.parent is None:
            return None, name
        member, above = self(head.lineage.parent)
        return member, f"{above}/{name}"
