"""The session services of this package: ephemeral, and persistent.

Owns: carrying the verbs of `SessionService` out over one realm. Must not: queue a turn behind
another one (the loser of a race is told `SESSION_BUSY`), know members.

A turn runs in the task of its caller, and that of a hosted session also in a task of its own
(`runtime.service.hosting`). Reading never waits for a turn and shows committed state.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import attrs
import trio

from runtime.addenda import contexts_of
from runtime.budget import Budget
from runtime.compaction import Compacted, compact_now
from runtime.driver import SessionConfig, TurnAborted
from runtime.errors import (
    PersistenceDisabled,
    RecordUnreadable,
    SessionBusy,
    SessionError,
    SessionNotRunning,
    SessionStoreError,
    StaleRevision,
    TurnInterrupted,
    Unsupported,
)
from runtime.ids import HarnessId, RealmId, SessionId
from runtime.journal import Event
from runtime.manager import RealmSessions
from runtime.messages import Message
from runtime.particulars import SessionRespecified, SessionTracked
from runtime.ports import Ports
from runtime.realm import Realm
from runtime.records import (
    InputAccepted,
    SessionArchived,
    SessionCreated,
    SessionDeleted,
    TurnEnded,
)
from runtime.results import TurnResult, last_text
from runtime.service.building import (
    NO_DEFAULTS,
    Builder,
    ServiceDefaults,
    options_of,
    spec_of,
)
from runtime.service.channel import Scope
from runtime.service.checkpointer import SessionCheckpointer
from runtime.service.events import SessionEvents
from runtime.service.hosting import SessionHosts
from runtime.service.peers import Peers, peer_tools
from runtime.service.requests import (
    EVERY_SESSION,
    NO_OPTIONS,
    AppendSystemContext,
    ContextStatus,
    CreateSessionRequest,
    InitialTurnPolicy,
    PeerMessage,
    SessionQuery,
    StartTurnRequest,
)
from runtime.service.views import SessionSummary, SessionView, summary_of, view_of
from runtime.session import Session, SessionHead, SessionSpec
from runtime.skills import Skill
from runtime.spending import Budgets
from runtime.subscribing import BACKLOG, StreamTruncated
from stores import Damaged, Store, StoreError

#: The realm and the harness of sessions that belong to no mob.
REALM: Final = RealmId("sessions")
HARNESS: Final = HarnessId("plain")

#: Seconds that closing a service gives checkpointers for their last saves. The journal has
#: everything already, so waiting longer gains nothing.
LAST_SAVES_S: Final = 5.0


class RealmSessionService:
    """`SessionService` over one realm; memory or disk is the store's business.

    `realm` is one that somebody else runs and has recovered already; by default the service makes
    its own over `store`.
    """

    def __init__(
        self,
        store: Store,
        *,
        ports: Ports | None = None,
        skills: Mapping[str, Skill] | None = None,
        defaults: ServiceDefaults = NO_DEFAULTS,
        realm: Realm | None = None,
    ) -> None:
        if realm is None:
            realm = Realm(store, REALM, ports=ports)
            realm.recover()
            realm.configure = self._configure
        self.realm = realm
        #: The calls that wait for approval, and the verbs that decide about them.
        self.decisions = realm.decisions
        self._peers = Peers(realm)
        self._builder = Builder(
            realm,
            skills or {},
            defaults,
            lambda spec: peer_tools(self._peers, spec, self._deliver),
        )
        if any(head.spec.budget is not None for head in realm.state.heads.values()):
            self._bound()
        self.hosts = SessionHosts(realm, self._checkpointer, self._begins, self._visiting)
        self._events = SessionEvents(realm)
        self._watch_the_fold()

    # -- life ------------------------------------------------------------------------------

    def serve(self, nursery: trio.Nursery) -> None:
        """Let hosted sessions and background children work in `nursery`, also on what an earlier
        process left undone."""
        self._builder.background = True
        self.realm.background.serve(nursery)
        self.realm.background.resume()
        self.hosts.serve(nursery)

    async def aclose(self) -> None:
        """End subscriptions, make the last snapshots, close the model clients it opened."""
        self._events.close()
        with trio.move_on_after(LAST_SAVES_S) as scope:
            scope.shield = True  # whoever leaves by cancellation leaves as tidily
            await self.hosts.save()
        await self._builder.aclose()

    @property
    def supports_persistent_sessions(self) -> bool:
        return self.realm.store.durable

    # -- turns -----------------------------------------------------------------------------

    async def create_session(self, request: CreateSessionRequest) -> TurnResult:
        build = request.build
        spec = spec_of(request)
        self._builder.admit(request, spec)
        if spec.host_mode and not self.hosts.served:
            raise Unsupported("host_mode: it has no place to run turns in", "this session service")
        if spec.budget is not None:
            self._bound()
        resumed = build.resume_session
        with _store_errors(None):
            if resumed is None:
                session_id = await self._create(request, spec)
            else:
                session_id = await self._resume(resumed, request, spec)
        self._builder.options[session_id] = options_of(build)
        if request.initial_turn is InitialTurnPolicy.DEFER:
            return TurnResult(session_id, None, "")
        first = StartTurnRequest(request.prompt, request.skill_references)
        return await self.start_turn(session_id, first)

    async def start_turn(self, session_id: SessionId, request: StartTurnRequest) -> TurnResult:
        self._builder.check_skills(request.skill_references, session_id)
        try:
            with self.hosts.entered(session_id), _store_errors(session_id):
                return await self.realm.runner.send_message(
                    session_id, request.prompt, skills=request.skill_references
                )
        except TurnAborted as aborted:
            raise TurnInterrupted(str(aborted), session_id) from aborted

    async def interrupt(self, session_id: SessionId) -> None:
        self.realm.state.head(session_id)
        if not self.realm.interrupt(session_id):
            raise SessionNotRunning(session_id)

    async def append_system_context(
        self, session_id: SessionId, request: AppendSystemContext
    ) -> ContextStatus:
        at_work = self.realm.busy(session_id)
        with _store_errors(session_id):
            ticket, again = self.realm.inputs.append_context(
                session_id, request.text, request.source, request.idempotency_key
            )
            if ticket is not None:
                await ticket.wait()
            else:
                await self.realm.store.barrier()
        if again:
            return ContextStatus.DUPLICATE
        return ContextStatus.STAGED if at_work else ContextStatus.APPLIED

    async def send_peer_message(
        self, message: PeerMessage, *, realm_id: str | None = None
    ) -> SessionId:
        """Put a message before the session called `message.to`; on disk on return. A hosted session
        works on it by itself, another one before the next turn that somebody starts. Returns whose
        it is now.

        Raises:
            SessionNotFound: no peer of `realm_id` has this name.
            SessionError: the sender's name is none.
        """
        with _store_errors(None):
            return await self._deliver(message, realm_id=realm_id)

    # -- reading ---------------------------------------------------------------------------

    async def read(self, session_id: SessionId) -> SessionView:
        head = self.realm.state.head(session_id)
        with _store_errors(session_id), self.realm.reading(session_id):
            text = last_text(self.realm.turn(head.head)) if head.head else None
        staged = len(contexts_of(head))
        return view_of(head, text or None, staged, busy=self.realm.busy(session_id))

    async def read_history(self, session_id: SessionId, limit: int | None = None) -> list[Message]:
        with _store_errors(session_id):
            return self.realm.messages(session_id, limit, "oldest")

    async def list(self, query: SessionQuery = EVERY_SESSION) -> Iterable[SessionSummary]:
        heads = [head for head in self.realm.state.heads.values() if _listed(head, query)]
        heads.sort(key=lambda head: (-head.updated_at_ns, head.session_id))
        end = None if query.limit is None else query.offset + query.limit
        return [
            summary_of(head, busy=self.realm.busy(head.session_id))
            for head in heads[query.offset : end]
        ]

    async def load_persisted_session(self, session_id: SessionId) -> Session | None:
        if not self.supports_persistent_sessions or session_id not in self.realm.state.heads:
            return None
        head = self.realm.state.head(session_id)
        with _store_errors(session_id):
            return head.whole(tuple(self.realm.history(head)))

    async def subscribe_session_events(
        self, session_id: SessionId, after: int = 0, *, backlog: int = BACKLOG
    ) -> AsyncGenerator[Event | StreamTruncated, None]:
        events = self._events.subscribe(session_id, after, backlog)
        try:
            async for event in events:
                yield event
        finally:
            await events.aclose()

    # -- looking after ---------------------------------------------------------------------

    async def compact(self, session_id: SessionId) -> Compacted:
        how = self._configure(self.realm.state.head(session_id)).compacting
        try:
            with _store_errors(session_id):
                return await compact_now(self.realm, session_id, how)
        finally:
            self.hosts.wake(session_id)

    async def set_external_id(self, session_id: SessionId, external_id: str | None) -> None:
        self.realm.state.head(session_id)
        now = self.realm.ports.clock.now_ns()
        with _store_errors(session_id):
            await self.realm.append(SessionTracked(session_id, external_id, now)).wait()

    async def discard_live_session(self, session_id: SessionId) -> None:
        self.realm.state.head(session_id)
        if self.realm.busy(session_id):
            raise SessionBusy(session_id)
        self.realm.discard_live(session_id)

    async def archive(self, session_id: SessionId) -> None:
        head = self.realm.state.head(session_id)
        with _store_errors(session_id):
            await self.realm.background.end(session_id)
            heard = self.realm.background.told_of(session_id, "archived")
            told = self._peers.left(head)
            records = self.realm.archive_records(session_id, "archived")
            if records:
                await self.realm.append(*heard, *records, *told).wait()

    # -- inside ----------------------------------------------------------------------------

    async def _create(self, request: CreateSessionRequest, spec: SessionSpec) -> SessionId:
        with self._peers.joining(spec):
            made = self.realm.describe_session(HARNESS, None, request.title, None, None, spec, None)
            made = attrs.evolve(made, external_id=request.external_id)
            self._scope(request, made.session_id)
            await self.realm.append(made, *self._peers.joined(made)).wait()
        return made.session_id

    def _scope(self, request: CreateSessionRequest, session_id: SessionId) -> None:
        build = request.build
        if build.scoped_event_tx is not None:
            path = tuple(build.scoped_event_path or ())
            self._events.scope(Scope(build.scoped_event_tx, session_id, path))

    async def _resume(
        self, session: Session, request: CreateSessionRequest, spec: SessionSpec
    ) -> SessionId:
        """Go on from a session that is here, or came from elsewhere."""
        session_id = session.session_id
        self._scope(request, session_id)
        realm = self.realm
        known = realm.state.heads.get(session_id)
        with self._peers.joining(spec, session_id):
            if known is None:
                external_id = request.external_id or session.external_id
                whole = attrs.evolve(
                    session, spec=spec, harness_id=HARNESS, agent_id=None, external_id=external_id
                )
                await RealmSessions(realm).save(whole)
                return session_id
            head = realm.state.head(session_id)
            if head.archived:
                raise SessionError(f"session {session_id} is archived", session_id)
            if session.revision != head.applied:
                raise StaleRevision(session_id, session.revision, head.applied)
            now = realm.ports.clock.now_ns()
            records: list[Any] = []
            if spec != head.spec:
                records.append(SessionRespecified(session_id, spec, now))
            if request.external_id not in (None, head.external_id):
                records.append(SessionTracked(session_id, request.external_id, now))
            if records:
                await realm.change([session_id], lambda: realm.append(*records))
        return session_id

    async def _deliver(self, message: PeerMessage, *, realm_id: str | None) -> SessionId:
        head = self._peers.addressed(message, realm_id)
        with self.hosts.entered(head.session_id):
            await self._peers.deliver(message, head)
        return head.session_id

    def _configure(self, head: SessionHead) -> SessionConfig:
        return self._builder.configure(head)

    def _checkpointer(self, session_id: SessionId) -> SessionCheckpointer | None:
        return self._builder.options.get(session_id, NO_OPTIONS).checkpointer

    def _begins(self) -> bool:
        """Whether hosted sessions may begin turns now."""
        return True

    def _visiting(self, session_id: SessionId) -> AbstractContextManager[None]:
        """Around each turn of a hosted session."""
        return nullcontext()

    def _bound(self) -> None:
        if self.realm.budgets is None:
            self.realm.budgets = Budgets(self.realm, _budget_of)

    # -- following the fold ----------------------------------------------------------------

    def _watch_the_fold(self) -> None:
        for kind, then in (
            (SessionCreated, self._changed),
            (SessionRespecified, self._changed),
            (InputAccepted, self._accepted),
            (TurnEnded, self._turn_ended),
            (SessionArchived, self._archived),
            (SessionDeleted, self._deleted),
        ):
            self._after_fold(kind, then)

    def _after_fold(self, kind: type, then: Callable[[Any], None]) -> None:
        fold = self.realm.state.transitions[kind]

        def both(seq: int, record: Any) -> None:
            fold(seq, record)
            then(record)

        self.realm.state.transitions[kind] = both

    def _changed(self, record: SessionCreated | SessionRespecified) -> None:
        self._peers.note(self.realm.state.heads[record.session_id])

    def _accepted(self, record: InputAccepted) -> None:
        self.hosts.accepted(record.session_id)

    def _turn_ended(self, record: TurnEnded) -> None:
        head = self.realm.state.heads.get(record.session_id)
        if head is not None and head.spec.host_mode:
            self.hosts.gate.turn_ended(record)

    def _archived(self, record: SessionArchived) -> None:
        head = self.realm.state.heads[record.session_id]
        self._peers.forget(record.session_id)
        if head.spec.host_mode:
            self.hosts.gate.archived(record.session_id)
        else:
            self._builder.options.pop(record.session_id, None)

    def _deleted(self, record: SessionDeleted) -> None:
        self._peers.forget(record.session_id)
        self._events.unscope(record.session_id)
        self.hosts.gate.deleted(record.session_id)
        self._builder.options.pop(record.session_id, None)


def _listed(head: SessionHead, query: SessionQuery) -> bool:
    if head.archived:
        return False
    provenance = head.spec.provenance
    realm_id = None if provenance is None else provenance.realm_id
    return query.realm_id is None or realm_id == query.realm_id


def _budget_of(head: SessionHead) -> tuple[str, Budget] | None:
    budget = head.spec.budget
    return None if budget is None else (f"session {head.title or head.session_id!r}", budget)


class EphemeralSessionService(RealmSessionService):
    """Sessions that end with the process. Get one from `mob.open_session_service`."""


class PersistentSessionService(RealmSessionService):
    """Sessions that survive the process: every finished turn is on disk before it is reported."""

    def __init__(self, store: Store, **given: Any) -> None:
        """As its base. Raises `PersistenceDisabled` for a store that is not durable."""
        if not store.durable:
            raise PersistenceDisabled(
                f"a persistent session service needs a durable store; {store.location} is not one"
            )
        super().__init__(store, **given)


@contextmanager
def _store_errors(session_id: SessionId | None) -> Iterator[None]:
    """Give what the store raises the code that surfaces know (CONTRACTS 4.7)."""
    try:
        yield
    except (StoreError, Damaged, RecordUnreadable) as error:
        raise SessionStoreError(str(error), session_id) from error
