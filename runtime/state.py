"""The state of a realm as a fold of its journal: which sessions there are and where each stands.

Owns: `RealmState` and its literal table from record type to transition. Must not: import Trio, read
a clock, touch a store. Applying the same records in the same order gives the same state, in the
running process and in the one that recovers.

Work per record is constant: nothing here walks a history or a list of sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from runtime.errors import SessionNotFound
from runtime.ids import InputId, SessionId
from runtime.records import (
    InputAbandoned,
    InputAccepted,
    SessionArchived,
    SessionCreated,
    TurnEnded,
    TurnOutcome,
    TurnProgressed,
)
from runtime.session import PartialTurn, PendingInput, SessionHead, SessionStatus


@attrs.frozen
class KeyedInput:
    """Where the input with a known idempotency key stands.

    `turn` is the sequence number of the turn that consumed it, 0 while it is pending;
    `abandoned` is the reason if it was given up.
    """

    session_id: SessionId
    input_id: InputId
    turn: int = 0
    abandoned: str | None = None


class RealmState:
    """All session heads of one realm, with the two indexes that make spawning and sending safe."""

    def __init__(self) -> None:
        self.heads: dict[SessionId, SessionHead] = {}
        #: Idempotency keys seen, for joining the outcome of the first input with that key.
        self.keyed: dict[str, KeyedInput] = {}
        #: Spawn keys seen, so that a replayed spawn finds the child it already made.
        self.spawned: dict[str, SessionId] = {}
        #: The same, the other way round.
        self.spawn_keys: dict[SessionId, str] = {}
        #: Per root: descendants that are not archived, and all that were ever made.
        self.descendants: dict[SessionId, tuple[int, int]] = {}
        #: The literal table. A mob adds its own record types to the same one.
        self.transitions: dict[type, Callable[[int, Any], None]] = {
            SessionCreated: self._created,
            SessionArchived: self._archived,
            InputAccepted: self._accepted,
            InputAbandoned: self._abandoned,
            TurnProgressed: self._progressed,
            TurnEnded: self._ended,
        }

    def apply(self, seq: int, record: object) -> None:
        """Apply the committed record number `seq`; records must come in order of `seq`.

        Raises:
            KeyError: the record's type is in no table (our bug).
            SessionNotFound: the record speaks of a session this realm never created.
        """
        self.transitions[type(record)](seq, record)

    def head(self, session_id: SessionId) -> SessionHead:
        """The head of `session_id`. Raises `SessionNotFound`."""
        try:
            return self.heads[session_id]
        except KeyError:
            raise SessionNotFound(session_id) from None

    def _created(self, seq: int, record: SessionCreated) -> None:
        self.heads[record.session_id] = SessionHead(
            session_id=record.session_id,
            harness_id=record.harness_id,
            agent_id=record.agent_id,
            title=record.title,
            locale=record.locale,
            lineage=record.lineage,
            spec=record.spec,
            created_at_ns=record.at_ns,
            updated_at_ns=record.at_ns,
            applied=seq,
        )
        if record.spawn_key is not None:
            self.spawned[record.spawn_key] = record.session_id
            self.spawn_keys[record.session_id] = record.spawn_key
        if record.lineage.parent is not None:
            parent = self.heads[record.lineage.parent]
            if parent.children is None:
                parent.children = []
            parent.children.append(record.session_id)
            self._count(record.lineage.budget_root, active=1, total=1)

    def _archived(self, seq: int, record: SessionArchived) -> None:
        head = self.head(record.session_id)
        if not head.archived and head.lineage.parent is not None:
            self._count(head.lineage.budget_root, active=-1, total=0)
        head.status = SessionStatus.ARCHIVED
        head.updated_at_ns = record.at_ns
        head.partial = None
        head.applied = seq

    def _accepted(self, seq: int, record: InputAccepted) -> None:
        head = self.heads[record.session_id]
        if head.inputs is None:
            head.inputs = {}
        head.inputs[record.input_id] = PendingInput(
            record.input_id, record.text, record.sender, record.idempotency_key
        )
        head.applied = seq
        if record.idempotency_key is not None:
            self.keyed[record.idempotency_key] = KeyedInput(record.session_id, record.input_id)

    def _abandoned(self, seq: int, record: InputAbandoned) -> None:
        head = self.head(record.session_id)
        pending = self._consume(head, record.input_id)
        if pending is not None and pending.idempotency_key is not None:
            key = pending.idempotency_key
            self.keyed[key] = attrs.evolve(self.keyed[key], abandoned=record.reason)
        head.updated_at_ns = record.at_ns
        head.applied = seq

    def _progressed(self, seq: int, record: TurnProgressed) -> None:
        head = self.head(record.session_id)
        partial = head.partial
        if partial is None or partial.run_id != record.run_id:
            partial = head.partial = PartialTurn(
                record.run_id, record.input_ids, [], record.usage, 0, record.at_ns
            )
        partial.messages.extend(record.messages)
        partial.usage = record.usage
        partial.step = record.step
        if head.status is not SessionStatus.ARCHIVED:
            head.status = SessionStatus.ACTIVE
        head.updated_at_ns = record.at_ns
        head.applied = seq

    def _ended(self, seq: int, record: TurnEnded) -> None:
        head = self.heads[record.session_id]
        head.partial = None
        head.head = seq
        head.turns += 1
        head.message_count += len(record.messages)
        head.usage = head.usage + record.usage
        head.updated_at_ns = record.ended_at_ns
        if head.status is not SessionStatus.ARCHIVED:  # a late turn record never revives it
            head.status = (
                SessionStatus.FAILED if record.outcome is TurnOutcome.FAILED else SessionStatus.IDLE
            )
        head.applied = seq
        for input_id in record.input_ids:
            pending = self._consume(head, input_id)
            if pending is not None and pending.idempotency_key is not None:
                key = pending.idempotency_key
                self.keyed[key] = attrs.evolve(self.keyed[key], turn=seq)

    def _count(self, root: SessionId | None, *, active: int, total: int) -> None:
        if root is not None:
            now_active, now_total = self.descendants.get(root, (0, 0))
            self.descendants[root] = (now_active + active, now_total + total)

    @staticmethod
    def _consume(head: SessionHead, input_id: InputId) -> PendingInput | None:
        if head.inputs is None:
            return None
        pending = head.inputs.pop(input_id, None)
        if not head.inputs:
            head.inputs = None
        return pending
