"""The composition root: plugs engine, models, clock and ids into a mob and opens it.

Owns: `open_mob`, `stored_mob` and the choice of an engine when the user makes none. Must not: hold
any behaviour of a mob.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import trio

from mob.budgets import open_budgets
from mob.definition import MobDefinition, changed_parts
from mob.errors import DefinitionChanged, DefinitionInvalid, Mistake, MobNotFound
from mob.export.source import Source
from mob.folds import MobFolds
from mob.handles import sole_handle
from mob.harness import Harnesses, load_tools
from mob.mob import Mob
from mob.models import open_models
from mob.records import MOB_RECORDS, BlueprintAdopted
from mob.roster import Roster
from mob.secrecy import learn_secrets, redactor_here
from mob.servers import open_mcp
from mob.service import check_durable
from mob.view import mob_view
from mob.watchdog import watched
from runtime.checkpoint import CheckpointGate
from runtime.hooks import Body
from runtime.ids import RealmId
from runtime.journal import Journal
from runtime.memory import Embedder
from runtime.models.base import Model
from runtime.nursery import open_background
from runtime.ports import Ports
from runtime.realm import Realm
from runtime.records import RUNTIME_RECORDS
from runtime.recovery import Recovery
from runtime.service import (
    REALM,
    EphemeralSessionService,
    PersistentSessionService,
    RealmSessionService,
    ServiceDefaults,
)
from runtime.service.building import NO_DEFAULTS
from runtime.skills import read_folders
from runtime.state import RealmState
from runtime.store import SessionStore, StoredSessions
from runtime.tools.base import Tool
from runtime.tools.source import ToolSource
from stores import Store, open_memory

if TYPE_CHECKING:
    import pyarrow

#: Seconds that leaving `open_mob` lets turns in flight finish. What is cut off is continued when
#: the mob is next opened, so waiting long only delays the program that wants to end.
GRACE_S = 2.0

#: Seconds beyond the grace period that cancelled tools have to unwind before leaving goes on.
UNWIND_S = 5.0


@asynccontextmanager
async def open_mob(
    definition: MobDefinition,
    *,
    store: Store | None = None,
    models: Mapping[str, Model] | None = None,
    tools: Mapping[str, Tool] | None = None,
    mcp: Mapping[str, ToolSource] | None = None,
    hooks: Mapping[str, Body] | None = None,
    sessions: SessionStore | None = None,
    ports: Ports | None = None,
    adopt: bool = False,
    durable: bool = False,
    grace_s: float = GRACE_S,
    memory_index: Path | None = None,
    embedder: Embedder | None = None,
) -> AsyncIterator[Mob]:
    """Open the mob of `definition`: create it, or continue the one the store holds under its id.

    A mob that was running goes on with its unfinished work at once; one that was stopped stays
    stopped until `resume`. Without a `store` the mob lives in memory and ends with this block.
    `models` maps aliases to clients (which stay the caller's); the rest are opened from the
    definition. `tools` likewise stand in for tables ``[tools.X]``, whose files are not loaded then
    (one called ``shell`` for every profile's shell), `mcp` for servers ``[mcp.X]``, and `hooks` for
    what hooks ``[hooks.X]`` run, those of profiles included. `sessions` is where snapshots go
    (default: the store). `memory_index` is a file for the index of what profiles with a memory
    search (default: none, it is made anew in memory), `embedder` what tells meanings for it.
    Leaving the block lets turns in flight finish for `grace_s` seconds, then cancels them; they are
    continued next time. With `durable` a store that ends with the process is refused.

    Raises:
        runtime.errors.PersistenceDisabled: `durable`, and the store is not.
        DefinitionInvalid: the definition does not hold together, or a tool cannot be loaded.
        DefinitionChanged: the stored mob has another blueprint and `adopt` is false.
        ModelUnavailable: an alias cannot be served.
        MobInUse: this process has this mob open already, on the same store.
        stores.StoreError: the store cannot be read or written.
    """
    definition.check()
    learn_secrets(definition)
    loaded = load_tools(definition, tools or {})
    async with AsyncExitStack() as stack:
        store = await _opened(store, stack, definition.id, durable=durable)
        stack.enter_context(sole_handle(store, definition.id, f"mob {definition.id!r}"))
        clients = await stack.enter_async_context(
            open_models(definition.models, models or {}, definition.folder)
        )
        sources = await stack.enter_async_context(open_mcp(definition, mcp or {}))
        remembers = (memory_index, embedder)
        harnesses = Harnesses(definition, clients, loaded, sources, hooks or {}, remembers)
        stack.push_async_callback(harnesses.aclose)
        realm, folds = _realm_of(definition, store, ports, harnesses)
        records = realm.recover()
        await same_blueprint(definition, realm, folds.roster, adopt=adopt)
        snapshots = sessions or StoredSessions(store, realm.realm_id)
        gate = CheckpointGate(snapshots, realm.snapshot, definition.checkpoint, realm.recovery)
        realm.checkpoints = gate
        nursery = await stack.enter_async_context(open_background())
        mob = Mob(definition, realm, folds, harnesses, gate, snapshots, nursery)
        if harnesses.bounded or any(head.spec.budget for head in realm.state.heads.values()):
            open_budgets(mob)
        stack.enter_context(watched(mob._activations, definition.supervision.blocked_s))
        nursery.start_soon(gate.run, name="checkpointer")
        await (mob.recover() if records else mob.create())
        try:
            yield mob
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + grace_s + UNWIND_S):
                # Shielded so that whoever leaves by cancellation leaves as tidily.
                await mob.close(grace_s)
                await realm.checkpoint()


async def _opened(
    store: Store | None, stack: AsyncExitStack, mob_id: str, *, durable: bool
) -> Store:
    """The store given, or one in memory. Raises `PersistenceDisabled` as `open_mob`."""
    if store is None:
        store = await stack.enter_async_context(open_memory())
    if durable:
        check_durable(store, f"mob {mob_id!r}")
    return store


def _realm_of(
    definition: MobDefinition, store: Store, ports: Ports | None, harnesses: Harnesses
) -> tuple[Realm, MobFolds]:
    """The mob's realm and folds, not recovered yet."""
    realm = Realm(
        store,
        RealmId(definition.id),
        ports=ports,
        record_types=MOB_RECORDS,
        limits=harnesses.limits,
    )
    folds = MobFolds(realm.state)
    folds.keep(realm.recovery)
    return realm, folds


async def same_blueprint(
    definition: MobDefinition, realm: Realm, roster: Roster, *, adopt: bool
) -> None:
    """Refuse, or record on request, a definition that is not the one the stored mob runs on."""
    if roster.blueprint is None:
        return
    blueprint = definition.blueprint()
    if blueprint == roster.blueprint:
        return
    if not adopt:
        raise DefinitionChanged(definition.id, changed_parts(roster.blueprint, blueprint))
    if mistakes := tuple(_missing_profiles(definition, roster)):
        raise DefinitionInvalid(definition.source, mistakes)
    now = realm.ports.clock.now_ns()
    await realm.append(BlueprintAdopted(blueprint, now)).wait()


def _missing_profiles(definition: MobDefinition, roster: Roster) -> Iterator[Mistake]:
    """The profiles that members run on and `definition` has not: they could not do a turn."""
    using: dict[str, list[str]] = {}
    for row in roster.members.values():
        if row.profile not in definition.profiles:
            using.setdefault(row.profile, []).append(row.name)
    for profile, names in using.items():
        yield Mistake(
            f"profiles.{profile}",
            f"is missing, and members of the stored mob run on it: {', '.join(names)}",
            "keep it, or retire them first",
        )


@asynccontextmanager
async def open_session_service(
    store: Store | None = None,
    *,
    ports: Ports | None = None,
    skills: Iterable[Path] = (),
    defaults: ServiceDefaults = NO_DEFAULTS,
) -> AsyncIterator[RealmSessionService]:
    """A session service over `store`; without one, an ephemeral service in memory. Its sessions may
    load the skills in the folders `skills`; `defaults` says which built-in tools they have.

    Hosted sessions and background children work in this block, also on what an earlier process left
    undone; leaving it cuts their turns off, to be continued next time.

    Raises:
        runtime.errors.PersistenceDisabled: the store given is not durable.
        runtime.skills.SkillInvalid: a folder is none of skills.
        MobInUse: this process has a service open already, on the same store.
        stores.StoreError: the store cannot be read.
    """
    offered = read_folders(skills)
    async with AsyncExitStack() as stack:
        service: RealmSessionService
        if store is None:
            memory = await stack.enter_async_context(open_memory())
            service = EphemeralSessionService(
                memory, ports=ports, skills=offered, defaults=defaults
            )
        else:
            stack.enter_context(sole_handle(store, REALM, "the session service"))
            service = PersistentSessionService(
                store, ports=ports, skills=offered, defaults=defaults
            )
        stack.push_async_callback(service.aclose)
        service.serve(await stack.enter_async_context(open_background()))
        yield service


@attrs.frozen
class StoredMob:
    """A mob as its journal tells it, without running it: for lists, reports and other processes."""

    mob_id: str
    state: RealmState
    folds: MobFolds
    journal: Journal
    #: Number of committed records.
    last: int

    @property
    def roster(self) -> Roster:
        return self.folds.roster

    def source(self, secrets: Iterable[str] = ()) -> Source:
        """The mob to look back on, as exports and reports do. `secrets` are environment variables
        whose values are to be taken out, beside those that are anyway."""
        return Source(self.mob_id, self.state, self.folds, self.journal, redactor_here(secrets))

    def _repr_html_(self) -> str:
        """For notebooks: the members and their child sessions."""
        redactor_here()
        return mob_view(self.mob_id, self.state, self.roster)._repr_html_()

    def frame(self, table: str) -> pyarrow.Table:
        """As `Mob.frame`, of a mob that need not be open anywhere."""
        from mob.export.frame import frame

        return frame(self.source(), table)


def stored_realm(store: Store, mob_id: str) -> tuple[Realm, Roster]:
    """The realm and roster of a mob that is not run: for whoever looks after what is stored.

    Raises:
        MobNotFound: the store holds no such mob.
        runtime.errors.RecordUnreadable, stores.Damaged: its journal cannot be read.
    """
    known = stored_mobs(store)
    if mob_id not in known:
        raise MobNotFound(mob_id, known, store.location)
    realm = Realm(store, RealmId(mob_id), record_types=MOB_RECORDS)
    folds = MobFolds(realm.state)
    folds.keep(realm.recovery)
    realm.recover()
    return realm, folds.roster


def stored_mobs(store: Store) -> tuple[str, ...]:
    """The ids of the mobs in a store, ascending."""
    prefix = b"realm/"
    return tuple(
        stream[len(prefix) :].decode() for stream in store.streams() if stream.startswith(prefix)
    )


def stored_mob(store: Store, mob_id: str) -> StoredMob:
    """Read one mob from a store that may belong to another process.

    Raises:
        MobNotFound: the store holds no such mob.
        runtime.errors.RecordUnreadable, stores.Damaged: its journal cannot be read.
    """
    known = stored_mobs(store)
    if mob_id not in known:
        raise MobNotFound(mob_id, known, store.location)
    state = RealmState()
    folds = MobFolds(state)
    journal = Journal(store, RealmId(mob_id), (*RUNTIME_RECORDS, *MOB_RECORDS), state.apply)
    recovery = Recovery(store, RealmId(mob_id), state, journal)
    folds.keep(recovery)
    return StoredMob(mob_id, state, folds, journal, recovery.load())
