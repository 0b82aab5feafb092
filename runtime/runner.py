"""LocalSessionRunner: the seam through which a session starts and drives child sessions.

Owns: the protocol (seed: everruns, `LocalSessionRunner`) and its implementation in one process.
Must not: own the runtime; it is handed a realm.

A child's turn runs in the task of whoever calls `send_message`, so it sits below its caller in the
nursery tree and is cancelled with it, before the caller is told anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from runtime.errors import SessionBusy, SessionNotFound, TurnFailed
from runtime.ids import AgentId, HarnessId, SessionId
from runtime.messages import Message
from runtime.results import TurnResult, result_of
from runtime.session import NO_SPEC, SessionMetadata, SessionSpec, SessionStatus
from stores import StoreError

if TYPE_CHECKING:
    from runtime.realm import Realm


class LocalSessionRunner(Protocol):
    """Starts and drives real sessions for tools that spawn them."""

    async def create_session(
        self,
        harness_id: HarnessId,
        agent_id: AgentId | None = None,
        title: str | None = None,
        locale: str | None = None,
        parent_session_id: SessionId | None = None,
        *,
        spec: SessionSpec = NO_SPEC,
        spawn_key: str | None = None,
    ) -> SessionMetadata:
        """Catalogue a session durably and run no turn.

        A `spawn_key` that was used before returns the session it made. Raises `SessionNotFound`
        for an unknown parent and `LimitExceeded` beyond a limit; then nothing was created.
        """
        ...

    async def send_message(
        self, session_id: SessionId, content: str, *, idempotency_key: str | None = None
    ) -> TurnResult:
        """Run one turn on `content`; return when it is committed and readable.

        A key that was used before joins the outcome of that message. Cancelling cancels the turn;
        it stays in flight in the journal and a later call with the same key continues it.

        Raises:
            SessionNotFound: there is no such session.
            SessionBusy: a turn is in flight.
            AgentError: the turn ended without an answer; the session stays usable.
        """
        ...

    async def list_sessions(
        self, limit: int | None = None, agent_id: AgentId | None = None
    ) -> list[SessionMetadata]:
        """Newest first, ties by id; filtered by agent before `limit` cuts."""
        ...

    async def get_session(self, session_id: SessionId) -> SessionMetadata | None:
        """The session, or None if there is none."""
        ...

    async def get_messages(
        self,
        session_id: SessionId,
        limit: int | None = None,
        *,
        order: Literal["newest", "oldest"] = "newest",
    ) -> list[Message]:
        """The newest `limit` messages, newest first; ``order="oldest"`` turns them round.

        Raises:
            SessionNotFound: there is no such session.
        """
        ...

    async def get_session_status(self, session_id: SessionId) -> SessionStatus | None:
        """The status, or None if there is no such session."""
        ...

    async def archive_session(self, session_id: SessionId, reason: str) -> None:
        """End the session and what is below it; histories stay readable. Idempotent."""
        ...


class InProcessRunner:
    """The runner over one realm of this process."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    async def create_session(
        self,
        harness_id: HarnessId,
        agent_id: AgentId | None = None,
        title: str | None = None,
        locale: str | None = None,
        parent_session_id: SessionId | None = None,
        *,
        spec: SessionSpec = NO_SPEC,
        spawn_key: str | None = None,
    ) -> SessionMetadata:
        head = await self._realm.create(
            harness_id,
            agent_id=agent_id,
            title=title,
            locale=locale,
            parent=parent_session_id,
            spec=spec,
            spawn_key=spawn_key,
        )
        return head.metadata()

    async def send_message(
        self, session_id: SessionId, content: str, *, idempotency_key: str | None = None
    ) -> TurnResult:
        realm = self._realm
        realm.state.head(session_id)
        if realm.running(session_id) is not None:
            raise SessionBusy(session_id)
        admission = realm.accept(session_id, content, idempotency_key=idempotency_key)
        if admission.settled is not None:
            return realm.settled_result(admission.settled)
        assert admission.pending is not None
        inputs = [admission.pending]
        try:
            record = await realm.driver(session_id, inputs).run(inputs)
        except StoreError:
            raise
        except Exception as error:  # a model client may raise anything; the turn ends as failed
            reason = f"{type(error).__name__}: {error}"
            await realm.store.barrier()
            await realm.driver(session_id, inputs).fail(reason, inputs)
            raise TurnFailed(reason, session_id) from error
        return result_of(record)

    async def list_sessions(
        self, limit: int | None = None, agent_id: AgentId | None = None
    ) -> list[SessionMetadata]:
        heads = [
            head
            for head in self._realm.state.heads.values()
            if agent_id is None or head.agent_id == agent_id
        ]
        heads.sort(key=lambda head: (-head.created_at_ns, head.session_id))
        return [head.metadata() for head in heads[:limit]]

    async def get_session(self, session_id: SessionId) -> SessionMetadata | None:
        head = self._realm.state.heads.get(session_id)
        return None if head is None else head.metadata()

    async def get_messages(
        self,
        session_id: SessionId,
        limit: int | None = None,
        *,
        order: Literal["newest", "oldest"] = "newest",
    ) -> list[Message]:
        return self._realm.messages(session_id, limit, order)

    async def get_session_status(self, session_id: SessionId) -> SessionStatus | None:
        try:
            head = self._realm.state.head(session_id)
        except SessionNotFound:
            return None
        if self._realm.running(session_id) is not None:
            return SessionStatus.ACTIVE
        return head.status

    async def archive_session(self, session_id: SessionId, reason: str) -> None:
        await self._realm.archive(session_id, reason)
