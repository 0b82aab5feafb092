"""SessionService: the protocol.

Owns: what a session service promises (seed: meerkat-core, `SessionService` and its control and
history extensions). Must not: hold any behaviour.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from typing import Protocol

from runtime.compaction import Compacted
from runtime.ids import SessionId
from runtime.journal import Event
from runtime.messages import Message
from runtime.results import TurnResult
from runtime.service.requests import (
    EVERY_SESSION,
    AppendSystemContext,
    ContextStatus,
    CreateSessionRequest,
    SessionQuery,
    StartTurnRequest,
)
from runtime.service.views import SessionSummary, SessionView
from runtime.session import Session
from runtime.subscribing import StreamTruncated


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
            Unsupported: an option asks for what this service has not; nothing was created.
            SessionError: an option cannot be used; nothing was created.
            NameTaken: another session has the `comms_name`; nothing was created.
            StaleRevision: the session to resume changed since it was read; nothing was changed.
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

    async def append_system_context(
        self, session_id: SessionId, request: AppendSystemContext
    ) -> ContextStatus:
        """Say something to the session's model, once, before the next call of it. Durable on
        return, and applied exactly once also across restarts.

        Raises:
            SessionNotFound: there is no such session.
            ContextConflict: the key came with another text before.
            SessionError: the session is archived.
        """
        ...

    async def read(self, session_id: SessionId) -> SessionView:
        """Committed state; never waits for a turn. Raises `SessionNotFound`."""
        ...

    async def read_history(self, session_id: SessionId, limit: int | None = None) -> list[Message]:
        """The newest `limit` committed messages, oldest first. Raises `SessionNotFound`."""
        ...

    async def list(self, query: SessionQuery = EVERY_SESSION) -> Iterable[SessionSummary]:
        """Most recently updated first, ties by id; archived sessions are left out. The query
        filters before its `offset` and `limit` cut. Never waits for a turn."""
        ...

    async def compact(self, session_id: SessionId) -> Compacted:
        """Have the session's context summed up now, whatever its length. Why there is no summary is
        part of what is returned; the history stays whole and readable either way.

        Raises:
            CompactionDisabled: the session was built without.
            SessionNotFound, SessionBusy: nothing was done.
        """
        ...

    async def set_external_id(self, session_id: SessionId, external_id: str | None) -> None:
        """What whoever tracks the session elsewhere calls it. Raises `SessionNotFound`."""
        ...

    async def archive(self, session_id: SessionId) -> None:
        """End the session and its children; the history stays readable. Idempotent.

        Raises:
            SessionNotFound: there is no such session.
        """
        ...

    async def load_persisted_session(self, session_id: SessionId) -> Session | None:
        """The session as it was last committed to a durable store; None if there is none.

        Raises:
            SessionStoreError, SessionQuarantined: it is there and cannot be read.
        """
        ...

    async def discard_live_session(self, session_id: SessionId) -> None:
        """Drop the copy in memory; what is stored is not touched, and is read when next needed.

        Raises:
            SessionNotFound: there is no such session.
            SessionBusy: a turn is in flight, which is in the copy.
        """
        ...

    def subscribe_session_events(
        self, session_id: SessionId, after: int = 0
    ) -> AsyncGenerator[Event | StreamTruncated, None]:
        """The session's records above the cursor `after`, past and future, without end.

        Works before the first turn and covers every turn. The past is read at the subscriber's own
        pace, whole. Once it has caught up, one that falls behind slows nobody down: it finds a
        `StreamTruncated` where events are missing, and has them by subscribing again with its
        cursor. Raises `SessionNotFound`.
        """
        ...
