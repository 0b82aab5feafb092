"""The life of a durable input as one literal table, and the receipts of runs. Pure.

Owns: the states, what may follow what, the records of runs that a caller applies, and their fold.
Must not: import Trio, run a turn (`runtime.applying` does), decide when one runs.

    ACCEPTED --> QUEUED --> STAGED --> APPLIED --> CONSUMED
                   ^  |        |          |
                   |  |        |          |  failed, or found without a receipt
                   +--|--------+----------+
                      |
                      +--> SUPERSEDED, COALESCED, ABANDONED (with a reason)

    ACCEPTED   its record is on its way to the disk; nobody was told
    QUEUED     on disk: acknowledged
    STAGED     a run was admitted on it
    APPLIED    messages of that run are journalled
    CONSUMED   the run's turn, its receipt and this are one commit

What the table does not list is an error; the last four have no way out. Nothing of STAGED and
APPLIED is on disk but the run's own progress: so a process that finds an input without a receipt
finds it QUEUED, and the run goes on from its progress (CONTRACTS 5.7).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from runtime.heads import pack_row, unpack_row
from runtime.ids import InputId, RunId, SessionId
from runtime.points import Era, era_name

if TYPE_CHECKING:
    from runtime.records import TurnEnded
    from runtime.state import RealmState

#: How often a run on an input may fail before the input is given up.
MAX_ATTEMPTS: Final = 3


class InputState(enum.Enum):
    """Where an input stands."""

    ACCEPTED = "accepted"
    QUEUED = "queued"
    STAGED = "staged"
    APPLIED = "applied"
    CONSUMED = "consumed"
    SUPERSEDED = "superseded"
    COALESCED = "coalesced"
    ABANDONED = "abandoned"


_S = InputState
_ENDS: Final = frozenset({_S.SUPERSEDED, _S.COALESCED, _S.ABANDONED})

#: What may follow each state. Anything else is an error.
TRANSITIONS: Final[dict[InputState, frozenset[InputState]]] = {
    _S.ACCEPTED: frozenset({_S.QUEUED}),
    _S.QUEUED: frozenset({_S.STAGED}) | _ENDS,
    _S.STAGED: frozenset({_S.APPLIED, _S.QUEUED, _S.CONSUMED, _S.ABANDONED}),
    _S.APPLIED: frozenset({_S.CONSUMED, _S.QUEUED, _S.ABANDONED}),
    _S.CONSUMED: frozenset(),
    _S.SUPERSEDED: frozenset(),
    _S.COALESCED: frozenset(),
    _S.ABANDONED: frozenset(),
}


class InputMisuse(Exception):
    """An input was to go from `state` to `wanted`, which the table does not list."""

    def __init__(self, input_id: InputId, state: InputState, wanted: InputState) -> None:
        super().__init__(
            f"input {input_id} is {state.value} and cannot become {wanted.value}; it may become"
            f" {', '.join(sorted(each.value for each in TRANSITIONS[state])) or 'nothing'}"
        )
        self.input_id = input_id
        self.state = state
        self.wanted = wanted


def check(input_id: InputId, state: InputState, wanted: InputState) -> None:
    """Return if the table lists it. Raises `InputMisuse`."""
    if wanted not in TRANSITIONS[state]:
        raise InputMisuse(input_id, state, wanted)


def how_it_ended(reason: str) -> InputState:
    """The state of an input that was given up for this reason."""
    for state in (_S.SUPERSEDED, _S.COALESCED):
        if reason.startswith(f"{state.value} "):
            return state
    return _S.ABANDONED


class RunApplyBoundary(enum.Enum):
    """Where in a session's life the inputs of a run are applied. The values are stored."""

    #: They become part of the history at once; no model is called.
    IMMEDIATE = "immediate"
    #: They begin a turn.
    RUN_START = "run-start"


@attrs.frozen
class RunApplied:
    """The receipt of a run, in one commit with its turn, which is the record before it.

    `digest` is that of the turn's messages as they are stored, `messages` how many they are,
    `total` how many the history has with them, `sequence` the turn's place in it, from 1.
    """

    session_id: SessionId
    run_id: RunId
    boundary: RunApplyBoundary
    input_ids: tuple[InputId, ...]
    digest: str
    messages: int
    total: int
    sequence: int
    at_ns: int


@attrs.frozen
class InputsRequeued:
    """A run on these inputs failed, in one commit with its turn: they are queued again.
    `attempt` counts the failed ones. Of a run whose inputs were all given up there are none."""

    session_id: SessionId
    run_id: RunId
    input_ids: tuple[InputId, ...]
    attempt: int
    reason: str
    at_ns: int


class AppliedRun(Protocol):
    """A run that a caller applies: whose it is, and what is committed with the end of its turn."""

    @property
    def run_id(self) -> RunId: ...

    @property
    def input_ids(self) -> tuple[InputId, ...]: ...

    def settled(self, record: TurnEnded) -> tuple[TurnEnded, Sequence[Any]]:
        """The record of the turn, and those that go with it into one commit."""
        ...


@attrs.frozen
class Receipt:
    """A run that was applied: `turn` is the number of its turn's record."""

    session_id: SessionId
    input_ids: tuple[InputId, ...]
    turn: int
    applied: RunApplied


@attrs.frozen
class FailedRun:
    """A run that failed, and the inputs that it left queued. It has ended as one that was applied
    has, and is not run again."""

    session_id: SessionId
    run_id: RunId
    input_ids: tuple[InputId, ...]
    reason: str


class RunBook:
    """How runs ended, by run, and failed attempts by input: a part of the fold.

    Receipts are kept in memory until the next checkpoint and are read from their rows after that.
    """

    def __init__(self, state: RealmState) -> None:
        self._state = state
        self._receipts: dict[RunId, tuple[RunApplied | FailedRun, int]] = {}
        #: By era: what is on its way to the disk, and what earlier eras have left to be written.
        self._writing: dict[tuple[int, RunId], tuple[RunApplied | FailedRun, int]] = {}
        self._before: dict[tuple[int, RunId], tuple[RunApplied | FailedRun, int]] = {}
        #: Failed attempts of inputs that are queued, by session.
        self.attempts: dict[SessionId, dict[InputId, int]] = {}
        self._changed: set[SessionId] = set()
        #: The stored row of this name in the realm of this id; the realm whose book this is.
        self.lookup: Callable[[bytes, str], bytes | None] = lambda _name, _realm: None
        self.realm = ""

    def receipt(self, run_id: RunId) -> Receipt | None:
        """The receipt of a run, if it was applied."""
        applied, turn = self.ended(run_id) or (None, 0)
        if not isinstance(applied, RunApplied):
            return None
        return Receipt(applied.session_id, applied.input_ids, turn, applied)

    def ended(self, run_id: RunId) -> tuple[RunApplied | FailedRun, int] | None:
        """How a run that a caller applied has ended, with the number of its turn's record; None if
        it has not."""
        return self._known(run_id, self._state.eras(self.realm))

    def _known(
        self, run_id: RunId, eras: Iterable[Era]
    ) -> tuple[RunApplied | FailedRun, int] | None:
        for era in eras:
            known = self._of_era(era, run_id)
            if known is not None and known[1] < era.until:
                return known
        return None

    def _of_era(self, era: Era, run_id: RunId) -> tuple[RunApplied | FailedRun, int] | None:
        if era.realm == self.realm:
            at = (era.number, run_id)
            known = self._before.get(at) or self._writing.get(at)
            if era.number == self._state.era:
                known = self._receipts.get(run_id) or known
            if known is not None:
                return known
        row = self.lookup(era_name(run_id.encode(), era.number), era.realm)
        return None if row is None else _unpacked(row)

    def leave_era(self, era: int) -> None:
        """Receipts that are not written yet belong to this era, which ends."""
        self._before.update(((era, run), known) for run, known in self._receipts.items())
        self._receipts = {}

    def rows_for(self, eras: Sequence[Era]) -> list[tuple[bytes, bytes]]:
        """The rows of receipts that count in these eras and are not surely on disk, for a realm
        that begins with them."""
        recent = {run for _, run in (*self._writing, *self._before)} | self._receipts.keys()
        known = [(run, self._known(run, eras)) for run in sorted(recent)]
        return [(run.encode(), _packed(*each)) for run, each in known if each is not None]

    def failed(self, session_id: SessionId, input_id: InputId) -> int:
        """How often a run on the input has failed."""
        return self.attempts.get(session_id, {}).get(input_id, 0)

    def transitions(self) -> dict[type, Callable[[int, Any], None]]:
        """The part of a realm's table that this module owns."""
        return {RunApplied: self._applied, InputsRequeued: self._requeued}

    def _applied(self, seq: int, record: RunApplied) -> None:
        if seq > self._state.folded:
            self._receipts[record.run_id] = (record, seq - 1)
            self._settle(record.session_id, record.input_ids)
        self._state.touch(seq, record.session_id)

    def _requeued(self, seq: int, record: InputsRequeued) -> None:
        if seq > self._state.folded:
            self._failed(seq, record)
            if record.input_ids:
                counts = self.attempts.setdefault(record.session_id, {})
                counts.update(dict.fromkeys(record.input_ids, record.attempt))
                self._changed.add(record.session_id)
        self._state.touch(seq, record.session_id)

    def _failed(self, seq: int, record: InputsRequeued) -> None:
        """The first record of a run that failed comes behind its turn, those after it say more."""
        first, turn = self._receipts.get(record.run_id, (None, seq - 1))
        ids = (*(() if first is None else first.input_ids), *record.input_ids)
        failed = FailedRun(record.session_id, record.run_id, ids, record.reason)
        self._receipts[record.run_id] = (failed, turn)

    def _settle(self, session_id: SessionId, input_ids: tuple[InputId, ...]) -> None:
        counts = self.attempts.get(session_id)
        if counts is None:
            return
        for input_id in input_ids:
            counts.pop(input_id, None)
        self._changed.add(session_id)
        if not counts:
            del self.attempts[session_id]

    def forget(self, session_id: SessionId, input_id: InputId | None = None) -> None:
        """The input, or with None the session, is done with."""
        counts = self.attempts.get(session_id)
        if counts is not None:
            self._settle(session_id, tuple(counts) if input_id is None else (input_id,))

    # -- rows ------------------------------------------------------------------------------

    def changed(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The rows of attempts to write."""
        changed, self._changed = self._changed, set()
        for session_id in sorted(changed):
            counts = self.attempts.get(session_id)
            row = None if not counts else pack_row([*counts.items()])
            yield session_id.encode(), row

    def load(self, name: bytes, row: bytes) -> None:
        """Take a row of attempts back."""
        (counts,) = unpack_row(row)
        self.attempts[SessionId(name.decode())] = {InputId(each): n for each, n in counts}

    def stale(self, name: bytes) -> None:
        """The row was made anew and is to be written."""
        self._changed.add(SessionId(name.decode()))

    def clear(self) -> None:
        """Forget the attempts: others are loaded."""
        self.attempts.clear()
        self._changed.clear()

    def receipts(self) -> list[tuple[bytes, bytes | None]]:
        """The rows of new receipts. Those handed out before are on disk by now."""
        self._writing, self._before = self._before, {}
        self._writing.update(((self._state.era, run), each) for run, each in self._receipts.items())
        self._receipts = {}
        return [
            (era_name(run.encode(), era), _packed(*known))
            for (era, run), known in self._writing.items()
        ]


#: Stands in the place of the boundary in the row of a run that failed.
_FAILED: Final = "failed"


def _packed(ended: RunApplied | FailedRun, turn: int) -> bytes:
    if isinstance(ended, FailedRun):
        return pack_row(
            _FAILED, turn, ended.session_id, ended.run_id, ended.input_ids, ended.reason
        )
    return pack_row(
        ended.boundary.value,
        turn,
        ended.session_id,
        ended.run_id,
        ended.input_ids,
        ended.digest,
        ended.messages,
        ended.total,
        ended.sequence,
        ended.at_ns,
    )


def _unpacked(row: bytes) -> tuple[RunApplied | FailedRun, int]:
    boundary, turn, session_id, run_id, input_ids, *rest = unpack_row(row)
    if boundary == _FAILED:
        return FailedRun(session_id, run_id, input_ids, *rest), turn
    applied = RunApplied(session_id, run_id, RunApplyBoundary(boundary), input_ids, *rest)
    return applied, turn
