"""Turns as pieces of time: model calls, tools, waits, retries, crashes. A fold of records. Pure.

Owns: which stretch of a turn was what, as far as the journal says when. Must not: know whose a
session is, or guess: where no record says when one thing ended and the next began (the progress of
turns that `mob gc` has erased), the stretch is one piece of work of both kinds.

The records say when a reply that calls tools was saved, when the batch of its calls was, when a
call failed and until when it is waited, when somebody was asked and had decided, and when the turn
ended. The calls of a batch ran at the same time, and when each ended nobody wrote down.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs

from mob.records import MemberExited
from runtime.approvals import ApprovalAsked, ApprovalDecided
from runtime.ids import InputId, SessionId
from runtime.messages import AssistantMessage, Message, ToolCall, ToolResult, open_calls
from runtime.records import (
    InputAbandoned,
    InputAccepted,
    ModelRetried,
    SessionDeleted,
    TurnEnded,
    TurnProgressed,
)

_NS_PER_MS: Final = 1_000_000


class Doing(enum.Enum):
    """What a stretch of time was."""

    MODEL = "model"
    TOOL = "tool"
    #: Models and tools; when each was, the journal does not say any more.
    WORK = "work"
    #: A call of a model failed and is made again later.
    RETRY = "retry"
    #: Somebody had to decide about a call.
    APPROVAL = "approval"
    #: The member had crashed and was not begun again yet.
    RESTART = "restart"


@attrs.frozen
class Piece:
    """A stretch of a turn. `replies` came in it, `calls` with their results (None: cut off) ran.

    `error` says why it came to nothing. Of a RESTART it is why the member crashed.
    """

    doing: Doing
    start_ns: int
    end_ns: int
    replies: tuple[AssistantMessage, ...] = ()
    calls: tuple[tuple[ToolCall, ToolResult | None], ...] = ()
    error: str | None = None
    detail: str = ""


@attrs.frozen
class TurnPieces:
    """A turn in pieces, oldest first. `queued_ns` is when the first of its inputs was accepted;
    `seq` and `record` are None of one that is in flight, whose end is that of its last piece."""

    session_id: SessionId
    queued_ns: int | None
    start_ns: int
    end_ns: int
    pieces: tuple[Piece, ...]
    seq: int | None = None
    record: TurnEnded | None = None


@attrs.define
class _Marks:
    """What is known of a session since its last turn ended."""

    ended_ns: int = 0
    inputs: dict[InputId, int] = attrs.field(factory=dict)
    marks: list[Any] = attrs.field(factory=list)


class Pieces:
    """Feed it the records in order; it keeps those of turns in flight."""

    def __init__(self) -> None:
        self._sessions: dict[SessionId, _Marks] = {}

    def feed(self, seq: int, record: Any) -> TurnPieces | None:
        """The turn in pieces that has ended with this record; None if none has."""
        kind = type(record)
        if kind is InputAccepted:
            self._at(record.session_id).inputs[record.input_id] = record.at_ns
        elif kind is InputAbandoned:
            self._at(record.session_id).inputs.pop(record.input_id, None)
        elif kind in _MARKS:
            self._at(record.session_id).marks.append(record)
        elif kind is SessionDeleted:
            self._sessions.pop(record.session_id, None)
        elif kind is TurnEnded:
            return self._ended(seq, record)
        return None

    def in_flight(self) -> Iterator[TurnPieces]:
        """The turns that have begun and not ended, and the crashes behind which none has."""
        for session_id, known in self._sessions.items():
            if known.marks:
                start_ns = _begun(known, known.marks[0].at_ns)
                pieces = tuple(_cut(known.marks, start_ns))
                queued_ns = min(known.inputs.values(), default=None)
                end_ns = max(each.end_ns for each in pieces) if pieces else start_ns
                yield TurnPieces(session_id, queued_ns, start_ns, end_ns, pieces)

    def _at(self, session_id: SessionId) -> _Marks:
        return self._sessions.setdefault(session_id, _Marks())

    def _ended(self, seq: int, record: TurnEnded) -> TurnPieces:
        known = self._at(record.session_id)
        taken = [known.inputs.pop(each, None) for each in record.input_ids]
        accepted = [each for each in taken if each is not None]
        start_ns = record.started_at_ns
        if known.marks and known.marks[0].at_ns < start_ns:
            # Part of it is older than the process that ended it, which counts its own time.
            start_ns = max(known.ended_ns, min(accepted, default=known.marks[0].at_ns))
            start_ns = min(start_ns, known.marks[0].at_ns)
        pieces = tuple(_cut(known.marks, start_ns, record))
        queued_ns = min(accepted, default=None)
        known.marks, known.ended_ns = [], record.ended_at_ns
        return TurnPieces(
            record.session_id, queued_ns, start_ns, record.ended_at_ns, pieces, seq, record
        )


_MARKS: Final = frozenset(
    {TurnProgressed, ModelRetried, ApprovalAsked, ApprovalDecided, MemberExited}
)


def _begun(known: _Marks, first_ns: int) -> int:
    return min(max(known.ended_ns, min(known.inputs.values(), default=first_ns)), first_ns)


def _cut(marks: list[Any], start_ns: int, record: TurnEnded | None = None) -> Iterator[Piece]:
    cutting = _Cutting(start_ns, None if record is None else record.ended_at_ns)
    for mark in marks:
        if record is None or getattr(mark, "run_id", None) in (None, record.run_id):
            yield from _STEPS[type(mark)](cutting, mark)  # others' was left behind by a rewind
    if record is not None:
        yield from cutting.end(record)


@attrs.define
class _Cutting:
    """Where the cutting of a turn is: everything before `at_ns` is in pieces."""

    at_ns: int
    #: When the turn ended: a wait that was to be longer was cut short. None if it has not.
    end_ns: int | None = None
    #: Messages of the turn that are journalled already.
    seen: int = 0
    #: The calls that are open.
    calls: tuple[ToolCall, ...] = ()
    #: Nobody goes on with it, or it ended while it waited.
    over: bool = False

    def to(self, until_ns: int, doing: Doing, **more: Any) -> Iterator[Piece]:
        """The next piece ends at `until_ns`."""
        if self.end_ns is not None:
            until_ns = min(until_ns, self.end_ns)
        until_ns = max(until_ns, self.at_ns)  # clocks are set back
        yield Piece(doing, self.at_ns, until_ns, **more)
        self.at_ns = until_ns

    def busy(self, until_ns: int, error: str) -> Iterator[Piece]:
        """What was going on until `until_ns` came to nothing."""
        if self.calls:
            calls = tuple((call, None) for call in self.calls)
            yield from self.to(until_ns, Doing.TOOL, calls=calls, error=error)
        else:
            yield from self.to(until_ns, Doing.MODEL, error=error)

    def progressed(self, mark: TurnProgressed) -> Iterator[Piece]:
        yield from self.said(mark.at_ns, mark.messages)
        self.seen += len(mark.messages)

    def said(self, at_ns: int, messages: tuple[Message, ...]) -> Iterator[Piece]:
        results = [each for each in messages if isinstance(each, ToolResult)]
        replies = tuple(each for each in messages if isinstance(each, AssistantMessage))
        if results and self.calls:
            by_id = {each.call_id: each for each in results}
            calls = tuple((call, by_id.get(call.id)) for call in self.calls)
            yield from self.to(at_ns, Doing.TOOL, calls=calls)
            self.calls = tuple(call for call, answer in calls if answer is None)
        if replies:
            yield from self.to(at_ns, Doing.MODEL, replies=replies)
            self.calls = open_calls(messages)

    def retried(self, mark: ModelRetried) -> Iterator[Piece]:
        yield from self.to(mark.at_ns, Doing.MODEL, error=mark.error, detail=mark.model)
        if mark.delay_ms:
            until_ns = mark.at_ns + mark.delay_ms * _NS_PER_MS
            yield from self.to(until_ns, Doing.RETRY, error=mark.error, detail=mark.then)
            self.over = self.at_ns == self.end_ns

    def asked(self, mark: ApprovalAsked) -> Iterator[Piece]:
        self.at_ns = max(self.at_ns, mark.at_ns)
        return iter(())

    def decided(self, mark: ApprovalDecided) -> Iterator[Piece]:
        return self.to(mark.at_ns, Doing.APPROVAL, detail=mark.by)

    def exited(self, mark: MemberExited) -> Iterator[Piece]:
        yield from self.busy(mark.at_ns, mark.cause)
        delay_ns = round((mark.restart_in_s or 0.0) * 10**9)
        self.over = mark.restart_in_s is None
        detail = "given up" if self.over else ""
        yield from self.to(mark.at_ns + delay_ns, Doing.RESTART, error=mark.cause, detail=detail)

    def end(self, record: TurnEnded) -> Iterator[Piece]:
        rest = record.messages[self.seen :]
        if not self.seen and any(isinstance(each, ToolResult) for each in rest):
            yield from self._whole(record)
            return
        replied = any(isinstance(each, AssistantMessage) for each in rest)
        if replied or (self.calls and any(isinstance(each, ToolResult) for each in rest)):
            yield from self.said(record.ended_at_ns, rest)
        elif not self.over and (record.usage.model_calls or record.error is not None):
            # A call that ended with the turn: cut off, refused, failed for good.
            yield from self.busy(record.ended_at_ns, record.error or "")

    def _whole(self, record: TurnEnded) -> Iterator[Piece]:
        results = {each.call_id: each for each in record.messages if isinstance(each, ToolResult)}
        replies = tuple(each for each in record.messages if isinstance(each, AssistantMessage))
        made = [call for reply in replies for call in reply.tool_calls]
        calls = tuple((call, results.get(call.id)) for call in made)
        yield from self.to(record.ended_at_ns, Doing.WORK, replies=replies, calls=calls)


_STEPS: Final[dict[type, Callable[[_Cutting, Any], Iterator[Piece]]]] = {
    TurnProgressed: _Cutting.progressed,
    ModelRetried: _Cutting.retried,
    ApprovalAsked: _Cutting.asked,
    ApprovalDecided: _Cutting.decided,
    MemberExited: _Cutting.exited,
}
