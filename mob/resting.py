"""A handle on a stored mob that nobody runs, for verbs that begin no turn.

Owns: `open_resting`. Must not: open models, servers or tools; run anything.

What is sent through it is on disk, and worked on when the mob is next run; `resume` records that
the mob is to run, and whoever runs it next goes on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from mob.app import UNWIND_S, same_blueprint, stored_mobs
from mob.blueprints import definition_of
from mob.definition import MobDefinition
from mob.errors import MobNotFound
from mob.folds import MobFolds
from mob.handles import sole_handle
from mob.harness import Harnesses
from mob.mob import Mob
from mob.records import MOB_RECORDS
from runtime.checkpoint import CheckpointGate
from runtime.ids import RealmId
from runtime.nursery import open_background
from runtime.realm import Realm
from runtime.store import StoredSessions
from stores import Store


@asynccontextmanager
async def open_resting(
    store: Store, mob_id: str, definition: MobDefinition | None = None
) -> AsyncIterator[Mob]:
    """The stored mob `mob_id` as a handle whose members rest, for this block.

    Without a `definition` it is taken from the blueprint that the mob remembers. Bounds that are no
    part of that (tables ``[limits]``, ``[spawn]`` and ``[mailbox]``) then do not hold, and tools,
    skills and flows are not known. Asking waits for ever: no turn is begun.

    Raises:
        MobNotFound: the store holds no such mob.
        DefinitionChanged: the `definition` is not what it runs on.
        MobInUse: this process has it open.
        MobError: its blueprint is of another version.
        stores.StoreError: the store cannot be read or written.
    """
    known = stored_mobs(store)
    if mob_id not in known:
        raise MobNotFound(mob_id, known, store.location)
    with sole_handle(store, mob_id, f"mob {mob_id!r}"):
        # No children are started here, so nothing bounds them.
        realm = Realm(store, RealmId(mob_id), record_types=MOB_RECORDS)
        folds = MobFolds(realm.state)
        folds.keep(realm.recovery)
        realm.recover()
        if definition is None:
            definition = definition_of(folds.roster.blueprint or "{}", store.location)
        else:
            await same_blueprint(definition, realm, folds.roster, adopt=False)
        harnesses = Harnesses(definition, {}, {}, {}, {})
        snapshots = StoredSessions(store, realm.realm_id)
        gate = CheckpointGate(snapshots, realm.snapshot, definition.checkpoint, realm.recovery)
        realm.checkpoints = gate
        async with open_background() as nursery:
            mob = Mob(definition, realm, folds, harnesses, gate, snapshots, nursery)
            await mob.rest()
            try:
                yield mob
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + UNWIND_S):
                    await mob.close(0.0)
                    await harnesses.aclose()
