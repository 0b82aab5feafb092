"""What must hold of calls that wait for approval: asked, decided and begun once, in this order.

Owns: the invariants. Must not: share code with `runtime.approvals` and `runtime.asking`; they are
written from what `docs/approval.md` promises.
"""

from __future__ import annotations

from mob.simulation.facts import Written
from mob.simulation.ledger import Ledger
from runtime.approvals import ApprovalAsked, ApprovalUsed
from runtime.messages import ToolResult
from runtime.records import TurnEnded, TurnProgressed


def questions_are_about_open_calls(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.9: a call is asked about once, while it is open and nothing of it has run."""
    record: ApprovalAsked = written.record
    partial = ledger.sessions[record.session_id].partial
    if partial is None:
        return None  # the session was archived meanwhile
    if partial.run_id != record.run_id:
        return f"it is of run {record.run_id}, in flight is {partial.run_id}"
    if record.call_id in partial.asked:
        return f"call {record.call_id} was asked about before"
    if record.call_id not in partial.open_calls():
        return f"call {record.call_id} is not open"
    return None


def a_call_is_begun_once_and_only_when_approved(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.9: a call that was asked about runs after it was approved, and is begun once."""
    record: ApprovalUsed = written.record
    partial = ledger.sessions[record.session_id].partial
    if partial is None or partial.run_id != record.run_id:
        return None
    for call in record.call_ids:
        stands = partial.asked.get(call, "not asked about")
        if stands != "approved":
            return f"call {call} is begun, and it is {stands}"
    return None


def what_waits_has_no_result(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.9: a call that nobody has approved has no result but that it was denied or cut
    off, and no decision is lost."""
    record: TurnProgressed | TurnEnded = written.record
    partial = ledger.sessions[record.session_id].partial
    if partial is None or partial.run_id != record.run_id or not partial.asked:
        return None
    allowed = {"waiting": (), "denied": ("DENIED",), "approved": ()}
    cut = isinstance(record, TurnEnded)
    for message in record.messages:
        if isinstance(message, ToolResult) and message.call_id in partial.asked:
            stands = partial.asked[message.call_id]
            outcome = message.outcome.name
            if (cut and outcome == "INTERRUPTED") or stands == "begun":
                continue
            if outcome not in allowed[stands]:
                return f"call {message.call_id} is {stands} and its result is {outcome}"
    return None
