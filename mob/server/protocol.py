"""What is said over the socket of a mob: requests and replies as data, and their JSON.

Owns: one class for each verb and what it returns, and the strict reading of JSON. Must not: do
anything: `mob.server.verbs` carries requests out, on a running mob or over a store.

A request is ``POST /v1/VERB`` with the fields of its class as a JSON object; an unknown field, a
missing one or one of another type is refused. Durations are in seconds.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar, Final, Generic, TypeVar

import attrs

from mob.errors import RequestInvalid
from mob.receipts import MemberHandle, Receipt, StopReport
from mob.view import MobView
from runtime import peering
from runtime.codec import converter
from runtime.ids import SessionId
from runtime.results import TurnResult

R = TypeVar("R")
T = TypeVar("T")

#: Where the version stands in every path; another one is for changes that old clients cannot read.
VERSION: Final = "v1"


class Request(Generic[R]):
    """A request, and the class of its reply. `verb` is its name in the path.

    With `patient` it waits for others, however long that takes; whoever goes away ends the wait.
    """

    verb: ClassVar[str]
    reply: ClassVar[type]
    patient: ClassVar[bool] = False


@attrs.frozen
class Done:
    """Whether anything had to be changed, or was there to be done."""

    changed: bool = True


@attrs.frozen
class Info:
    """Who serves: the mob and its recorded state, the process, the end of the journal."""

    mob_id: str
    state: str
    lead: str
    members: int
    last: int
    pid: int
    version: str
    location: str


@attrs.frozen
class Look:
    """A running mob at one moment; `now_s` is the clock of the ages in it (see `mob.view`)."""

    view: MobView
    now_s: float


@attrs.frozen
class Told:
    """A record in words: whom it is about, and what happened."""

    who: str
    what: str


@attrs.frozen
class Send(Request[Receipt]):
    """See `Mob.send`."""

    verb: ClassVar[str] = "send"
    reply: ClassVar[type] = Receipt
    to: str
    text: str
    mode: str = "queue"
    sender: str | None = None
    intent: str = peering.MESSAGE
    when_full: str | None = None
    idempotency_key: str | None = None
    skills: tuple[str, ...] = ()


@attrs.frozen
class Ask(Request[TurnResult]):
    """See `Mob.ask`."""

    verb: ClassVar[str] = "ask"
    reply: ClassVar[type] = TurnResult
    patient: ClassVar[bool] = True
    member: str
    text: str
    idempotency_key: str | None = None
    skills: tuple[str, ...] = ()


@attrs.frozen
class Interrupt(Request[Done]):
    """See `Mob.interrupt`; `changed` is whether there was a turn in flight."""

    verb: ClassVar[str] = "interrupt"
    reply: ClassVar[type] = Done
    member: str


@attrs.frozen
class Stop(Request[StopReport]):
    """See `Mob.stop`. A `mob run` ends with it."""

    verb: ClassVar[str] = "stop"
    reply: ClassVar[type] = StopReport
    deadline_s: float = 10.0
    reason: str = "asked to stop"


@attrs.frozen
class Resume(Request[Done]):
    """See `Mob.resume`."""

    verb: ClassVar[str] = "resume"
    reply: ClassVar[type] = Done


@attrs.frozen
class Spawned:
    """A member that has joined, and its session."""

    name: str
    session_id: SessionId


@attrs.frozen
class Spawn(Request[Spawned]):
    """See `Mob.spawn`."""

    verb: ClassVar[str] = "spawn"
    reply: ClassVar[type] = Spawned
    name: str
    profile: str
    spawn_key: str | None = None


@attrs.frozen
class Retire(Request[Done]):
    """See `Mob.retire`."""

    verb: ClassVar[str] = "retire"
    reply: ClassVar[type] = Done
    member: str
    reason: str = "retired"


@attrs.frozen
class Respawn(Request[MemberHandle]):
    """See `Mob.respawn`."""

    verb: ClassVar[str] = "respawn"
    reply: ClassVar[type] = MemberHandle
    member: str
    reason: str = "respawned"
    profile: str | None = None


@attrs.frozen
class Wire(Request[Done]):
    """See `Mob.wire`; `changed` is whether they had no such edge."""

    verb: ClassVar[str] = "wire"
    reply: ClassVar[type] = Done
    a: str
    b: str
    directed: bool = False


@attrs.frozen
class Unwire(Request[Done]):
    """See `Mob.unwire`; `changed` is whether there was an edge."""

    verb: ClassVar[str] = "unwire"
    reply: ClassVar[type] = Done
    a: str
    b: str
    directed: bool = False


@attrs.frozen
class Waited:
    """Whether what was waited for is so, and the state then."""

    held: bool
    state: str


@attrs.frozen
class Wait(Request[Waited]):
    """Wait until the mob, or a member of it, is in one of `states` (`mob.server.waiting`), for at
    most `timeout_s`; None waits without a limit."""

    verb: ClassVar[str] = "wait"
    reply: ClassVar[type] = Waited
    patient: ClassVar[bool] = True
    states: tuple[str, ...]
    member: str | None = None
    timeout_s: float | None = None


@attrs.frozen
class Waiting:
    """A tool call that waits, or waited, for approval; see `runtime.approvals.Approval`."""

    key: str
    session_id: SessionId
    tool: str
    arguments: str
    asker: str
    asked_at_ns: int
    verdict: str | None


@attrs.frozen
class Calls:
    """The calls that wait, oldest first."""

    calls: tuple[Waiting, ...]


@attrs.frozen
class Approvals(Request[Calls]):
    """See `Mob.approvals`."""

    verb: ClassVar[str] = "approvals"
    reply: ClassVar[type] = Calls


@attrs.frozen
class Approve(Request[Waiting]):
    """See `Mob.approve`; `arguments` are JSON text."""

    verb: ClassVar[str] = "approve"
    reply: ClassVar[type] = Waiting
    key: str
    by: str
    arguments: str | None = None


@attrs.frozen
class Deny(Request[Waiting]):
    """See `Mob.deny`."""

    verb: ClassVar[str] = "deny"
    reply: ClassVar[type] = Waiting
    key: str
    by: str
    reason: str = ""


@attrs.frozen
class Place:
    """A point: see `runtime.points.Point`."""

    label: str
    at: int
    made_at_ns: int
    kept: bool


@attrs.frozen
class Snapshot(Request[Place]):
    """See `Mob.snapshot`."""

    verb: ClassVar[str] = "snapshot"
    reply: ClassVar[type] = Place
    label: str


@attrs.frozen
class Forked:
    """A mob that is there now, and the record up to which it is its parent."""

    new: str
    at: int


@attrs.frozen
class Fork(Request[Forked]):
    """See `Mob.fork`; `label` or `seq` say what the new mob is, neither: what this one is now."""

    verb: ClassVar[str] = "fork"
    reply: ClassVar[type] = Forked
    new: str
    label: str | None = None
    seq: int | None = None


@attrs.frozen
class Rewind(Request[Place]):
    """See `Mob.rewind`, to `label` or `seq`; the reply is the point that the mob was at."""

    verb: ClassVar[str] = "rewind"
    reply: ClassVar[type] = Place
    label: str | None = None
    seq: int | None = None


@attrs.frozen
class CancelFlow(Request[Done]):
    """See `FlowRun.cancel`; `changed` is whether the run had not ended."""

    verb: ClassVar[str] = "cancel-flow"
    reply: ClassVar[type] = Done
    run_id: str
    reason: str = "cancelled"


@attrs.frozen
class RestoreSession(Request[Done]):
    """See `SessionManager.restore`."""

    verb: ClassVar[str] = "restore-session"
    reply: ClassVar[type] = Done
    session_id: SessionId
    branch: int = -1


@attrs.frozen
class TagSession(Request[Done]):
    """See `SessionManager.tag` and `untag`."""

    verb: ClassVar[str] = "tag-session"
    reply: ClassVar[type] = Done
    session_id: SessionId
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


@attrs.frozen
class RenameSession(Request[Done]):
    """See `SessionManager.rename`."""

    verb: ClassVar[str] = "rename-session"
    reply: ClassVar[type] = Done
    session_id: SessionId
    name: str


@attrs.frozen
class DeleteSession(Request[Done]):
    """See `SessionManager.delete`."""

    verb: ClassVar[str] = "delete-session"
    reply: ClassVar[type] = Done
    session_id: SessionId


REQUESTS: Final[dict[str, type[Request[Any]]]] = {
    each.verb: each
    for each in (
        *(Send, Ask, Interrupt, Stop, Resume, Wait),
        *(Spawn, Retire, Respawn, Wire, Unwire),
        *(Approvals, Approve, Deny),
        *(Snapshot, Fork, Rewind, CancelFlow),
        *(RestoreSession, TagSession, RenameSession, DeleteSession),
    )
}


def to_json(value: Any) -> Any:
    """An attrs value as JSON can hold it; `read` has it back."""
    return converter().unstructure(value)


def read(cls: type[T], value: Any) -> T:
    """The instance of `cls` that JSON stands for.

    Raises:
        RequestInvalid: it does not fit the class exactly.
    """
    from cattrs.errors import ForbiddenExtraKeysError

    try:
        if not isinstance(value, dict):
            raise TypeError(f"expected an object, found {value!r:.80}")
        return converter().structure(value, cls)
    except ForbiddenExtraKeysError as error:
        names = ", ".join(sorted(error.extra_fields))
        raise RequestInvalid(f"{_named(cls)} has no field {names}") from None
    except KeyError as error:
        raise RequestInvalid(f"{_named(cls)} needs {error}") from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RequestInvalid(f"not a {_named(cls)}: {error}") from None


def parse(cls: type[T], body: bytes) -> T:
    """The instance of `cls` in a body of JSON; an empty one is an empty object.

    Raises:
        RequestInvalid: it is no JSON, or does not fit the class exactly.
    """
    try:
        value = json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        raise RequestInvalid(f"the body is not JSON: {error}") from None
    return read(cls, value)


def _named(cls: type) -> str:
    return str(getattr(cls, "verb", cls.__name__))
