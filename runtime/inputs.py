"""Durable inputs: let in, joined by key, consumed or abandoned.

Owns: admission of inputs, idempotency keys and where the input of each stands. Must not: run a turn
or decide when one runs.

An input is on disk before anybody is told that it was accepted. A key that was seen before, in this
process or an earlier one, joins the fate of the first input that came with it. Keys are kept in
memory only until the next checkpoint; after that they are rows that are read when asked for, so a
member that is asked a million questions does not remember a million keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from runtime.addenda import id_for, is_of, sender_of
from runtime.errors import ContextConflict, SessionError, encodable
from runtime.heads import pack_row, unpack_row
from runtime.ids import InputId, SessionId
from runtime.journal import Journal
from runtime.keyed import KeyedInput
from runtime.messages import CONTEXT
from runtime.parts import WholeRows
from runtime.points import Era, era_name
from runtime.ports import Ports
from runtime.records import InputAbandoned, InputAccepted
from runtime.recovery import Recovery
from runtime.results import TurnResult, result_of
from runtime.session import PendingInput
from runtime.state import RealmState
from stores import Ticket
from stores.values import value

#: Admissions with a key that are remembered before those that the fold knows by now are dropped.
_REMEMBERED = 64


@value
class Admission:
    """An input that was let in, or the earlier one with the same key that it joined.

    Exactly one of `pending` (work to do, or being done) and `settled` (already decided) is set.
    `ticket` is None when the input had been accepted before.
    """

    session_id: SessionId
    pending: PendingInput | None
    ticket: Ticket | None
    settled: KeyedInput | None = None


class Inputs:
    """The inputs of one realm."""

    def __init__(
        self, journal: Journal, recovery: Recovery, state: RealmState, ports: Ports
    ) -> None:
        self._journal = journal
        self._recovery = recovery
        self._state = state
        self._ports = ports
        #: Admitted with a key; an entry is needed until the fold has its record.
        self._admitted: dict[str, Admission] = {}
        #: How many of them there may be before those that the fold knows are looked for.
        self._room = _REMEMBERED
        #: By era: keys whose rows are on their way to the disk, not in the fold nor in the store.
        self._writing: dict[tuple[int, str], KeyedInput] = {}
        #: Sessions that are on their way to the disk and take inputs already: batches keep their
        #: order, so such an input is never there without its session.
        self.coming: set[SessionId] = set()
        #: Whether the second session has taken the place of the first: a key whose fate was decided
        #: in that means the same here.
        self.renewed: Callable[[SessionId, SessionId], bool] = lambda _old, _new: False
        recovery.add(WholeRows(b"k/", self._changed))
        state.lookup = self._stored

    def accept(
        self,
        session_id: SessionId,
        text: str,
        *,
        sender: str | None = None,
        idempotency_key: str | None = None,
        skills: tuple[str, ...] = (),
        input_id: InputId | None = None,
        steer: bool = False,
        also: Sequence[Any] = (),
        before: Sequence[Any] = (),
    ) -> Admission:
        """Let an input in: number it, queue its record, return at once. With a new input go `also`
        into its commit, behind it, and `before`, which may make its session.

        The input is durable when the admission's ticket is; work on it may begin before that,
        because nobody has been told yet. A key that was seen before joins the first input's fate.

        Raises:
            SessionNotFound: there is no such session.
            SessionError: the session is archived, or the key was used in another one.
        """
        known = self._admit(session_id, idempotency_key)
        if known is not None:
            return known
        record = self._record(
            session_id, text, sender, idempotency_key, skills, input_id, steer=steer
        )
        return self._let_in(record, self._journal.append(*before, record, *also))

    def accept_all(
        self,
        wanted: Sequence[tuple[SessionId, str, str | None, str | None]],
        before: Sequence[Any] = (),
    ) -> list[Admission]:
        """Let inputs in, each a session, a text, a sender and a key: those that are new in one
        commit, behind `before`. Raises as `accept`, and then none is let in."""
        found = [self._admit(session_id, key) for session_id, _, _, key in wanted]
        records = [
            None if known is not None else self._record(session_id, text, sender, key, (), None)
            for known, (session_id, text, sender, key) in zip(found, wanted, strict=True)
        ]
        new = [record for record in records if record is not None]
        ticket = self._journal.append(*before, *new) if new else None
        admissions: list[Admission] = []
        for known, record in zip(found, records, strict=True):
            if known is not None:
                admissions.append(known)
            else:
                assert record is not None
                assert ticket is not None
                admissions.append(self._let_in(record, ticket))
        return admissions

    def _admit(self, session_id: SessionId, key: str | None) -> Admission | None:
        """The input that came with the key before; None if a new one may come in."""
        coming = session_id in self.coming
        head = None if coming else self._state.head(session_id)
        if key is not None:
            known = self._join(key)
            if known is not None:
                if not self._is_of(known, session_id):
                    raise SessionError(
                        f"idempotency key {key!r} was used for an input of session"
                        f" {known.session_id}; use another one here",
                        session_id,
                    )
                return known
        if head is not None and head.archived:
            raise SessionError(f"session {session_id} is archived and takes no input", session_id)
        return None

    def _record(
        self,
        session_id: SessionId,
        text: str,
        sender: str | None,
        key: str | None,
        skills: tuple[str, ...],
        input_id: InputId | None,
        *,
        steer: bool = False,
    ) -> InputAccepted:
        input_id = input_id or InputId(self._ports.ids.new())
        now = self._ports.clock.now_ns()
        return InputAccepted(session_id, input_id, text, sender, key, now, skills, steer)

    def _let_in(self, record: InputAccepted, ticket: Ticket) -> Admission:
        key = record.idempotency_key
        pending = PendingInput(
            record.input_id, record.text, record.sender, key, record.skills, record.steer
        )
        admission = Admission(record.session_id, pending, ticket)
        if key is not None:
            self._remember(key, admission)
        return admission

    def context(self, session_id: SessionId, text: str, source: str) -> InputAccepted:
        """The record of such a text, for a caller that commits it with others."""
        now = self._ports.clock.now_ns()
        fresh = id_for(text, self._ports.ids.new())
        return InputAccepted(session_id, fresh, text, sender_of(source), None, now)

    def append_context(
        self, session_id: SessionId, text: str, source: str | None, key: str | None
    ) -> tuple[Ticket | None, bool]:
        """Let a text of the application's in, and return its ticket (None: that of an earlier one)
        and whether it is a duplicate. It is durable once the ticket is, or what was queued by now.

        Raises:
            SessionNotFound: there is no such session.
            SessionError: the session is archived.
            ContextConflict: the key came with another text before.
        """
        admission = self.accept_context(session_id, text, source, key)
        known = admission.pending or admission.settled
        assert known is not None
        if key is not None and not is_of(known.input_id, encodable(text)):
            raise ContextConflict(session_id, key)
        return admission.ticket, known is admission.settled or admission.ticket is None

    def accept_context(
        self,
        session_id: SessionId,
        text: str,
        source: str | None,
        key: str | None,
        before: Sequence[Any] = (),
    ) -> Admission:
        """As `append_context`, without a look at what came with the key before. `before` as for
        `accept`."""
        text = encodable(text)
        return self.accept(
            session_id,
            text,
            sender=sender_of(None if source is None else encodable(source)),
            idempotency_key=None if key is None else context_key(session_id, key),
            input_id=id_for(text, self._ports.ids.new()),
            before=before,
        )

    async def abandon(self, session_id: SessionId, input_id: InputId, reason: str) -> None:
        """Give an accepted input up for good, durably."""
        now = self._ports.clock.now_ns()
        await self._journal.append(InputAbandoned(session_id, input_id, reason, now)).wait()

    def settled(self, session_id: SessionId, key: str) -> KeyedInput | None:
        """The input of the session that came with this idempotency key, if its fate is decided."""
        known = self._join(key)
        return known.settled if known is not None and self._is_of(known, session_id) else None

    def find(self, key: str) -> Admission | None:
        """The input that came with this idempotency key before, in whatever session."""
        return self._join(key)

    def known(self, session_id: SessionId, key: str) -> bool:
        """Whether an input of the session came with this idempotency key before."""
        known = self._join(key)
        return known is not None and self._is_of(known, session_id)

    def _is_of(self, known: Admission, session_id: SessionId) -> bool:
        if known.session_id == session_id:
            return True
        return known.settled is not None and self.renewed(known.session_id, session_id)

    def result(self, keyed: KeyedInput) -> TurnResult:
        """What became of an input whose fate is decided. Raises as `runtime.results.result_of`."""
        if keyed.abandoned is not None:
            raise SessionError(f"the input was abandoned: {keyed.abandoned}", keyed.session_id)
        return result_of(self._journal.turn(keyed.turn))

    def _join(self, key: str) -> Admission | None:
        known = self._state.find_key(key)
        if known is None:
            return self._admitted.get(key)
        if known.session_id not in self._state.heads:
            return None  # its session was deleted, and with it whatever the key stood for
        self._state.head(known.session_id)
        self._admitted.pop(key, None)
        if known.settled:
            return Admission(known.session_id, None, None, known)
        inputs = self._state.heads[known.session_id].inputs or {}
        if known.input_id not in inputs:  # given up when its session was mended
            given_up = attrs.evolve(known, abandoned="its session was damaged")
            return Admission(known.session_id, None, None, given_up)
        return Admission(known.session_id, inputs[known.input_id], None)

    def _remember(self, key: str, admission: Admission) -> None:
        if len(self._admitted) >= self._room:
            find = self._state.find_key
            self._admitted = {k: each for k, each in self._admitted.items() if find(k) is None}
            # What is left is on its way to the disk. Looking at it again for each input that comes
            # would cost the square of those in flight.
            self._room = max(_REMEMBERED, 2 * len(self._admitted))
        self._admitted[key] = admission

    # -- rows ------------------------------------------------------------------------------

    def _changed(self) -> list[tuple[bytes, bytes | None]]:
        """The rows of the keys that changed. The ones handed out before are on disk by now."""
        state = self._state
        self._writing = {
            (era, key): at for era, keyed in state.keyed_before.items() for key, at in keyed.items()
        }
        self._writing.update(((state.era, key), at) for key, at in state.keyed.items())
        state.keyed, state.keyed_before = {}, {}
        return [
            (era_name(_name(key), era), _row(key, at)) for (era, key), at in self._writing.items()
        ]

    def rows_for(self, eras: Sequence[Era]) -> list[tuple[bytes, bytes]]:
        """The rows of the keys that count in these eras and are not surely on disk, for a realm
        that begins with them."""
        state = self._state
        found: list[tuple[bytes, bytes]] = []
        recent = {key for _, key in self._writing} | state.keyed.keys()
        for key in sorted(recent.union(*state.keyed_before.values())):
            known = next(filter(None, (self._of_era(era, key) for era in eras)), None)
            if known is not None:
                found.append((_name(key), _row(key, known)))
        return found

    def forget(self) -> None:
        """What was admitted is known to the fold, or belongs to what was left behind."""
        self._admitted.clear()

    def _stored(self, key: str) -> KeyedInput | None:
        for era in self._state.eras(self._recovery.realm):
            known = self._of_era(era, key)
            if known is not None:
                return known
        return None

    def _of_era(self, era: Era, key: str) -> KeyedInput | None:
        known = None
        if era.realm == self._recovery.realm:
            keyed = self._state.keyed_before.get(era.number, {})
            if era.number == self._state.era:
                keyed = self._state.keyed
            known = keyed.get(key) or self._writing.get((era.number, key))
        if known is None:
            row = self._recovery.row_of(era.realm, b"k/", era_name(_name(key), era.number))
            if row is None:
                return None
            session_id, input_id, turn, abandoned, *seq = unpack_row(row)[1:]
            # Rows of earlier versions do not say of an input that was given up when that was.
            known = KeyedInput(session_id, input_id, turn, abandoned, seq[0] if seq else turn)
        return known if known.seq <= era.until else None


def _row(key: str, at: KeyedInput) -> bytes:
    return pack_row(key, at.session_id, at.input_id, at.turn, at.abandoned, at.seq)


def context_key(session_id: SessionId, key: str) -> str:
    """The idempotency key of a text of the application's that came with `key`."""
    return f"{CONTEXT}:{session_id}:{key}"


def _name(key: str) -> bytes:
    """The name of a key's row: keys are of any length, names are not."""
    return hashlib.sha256(key.encode()).digest()
