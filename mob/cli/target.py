"""What a verb works on: a mob that a process runs, or one in a store that nobody has open.

Owns: finding the mob that an address means, reaching it. Must not: know what a verb does.

A running mob is reached over its socket. If there is none the store is opened here, for as long as
the verb takes, and no turn is begun.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeAlias, TypeVar

import attrs

from mob.addresses import (
    LAST,
    Address,
    Known,
    every_mob_with,
    find,
    find_mob,
    find_session,
    parse,
    parse_label,
)
from mob.app import StoredMob, stored_mob, stored_mobs
from mob.cli.exits import NothingThere, UsageWrong
from mob.cli.options import existing_store
from mob.cli.output import narrate
from mob.cli.owner import owner_of
from mob.cli.stored import labels_of, looking_into, updated_ns
from mob.definition import MobDefinition
from mob.errors import AddressAmbiguous, AddressInvalid, AddressUnknown, NotServed
from mob.lifecycle import MobState
from mob.mob import Mob
from mob.resting import open_resting
from mob.server.client import Client, open_client
from mob.server.protocol import Request, Wait, Waited
from mob.server.sockets import socket_of, somebody_listens
from mob.server.verbs import perform
from mob.server.waiting import IDLE
from mob.view import resting
from runtime.ids import SessionId
from stores import Store, StoreInUse, open_lmdb

R = TypeVar("R")


@attrs.frozen
class Resting:
    """A mob in a store that nobody has open: what begins no turn can be done with it."""

    mob: Mob

    @property
    def mob_id(self) -> str:
        return self.mob.id

    async def call(self, request: Request[R]) -> R:
        """As `Client.call`. Raises `NotServed` for what needs somebody who runs the mob."""
        if request.patient:
            raise NotServed(
                self.mob_id,
                f"no process runs it, and {request.verb!r} waits for what only a run does: start"
                " one with `mob run FILE --detach`",
            )
        return await perform(self.mob, request)

    async def look(self, request: Wait) -> Waited:
        """Whether what is waited for is so already. With work left to do it is not idle: nobody
        is at it."""
        found = await perform(self.mob, request)
        if found.state == IDLE and request.member is None:
            heads = self.mob.realm.state.heads
            left = {resting(heads[row.session_id]) for row in self.mob.roster.members.values()}
            for state in ("unfinished", "queued"):
                if state in left:
                    return Waited(False, state)
        return found


#: A mob that requests can be put to.
Target: TypeAlias = Client | Resting


def known_mobs(store: Store, *, whole: bool) -> list[Known]:
    """The mobs of a store; with `whole` each with its labels and its age, which reads them all."""
    if not whole:
        return [Known(each) for each in stored_mobs(store)]
    return [_known(stored_mob(store, each)) for each in stored_mobs(store)]


def _known(stored: StoredMob) -> Known:
    return Known(stored.mob_id, labels_of(stored), updated_ns(stored))


def chosen_mob(store: Store, wanted: str | None, labels: Sequence[str] = ()) -> str:
    """The id of the mob that was typed. Raises as `mob.addresses.find_mob`."""
    pairs = [parse_label(each) for each in labels]
    known = known_mobs(store, whole=bool(pairs) or wanted == LAST)
    if wanted == LAST:
        return find_mob(wanted, _alive(store, known) or known, pairs)
    try:
        return find_mob(wanted, known, pairs)
    except AddressAmbiguous:  # a mob that was deleted keeps its id, but nobody means it by less
        alive = _alive(store, known)
        if len(alive) in (0, len(known)):
            raise
        try:
            return find_mob(wanted, alive, pairs)
        except AddressUnknown:
            pass
        raise


def _alive(store: Store, known: Sequence[Known]) -> list[Known]:
    gone = MobState.DESTROYED
    return [each for each in known if stored_mob(store, each.mob_id).roster.mob_state is not gone]


def addressed(state: Path, text: str | None, labels: Sequence[str] = ()) -> Address:
    """The address that was typed, with the whole id of its mob.

    Raises:
        NothingThere: there is no store.
        AddressInvalid, AddressUnknown, AddressAmbiguous: as `mob.addresses`.
    """
    typed = Address("") if text is None else parse(text)
    with looking_into(state) as store:
        return attrs.evolve(typed, mob=chosen_mob(store, typed.mob or None, labels))


def whole_mob(
    state: Path, text: str | None, labels: Sequence[str] | None, *, needed: bool = True
) -> str:
    """The id of the one mob that was typed, for a verb about a mob as a whole; unless it is
    `needed`, nothing stands for the only one that there is.

    Raises:
        UsageWrong: nothing was typed, and it is needed.
        AddressInvalid: a part of a mob was.
        NothingThere, AddressUnknown, AddressAmbiguous: as `addressed`.
    """
    if needed and text is None and not labels:
        raise UsageWrong("say which mob: MOB, or -l KEY=VALUE; `mob ls` lists them")
    address = addressed(state, text, labels or ())
    if address.path or address.at is not None:
        raise AddressInvalid(text or "", "this is done with a mob as a whole: write MOB")
    return address.mob


def chosen_mobs(
    store: Store, wanted: str | None, labels: Sequence[str] | None = None
) -> tuple[str, ...]:
    """The mobs that a verb about several is about: the one that was typed, those with the labels,
    or every mob.

    Raises:
        AddressInvalid: more than a mob was typed.
        AddressUnknown, AddressAmbiguous: as `mob.addresses.find_mob`.
    """
    if wanted is not None:
        typed = parse(wanted)
        if typed.path or typed.at is not None:
            raise AddressInvalid(wanted, "this is about a mob as a whole: write MOB")
        return (chosen_mob(store, wanted, labels or ()),)
    pairs = tuple(map(parse_label, labels or ()))
    return every_mob_with(pairs, known_mobs(store, whole=bool(pairs)))


def instead_of_mob(
    mob: str, other: str | None, labels: Sequence[str] | None
) -> tuple[str | None, str | None]:
    """What was typed of a verb about MOB and something else: labels stand in the place of MOB, so
    with them a single word is the something else."""
    return (None, mob) if labels and other is None else (mob, other)


def chosen_session(state: Path, address: Address) -> SessionId:
    """The session that was typed, of a member or below one. Raises as `find_session`."""
    if not address.path or address.at is not None:
        raise AddressInvalid(address.mob, "write MOB/MEMBER or MOB/MEMBER/SESSION")
    with looking_into(state) as store:
        stored = stored_mob(store, address.mob)
        return find_session(address.path, stored.state, stored.roster)


def say_where(target: Target) -> None:
    """Say that a change was made where nobody runs the mob."""
    if isinstance(target, Resting):
        narrate(f"mob: no process runs {target.mob_id!r}: this is in its store")


def chosen_member(state: Path, address: Address, *, lead: bool = False, gone: bool = False) -> str:
    """The whole name of the member that was typed; with `lead` that of the lead if none was, with
    `gone` also of one that has left.

    Raises:
        AddressInvalid: none was typed, or a session below one.
        AddressUnknown, AddressAmbiguous: as `mob.addresses.find`.
        NothingThere: the mob was deleted.
    """
    if address.at is not None or len(address.path) > 1 or not (address.path or lead):
        typed = "/".join((address.mob, *address.path))
        raise AddressInvalid(typed, "write MOB/MEMBER")
    with looking_into(state) as store:
        roster = stored_mob(store, address.mob).roster
    if roster.mob_state is MobState.DESTROYED:
        raise NothingThere(f"mob {address.mob!r} was deleted, and has no members any more")
    if not address.path:
        return str(json.loads(roster.blueprint or "{}")["lead"])
    if gone and address.path[0] not in roster.members and address.path[0] in roster.retired:
        return address.path[0]
    return find(address.path[0], tuple(roster.members), "member")


def is_served(state: Path, mob_id: str) -> bool:
    """Whether a process runs the mob and can be reached."""
    return somebody_listens(socket_of(state, mob_id))


@asynccontextmanager
async def reaching(
    state: Path, mob_id: str, definition: MobDefinition | None = None
) -> AsyncIterator[Target]:
    """The mob `mob_id`, wherever it is, for this block; `definition` is its mob file's, for bounds
    that a store does not know.

    Raises:
        NotServed: a process has the store open, but cannot be reached.
        MobNotFound, MobError, stores.StoreError: as `open_resting`.
    """
    existing_store(state)
    async with AsyncExitStack() as stack:
        try:
            target: Target = await stack.enter_async_context(open_client(state, mob_id))
        except NotServed:
            store = await _own(stack, state, mob_id)
            target = Resting(
                await stack.enter_async_context(open_resting(store, mob_id, definition))
            )
        yield target


async def _own(stack: AsyncExitStack, state: Path, mob_id: str) -> Store:
    """The store, opened for this block. Raises `NotServed` if a process has it."""
    try:
        return await stack.enter_async_context(open_lmdb(state))
    except StoreInUse as error:
        pid = owner_of(state)
        who = "another process" if pid is None else f"process {pid}"
        raise NotServed(
            mob_id,
            f"the store at {state} is in use by {who}, which serves no socket for this mob: it runs"
            " others, or its Python lacks the packages for that (pip install 'trio-mob[server]');"
            " end it, or wait until it has ended, and try again",
        ) from error
