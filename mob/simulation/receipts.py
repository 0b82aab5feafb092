"""Receipts: runs that callers apply, told a second time, and what must hold of them.

Owns: what is known of runs that were applied and of failed attempts, and the invariants of both.
Must not: share code with `runtime.ledger` and `runtime.applying` but their records.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, final

import attrs

from mob.simulation.facts import is_context
from runtime.ledger import InputsRequeued, RunApplied
from runtime.records import InputAbandoned, TurnEnded, TurnOutcome
from runtime.service import HARNESS

if TYPE_CHECKING:
    from mob.simulation.facts import Batch, Written
    from mob.simulation.ledger import Ledger

#: How often a run on an input may fail; the input is given up with the last.
_ATTEMPTS: Final = 3


@attrs.frozen
class Applied:
    """A promise: `apply_runtime_turn` returned this receipt."""

    receipt: RunApplied


@attrs.frozen
class Queued:
    """A promise: an input was accepted for a session, for a run to come."""

    session_id: str
    input_id: str
    text: str
    key: str


@attrs.frozen
class GivenUp:
    """A promise: an input was given up on request."""

    input_id: str


@final
class Receipts:
    """The receipts by run, and how often runs on each input have failed."""

    def __init__(self) -> None:
        self.known: dict[str, RunApplied] = {}
        self.failed: Counter[str] = Counter()

    def tell(self, record: RunApplied | InputsRequeued) -> None:
        """Take a record in."""
        if isinstance(record, RunApplied):
            self.known.setdefault(record.run_id, record)
        else:
            self.failed.update(record.input_ids)


def a_run_is_applied_once(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 5.5, 5.7: a run has one receipt, in one commit with its turn, which is the record
    before it and says the same: its inputs, its messages, its place in the history."""
    record: RunApplied = written.record
    if record.run_id in ledger.receipts.known:
        return f"run {record.run_id} was applied already"
    before = ledger.written[-1] if ledger.written else None
    turn = None if before is None else before.record
    if before is None or before.commit is not written.commit or not isinstance(turn, TurnEnded):
        return f"the receipt of run {record.run_id} comes without its turn"
    if (turn.run_id, turn.session_id) != (record.run_id, record.session_id):
        return f"the receipt of run {record.run_id} comes with the turn of run {turn.run_id}"
    if turn.outcome is TurnOutcome.FAILED:
        return f"run {record.run_id} failed and has a receipt"
    missing = [each for each in record.input_ids if each not in turn.input_ids]
    if missing or not record.input_ids:
        return f"run {record.run_id} is said to be on {missing or 'nothing'}, its turn is not"
    said = (record.messages, record.total, record.sequence)
    known = ledger.turns[ledger.last]
    if said != (len(turn.messages), known.total, known.place):
        return f"the receipt of run {record.run_id} says {said}, its turn is {known!r:.200}"
    return None


def attempts_are_bounded(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 5.8: a run that fails leaves its inputs queued, in one commit with its turn, and
    counts; the third gives them up with the reason."""
    record: InputsRequeued | InputAbandoned = written.record
    failed = ledger.receipts.failed
    if isinstance(record, InputAbandoned):
        tried = failed[record.input_id] + 1
        if record.reason.startswith("failed ") and tried != _ATTEMPTS:
            return f"input {record.input_id} is given up after {tried} attempts: {record.reason}"
        return None
    turn = next(
        (
            each.record
            for each in reversed(ledger.written[-_ATTEMPTS * 8 :])
            if each.commit is written.commit and isinstance(each.record, TurnEnded)
        ),
        None,
    )
    if turn is None or (turn.run_id, turn.outcome) != (record.run_id, TurnOutcome.FAILED):
        return f"inputs are queued again and run {record.run_id} has not failed in that commit"
    for input_id in record.input_ids:
        if not ledger.inputs[input_id].pending:
            return f"input {input_id} is queued again and was decided already"
        tried = failed[input_id] + 1
        if record.attempt != tried or tried >= _ATTEMPTS:
            return f"input {input_id} is queued again as attempt {record.attempt}; it is {tried}"
    return None


def a_run_that_failed_consumes_nothing(ledger: Ledger, batch: Batch) -> str | None:
    """CONTRACTS 5.5, 5.8: of a run that failed no input is consumed, and each is queued again or
    given up in the same commit; of one that was applied each is consumed."""
    for written in batch.written:
        record = written.record
        if isinstance(record, RunApplied):
            for input_id in record.input_ids:
                known = ledger.inputs[input_id]
                if known.turn != written.seq - 1 and known.abandoned is None:
                    return f"run {record.run_id} was applied, and input {input_id} is not consumed"
        elif isinstance(record, InputsRequeued):
            for input_id in record.input_ids:
                if ledger.inputs[input_id].turn:
                    return f"run {record.run_id} failed, and input {input_id} is consumed"
        elif isinstance(record, TurnEnded) and not _accounted(ledger, batch, record):
            return f"run {record.run_id} failed, and nothing says what became of its inputs"
    return None


def _accounted(ledger: Ledger, batch: Batch, turn: TurnEnded) -> bool:
    """Whether a turn that failed consumed its input, or says what becomes of it."""
    session = ledger.sessions[turn.session_id]
    failed = turn.outcome is TurnOutcome.FAILED
    if not failed or session.harness != HARNESS or session.archived:
        return True
    inputs = [ledger.inputs[each] for each in turn.input_ids]
    if any(not is_context(each.sender) for each in inputs):
        return True
    return any(
        isinstance(each.record, InputsRequeued | InputAbandoned)
        and each.record.session_id == turn.session_id
        for each in batch.written
    )


def what_runs_were_told_is_on_disk(ledger: Ledger, promise: object) -> str | None:
    """CONTRACTS 5.5 to 5.7: a receipt, an input that was accepted and one that was given up are on
    disk when somebody is told, and what ended stays so."""
    if isinstance(promise, Applied):
        known = ledger.receipts.known.get(promise.receipt.run_id)
        if known != promise.receipt:
            return f"{promise.receipt!r:.200} was handed over, on disk is {known!r:.200}"
    elif isinstance(promise, Queued):
        found = ledger.inputs.get(promise.input_id)
        if found is None:
            return f"input {promise.input_id} was said to be queued and is not on disk"
        if (found.session_id, found.text, found.key) != (
            promise.session_id,
            promise.text,
            promise.key,
        ):
            return f"input {promise.input_id} is {found!r:.160}, not {promise!r:.160}"
    elif isinstance(promise, GivenUp):
        found = ledger.inputs.get(promise.input_id)
        if found is None or found.pending:
            return f"input {promise.input_id} was said to be given up and is not, on disk"
    return None
