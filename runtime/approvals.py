"""Approvals: tool calls that wait for somebody's decision, as records and as a fold of them. Pure.

Owns: the records, what is known of each call that was asked about (`Approval`), and the fold. Must
not: import Trio, ask or answer anybody (`runtime.deciding` does), run a call (`runtime.driver`).

    ApprovalAsked     WAITING          in one commit with the reply that made the call: a call of
                                       that batch of which there is no such record needed none
    ApprovalDecided   APPROVED, DENIED the first decision; a later one changes nothing
    ApprovalUsed      begun            an approved call is about to run: from here on its outcome is
                                       unknown until its result is journalled, and a call that is
                                       not idempotent is never run again

All of it belongs to a turn in flight and is forgotten by the fold when the turn ends; the journal
keeps it as long as it keeps the session (`runtime.retention`).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import attrs

from runtime.heads import pack_row, unpack_row
from runtime.ids import RunId, SessionId, ToolCallId

if TYPE_CHECKING:
    from runtime.state import RealmState


class Verdict(enum.Enum):
    """What was decided. The values are stored."""

    APPROVED = "approved"
    DENIED = "denied"


@attrs.frozen
class ApprovalAsked:
    """A call waits for a decision. `arguments` are the model's, as JSON text; `parameters` is the
    JSON Schema that edited ones must fit; `asker` is the name of the session in front of people."""

    session_id: SessionId
    run_id: RunId
    call_id: ToolCallId
    tool: str
    arguments: str
    asker: str
    parameters: str
    at_ns: int


@attrs.frozen
class ApprovalDecided:
    """Somebody decided. `by` says who, `reason` is told to the model of a call that is denied;
    `arguments` are what the call is to run with instead of the model's, None if they stand."""

    session_id: SessionId
    run_id: RunId
    call_id: ToolCallId
    verdict: Verdict
    by: str
    reason: str
    arguments: str | None
    at_ns: int


@attrs.frozen
class ApprovalUsed:
    """These approved calls are about to run."""

    session_id: SessionId
    run_id: RunId
    call_ids: tuple[ToolCallId, ...]
    at_ns: int


@attrs.frozen
class Approval:
    """A call that was asked about. `verdict` is None while it waits; `edited` are the arguments
    that it is to run with instead of `arguments`, `begun` whether it may have run."""

    session_id: SessionId
    run_id: RunId
    call_id: ToolCallId
    tool: str
    arguments: str
    asker: str
    parameters: str
    asked_at_ns: int
    verdict: Verdict | None = None
    by: str = ""
    reason: str = ""
    edited: str | None = None
    decided_at_ns: int = 0
    begun: bool = False

    @property
    def key(self) -> str:
        """Names the call for ever (`runtime.tools.base.ToolContext.key`)."""
        return call_key(self.session_id, self.run_id, self.call_id)

    @property
    def waits(self) -> bool:
        """Whether nobody has decided yet."""
        return self.verdict is None

    def decided(self, record: ApprovalDecided) -> Approval:
        """The call as this decision leaves it."""
        return attrs.evolve(
            self,
            verdict=record.verdict,
            by=record.by,
            reason=record.reason,
            edited=record.arguments,
            decided_at_ns=record.at_ns,
        )


def call_key(session_id: SessionId, run_id: RunId, call_id: ToolCallId) -> str:
    """The key by which a call is approved or denied."""
    return f"{session_id}:{run_id}:{call_id}"


#: What is known of the calls of a run nobody was asked about.
NONE_ASKED: Final[dict[ToolCallId, Approval]] = {}


class ApprovalBook:
    """What was asked and decided about calls of turns in flight, by session. Part of the fold.

    A whole part in the sense of `runtime.recovery`: records up to `RealmState.folded` are in its
    rows already.
    """

    def __init__(self, state: RealmState) -> None:
        self._state = state
        #: Invariant: the calls of one session are of one run, its latest that asked.
        self._asked: dict[SessionId, dict[ToolCallId, Approval]] = {}
        self._changed: set[SessionId] = set()

    def __len__(self) -> int:
        return len(self._asked)

    def of(self, session_id: SessionId, run_id: RunId) -> dict[ToolCallId, Approval]:
        """What was asked about calls of this run, in the order of the calls."""
        asked = self._asked.get(session_id)
        if not asked or next(iter(asked.values())).run_id != run_id:
            return NONE_ASKED
        return asked

    def waits(self, session_id: SessionId) -> bool:
        """Whether the session's turn in flight waits for a decision."""
        return any(approval.waits for approval in self.current(session_id))

    def current(self, session_id: SessionId) -> Iterable[Approval]:
        """What was asked about calls of the session's turn in flight."""
        if session_id not in self._asked:
            return ()
        head = self._state.heads.get(session_id)
        if head is None or head.partial is None or head.archived:
            return ()
        return self.of(session_id, head.partial.run_id).values()

    def __iter__(self) -> Iterator[Approval]:
        """All calls of turns in flight that were asked about, the oldest question first."""
        found = [each for session_id in self._asked for each in self.current(session_id)]
        return iter(sorted(found, key=lambda each: (each.asked_at_ns, each.key)))

    # -- transitions -----------------------------------------------------------------------

    def transitions(self) -> dict[type, Callable[[int, Any], None]]:
        """The part of a realm's table that this module owns."""
        return {
            ApprovalAsked: self._ask,
            ApprovalDecided: self._decide,
            ApprovalUsed: self._use,
        }

    def _ask(self, seq: int, record: ApprovalAsked) -> None:
        if seq > self._state.folded and self._in_flight(record):
            asked = self._asked.get(record.session_id)
            if asked is None or next(iter(asked.values())).run_id != record.run_id:
                asked = self._asked[record.session_id] = {}
            asked[record.call_id] = Approval(
                record.session_id,
                record.run_id,
                record.call_id,
                record.tool,
                record.arguments,
                record.asker,
                record.parameters,
                record.at_ns,
            )
            self._changed.add(record.session_id)
        self._state.waited(seq, record.session_id, None)

    def _decide(self, seq: int, record: ApprovalDecided) -> None:
        if seq > self._state.folded:
            asked = self.of(record.session_id, record.run_id)
            approval = asked.get(record.call_id)
            if approval is not None and approval.waits:
                asked[record.call_id] = approval.decided(record)
                self._changed.add(record.session_id)
        self._state.waited(seq, record.session_id, record.at_ns)

    def _use(self, seq: int, record: ApprovalUsed) -> None:
        if seq > self._state.folded:
            asked = self.of(record.session_id, record.run_id)
            for call_id in record.call_ids:
                if call_id in asked:
                    asked[call_id] = attrs.evolve(asked[call_id], begun=True)
            self._changed.add(record.session_id)
        self._state.touch(seq, record.session_id)

    def forget(self, session_id: SessionId, run_id: RunId | None = None) -> None:
        """This run of the session has ended; without one, the session has."""
        asked = self._asked.get(session_id)
        if asked is None:
            return
        if run_id is None or next(iter(asked.values())).run_id == run_id:
            del self._asked[session_id]
            self._changed.add(session_id)

    def _in_flight(self, record: ApprovalAsked) -> bool:
        head = self._state.heads.get(record.session_id)
        if head is None or head.partial is None or head.archived:
            return False
        return head.partial.run_id == record.run_id

    # -- rows ------------------------------------------------------------------------------

    def changed(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The rows to write, as `runtime.parts.WholeRows` asks for them."""
        changed, self._changed = self._changed, set()
        for session_id in sorted(changed):
            asked = self._asked.get(session_id)
            name = session_id.encode()
            yield name, None if asked is None else pack_row([*map(_packed, asked.values())])

    def load(self, name: bytes, row: bytes) -> None:
        """Take a row back. Raises `ValueError`, `TypeError` if it is none."""
        (packed,) = unpack_row(row)
        approvals = [_unpacked(each) for each in packed]
        self._asked[SessionId(name.decode())] = {each.call_id: each for each in approvals}

    def stale(self, name: bytes) -> None:
        """The row was made anew and is to be written."""
        self._changed.add(SessionId(name.decode()))

    def clear(self) -> None:
        """Forget what was asked: something else is loaded."""
        self._asked.clear()
        self._changed.clear()


def _packed(approval: Approval) -> tuple[Any, ...]:
    verdict = None if approval.verdict is None else approval.verdict.value
    return (*attrs.astuple(attrs.evolve(approval, verdict=None), recurse=False), verdict)


def _unpacked(fields: tuple[Any, ...]) -> Approval:
    *rest, verdict = fields
    return attrs.evolve(Approval(*rest), verdict=None if verdict is None else Verdict(verdict))
