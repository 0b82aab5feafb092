"""Time travel with mobs that are not running here: over a store.

Owns: `fork_mob`, `snapshot_mob`, `rewind_mob`, `points_of`, `mob_at`, `diff_mobs`. Must not: run a
mob; whoever has one open uses the verbs on its handle.
"""

from __future__ import annotations

from mob.app import StoredMob, stored_mob, stored_realm
from mob.handles import sole_handle
from mob.records import MobStateChanged
from mob.travel import MobDiff, MobView, beginning_in, called, diff, folds_of, view
from runtime.ids import RealmId
from runtime.journal import Journal
from runtime.points import Point
from runtime.travel import Travel
from stores import Store


async def fork_mob(store: Store, mob_id: str, new_id: str, *, at: str | int | None = None) -> int:
    """Make another mob that is what the stored mob `mob_id` was at the point or record `at` (None:
    is now). See `Mob.fork`; the mob may be open in this process.

    Raises:
        MobNotFound: the store holds no such mob.
        PointNotFound: there is no such point or record.
        RealmExists: there is a mob `new_id`.
    """
    realm, _ = stored_realm(store, mob_id)
    with sole_handle(store, new_id, f"mob {new_id!r}"):
        return await Travel(realm).fork(RealmId(new_id), at, called(new_id))


async def snapshot_mob(store: Store, mob_id: str, label: str) -> Point:
    """Make a point of a stored mob. See `Mob.snapshot`.

    Raises:
        MobNotFound: the store holds no such mob.
        MobInUse: this process has it open: its handle makes points.
        PointExists: the label is taken.
        Unusable: it cannot be one.
    """
    with sole_handle(store, mob_id, f"mob {mob_id!r}"):
        realm, _ = stored_realm(store, mob_id)
        return await Travel(realm).make(label)


async def rewind_mob(store: Store, mob_id: str, at: str | int) -> Point:
    """Bring a stored mob back to what it was, and return the point that it was at until now. See
    `Mob.rewind`; what was in flight is part of that point, and goes on when somebody goes back.

    Raises:
        MobNotFound: the store holds no such mob.
        MobInUse: this process has it open: its handle goes back.
        PointNotFound: there is no such point or record.
    """
    with sole_handle(store, mob_id, f"mob {mob_id!r}"):
        realm, roster = stored_realm(store, mob_id)
        state, travel = roster.mob_state.value, Travel(realm)

        def still() -> list[MobStateChanged]:
            now = realm.ports.clock.now_ns()
            return [MobStateChanged(state, f"as it was before going back to {at!r}", now)]

        return await travel.rewind(travel.moment(at), still)


def points_of(store: Store, mob_id: str) -> tuple[Point, ...]:
    """The points of a stored mob, oldest first. Raises `MobNotFound`."""
    return Travel(stored_realm(store, mob_id)[0]).points


def mob_at(store: Store, mob_id: str, at: str | int | None) -> StoredMob:
    """A stored mob as it was at the point or record `at` (None: as it is); `last` is that record.

    At a point this costs what the mob is large, at any other record what reading the journal up to
    it costs.

    Raises:
        MobNotFound: the store holds no such mob.
        PointNotFound: it has no such point or record.
    """
    if at is None:
        return stored_mob(store, mob_id)
    realm, _ = stored_realm(store, mob_id)
    moment = Travel(realm).moment(at)
    return StoredMob(mob_id, *folds_of(moment.rows), realm.journal, moment.at)


def diff_mobs(
    store: Store, one: tuple[str, str | int | None], other: tuple[str, str | int | None]
) -> MobDiff:
    """How one mob at a point or record (None: its last) differs from another, or from itself.

    Raises:
        MobNotFound: the store holds no such mob.
        PointNotFound: it has no such point or record.
    """
    (a, mine), (b, its) = (_view(store, *each) for each in (one, other))
    return diff(a, b, beginning_in(mine, its))


def _view(store: Store, mob_id: str, at: str | int | None) -> tuple[MobView, Journal]:
    found = mob_at(store, mob_id, at)
    return view(found.state, found.folds, found.journal), found.journal
