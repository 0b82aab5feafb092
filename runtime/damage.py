"""What is left of a realm where something stored is damaged: folding around it, and anew.

Owns: the fold that passes over lost records and quarantines whom they concern; a realm's state
computed from the whole journal, for what the rows cannot say. Must not: write.

The journal is the authority and the rows are its checkpoints. So a row that is damaged or gone is
made anew from the journal, and so is a session that is quarantined once its damage is gone. What
keeps a session apart is only what the journal itself has lost: a record that names it, one that its
next turn continues, or one that names nobody any more and may have been about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import attrs
import trio

from runtime.errors import MobError, RecordUnreadable
from runtime.ids import SessionId
from runtime.journal import Journal, Lost
from runtime.parts import WholeRows
from runtime.points import SESSIONS, StateRows
from runtime.records import SessionCreated, SessionForked, SessionMended, TurnEnded
from runtime.session import SessionHead, SessionStatus
from runtime.state import RealmState
from stores import Damaged

#: Records folded before other tasks get a turn: about 20 ms.
_PAGE: Final = 2048


@attrs.frozen
class Place:
    """A point of a history: its last turn, what it counts, and the links for the next one."""

    head: int
    turns: int
    total: int
    links: tuple[int, ...]


class Fold:
    """Applies what can be read to `state`, and keeps apart whom a lost record concerns."""

    def __init__(self, state: RealmState) -> None:
        self.state = state
        #: Lost records of which nobody knows whom they concerned.
        self.nameless: list[int] = []
        #: What is certain all the same: where sessions were made, or made sound again.
        self.sure: dict[SessionId, int] = {}
        #: Where the history stood that went on with a turn that is lost, by the number of that.
        self.before: dict[int, Place] = {}

    def apply(self, seq: int, record: object) -> None:
        """As `RealmState.apply`, of which nothing comes out once a record is lost."""
        state = self.state
        try:
            state.apply(seq, record)
        except (LookupError, MobError) as error:
            if not state.lost:
                raise
            state.lost[seq] = f"record {seq} needs one that is lost: {error!r}"
            state.applied = seq
        if isinstance(record, SessionCreated | SessionForked | SessionMended):
            self.sure[record.session_id] = seq
        elif type(record) is StateRows and record.prefix.encode() == SESSIONS:
            restored = (SessionId(name.decode()) for name, _ in record.rows)
            self.sure.update((each, seq) for each in restored if state.restoring.made(each))
        elif type(record) is TurnEnded and record.session_id in state.quarantined:
            prev = Journal.absolute(seq, record.prev)
            self.before.setdefault(prev, place_of(state.heads[record.session_id]))

    def lost(self, lost: Lost) -> None:
        """Quarantine whom what is left of the record names; keep its number in any case."""
        state = self.state
        state.lost[lost.seq] = lost.reason
        state.applied = lost.seq
        named = [each for each in state.heads if each.encode() in lost.raw] if lost.raw else []
        for session_id in named:
            self.before.setdefault(lost.seq, place_of(state.heads[session_id]))
            state.quarantine(
                session_id, f"record {lost.seq} is damaged: {lost.reason}", seq=lost.seq
            )
        if not named:
            self.nameless.append(lost.seq)

    def unsure(self, session_id: SessionId) -> int:
        """The newest lost record that may have been about the session; 0 if there is none."""
        since = self.sure.get(session_id, 0)
        return next((seq for seq in reversed(self.nameless) if seq > since), 0)


class Rebuilt:
    """The state that the journal alone gives, from its first record up to some number."""

    def __init__(
        self,
        journal: Journal,
        parts: Iterable[Callable[[RealmState], WholeRows]],
        base: int | None = None,
    ) -> None:
        """A fork says at its beginning what was there by then, so that is where this begins, or
        behind `base`."""
        self._journal = journal
        self.state = RealmState()
        self.state.applied = journal.base if base is None else base
        self._fold = Fold(self.state)
        #: The parts that are written whole; `changed` hands out all their rows.
        self.parts = [part(self.state) for part in parts]
        self.state.parts.update((each.prefix, each) for each in self.parts)

    def fold(self, until: int, check: Callable[[int, object], None] | None = None) -> None:
        """Apply the records up to number `until`; `check` sees each before."""
        fold = self._fold

        def apply(seq: int, record: object) -> None:
            if check is not None:
                check(seq, record)
            fold.apply(seq, record)

        if until > self.state.applied:
            self._journal.replay(self.state.applied, apply, fold.lost, until=until)
        self.state.check_partials()

    async def fold_all(self) -> None:
        """Apply all records, also those that come meanwhile, and let others work."""
        while (last := self._journal.last) > self.state.applied:
            self.fold(min(last, self.state.applied + _PAGE))
            await trio.lowlevel.checkpoint()

    def doubt(self, session_id: SessionId) -> tuple[str, int] | None:
        """Why what this knows of the session may not be all, and the number of the record that is
        to blame; None if it is all."""
        state = self.state
        if session_id in state.quarantined:
            return state.quarantined[session_id], state.blamed.get(session_id, 0)
        if session_id not in state.heads:
            return "the journal has nothing of it", 0
        lost = self._fold.unsure(session_id)
        return (f"record {lost} is lost and may have been about it", lost) if lost else None

    def made(self, session_id: SessionId) -> int:
        """The number of the record that made the session; 0 if that is not known."""
        return self._fold.sure.get(session_id, 0)

    def whole(self, head: int) -> Place | None:
        """The last point of the chain that ends at `head` from which all before it can be read,
        None if nobody knows one."""
        while broken := broken_turn(self._journal, head):
            before = self._fold.before.get(broken)
            if before is None:
                return None
            head = before.head
        return self.at(head)

    def at(self, head: int) -> Place:
        """The point of a history whose last turn is `head`, all of whose turns can be read."""
        if not head:
            return Place(0, 0, 0, ())
        turn = self._journal.turn(head)
        return Place(head, turn.turn, turn.total, self._journal.links(head))


def place_of(head: SessionHead) -> Place:
    """Where a session stands."""
    return Place(head.head, head.turns, head.message_count, head.links)


def broken_turn(journal: Journal, head: int) -> int:
    """The newest turn that cannot be read of the chain that ends at `head`; 0 if all can be."""
    while head:
        try:
            prev = journal.turn(head).prev
        except (Damaged, RecordUnreadable):
            return head
        head = prev
    return 0


def detached(head: SessionHead) -> SessionHead:
    """The head for another state, without what it is linked to in its own."""
    return attrs.evolve(head, children=None)


def idle(head: SessionHead, place: Place) -> SessionHead:
    """The head at `place`, sound, with nothing in flight and nothing pending."""
    status = SessionStatus.IDLE if place.turns else SessionStatus.STARTED
    return attrs.evolve(
        head,
        head=place.head,
        turns=place.turns,
        message_count=place.total,
        links=place.links,
        status=head.status if head.archived else status,
        inputs=None,
        partial=None,
        children=None,
        quarantined=None,
    )
