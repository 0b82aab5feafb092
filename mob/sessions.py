"""Looking after the sessions of a mob: `runtime.manager` with the roster in mind.

Owns: what may not be done to the session of a member. Must not: rearrange a history itself.
"""

from __future__ import annotations

from mob.activation import Activations
from mob.roster import Roster
from runtime.errors import SessionBusy
from runtime.manager import RealmSessions
from runtime.realm import Realm
from runtime.session import SessionHead
from runtime.store import SessionStore
from runtime.tasks import waits


def mob_sessions(
    realm: Realm, snapshots: SessionStore, roster: Roster, activations: Activations
) -> RealmSessions:
    """The sessions of the mob: of its members, of those that left, their children, their forks.

    The session of a current member is not deleted (`SessionError`: retire the member first), and
    is rewound, restored or saved over only while the member has nothing to do (`SessionBusy`).
    """

    def guard(head: SessionHead, verb: str) -> str | None:
        row = roster.members.get(head.agent_id or "")
        if head.quarantined is not None:  # its head may not say whose it is
            theirs = (
                each for each in roster.members.values() if each.session_id == head.session_id
            )
            row = next(theirs, None)
        if row is None or row.session_id != head.session_id:
            return None
        if verb == "delete":
            return f"session {head.session_id} is that of member {row.name!r}: retire it first"
        live = activations.members.get(row.name)
        waiting = (head.inputs or {}).values()
        if not all(map(waits, waiting)) or (live is not None and live.jobs):
            raise SessionBusy(head.session_id)
        return None

    return RealmSessions(realm, snapshots, guard)
