"""Replacing the state of a realm as a whole: the transitions of forks, rewinds and points. Pure.

Owns: what becomes of sessions, parts and indexes when other rows take their place. Must not: read a
journal or a store; the records carry the rows.

The records of a rewind come in one commit: one that says so, and those with the rows. A process
that recovers may have rows of sessions that are newer than that, because a checkpoint writes a few
at a time: as for every record, what is in a row already is passed over (`SessionHead.applied`), and
what is written whole is passed over up to `RealmState.folded`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runtime.heads import unpack_head
from runtime.ids import SessionId
from runtime.keyed import KeyedInput
from runtime.points import SESSIONS, Era, PointMade, RealmForked, RealmRewound, StateRows
from runtime.session import SessionHead

if TYPE_CHECKING:
    from runtime.state import RealmState


class Restoring:
    """The replacement that is under way in a fold, if one is."""

    def __init__(self, state: RealmState) -> None:
        self._state = state
        #: The record that began it, and how many records of rows are still to come.
        self._first = 0
        self._left = 0
        self._seen: set[SessionId] = set()
        #: Whether the parts were replaced, and there may be rows of what was left behind.
        self.replaced = False

    @property
    def half_done(self) -> bool:
        """Whether records of the replacement are still to come: this is the state of no moment."""
        return self._left > 0

    def made(self, session_id: SessionId) -> bool:
        """Whether the session is what the replacement that came last has made it."""
        head = self._state.heads.get(session_id)
        return head is not None and head.applied == self._first

    def transitions(self) -> dict[type, Callable[[int, Any], None]]:
        """The part of a realm's table that this module owns."""
        return {
            RealmForked: lambda seq, record: self._begin(seq, record, 0),
            RealmRewound: lambda seq, record: self._begin(seq, record, seq),
            StateRows: self._rows,
            PointMade: self._state.points.made,
        }

    def _begin(self, seq: int, record: RealmForked | RealmRewound, era: int) -> None:
        state = self._state
        self._first, self._left = seq, record.rows
        self._seen.clear()
        if seq > state.folded:
            self._leave_era(era, record.past)
            self.replaced = True
            for part in state.parts.values():
                if part.clear is not None and not part.outlives:
                    part.clear()
        if not self._left:
            self._finish()

    def _leave_era(self, era: int, past: tuple[Era, ...]) -> None:
        """What is to be written of keys and receipts belongs to the era that ends here."""
        state = self._state
        if state.keyed:
            state.keyed_before.setdefault(state.era, {}).update(state.keyed)
            state.keyed = {}
        state.runs.leave_era(state.era)
        state.era, state.past = era, past

    def _rows(self, seq: int, record: StateRows) -> None:
        if not self._left:
            return  # those of a point, which only whoever goes back to it reads
        self._left -= 1
        if record.prefix.encode() == SESSIONS:
            for _, row in record.rows:
                self._session(row)
        elif self._first > self._state.folded:
            part = self._state.parts[record.prefix.encode()]
            assert part.load is not None
            for name, row in record.rows:
                part.load(name, row)
                part.stale(name)
        if not self._left:
            self._finish()

    def _session(self, row: bytes) -> None:
        state = self._state
        head = unpack_head(row)
        self._seen.add(head.session_id)
        old = state.heads.get(head.session_id)
        if old is not None:
            if old.applied >= self._first:
                return
            if (old.head, old.branch) != (head.head, head.branch):
                # Two values of it are two histories, for those who keep snapshots.
                head.branch = max(old.branch, head.branch) + 1
        state.lift(head.session_id)
        head.applied = self._first
        state.heads[head.session_id] = head
        state.dirty.setdefault(head.session_id, self._first)

    def _finish(self) -> None:
        state = self._state
        gone = [
            each.session_id
            for each in state.heads.values()
            if each.applied < self._first and each.session_id not in self._seen
        ]
        for session_id in gone:
            del state.heads[session_id]
            state.dirty.setdefault(session_id, self._first)
        state.link_anew()
        if self._first > state.folded:
            for part in state.parts.values():
                if part.clear is not None and not part.outlives:
                    part.loaded()
            for session_id in self._seen & state.heads.keys():
                self._key_pending(state.heads[session_id])

    def _key_pending(self, head: SessionHead) -> None:
        """Inputs that wait have their keys in this era, whatever became of them in another."""
        for each in (head.inputs or {}).values():
            if each.idempotency_key is not None:
                known = KeyedInput(head.session_id, each.input_id, seq=self._first)
                self._state.keyed[each.idempotency_key] = known
