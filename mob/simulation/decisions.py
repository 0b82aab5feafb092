"""What must hold of calls that wait for approval: asked, decided and begun once, in this order.

Owns: the invariants. Must not: share code with `runtime.approvals` and `runtime.asking`; they are
written from what `docs/approval.md` promises.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase

from mob.simulation.facts import KnownSession, ToolRan, Written
from mob.simulation.ledger import Ledger
from mob.simulation.promises import Decided, NotWaiting, Promise
from mob.simulation.questions import key_of
from runtime.approvals import ApprovalAsked, ApprovalDecided, ApprovalUsed
from runtime.messages import ToolResult
from runtime.records import TurnEnded, TurnOutcome, TurnProgressed


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


def the_first_decision_counts(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.9: a call that was asked about is decided once, in whatever process; a decision
    is about such a call and edits only what it lets run."""
    record: ApprovalDecided = written.record
    key = key_of(record.session_id, record.run_id, record.call_id)
    known = ledger.questions.known.get(key)
    if known is None:
        return f"nobody asked about call {key}"
    if known.decided is not None:
        return f"{known.decided.by!r} had decided about call {key} already"
    if record.arguments is not None and record.verdict.value != "approved":
        return f"call {key} is denied, and with other arguments"
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


def a_turn_that_waits_is_not_over(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.9: a turn does not come to its end while a call of it waits: it is interrupted,
    fails or its session ends."""
    record: TurnEnded = written.record
    partial = ledger.sessions[record.session_id].partial
    if partial is None or partial.run_id != record.run_id:
        return None
    waiting = sorted(call for call, stands in partial.asked.items() if stands == "waiting")
    if waiting and record.outcome is TurnOutcome.COMPLETED:
        return f"the turn has answered, and these calls of it wait: {waiting}"
    return None


def what_needs_approval_runs_as_decided(ledger: Ledger, promise: Promise) -> str | None:
    """CONTRACTS 6.9: a call that needs approval runs when somebody has approved it and that is on
    disk, with the arguments that were decided; one that was denied never does. What people are told
    of their decisions is the first one, also in a later process."""
    if isinstance(promise, Decided):
        return _told(ledger, promise)
    if isinstance(promise, NotWaiting):
        return _forgotten(ledger, promise)
    if not isinstance(promise, ToolRan):
        return None
    key = key_of(promise.session_id, promise.run_id, promise.call_id)
    known = ledger.questions.known.get(key)
    session = ledger.sessions.get(promise.session_id)
    if known is None:
        if session is not None and _needs_approval(ledger, session, promise.name):
            return f"call {key} of {promise.name!r} runs, and nobody was asked about it"
        return None
    decided = known.decided
    if decided is None or decided.verdict.value != "approved":
        stands = "waits" if decided is None else f"was denied by {decided.by!r}"
        return f"call {key} of {promise.name!r} runs, and it {stands}"
    if not known.begun:
        return f"call {key} of {promise.name!r} runs, and that it has begun is not on disk"
    if promise.arguments is None or (session is not None and _hooked(ledger, session)):
        return None
    wanted = known.asked.arguments if decided.arguments is None else decided.arguments
    if json.loads(wanted or "{}") != json.loads(promise.arguments):
        return f"call {key} was approved with {wanted:.120}, and runs with {promise.arguments:.120}"
    return None


def _told(ledger: Ledger, promise: Decided) -> str | None:
    known = ledger.questions.known.get(promise.key)
    if known is None or known.decided is None:
        return f"call {promise.key} was said to be decided and is not on disk"
    first = known.decided
    one = (first.verdict.value, first.by, first.reason, first.arguments)
    other = (promise.verdict, promise.by, promise.reason, promise.arguments)
    if one == other:
        return None
    return f"{other!r:.120} was said to hold for call {promise.key}, on disk is {one!r:.120}"


def _forgotten(ledger: Ledger, promise: NotWaiting) -> str | None:
    known = ledger.questions.known.get(promise.key)
    if known is None or known.decided is not None or promise.applied != ledger.last:
        return None
    session = ledger.sessions[known.asked.session_id]
    partial = session.partial
    if session.archived or session.deleted or partial is None:
        return None
    if partial.run_id != known.asked.run_id:
        return None
    return f"call {promise.key} waits on disk, and somebody was told that it does not"


def _needs_approval(ledger: Ledger, session: KnownSession, name: str) -> bool:
    tool = ledger.blueprint.get("tools", {}).get(name, {})
    patterns = ledger.profile(session.harness).get("approve", ())
    return tool.get("approve") == "ask" or any(fnmatchcase(name, each) for each in patterns)


def _hooked(ledger: Ledger, session: KnownSession) -> bool:
    """Whether a hook may have given the call other arguments after it was approved."""
    return bool(ledger.profile(session.harness).get("hooks"))
