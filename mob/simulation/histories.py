"""What must hold of turns and histories: chains, messages, usage, forks, rewinds.

Owns: the invariants of `TurnProgressed`, `TurnEnded`, `SessionForked` and `SessionRewound`. Must
not: change the ledger, share code with `runtime.chain` or `runtime.messages.check_sequence`. Each
function returns what is wrong, or None; it is asked before the ledger takes the record in.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

import attrs

from mob.simulation.facts import Written, absolute, is_context
from mob.simulation.ledger import Ledger
from mob.simulation.rounds import withheld
from runtime.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolResult,
    Usage,
    UserMessage,
)
from runtime.records import (
    ModelRetried,
    SessionForked,
    SessionRewound,
    TurnEnded,
    TurnOutcome,
    TurnProgressed,
)
from runtime.service import HARNESS

#: What a completed turn says whose answer was cut off (`runtime.turn`).
TRUNCATED: Final = "the answer was cut off at the length limit"


def turns_form_a_chain(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.14: a turn names the one before it and one further back, and counts on."""
    record: TurnEnded = written.record
    session = ledger.sessions[record.session_id]
    prev = absolute(written.seq, record.prev)
    if prev != session.head:
        return f"turn {written.seq} continues record {prev}, the history ends with {session.head}"
    if record.turn != session.turns + 1:
        return f"turn {written.seq} is at place {record.turn}, after {session.turns} turns"
    if record.total != session.total + len(record.messages):
        return (
            f"turn {written.seq} counts {record.total} messages; there are {session.total} and"
            f" {len(record.messages)} more"
        )
    skip = _jump(ledger, prev)
    place = ledger.turns[skip].place
    found = absolute(written.seq, record.skip)
    if (found, record.skip_turn) != (skip, place):
        return (
            f"turn {written.seq} skips to record {found} at place {record.skip_turn}; it should to"
            f" record {skip} at place {place}"
        )
    return None


def _jump(ledger: Ledger, prev: int) -> int:
    """Where a turn behind `prev` skips to (Myers 1983): two jumps of one length make one."""
    turns = ledger.turns
    one = turns[prev].skip
    two = turns[one].skip
    if prev and turns[prev].place - turns[one].place == turns[one].place - turns[two].place:
        return two
    return prev


def one_turn_is_in_flight(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 4.2: a session has at most one turn in flight; a run has one session and one set
    of inputs, and ends once."""
    record: TurnProgressed | TurnEnded = written.record
    session = ledger.sessions[record.session_id]
    if record.run_id in ledger.ended:
        return f"run {record.run_id} ended in record {ledger.ended[record.run_id]} already"
    known = ledger.runs.get(record.run_id, record.session_id)
    if known != record.session_id:
        return f"run {record.run_id} belongs to session {known}, not to {record.session_id}"
    partial = session.partial
    if partial is None or session.archived:
        return None
    if partial.run_id != record.run_id:
        return f"run {record.run_id} begins while {partial.run_id} is in flight"
    if session.harness == HARNESS and _failed_within(record, partial.inputs):
        return None  # a run that a caller applies leaves its inputs queued
    later = record.input_ids[len(partial.inputs) :]
    told = all(
        is_context(ledger.inputs[each].sender) or ledger.exchange.steers(each)
        for each in later
        if each in ledger.inputs
    )
    if (*partial.inputs, *later) != record.input_ids or not told:
        return f"run {record.run_id} is on inputs {record.input_ids}, it was on {partial.inputs}"
    return None


def _failed_within(record: TurnProgressed | TurnEnded, inputs: Sequence[str]) -> bool:
    failed = isinstance(record, TurnEnded) and record.outcome is TurnOutcome.FAILED
    return failed and set(record.input_ids) <= set(inputs)


def retries_are_of_a_turn_that_goes_on(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.8: a model call is tried again within a turn, not after its end."""
    record: ModelRetried = written.record
    if ledger.runs.get(record.run_id, record.session_id) != record.session_id:
        return f"run {record.run_id} belongs to session {ledger.runs[record.run_id]}"
    if record.run_id in ledger.ended:
        return f"run {record.run_id} ended in record {ledger.ended[record.run_id]} already"
    return None


def progress_stays(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.9: what was journalled of a turn in flight is the beginning of the turn that
    ends, so that nothing of it is done again."""
    record: TurnEnded = written.record
    session = ledger.sessions[record.session_id]
    if session.partial is None or session.archived:
        return None
    kept = session.partial.messages
    if list(record.messages[: len(kept)]) == kept:
        return None
    for index, message in enumerate(kept):
        if index >= len(record.messages) or record.messages[index] != message:
            now = record.messages[index] if index < len(record.messages) else None
            return f"message {index} of the turn was {message!r:.120} and is {now!r:.120}"
    return None


def messages_are_whole_turns(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 2.8: each tool result answers one open call once, nothing dangles at the end of a
    turn, and what was open when a turn was cut is closed."""
    record: TurnEnded = written.record
    if not record.messages:
        return "a turn without a message"
    if record.input_ids and not isinstance(record.messages[0], UserMessage):
        return f"a turn begins with {record.messages[0]!r:.80}"
    reason = _dangling(record.messages)
    if reason is not None:
        return reason
    last = record.messages[-1]
    if all(isinstance(each, UserMessage | SystemMessage) for each in record.messages):
        session = ledger.sessions[record.session_id]
        if session.harness == HARNESS and record.usage == Usage() and not record.error:
            return None  # inputs that a caller applied at once, with no model
    if record.outcome is TurnOutcome.COMPLETED and record.input_ids:
        if not isinstance(last, AssistantMessage) or last.tool_calls:
            return f"a completed turn ends with {last!r:.80}"
        if record.error not in (None, TRUNCATED):
            return f"a completed turn has an error: {record.error!r:.80}"
    if record.outcome is not TurnOutcome.COMPLETED and record.error is None:
        return f"a turn is {record.outcome.name} and does not say why"
    if record.output is not None:
        json.loads(record.output)
    return None


def _dangling(messages: Sequence[Message]) -> str | None:
    calls: dict[str, str] = {}
    for index, message in enumerate(messages):
        if isinstance(message, ToolResult):
            name = calls.pop(message.call_id, None)
            if name is None:
                return f"message {index}: result {message.call_id!r} answers no open call"
            if name != message.name:
                return f"message {index}: result of {message.name!r} for a call of {name!r}"
            continue
        if calls:
            return f"message {index}: the calls {sorted(calls)} are open"
        if isinstance(message, AssistantMessage):
            calls = {call.id: call.name for call in message.tool_calls}
            if len(calls) != len(message.tool_calls):
                return f"message {index}: two calls have one id"
    return f"the calls {sorted(calls)} are open at the end" if calls else None


def usage_adds_up(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 4.8, 6.15: a turn has spent what its replies spent and the calls they made.

    Of turns that a caller saved, calls are not counted (nothing was called), nor is what was
    charged before.
    """
    record: TurnEnded | TurnProgressed = written.record
    messages = list(record.messages)
    session = ledger.sessions[record.session_id]
    if isinstance(record, TurnProgressed):
        if session.archived:
            return None  # it comes late, and is not continued
        if session.partial is not None:
            messages = session.partial.messages + messages
    spent = _spent(messages)
    if record.usage in (spent, spent + withheld(ledger, record)):
        return None
    if not record.input_ids:
        said, most = attrs.astuple(record.usage), attrs.astuple(spent)
        if all(one <= other for one, other in zip(said, most, strict=True)):
            return None
    return f"the turn says it spent {record.usage}, its messages say {spent}"


def _spent(messages: Sequence[Message]) -> Usage:
    counts = dict.fromkeys(attrs.fields_dict(Usage), 0)
    for message in messages:
        if isinstance(message, AssistantMessage):
            for name in counts:
                counts[name] += getattr(message.usage, name)
            counts["tool_calls"] += len(message.tool_calls)
    return Usage(**counts)


def results_are_those_of_the_latest_run(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 5.5: a tool that is run again replaces what its earlier run would have said."""
    record: TurnProgressed | TurnEnded = written.record
    for message in record.messages:
        if isinstance(message, ToolResult):
            key = f"{record.session_id}:{record.run_id}:{message.call_id}"
            text = ledger.returned.get(key)
            question = ledger.questions.known.get(key)
            if text is not None and question is not None and question.decided is not None:
                edited = question.decided.arguments
                if edited is not None:  # its model did not give these, and is told so
                    text = f"[it was approved with other arguments: {edited}]\n{text}"
            if text is not None and message.outcome.value == 0 and message.text != text:
                return f"call {key} returned {text!r:.80}, the turn says {message.text!r:.80}"
    return None


# -- histories -------------------------------------------------------------------------------


def forks_share_what_was_there(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 3.4: a fork has exactly the history that its source had."""
    record: SessionForked = written.record
    if record.head not in ledger.sessions[record.source].heads:
        return f"the fork begins with record {record.head}, where its source never ended"
    return _place(ledger, record)


def rewinds_keep_the_tail(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 3.5: a rewind goes back in the session's own history, a restore to a branch of
    it, and neither happens under a turn in flight."""
    record: SessionRewound = written.record
    session = ledger.sessions[record.session_id]
    if session.partial is not None:
        return f"session {session.session_id} is rewound under its turn in flight"
    if record.restored is not None:
        if not 0 <= record.restored < len(session.branches):
            return f"branch {record.restored} is restored, there are {len(session.branches)}"
        if session.branches[record.restored] != record.head:
            return f"branch {record.restored} does not end with record {record.head}"
    elif ledger.turn_at(session.head, record.turns) != record.head:
        return f"record {record.head} is not turn {record.turns} of the history"
    return _place(ledger, record)


def _place(ledger: Ledger, record: SessionForked | SessionRewound) -> str | None:
    turn = ledger.turns[record.head]
    if (record.turns, record.total) != (turn.place, turn.total):
        return (
            f"record {record.head} is turn {turn.place} with {turn.total} messages, not"
            f" {record.turns} with {record.total}"
        )
    if record.links != ledger.links(record.head):
        return f"the links are {record.links}, they should be {ledger.links(record.head)}"
    return None
