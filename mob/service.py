"""MobSessionService: the sessions of a mob, by id.

Owns: the protocol (seed: meerkat-mob, `MobSessionService`) and its two implementations: ephemeral
(memory) and persistent (a durable store). Must not: run a member's turn beside its queue: what is
asked of a member here goes the way of all that is asked of it.

Whose a session is, is what the roster's records say, for members and those who left, and for what
was started below them. A name decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import trio

from mob.mob import Mob
from runtime.applying import CoreApplyOutput, RuntimeTurns
from runtime.driver import SessionConfig
from runtime.errors import PersistenceDisabled, SessionBusy
from runtime.ids import InputId, RunId, SessionId
from runtime.ledger import RunApplyBoundary
from runtime.results import TurnResult
from runtime.service import (
    HARNESS,
    RealmSessionService,
    SessionService,
    StartTurnRequest,
)
from runtime.service.requests import (
    AppendSystemContext,
    ContextStatus,
    CreateSessionRequest,
    PeerMessage,
)
from runtime.session import SessionHead


class MobSessionService(SessionService, Protocol):
    """What a mob needs of sessions besides `SessionService`."""

    def session_belongs_to_mob(self, session_id: SessionId, mob_id: str) -> bool:
        """Whether the session is, or was, that of a member of the mob, or was started below one."""
        ...

    async def apply_runtime_turn(
        self,
        session_id: SessionId,
        run_id: RunId,
        request: StartTurnRequest,
        boundary: RunApplyBoundary,
        contributing_input_ids: Sequence[InputId],
    ) -> CoreApplyOutput:
        """Run a turn as `run_id` on inputs that were accepted; see `RuntimeTurns.apply`. One commit
        holds the turn, the receipt and the new state of every input."""
        ...

    async def cancel_all_checkpointers(self) -> None:
        """Let the save in flight finish; every later checkpoint of this mob is a no-op until
        `rearm_all_checkpointers`. Other mobs are not touched. Idempotent."""
        ...

    async def rearm_all_checkpointers(self) -> None:
        """Save again from now on, also what was turned away meanwhile."""
        ...


class MobSessions(RealmSessionService):
    """`MobSessionService` over one mob. Get one from `sessions_of`.

    Sessions that are created here belong to no member; they live in the mob's journal, and its
    state holds for them too: one that is stopped takes nothing and begins nothing, and a stop
    drains their turns, or cuts them off, as those of members.
    """

    def __init__(self, mob: Mob, **given: Any) -> None:
        self._mob = mob
        super().__init__(mob.realm.store, realm=mob.realm, **given)
        #: Inputs by id and the runs on them.
        self.runs = RuntimeTurns(mob.realm)
        mob.realm.configure = self._configure

    def serve(self, nursery: trio.Nursery) -> None:
        """Let hosted sessions work in `nursery`, also on what an earlier process left undone. They
        begin nothing in a mob that is stopped, drain and are saved when it stops, and go on when it
        is resumed. Background children run in the mob, whether or not this is called."""
        self._builder.background = True
        self._mob.add_hosts(self.hosts)
        self.hosts.serve(nursery)

    def session_belongs_to_mob(self, session_id: SessionId, mob_id: str) -> bool:
        if mob_id != self._mob.id:
            return False
        theirs = {row.session_id for row in self._mob.roster.members.values()}
        theirs.update(self._mob.roster.retired.values())
        theirs.update(self._mob.roster.former)
        heads = self.realm.state.heads
        here: SessionId | None = session_id
        while here is not None and here not in theirs:
            head = heads.get(here)
            here = None if head is None else head.lineage.parent
        return here is not None

    async def apply_runtime_turn(
        self,
        session_id: SessionId,
        run_id: RunId,
        request: StartTurnRequest,
        boundary: RunApplyBoundary,
        contributing_input_ids: Sequence[InputId],
    ) -> CoreApplyOutput:
        name = self._member(session_id)
        if name is not None and name in self._mob.at_work:
            raise SessionBusy(session_id)
        with self.hosts.entered(session_id), self._mob.visiting(session_id):
            return await self.runs.apply(
                session_id, run_id, request.prompt, boundary, contributing_input_ids
            )

    async def create_session(self, request: CreateSessionRequest) -> TurnResult:
        """As its base. Raises `VerbRefused` unless the mob runs, as all that begins work does."""
        self._mob.admit_work()
        return await super().create_session(request)

    async def append_system_context(
        self, session_id: SessionId, request: AppendSystemContext
    ) -> ContextStatus:
        self._mob.admit_work()
        return await super().append_system_context(session_id, request)

    async def send_peer_message(
        self, message: PeerMessage, *, realm_id: str | None = None
    ) -> SessionId:
        self._mob.admit_work()
        return await super().send_peer_message(message, realm_id=realm_id)

    async def cancel_all_checkpointers(self) -> None:
        for gate in (self._mob.realm.checkpoints, self.hosts.gate):
            if gate is not None:
                await gate.cancel()

    async def rearm_all_checkpointers(self) -> None:
        for gate in (self._mob.realm.checkpoints, self.hosts.gate):
            if gate is not None:
                gate.rearm()

    async def start_turn(self, session_id: SessionId, request: StartTurnRequest) -> TurnResult:
        """As its base; of a member's session by way of the member's queue, which must be empty."""
        name = self._member(session_id)
        if name is None:
            with self._mob.visiting(session_id):
                return await super().start_turn(session_id, request)
        if self.realm.busy(session_id) or name in self._mob.at_work:
            raise SessionBusy(session_id)
        return await self._mob.ask(name, request.prompt, skills=request.skill_references)

    async def archive(self, session_id: SessionId) -> None:
        """As its base; a member is retired."""
        name = self._member(session_id)
        if name is None:
            await super().archive(session_id)
        else:
            await self._mob.retire(name, "archived")

    def _member(self, session_id: SessionId) -> str | None:
        """The name of the present member whose session this is."""
        head = self.realm.state.heads.get(session_id)
        row = None if head is None else self._mob.roster.members.get(head.agent_id or "")
        return None if row is None or row.session_id != session_id else row.name

    def _begins(self) -> bool:
        return self._mob.begins_turns

    def _visiting(self, session_id: SessionId) -> AbstractContextManager[None]:
        return self._mob.hosting(session_id)

    def _configure(self, head: SessionHead) -> SessionConfig:
        if head.harness_id == HARNESS and head.agent_id is None:  # a profile may have that name
            return super()._configure(head)
        return self._mob.configure(head)


class EphemeralMobSessions(MobSessions):
    """The sessions of a mob that ends with its process."""


class PersistentMobSessions(MobSessions):
    """The sessions of a mob that survives its process."""

    def __init__(self, mob: Mob, **given: Any) -> None:
        """Raises `PersistenceDisabled` for a mob in a store that is not durable."""
        check_durable(mob.realm.store, f"mob {mob.id!r}")
        super().__init__(mob, **given)


def sessions_of(mob: Mob, **given: Any) -> MobSessions:
    """The service of a mob's sessions, persistent if its store is. Make one for each handle."""
    kind: Sequence[type[MobSessions]] = (EphemeralMobSessions, PersistentMobSessions)
    return kind[mob.realm.store.durable](mob, **given)


def check_durable(store: Any, who: str) -> None:
    """Raises `PersistenceDisabled` if what `who` does in `store` ends with the process."""
    if not store.durable:
        raise PersistenceDisabled(
            f"{who} asks for sessions that survive the process, and {store.location} keeps none:"
            " open it with a durable store, such as `stores.open_lmdb(path)`"
        )
