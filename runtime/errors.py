"""What can go wrong in a session, and how each surface says it.

    MobError                            everything raised on purpose above the store
    +-- SessionError                    carries `code` and, where there is one, `session_id`
    |   +-- SessionNotFound             SESSION_NOT_FOUND
    |   +-- SessionBusy                 SESSION_BUSY
    |   +-- SessionNotRunning           SESSION_NOT_RUNNING
    |   +-- PersistenceDisabled         SESSION_PERSISTENCE_DISABLED
    |   +-- CompactionDisabled          SESSION_COMPACTION_DISABLED
    |   +-- StaleRevision               SESSION_BUSY: somebody changed it meanwhile
    |   +-- SessionStoreError           SESSION_STORE_ERROR
    |   +-- SessionQuarantined          SESSION_STORE_ERROR: what is stored of it is damaged
    |   +-- ContextConflict             SESSION_CONTEXT_CONFLICT: the key came with another text
    |   +-- NameTaken                   SESSION_NAME_TAKEN: another session has this peer name
    |   +-- InputRefused                SESSION_BUSY: a run on an input that is not queued
    |   +-- AgentError                  AGENT_ERROR: the turn ended without an answer
    |       +-- TurnFailed              the model or a limit ended it
    |       +-- TurnInterrupted         somebody interrupted it
    |       +-- OutputInvalid           the answer never fitted its schema
    |       +-- BudgetExceeded          a budget was used up before there was an answer
    +-- ModelError                      a provider's failure; `retryable` says whether to try again
    |   +-- ModelUnavailable            no key, no package, no weights: trying again cannot help
    |   |   +-- NotRecorded             the request is not in the recording that is replayed
    |   +-- ModelRefused                the provider declined the content
    +-- LimitExceeded                   a depth, count or length limit stands in the way
    +-- ApprovalNotFound                no call waits under this key, or none does any more
    +-- ApprovalRefused                 the call was decided otherwise, or the arguments do not fit
    +-- TaskNotFound                    a session has no such background child
    +-- LineageCycle                    a parent, fork or budget link would form a circle
    +-- Unsupported                     the implementation does not offer this operation
    +-- OriginLost                  what a fork of a realm begins with is not in the store
    +-- PointNotFound               a realm has no such point to go back to
    +-- PointExists                 it has a point of this label already
    +-- RealmExists                 the store has a realm of this id already
    +-- Unusable                    a name, label or mode that was given is none
    +-- RecordUnreadable                a journal record of this realm cannot be understood
    +-- WrittenLater                    a row has a layout that only a later version knows

Three families, never mixed: our caller's misuse, their (a provider's, a tool's) failure, damage on
disk (`stores.errors.Damaged`). Failures of tools and models inside a turn are data that the model
or the policy sees, and become errors only where the turn ends. One table, `SURFACES`, maps each
code to HTTP, JSON-RPC and the command line (CONTRACTS 4.12).
"""

from __future__ import annotations

from typing import ClassVar, Final

import attrs

from runtime.ids import SessionId


class MobError(Exception):
    """Base of every error that `runtime` and `mob` raise on purpose."""


class SessionError(MobError):
    """An operation on a session failed; `code` is stable, `session_id` is None if there is none."""

    code: ClassVar[str] = "AGENT_ERROR"

    def __init__(self, message: str, session_id: SessionId | None = None) -> None:
        super().__init__(message)
        self.session_id = session_id


class SessionNotFound(SessionError):
    """No session has this id in this realm."""

    code = "SESSION_NOT_FOUND"

    def __init__(self, session_id: SessionId, what: str = "session") -> None:
        super().__init__(f"{what} not found: {session_id}", session_id)


class SessionBusy(SessionError):
    """A turn is in flight; wait for it or interrupt it. The request was not queued."""

    code = "SESSION_BUSY"

    def __init__(self, session_id: SessionId) -> None:
        super().__init__(
            f"session is busy: {session_id} has a turn in flight; wait for it or interrupt it",
            session_id,
        )


class SessionNotRunning(SessionError):
    """There is no turn to interrupt."""

    code = "SESSION_NOT_RUNNING"

    def __init__(self, session_id: SessionId) -> None:
        super().__init__(f"no turn running on session: {session_id}", session_id)


class PersistenceDisabled(SessionError):
    """The operation needs a service that persists sessions."""

    code = "SESSION_PERSISTENCE_DISABLED"


class CompactionDisabled(SessionError):
    """The operation needs compaction, which this session was built without."""

    code = "SESSION_COMPACTION_DISABLED"


class StaleRevision(SessionError):
    """The session changed since `held` was read; nothing was saved. Read it again and redo."""

    code = "SESSION_BUSY"

    def __init__(self, session_id: SessionId, held: int, current: int) -> None:
        super().__init__(
            f"session {session_id} is at revision {current}, not {held}: it changed meanwhile; "
            "resume it again and redo the change",
            session_id,
        )
        self.held = held
        self.current = current


class SessionStoreError(SessionError):
    """The store failed underneath; the cause is chained."""

    code = "SESSION_STORE_ERROR"


class SessionQuarantined(SessionError):
    """What is stored of the session is damaged, `reason` says how; nothing is done with it.

    The others go on. What is left of it stays on disk as it is, until it is rewound to a turn
    before the damage (`SessionManager.rewind`) or deleted.
    """

    code = "SESSION_STORE_ERROR"

    def __init__(self, session_id: SessionId, reason: str) -> None:
        super().__init__(
            f"session {session_id} is quarantined: {reason}; what is left of it is kept as it is:"
            " run `mob doctor` on this store, rewind it to before the damage, or delete it",
            session_id,
        )
        self.reason = reason


class ContextConflict(SessionError):
    """The idempotency key `key` came with another text before; nothing was staged."""

    code = "SESSION_CONTEXT_CONFLICT"

    def __init__(self, session_id: SessionId, key: str) -> None:
        super().__init__(
            f"key {key!r} was used for another system context of session {session_id}; use a new"
            " key for a new text",
            session_id,
        )
        self.key = key


class NameTaken(SessionError):
    """Another session has this peer name; nothing was created."""

    code = "SESSION_NAME_TAKEN"

    def __init__(self, name: str, session_id: SessionId) -> None:
        super().__init__(
            f"session {session_id} is called {name!r} already; take another comms_name, or archive"
            " it first",
            session_id,
        )
        self.name = name


class InputRefused(SessionError):
    """A run on an input that is not queued, or under an id that was used; nothing was done."""

    code = "SESSION_BUSY"


class AgentError(SessionError):
    """The turn ended without an answer. The session stays usable."""

    code = "AGENT_ERROR"


class TurnFailed(AgentError):
    """The turn was given up. `retryable` says whether the same input might succeed later."""

    def __init__(
        self, message: str, session_id: SessionId | None = None, *, retryable: bool = False
    ) -> None:
        super().__init__(message, session_id)
        self.retryable = retryable


class TurnInterrupted(AgentError):
    """The turn was interrupted before it could answer; its open tool calls were closed."""


class OutputInvalid(AgentError):
    """The answer did not fit its schema after all retries; `text` is what the model said last."""

    def __init__(self, message: str, session_id: SessionId | None, *, text: str) -> None:
        super().__init__(message, session_id)
        self.text = text


class BudgetExceeded(AgentError):
    """A budget was used up, and the turn ended. `limit` is its key (``tokens``, ``tool_calls``,
    ``seconds``, ``usd``), `allowed` and `spent` are in that key's unit, `scope` says whose it is.
    """

    def __init__(
        self,
        message: str,
        session_id: SessionId | None,
        *,
        scope: str,
        limit: str,
        allowed: float,
        spent: float,
    ) -> None:
        super().__init__(message, session_id)
        self.scope = scope
        self.limit = limit
        self.allowed = allowed
        self.spent = spent


class ModelError(MobError):
    """A model call failed. `provider` is the part before the colon of ``provider:id``.

    `status` is the HTTP status if there was one, `retry_after_s` what the provider asked for.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        retryable: bool,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.retryable = retryable
        self.status = status
        self.retry_after_s = retry_after_s


class ModelUnavailable(ModelError):
    """The model cannot be used as configured: no key, no package, no weights, no such model."""

    def __init__(self, message: str, *, provider: str) -> None:
        super().__init__(message, provider=provider, retryable=False)


class NotRecorded(ModelUnavailable):
    """A replayed model was asked what is not in its recording; the message says what is nearest."""


class ModelRefused(ModelError):
    """The provider declined to answer this content."""

    def __init__(self, message: str, *, provider: str) -> None:
        super().__init__(message, provider=provider, retryable=False)


class LimitExceeded(MobError):
    """`limit` names the limit, `allowed` its value; nothing was created."""

    def __init__(self, message: str, *, limit: str, allowed: int) -> None:
        super().__init__(message)
        self.limit = limit
        self.allowed = allowed


class TaskNotFound(MobError):
    """The session has no background child of this id; `known` are those it has."""

    def __init__(self, task_id: SessionId, known: tuple[SessionId, ...]) -> None:
        yours = f"yours are: {', '.join(known)}" if known else "you have started none"
        super().__init__(f"there is no task {task_id!r}; {yours}")
        self.task_id = task_id
        self.known = known


class ApprovalNotFound(MobError):
    """No call of a turn in flight waits under this key; `waiting` are the keys of those that do."""

    def __init__(self, key: str, waiting: tuple[str, ...]) -> None:
        waits = f"waiting are: {', '.join(waiting)}" if waiting else "nothing waits"
        super().__init__(
            f"no call {key!r} waits for a decision: there never was one, or its turn has ended;"
            f" {waits}"
        )
        self.key = key
        self.waiting = waiting


class ApprovalRefused(MobError):
    """The decision about the call `key` is not taken, `reason` says why."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"call {key!r} was not decided: {reason}")
        self.key = key
        self.reason = reason


class LineageCycle(MobError):
    """A lineage or harness link would make something its own ancestor; the message names it."""


class Unsupported(MobError):
    """This implementation does not offer `operation`; it never pretends to."""

    def __init__(self, operation: str, by: str) -> None:
        super().__init__(f"{by} does not support {operation}")
        self.operation = operation


class OriginLost(MobError):
    """`realm` is a fork of `parent` at record `at`, of which the store has only `last` records."""

    def __init__(self, realm: str, parent: str, at: int, last: int) -> None:
        super().__init__(
            f"{realm!r} is a fork of {parent!r} at record {at}, and shares what is before it; the"
            f" store has {last} records of {parent!r}: restore a backup that has both"
        )
        self.realm = realm
        self.parent = parent


class PointNotFound(MobError):
    """There is no such point to go back to; nothing was changed. `at` is the label or the number
    that was asked for."""

    def __init__(self, at: str | int, why: str) -> None:
        super().__init__(f"cannot go to {at!r}: {why}")
        self.at = at


class PointExists(MobError):
    """There is a point of this `label` already, and it stays; no other was made."""

    def __init__(self, label: str) -> None:
        super().__init__(
            f"there is a point {label!r} already, and what it holds stays: take another label"
        )
        self.label = label


class RealmExists(MobError):
    """The store has a mob, or another realm, of this id already; nothing was forked."""

    def __init__(self, realm: str) -> None:
        super().__init__(
            f"the store has {realm!r} already: take another id (that of one which was deleted is"
            " not used again)"
        )
        self.realm = realm


class Unusable(MobError):
    """A name, a label, a mode or a number that was given cannot be one; nothing was done."""


class RecordUnreadable(MobError):
    """A journal record is intact but cannot be understood; `seq` says which.

    `damaged` is whether no version of this program could understand it.
    """

    def __init__(self, realm: str, seq: int, reason: str, *, damaged: bool = True) -> None:
        super().__init__(f"realm {realm!r}, record {seq}: {reason}")
        self.damaged = damaged
        self.realm = realm
        self.seq = seq


class WrittenLater(MobError):
    """Something stored has a layout, `found`, that is later than those known here, up to `known`.

    It is no damage: nothing may be done to it but by a later version.
    """

    def __init__(self, what: str, found: int, known: int) -> None:
        super().__init__(
            f"{what} has layout {found} and this version of trio-mob reads up to {known}: it was"
            " written by a later one, upgrade trio-mob"
        )
        self.found = found
        self.known = known


@attrs.frozen
class Surface:
    """How one error code appears: HTTP status, JSON-RPC code, command-line exit code."""

    http: int
    jsonrpc: int
    exit: int


#: The one table of CONTRACTS 4.12. Every surface reads it; none has its own.
SURFACES: Final[dict[str, Surface]] = {
    "SESSION_NOT_FOUND": Surface(404, -32001, 4),
    "SESSION_BUSY": Surface(409, -32002, 7),
    "SESSION_PERSISTENCE_DISABLED": Surface(501, -32003, 2),
    "SESSION_COMPACTION_DISABLED": Surface(501, -32004, 2),
    "SESSION_NOT_RUNNING": Surface(409, -32005, 7),
    "SESSION_STORE_ERROR": Surface(500, -32006, 1),
    "AGENT_ERROR": Surface(500, -32000, 1),
    # Beside the seed's codes: conflicts of what a caller named with what is there.
    "SESSION_CONTEXT_CONFLICT": Surface(409, -32007, 7),
    "SESSION_NAME_TAKEN": Surface(409, -32008, 7),
}


def surface_of(error: SessionError) -> Surface:
    """How every surface says this error."""
    return SURFACES[error.code]


def encodable(text: str) -> str:
    """`text`, each half of a surrogate pair replaced: such a half fits no journal and no file."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def words_of(error: BaseException) -> str:
    """The message of somebody else's error as text that fits a journal. Never raises."""
    with _Whatever():  # an error's own code may raise anything, and that must not hide it
        return encodable(str(error))
    return "(its message cannot be read)"


class _Whatever:
    """In a block without a checkpoint: what it raises is nobody's business."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> bool:
        return True


def describe(error: BaseException) -> str:
    """``Type: message``, as `words_of`."""
    return f"{type(error).__name__}: {words_of(error)}"
