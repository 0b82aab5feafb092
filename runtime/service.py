"""SessionService: sessions for callers that run no mob.

Owns: the protocol (seed: meerkat-core, `SessionService`), its requests and views, and the two
implementations: ephemeral (memory) and persistent (a durable store). Must not: queue a turn behind
another one (the loser of a race is told `SESSION_BUSY`), know members.

A turn runs in the task of its caller. Reading never waits for a turn and shows committed state.
"""

from __future__ import annotations

import enum
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, Final, Protocol

import attrs

from runtime.attempts import Route
from runtime.budget import Budget
from runtime.compaction import Compacted, Compacting, compact
from runtime.driver import SessionConfig
from runtime.errors import (
    CompactionDisabled,
    PersistenceDisabled,
    RecordUnreadable,
    SessionError,
    SessionNotRunning,
    SessionStoreError,
)
from runtime.hooks import NO_HOOKS, Hook
from runtime.ids import HarnessId, RealmId, SessionId
from runtime.journal import Event
from runtime.live import Doing
from runtime.messages import Message, Usage
from runtime.models.base import Model, Schema
from runtime.models.registry import open_model
from runtime.models.watched import watched
from runtime.ports import Ports
from runtime.realm import Realm
from runtime.results import TurnResult, last_text
from runtime.session import CompactionPolicy, SessionHead, SessionSpec
from runtime.skills import NO_SKILLS, LoadSkill, Skill, Skills
from runtime.spending import Budgets
from runtime.structured import check_schema
from runtime.tools.base import Tool, Toolbox
from runtime.tools.policy import EVERY_TOOL, ToolPolicy
from runtime.turn import TurnRules
from stores import Store, StoreError

#: The realm and the harness of sessions that belong to no mob.
REALM: Final = RealmId("sessions")
HARNESS: Final = HarnessId("plain")


class InitialTurnPolicy(enum.Enum):
    """Whether `create_session` runs a turn on its prompt."""

    RUN_IMMEDIATELY = "run-immediately"
    DEFER = "defer"


@attrs.frozen
class SessionBuildOptions:
    """How a session is built, beyond model and prompts.

    `output_schema` and `structured_output_retries` bind every answer; `provider_params` go with
    each model call. `fallback` are further models, as ``provider:id``, that a call goes to in their
    order when the session's own cannot answer. `budget_limits` bound the session with everything it
    starts, over all its turns. `tools` says which tools the session and those below it may call.
    `compaction` says when the session's context is compacted; its model is ``provider:id``.
    `preload_skills` are skills of the service whose text the session's prompt holds.
    `hooks_override` are the session's hooks, by name. `llm_client_override`, `external_tools` and
    `hooks_override` are live objects: they hold until the process ends and are not persisted.
    """

    output_schema: Schema | None = None
    structured_output_retries: int = 2
    provider_params: Mapping[str, Any] = attrs.field(factory=dict)
    llm_client_override: Model | None = None
    external_tools: tuple[Tool, ...] = ()
    fallback: tuple[str, ...] = ()
    budget_limits: Budget | None = None
    hooks_override: Mapping[str, bool | Hook] = attrs.field(factory=dict)
    tools: ToolPolicy = EVERY_TOOL
    preload_skills: tuple[str, ...] = ()
    compaction: CompactionPolicy | None = None


NO_OPTIONS: Final = SessionBuildOptions()


@attrs.frozen
class CreateSessionRequest:
    """A new session: `model` is ``provider:id``; `max_tokens` bounds each reply; `skill_references`
    are for the first turn, as in `StartTurnRequest`."""

    model: str
    prompt: str = ""
    system_prompt: str | None = None
    max_tokens: int | None = None
    title: str | None = None
    initial_turn: InitialTurnPolicy = InitialTurnPolicy.RUN_IMMEDIATELY
    build: SessionBuildOptions = NO_OPTIONS
    skill_references: tuple[str, ...] = ()


@attrs.frozen
class StartTurnRequest:
    """A turn of an existing session. `skill_references` are skills whose text is in its prompt."""

    prompt: str
    skill_references: tuple[str, ...] = ()


@attrs.frozen
class SessionQuery:
    """Which part of the list: skip `offset`, return at most `limit`."""

    limit: int | None = None
    offset: int = 0


@attrs.frozen
class SessionSummary:
    """One line of a list. Times are nanoseconds since the epoch."""

    session_id: SessionId
    title: str | None
    created_at_ns: int
    updated_at_ns: int
    message_count: int
    total_tokens: int
    is_active: bool
    #: What is damaged of it, None if nothing is known to be; then the rest may be empty.
    quarantined: str | None = None


@attrs.frozen
class SessionInfo:
    """The state half of a view."""

    session_id: SessionId
    created_at_ns: int
    updated_at_ns: int
    message_count: int
    is_active: bool
    is_archived: bool
    last_assistant_text: str | None


@attrs.frozen
class SessionUsage:
    """The billing half of a view."""

    total_tokens: int
    usage: Usage


@attrs.frozen
class SessionView:
    """What `read` returns: committed state, and what it has cost."""

    state: SessionInfo
    billing: SessionUsage


class SessionService(Protocol):
    """Sessions by id. Errors carry the codes of `runtime.errors`, and the session id."""

    @property
    def supports_persistent_sessions(self) -> bool:
        """Whether sessions survive the process."""
        ...

    async def create_session(self, request: CreateSessionRequest) -> TurnResult:
        """Create a session, and run its first turn unless that is deferred.

        A failure before the session is committed leaves nothing behind. With `DEFER` the result is
        empty but for the id.

        Raises:
            ModelUnavailable: the model cannot be used; nothing was created.
            SessionError: the output schema cannot be used; nothing was created.
            AgentError: the first turn failed; carries the id of the session, which is usable.
        """
        ...

    async def start_turn(self, session_id: SessionId, request: StartTurnRequest) -> TurnResult:
        """Run one turn; return when it is committed. Cancelling leaves it to be continued.

        Raises:
            SessionNotFound, SessionBusy: nothing was accepted.
            AgentError: the turn ended without an answer; the session is usable.
        """
        ...

    async def interrupt(self, session_id: SessionId) -> None:
        """Cancel the turn in flight; it ends as interrupted and its caller is told.

        Raises:
            SessionNotFound, SessionNotRunning: there is no such session, or no turn.
        """
        ...

    async def read(self, session_id: SessionId) -> SessionView:
        """Committed state; never waits for a turn. Raises `SessionNotFound`."""
        ...

    async def read_history(self, session_id: SessionId, limit: int | None = None) -> list[Message]:
        """The newest `limit` committed messages, oldest first. Raises `SessionNotFound`."""
        ...

    async def list(self, query: SessionQuery = SessionQuery()) -> Iterable[SessionSummary]:
        """Most recently updated first, ties by id; archived sessions are left out."""
        ...

    async def compact(self, session_id: SessionId) -> Compacted:
        """Have the session's context summed up now, whatever its length. Why there is no summary is
        part of what is returned; the history stays whole and readable either way.

        Raises:
            CompactionDisabled: the session was built without.
            SessionNotFound, SessionBusy: nothing was done.
        """
        ...

    async def archive(self, session_id: SessionId) -> None:
        """End the session and its children; the history stays readable. Idempotent.

        Raises:
            SessionNotFound: there is no such session.
        """
        ...

    def subscribe_session_events(
        self, session_id: SessionId, after: int = 0
    ) -> AsyncIterator[Event]:
        """The session's records above the cursor `after`, past and future, without end.

        Works before the first turn and covers every turn. A slow subscriber loses nothing and
        slows nobody down: it reads the journal at its own pace. Raises `SessionNotFound`.
        """
        ...


class RealmSessionService:
    """`SessionService` over one realm; memory or disk is the store's business."""

    def __init__(
        self,
        store: Store,
        *,
        ports: Ports | None = None,
        skills: Mapping[str, Skill] | None = None,
    ) -> None:
        self._skills = dict(skills or {})
        self.realm = Realm(store, REALM, self._configure, ports=ports)
        self.realm.recover()
        if any(head.spec.budget is not None for head in self.realm.state.heads.values()):
            self.realm.budgets = Budgets(self.realm, _budget_of)
        self._models: dict[str, Model] = {}
        self._overrides: dict[SessionId, SessionBuildOptions] = {}

    @property
    def supports_persistent_sessions(self) -> bool:
        return self.realm.store.durable

    async def create_session(self, request: CreateSessionRequest) -> TurnResult:
        build = request.build
        if build.output_schema is not None:
            mistake = check_schema(build.output_schema)
            if mistake is not None:
                raise SessionError(f"output_schema is {mistake}; nothing was created")
        if build.llm_client_override is None:
            self._model(request.model)
        for reference in build.fallback:
            self._model(reference)
        if build.compaction is not None and build.compaction.model is not None:
            self._model(build.compaction.model)
        options = dict(build.provider_params)
        if request.max_tokens is not None:
            options["max_tokens"] = request.max_tokens
        schema = None if build.output_schema is None else json.dumps(build.output_schema)
        spec = SessionSpec(
            request.model,
            request.system_prompt,
            schema,
            build.structured_output_retries,
            options,
            build.fallback,
            build.budget_limits,
            build.tools,
            build.preload_skills,
            build.compaction,
        )
        self._known_skills((*build.preload_skills, *request.skill_references), None)
        if build.budget_limits is not None:
            if build.budget_limits.nano_usd is not None:
                raise SessionError("budget_limits: no price is known here, so money has no limit")
            if self.realm.budgets is None:
                self.realm.budgets = Budgets(self.realm, _budget_of)
        with _store_errors(None):
            head = await self.realm.create(HARNESS, title=request.title, spec=spec)
        self._overrides[head.session_id] = build
        if request.initial_turn is InitialTurnPolicy.DEFER:
            return TurnResult(head.session_id, None, "")
        return await self.start_turn(
            head.session_id, StartTurnRequest(request.prompt, request.skill_references)
        )

    async def start_turn(self, session_id: SessionId, request: StartTurnRequest) -> TurnResult:
        self._known_skills(request.skill_references, session_id)
        with _store_errors(session_id):
            return await self.realm.runner.send_message(
                session_id, request.prompt, skills=request.skill_references
            )

    async def interrupt(self, session_id: SessionId) -> None:
        self.realm.state.head(session_id)
        if not self.realm.interrupt(session_id):
            raise SessionNotRunning(session_id)

    async def read(self, session_id: SessionId) -> SessionView:
        head = self.realm.state.head(session_id)
        with _store_errors(session_id):
            with self.realm.reading(session_id):
                text = last_text(self.realm.turn(head.head)) if head.head else None
        info = SessionInfo(
            session_id,
            head.created_at_ns,
            head.updated_at_ns,
            head.message_count,
            self.realm.busy(session_id),
            head.archived,
            text or None,
        )
        return SessionView(info, SessionUsage(head.usage.total_tokens, head.usage))

    async def read_history(self, session_id: SessionId, limit: int | None = None) -> list[Message]:
        with _store_errors(session_id):
            return self.realm.messages(session_id, limit, "oldest")

    async def compact(self, session_id: SessionId) -> Compacted:
        realm = self.realm
        how = self._configure(realm.state.head(session_id)).compacting
        if how is None:
            raise CompactionDisabled(
                f"session {session_id} was built without compaction; give it a policy when it is"
                " created",
                session_id,
            )
        with _store_errors(session_id), realm.hold(session_id):
            live = realm.live(session_id)
            try:
                return await compact(realm, live, how)
            finally:
                live.doing = Doing.IDLE

    async def archive(self, session_id: SessionId) -> None:
        with _store_errors(session_id):
            await self.realm.archive(session_id, "archived")
        self._overrides.pop(session_id, None)

    async def subscribe_session_events(
        self, session_id: SessionId, after: int = 0
    ) -> AsyncIterator[Event]:
        self.realm.state.head(session_id)
        async with aclosing(self.realm.journal.follow(after)) as events:
            async for event in events:
                if getattr(event.record, "session_id", None) == session_id:
                    yield event

    async def list(self, query: SessionQuery = SessionQuery()) -> Iterable[SessionSummary]:
        heads = [head for head in self.realm.state.heads.values() if not head.archived]
        heads.sort(key=lambda head: (-head.updated_at_ns, head.session_id))
        end = None if query.limit is None else query.offset + query.limit
        return [self._summary(head) for head in heads[query.offset : end]]

    async def aclose(self) -> None:
        """Close the model clients this service opened."""
        for model in self._models.values():
            await model.aclose()

    def _summary(self, head: SessionHead) -> SessionSummary:
        return SessionSummary(
            head.session_id,
            head.title,
            head.created_at_ns,
            head.updated_at_ns,
            head.message_count,
            head.usage.total_tokens,
            self.realm.busy(head.session_id),
            head.quarantined,
        )

    def _configure(self, head: SessionHead) -> SessionConfig:
        spec = head.spec
        build = self._overrides.get(head.session_id, NO_OPTIONS)
        schema = None if spec.output_schema is None else json.loads(spec.output_schema)
        retries = 2 if spec.output_retries is None else spec.output_retries
        skills = Skills(self._skills, spec.preload_skills) if self._skills else NO_SKILLS
        loads = [LoadSkill(skills)] if self._skills else []
        model = build.llm_client_override or self._model(spec.model or "")
        compacting = None
        if (policy := spec.compaction) is not None:
            writes = model if policy.model is None else self._model(policy.model)
            compacting = Compacting(policy, writes, spec.options if writes is model else {})
        return SessionConfig(
            model,
            skills.prompt(spec.instructions or ""),
            Toolbox([*build.external_tools, *loads], policy=spec.tools),
            TurnRules(schema, retries),
            spec.options,
            hooks=NO_HOOKS.overridden(build.hooks_override),
            skills=skills,
            compacting=compacting,
            fallback=tuple(
                Route(self._model(reference), options=spec.options) for reference in spec.fallback
            ),
        )

    def _known_skills(self, names: Iterable[str], session_id: SessionId | None) -> None:
        reason = Skills(self._skills).unknown(names)
        if reason is not None:
            raise SessionError(f"{reason}; nothing was begun", session_id)

    def _model(self, reference: str) -> Model:
        if reference not in self._models:
            self._models[reference] = watched(open_model(reference))
        return self._models[reference]


def _budget_of(head: SessionHead) -> tuple[str, Budget] | None:
    budget = head.spec.budget
    return None if budget is None else (f"session {head.title or head.session_id!r}", budget)


class EphemeralSessionService(RealmSessionService):
    """Sessions that end with the process. Get one from `mob.open_session_service`."""


class PersistentSessionService(RealmSessionService):
    """Sessions that survive the process: every finished turn is on disk before it is reported."""

    def __init__(
        self,
        store: Store,
        *,
        ports: Ports | None = None,
        skills: Mapping[str, Skill] | None = None,
    ) -> None:
        if not store.durable:
            raise PersistenceDisabled(
                f"a persistent session service needs a durable store; {store.location} is not one"
            )
        super().__init__(store, ports=ports, skills=skills)


@contextmanager
def _store_errors(session_id: SessionId | None) -> Iterator[None]:
    """Give what the store raises the code that surfaces know (CONTRACTS 4.7)."""
    try:
        yield
    except (StoreError, RecordUnreadable) as error:
        raise SessionStoreError(str(error), session_id) from error
