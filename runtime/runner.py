"""LocalSessionRunner: the seam through which a session starts and drives child sessions.

Owns: the protocol (seed: everruns, `LocalSessionRunner`) and its implementation in one process.
Must not: own the runtime; it is handed a realm.

A child's turn runs in the task of whoever calls `send_message`, so it sits below its caller in the
nursery tree and is cancelled with it, before the caller is told anything.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, Protocol, TypeVar

from runtime.asking import TurnWaits
from runtime.driver import TurnAborted
from runtime.errors import (
    AgentError,
    ModelError,
    SessionBusy,
    SessionNotFound,
    SessionQuarantined,
    TurnFailed,
    TurnInterrupted,
    describe,
)
from runtime.ids import AgentId, HarnessId, SessionId
from runtime.messages import Message
from runtime.results import TurnResult, result_of
from runtime.session import (
    NO_SPEC,
    PendingInput,
    SessionHead,
    SessionMetadata,
    SessionSpec,
    SessionStatus,
)
from runtime.tasks import NewTask, TaskView, waits
from stores import CommitUnknown, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from runtime.realm import Realm

_P = ParamSpec("_P")
_T = TypeVar("_T")


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
        self,
        session_id: SessionId,
        content: str,
        *,
        idempotency_key: str | None = None,
        skills: tuple[str, ...] = (),
    ) -> TurnResult:
        """Run one turn on `content`; return when it is committed and readable. `skills` are added
        to its prompt.

        A key that was used before joins the outcome of that message. Cancelling cancels the turn;
        it stays in flight in the journal and the next call continues it first, whatever that one
        says; a call with the same key returns its result.

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
        """End the session and what is below it and linked; histories stay readable. Idempotent."""
        ...

    async def start_task(
        self,
        parent_session_id: SessionId,
        harness_id: HarnessId,
        name: str,
        task: NewTask,
        *,
        spec: SessionSpec = NO_SPEC,
        spawn_key: str | None = None,
    ) -> TaskView:
        """Make a child that works in the background, and its work, durable; return at once.

        A `spawn_key` that was used before finds the child it made. The child has its parent's
        agent and locale.

        Raises:
            Unsupported: this runner has no place for background children.
            SessionNotFound, LimitExceeded: nothing was created.
            SessionError: the parent is archived, or is ending.
        """
        ...

    async def list_tasks(self, parent_session_id: SessionId) -> Sequence[TaskView]:
        """The session's background children, in order of their creation."""
        ...

    async def get_task(self, parent_session_id: SessionId, task_id: SessionId) -> TaskView:
        """One of them. Raises `TaskNotFound`."""
        ...

    async def message_task(
        self, parent_session_id: SessionId, task_id: SessionId, content: str, *, key: str
    ) -> TaskView:
        """A further message for the child, durable when this returns; its next turn is on it. A key
        that was used before sends nothing again.

        Raises:
            TaskNotFound: the session has no such child.
            SessionError: it has ended.
        """
        ...

    async def wait_task(
        self, parent_session_id: SessionId, task_id: SessionId, timeout_s: float | None = None
    ) -> TaskView:
        """Wait until the child has ended, `timeout_s` at most; then the view says `timed_out`.

        Raises `TaskNotFound`.
        """
        ...

    async def cancel_task(
        self, parent_session_id: SessionId, task_id: SessionId, reason: str
    ) -> TaskView:
        """Cancel the child's running turn and what is linked to it; one that has ended stays as it
        is. Raises `TaskNotFound`."""
        ...


def _noted(
    method: Callable[Concatenate[InProcessRunner, _P], Awaitable[_T]],
) -> Callable[Concatenate[InProcessRunner, _P], Coroutine[Any, Any, _T]]:
    """A method of which the realm remembers that the store failed under it."""

    @functools.wraps(method)
    async def noted(self: InProcessRunner, /, *args: _P.args, **options: _P.kwargs) -> _T:
        try:
            return await method(self, *args, **options)
        except (StoreUnavailable, CommitUnknown) as error:
            self._realm.failed = error
            raise

    return noted


class InProcessRunner:
    """The runner over one realm of this process."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm
        #: Sessions whose last turn here was cut off: what it queued may not be in the fold yet.
        self._cut: set[SessionId] = set()

    @_noted
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

    @_noted
    async def send_message(
        self,
        session_id: SessionId,
        content: str,
        *,
        idempotency_key: str | None = None,
        skills: tuple[str, ...] = (),
    ) -> TurnResult:
        realm = self._realm
        head = realm.state.head(session_id)
        if head.task is not None and head.task.running:
            raise SessionBusy(session_id)  # it works on its own: `message_task` reaches it
        if idempotency_key is not None:
            settled = realm.inputs.settled(session_id, idempotency_key)
            if settled is not None:
                return realm.inputs.result(settled)
        with realm.hold(session_id):
            if session_id in self._cut:
                # What the turn before this one queued must be known before anything is decided.
                await realm.store.barrier()
                self._cut.discard(session_id)
            admission = realm.inputs.accept(
                session_id, content, idempotency_key=idempotency_key, skills=skills
            )
            if admission.settled is not None:
                return realm.inputs.result(admission.settled)
            assert admission.pending is not None
            self._cut.add(session_id)
            try:
                result = await self._work_off(session_id, admission.pending)
            except AgentError:  # the turn ended, and that is on disk
                self._cut.discard(session_id)
                raise
            self._cut.discard(session_id)
            return result

    async def _work_off(self, session_id: SessionId, pending: PendingInput) -> TurnResult:
        """Run the turns that are due up to the one on `pending`; return the result of that one.

        An interrupt ends them all: nobody is left who waits for an answer.
        """
        realm = self._realm
        *earlier, inputs = _due(realm.state.head(session_id), pending)
        for before in earlier:
            kept = realm.decisions.kept(session_id)
            try:
                await turn_through(realm, session_id, before)
            except TurnInterrupted:
                if kept:
                    continue  # whom it was about has gone; what is asked now came behind it
                await realm.inputs.abandon(session_id, pending.input_id, "interrupted")
                raise
            except AgentError:
                continue  # recorded; it does not block the inputs behind it
        return await turn_through(realm, session_id, inputs)

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
        if self._realm.busy(session_id) and head.status is not SessionStatus.WAITING:
            return SessionStatus.ACTIVE
        return head.status

    @_noted
    async def archive_session(self, session_id: SessionId, reason: str) -> None:
        await self._realm.archive(session_id, reason)

    @_noted
    async def start_task(
        self,
        parent_session_id: SessionId,
        harness_id: HarnessId,
        name: str,
        task: NewTask,
        *,
        spec: SessionSpec = NO_SPEC,
        spawn_key: str | None = None,
    ) -> TaskView:
        parent = self._realm.state.head(parent_session_id)
        return await self._realm.background.start(
            parent_session_id,
            harness_id,
            name,
            task,
            agent_id=parent.agent_id,
            locale=parent.locale,
            spec=spec,
            spawn_key=spawn_key,
        )

    async def list_tasks(self, parent_session_id: SessionId) -> Sequence[TaskView]:
        return self._realm.background.of(parent_session_id)

    async def get_task(self, parent_session_id: SessionId, task_id: SessionId) -> TaskView:
        return self._realm.background.get(parent_session_id, task_id)

    @_noted
    async def message_task(
        self, parent_session_id: SessionId, task_id: SessionId, content: str, *, key: str
    ) -> TaskView:
        return await self._realm.background.message(parent_session_id, task_id, content, key=key)

    @_noted
    async def wait_task(
        self, parent_session_id: SessionId, task_id: SessionId, timeout_s: float | None = None
    ) -> TaskView:
        return await self._realm.background.wait(parent_session_id, task_id, timeout_s)

    @_noted
    async def cancel_task(
        self, parent_session_id: SessionId, task_id: SessionId, reason: str
    ) -> TaskView:
        return await self._realm.background.cancel(parent_session_id, task_id, reason)


async def turn_through(
    realm: Realm, session_id: SessionId, inputs: Sequence[PendingInput]
) -> TurnResult:
    """As `turn_on`, also if the turn waits for decisions: in this task, until it has ended."""
    while True:
        try:
            return await turn_on(realm, session_id, inputs)
        except TurnWaits:
            await realm.decisions.wait(session_id)
        if realm.state.head(session_id).archived:
            raise TurnInterrupted("the turn was interrupted: the session was archived", session_id)


async def turn_on(
    realm: Realm, session_id: SessionId, inputs: Sequence[PendingInput]
) -> TurnResult:
    """One turn, ended whatever its model does: as the failure that it raised, if it raised.

    Raises as `runtime.results.result_of`; `TurnAborted`, `TurnWaits` and what the store raises
    leave the turn in flight, and so do damage and the end of the session.
    """
    try:
        record = await realm.driver(session_id, inputs).run(inputs)
    except (StoreError, TurnAborted, TurnWaits, SessionQuarantined, SessionNotFound):
        raise
    except Exception as error:
        reason = describe(error)
        await realm.store.barrier()
        await realm.give_up(session_id, inputs, reason)
        retryable = isinstance(error, ModelError) and error.retryable
        raise TurnFailed(reason, session_id, retryable=retryable) from error
    return result_of(record)


def _due(head: SessionHead, last: PendingInput) -> list[tuple[PendingInput, ...]]:
    """The inputs of the turns that are due up to the one on `last`, in order.

    First the turn in flight, if one was cut off, then the inputs before `last` that no turn has
    consumed, each in a turn of its own: nothing accepted is left behind. What waits for a
    turn goes with any of them.
    """
    waiting = dict(head.inputs or {})
    waiting.setdefault(last.input_id, last)
    turns: list[tuple[PendingInput, ...]] = []
    if head.partial is not None:
        first = [waiting.pop(key) for key in head.partial.input_ids if key in waiting]
        turns.append(tuple(first))
    if last.input_id in waiting:
        for pending in waiting.values():
            if waits(pending):
                continue
            turns.append((pending,))
            if pending.input_id == last.input_id:
                break
    return turns
