"""The journal's records of one session and its children; also the events that subscribers see.

Owns: the record types of the runtime, their kind numbers and their codec. Must not: know members,
wiring or flows (the mob registers its own kinds), read a clock or make an id.

Records are named in the past tense because each states something that is true once it is
committed. There is one set of types for the journal, the fold, subscribers, replay and audit.

Two codecs. The per-turn records are packed by hand as tuples: that is 2.5 times faster. Everything
else goes through cattrs, strictly. A kind number is never used again for something else.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import attrs
import msgpack

from runtime.approvals import ApprovalAsked, ApprovalDecided, ApprovalUsed
from runtime.codec import cold_codec
from runtime.contexts import (
    FAILED_CODEC,
    CompactionFailed,
    ContextCompacted,
    pack_compacted,
    unpack_compacted,
)
from runtime.heads import unpack_head
from runtime.ids import AgentId, HarnessId, InputId, RunId, SessionId
from runtime.ledger import InputsRequeued, RunApplied
from runtime.messages import (
    Message,
    Usage,
    pack_message,
    pack_usage,
    unpack_message,
    unpack_usage,
)
from runtime.particulars import SessionRespecified, SessionTracked
from runtime.points import POINT_KINDS
from runtime.session import Compaction, Lifetime, Lineage, SessionSpec, TaskState
from stores.values import value


class TurnOutcome(enum.Enum):
    """How a turn ended. The values are stored: never renumber."""

    COMPLETED = 0
    FAILED = 1
    INTERRUPTED = 2
    #: A budget was used up; the record's `output` says which, as JSON.
    OVER_BUDGET = 3


@attrs.frozen
class SessionCreated:
    """A session is catalogued; no turn has run. `spawn_key` makes spawning idempotent, and
    `external_id` is what whoever tracks it elsewhere calls it."""

    session_id: SessionId
    harness_id: HarnessId
    agent_id: AgentId | None
    title: str | None
    locale: str | None
    lineage: Lineage
    spec: SessionSpec
    spawn_key: str | None
    at_ns: int
    external_id: str | None = None


@attrs.frozen
class SessionArchived:
    """The session takes no more turns; its history stays readable."""

    session_id: SessionId
    reason: str
    at_ns: int


@value
class InputAccepted:
    """An input is on disk and will be worked on. `sender` is a member's name, None for a caller;
    `skills` are those that are added to the prompt of its turn. One to `steer` is taken in by the
    turn in flight, if there is one."""

    session_id: SessionId
    input_id: InputId
    text: str
    sender: str | None
    idempotency_key: str | None
    at_ns: int
    skills: tuple[str, ...] = ()
    steer: bool = False


@attrs.frozen
class InputAbandoned:
    """An input will never be worked on, and why. Terminal."""

    session_id: SessionId
    input_id: InputId
    reason: str
    at_ns: int


@value
class TurnProgressed:
    """Part of a turn in flight: the messages since the last such record, oldest first.

    `step` counts the model calls made so far; `usage` is the turn's total so far.
    """

    session_id: SessionId
    run_id: RunId
    input_ids: tuple[InputId, ...]
    messages: tuple[Message, ...]
    usage: Usage
    step: int
    at_ns: int


@value
class TurnEnded:
    """A whole turn: its messages, usage, receipt and the inputs it consumed, in one record.

    `prev` is the sequence number of the session's turn before this one (0: none), which makes the
    history a chain. `output` is the JSON text of a structured answer, `error` why a turn failed or
    was interrupted; of a completed one, that its answer was cut off.

    `turn` is the turn's place in its history, counting from 1, and `total` the messages up to and
    with it. `skip` is another, earlier turn of the chain and `skip_turn` its place (see
    `runtime.chain`): any turn is found in a number of steps that is logarithmic in the length.
    Negative numbers in `prev` and `skip` count back from the record's own: turns that are committed
    together do not know their numbers.
    """

    session_id: SessionId
    run_id: RunId
    prev: int
    outcome: TurnOutcome
    messages: tuple[Message, ...]
    usage: Usage
    input_ids: tuple[InputId, ...]
    output: str | None
    error: str | None
    started_at_ns: int
    ended_at_ns: int
    turn: int = 1
    total: int = 0
    skip: int = 0
    skip_turn: int = 0


@attrs.frozen
class ModelRetried:
    """A model call failed and is made again, in the same turn: at `then` after `delay_ms`.

    `step` is the turn's model call, from 1, `attempt` the failed attempt of it, from 1, whatever
    model it was at; `model` is who failed and `error` why.
    """

    session_id: SessionId
    run_id: RunId
    step: int
    attempt: int
    model: str
    error: str
    delay_ms: int
    then: str
    at_ns: int


@attrs.frozen
class HookReported:
    """A hook did something to a turn, or failed to do its part. `what` is ``denied``, ``rewrote``
    or ``failed``, `reason` why; `point` is where (`runtime.hooks.HookPoint`)."""

    session_id: SessionId
    run_id: RunId
    hook: str
    point: str
    what: str
    reason: str
    at_ns: int


@attrs.frozen
class TaskStarted:
    """The session, made in the same commit, is a background child of its parent."""

    session_id: SessionId
    lifetime: Lifetime
    at_ns: int


def _check_terminal(_: Any, __: Any, state: TaskState) -> None:
    if state is TaskState.RUNNING:
        raise ValueError("a task that has ended is not running")


@attrs.frozen
class TaskEnded:
    """The background child has ended by itself; terminal. `turn` is the record of its last turn (0:
    none was run), `error` why it did not complete. One that is archived before is cancelled."""

    session_id: SessionId
    state: TaskState = attrs.field(validator=_check_terminal)
    turn: int
    error: str | None
    at_ns: int


@attrs.frozen
class SessionForked:
    """A new session whose history is that of `source` up to and with `head`, for `agent_id`."""

    session_id: SessionId
    source: SessionId
    title: str | None
    head: int
    turns: int
    total: int
    links: tuple[int, ...]
    at_ns: int
    compaction: Compaction | None = None
    agent_id: AgentId | None = None


@attrs.frozen
class SessionRewound:
    """The session's history ends at the turn `head` from here on; what followed is a branch.

    `restored` is the place of the branch, oldest first, that this brings back; None for a rewind.
    """

    session_id: SessionId
    head: int
    turns: int
    total: int
    links: tuple[int, ...]
    restored: int | None
    at_ns: int
    compaction: Compaction | None = None


@attrs.frozen
class SessionLabelled:
    """The session's title and tags from here on."""

    session_id: SessionId
    title: str | None
    tags: tuple[str, ...]
    at_ns: int


@attrs.frozen
class SessionDeleted:
    """The session is gone. What a fork shares with it stays reachable through the fork."""

    session_id: SessionId
    at_ns: int


@attrs.frozen
class SessionMended:
    """The session was quarantined, and is what `row` says from here on (`runtime.heads`)."""

    session_id: SessionId
    row: bytes
    at_ns: int


@attrs.frozen
class Erased:
    """Here was a record that nothing reaches any more: `runtime.retention` took it away."""


Record: TypeAlias = (
    SessionCreated
    | SessionArchived
    | SessionForked
    | SessionRewound
    | SessionLabelled
    | SessionTracked
    | SessionRespecified
    | SessionDeleted
    | SessionMended
    | InputAccepted
    | InputAbandoned
    | TurnProgressed
    | TurnEnded
    | ModelRetried
    | HookReported
    | ContextCompacted
    | CompactionFailed
    | TaskStarted
    | TaskEnded
    | ApprovalAsked
    | ApprovalDecided
    | ApprovalUsed
    | RunApplied
    | InputsRequeued
    | Erased
)

#: What every erased record reads as.
ERASED: Final = Erased()

_packb = msgpack.Packer(use_bin_type=True).pack
_OUTCOMES: Final = {outcome.value: outcome for outcome in TurnOutcome}


_TEXT: Final = (str,)
_OPTIONAL: Final = (str, type(None))
_NUMBER, _TUPLE, _FLAG = (int,), (tuple,), (bool,)


def _unpackb(payload: bytes) -> Any:
    return msgpack.unpackb(payload, use_list=False, strict_map_key=False)


def _pack_input(record: InputAccepted) -> bytes:
    return _packb(
        (
            record.session_id,
            record.input_id,
            record.text,
            record.sender,
            record.idempotency_key,
            record.at_ns,
            *((record.skills, True) if record.steer else (record.skills,) if record.skills else ()),
        )
    )


def _fields(payload: bytes, *kinds: tuple[type, ...], optional: int = 0) -> tuple[Any, ...]:
    """The fields of a packed tuple, each of one of its kinds; anything else is an error. Of the
    last, so many may be left out."""
    fields = _unpackb(payload)
    if type(fields) is not tuple or not 0 <= len(kinds) - len(fields) <= optional:
        raise ValueError(f"expected {len(kinds)} fields, found {fields!r}")
    for field, kind in zip(fields, kinds, strict=not optional):
        if type(field) not in kind:
            raise ValueError(f"expected one of {kind}, found {field!r}")
    return fields


def _texts(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if any(type(value) is not str for value in values):
        raise ValueError(f"expected texts, found {values!r}")
    return values


def _unpack_input(payload: bytes) -> InputAccepted:
    kinds = (_TEXT, _TEXT, _TEXT, _OPTIONAL, _OPTIONAL, _NUMBER, _TUPLE, _FLAG)
    fields = _fields(payload, *kinds, optional=2)
    if len(fields) > 6:
        _texts(fields[6])
    return InputAccepted(*fields)


def _pack_progress(record: TurnProgressed) -> bytes:
    return _packb(
        (
            record.session_id,
            record.run_id,
            record.input_ids,
            list(map(pack_message, record.messages)),
            pack_usage(record.usage),
            record.step,
            record.at_ns,
        )
    )


def _unpack_progress(payload: bytes) -> TurnProgressed:
    session_id, run_id, input_ids, messages, usage, step, at_ns = _fields(
        payload, _TEXT, _TEXT, _TUPLE, _TUPLE, _TUPLE, _NUMBER, _NUMBER
    )
    return TurnProgressed(
        session_id,
        run_id,
        _texts(input_ids),
        tuple(map(unpack_message, messages)),
        unpack_usage(usage),
        step,
        at_ns,
    )


def _pack_turn(record: TurnEnded) -> bytes:
    return _packb(
        (
            record.session_id,
            record.run_id,
            record.prev,
            record.outcome._value_,  # `value` is a property written in Python
            list(map(pack_message, record.messages)),
            pack_usage(record.usage),
            record.input_ids,
            record.output,
            record.error,
            record.started_at_ns,
            record.ended_at_ns,
            record.turn,
            record.total,
            record.skip,
            record.skip_turn,
        )
    )


def turn_bytes(record: TurnEnded) -> int:
    """The bytes of the record's payload in the journal."""
    return len(_pack_turn(record))


def _unpack_turn(payload: bytes) -> TurnEnded:
    fields = _fields(
        payload,
        *(_TEXT, _TEXT, _NUMBER, _NUMBER, _TUPLE, _TUPLE, _TUPLE),
        *(_OPTIONAL, _OPTIONAL, _NUMBER, _NUMBER),
        *(_NUMBER, _NUMBER, _NUMBER, _NUMBER),
    )
    session, run, prev, outcome, messages, usage, inputs, output, error, *numbers = fields
    if outcome not in _OUTCOMES:
        raise ValueError(f"unknown turn outcome {outcome!r}")
    return TurnEnded(
        session,
        run,
        prev,
        _OUTCOMES[outcome],
        tuple(map(unpack_message, messages)),
        unpack_usage(usage),
        _texts(inputs),
        output,
        error,
        *numbers,
    )


_MENDED: Final = cold_codec(SessionMended)


def _unpack_mended(payload: bytes) -> SessionMended:
    record: SessionMended = _MENDED[1](payload)
    unpack_head(record.row)
    return record


@attrs.frozen
class RecordType:
    """How one record class is stored: its kind number, its version and its two functions."""

    kind: int
    cls: type
    pack: Callable[[Any], bytes]
    unpack: Callable[[bytes], Any]
    version: int = 1


def cold(kind: int, cls: type, *omitted: str) -> RecordType:
    """A record type stored through cattrs: for records that are not written every turn."""
    pack, unpack = cold_codec(cls, *omitted)
    return RecordType(kind, cls, pack, unpack)


#: Kinds 1..31 belong to the runtime; the mob's begin at 32.
RUNTIME_RECORDS: Final = (
    cold(1, SessionCreated, "external_id"),
    cold(2, SessionArchived),
    RecordType(3, InputAccepted, _pack_input, _unpack_input),
    cold(4, InputAbandoned),
    RecordType(5, TurnProgressed, _pack_progress, _unpack_progress),
    RecordType(6, TurnEnded, _pack_turn, _unpack_turn),
    cold(7, SessionForked, "compaction", "agent_id"),
    cold(8, SessionRewound, "compaction"),
    cold(9, SessionLabelled),
    cold(10, SessionDeleted),
    cold(11, ModelRetried),
    RecordType(12, SessionMended, _MENDED[0], _unpack_mended),
    cold(13, HookReported),
    RecordType(16, ContextCompacted, pack_compacted, unpack_compacted),
    RecordType(17, CompactionFailed, *FAILED_CODEC),
    cold(14, TaskStarted),
    cold(15, TaskEnded),
    cold(18, SessionTracked),
    cold(19, SessionRespecified),
    cold(20, ApprovalAsked),
    cold(21, ApprovalDecided),
    cold(22, ApprovalUsed),
    cold(23, RunApplied),
    cold(24, InputsRequeued),
    *(cold(kind, cls) for kind, cls in POINT_KINDS),
)
