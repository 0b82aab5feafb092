"""Deleting a stored mob with all it has said.

Owns: `delete_mob`. Must not: delete a mob that runs, or what a fork of it needs.

It is a row of verbs that exist, each of which is done or not done: stop, retire, destroy, delete
the sessions, erase what nothing reaches any more. Whoever is interrupted calls it again, and it
goes on. The id stays: it is not used twice, and the numbers of a journal are not either.
"""

from __future__ import annotations

from typing import Final

import attrs

from mob.app import stored_realm
from mob.lifecycle import MobState
from mob.resting import open_resting
from mob.runs import needed_for_report
from runtime.manager import RealmSessions
from runtime.retention import Freed, Retention
from runtime.store import StoredSessions
from stores import Store

#: Why its members have left, and its sessions have ended.
_REASON: Final = "the mob was deleted"


@attrs.frozen
class Deleted:
    """What deleting a mob took: its sessions, the room that is free, and its points: what they
    reach is kept."""

    sessions: int
    freed: Freed
    points: tuple[str, ...]


async def delete_mob(store: Store, mob_id: str) -> Deleted:
    """End a stored mob for good, delete all its sessions and erase what they said.

    What a point of the mob or a fork of it reaches stays. Cancelling leaves a mob that is stopped
    or destroyed, with some of its sessions deleted; the same call goes on with it.

    Raises:
        MobNotFound: the store holds no such mob.
        MobInUse: this process has it open.
        stores.StoreError: the store cannot be read or written.
    """
    async with open_resting(store, mob_id) as mob:
        if mob.state is MobState.RUNNING:
            await mob.stop(0.0, reason=_REASON)
        for name in mob.members:
            await mob._leave(name, _REASON)
        if mob.state is not MobState.DESTROYED:
            await mob.destroy(_REASON)
        sessions = RealmSessions(mob.realm, StoredSessions(store, mob.realm.realm_id))
        heads = mob.realm.state.heads
        count = len(heads)
        for each in [each for each, head in heads.items() if head.lineage.parent not in heads]:
            await sessions.delete(each)
        points = tuple(each.label for each in mob.points())
    realm, roster = stored_realm(store, mob_id)
    needed = Retention(realm, 0, lambda record: needed_for_report(record, roster.reported))
    return Deleted(count, await needed.run(), points)
