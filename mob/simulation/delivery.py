"""What must hold of inputs and of members that fail: delivery, order, restarts.

Owns: the invariants of `InputAccepted`, `InputAbandoned`, `MemberExited` and of the inputs that a
turn consumes. Must not: change the ledger. Each function returns what is wrong, or None; it is
asked before the ledger takes the record in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from mob.records import MemberExited, MobStateChanged
from mob.simulation.facts import (
    BEGINNING,
    Batch,
    KnownExit,
    KnownInput,
    KnownSession,
    Written,
    is_context,
    waits,
)
from mob.simulation.ledger import Ledger
from runtime.messages import Message, SystemMessage, ToolOutcome, ToolResult, UserMessage
from runtime.records import (
    InputAbandoned,
    InputAccepted,
    TurnEnded,
    TurnOutcome,
    TurnProgressed,
)
from runtime.service import HARNESS

#: How the machine's own failures begin: those that no crash of an activation came before.
OWN_FAILURES: Final = (
    "the answer does not fit its schema",
    "the turn made ",
    "the call of ",
    "denied by hook ",
)
#: How a member is given up by its own policy, not by its group's.
_TOO_OFTEN: Final = re.compile(r"\(restarted \d+ times within ")


def a_key_means_one_input(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 5.7: a key that was seen joins the first input, across restarts too; the key is
    free again only once the session it was used in is deleted, and goes with a member's name."""
    record: InputAccepted = written.record
    known = ledger.keys.get(record.idempotency_key or "")
    if known is None or ledger.sessions[known.session_id].deleted:
        return None
    if known.abandoned and ledger.succeeded.get(known.session_id) == record.session_id:
        return None  # it waited for a member that was given another session
    return (
        f"input {record.input_id} has the idempotency key {known.key!r} of input {known.input_id}"
        f" in record {known.seq}"
    )


def an_input_has_one_fate(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 5.6, 6.7: an input that was accepted is consumed by one turn or abandoned, once;
    what a turn says of it after its session was archived is late and changes nothing."""
    record: TurnEnded | InputAbandoned = written.record
    inputs = record.input_ids if isinstance(record, TurnEnded) else (record.input_id,)
    if len(set(inputs)) != len(inputs):
        return f"one turn consumes an input twice: {inputs}"
    late = ledger.sessions[record.session_id].archived
    for input_id in inputs:
        known = ledger.inputs.get(input_id)
        if known is None or known.session_id != record.session_id:
            return f"input {input_id} was never accepted in session {record.session_id}"
        if known.turn:
            return f"input {input_id} was consumed by the turn in record {known.turn} already"
        if known.abandoned is not None and not late:
            return f"input {input_id} was abandoned already: {known.abandoned}"
    return None


def inputs_are_consumed_in_order(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.7: messages from one sender to one recipient arrive in order."""
    record: TurnEnded = written.record
    if ledger.sessions[record.session_id].harness == HARNESS:
        return None  # its callers choose which inputs a run is on
    waiting = ledger.sessions[record.session_id].waiting
    queues: dict[str | None, Iterator[str]] = {}
    for input_id in record.input_ids:
        known = ledger.inputs[input_id]
        if not known.pending:
            continue
        first = next(queues.setdefault(known.sender, iter(waiting[known.sender])))
        if first != input_id:
            return (
                f"input {input_id} from {known.sender!r} is consumed before {first}, which came"
                " first"
            )
    return None


def turns_say_what_was_sent(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 5.6, 6.6: a turn begins with the words of the inputs it consumes, unchanged."""
    record: TurnEnded | TurnProgressed = written.record
    session = ledger.sessions[record.session_id]
    if isinstance(record, TurnProgressed) and (session.partial is not None or session.archived):
        return None  # its beginning was looked at; or it comes late, and is not continued
    for index, input_id in enumerate(record.input_ids):
        known = ledger.inputs.get(input_id)
        if known is None:
            return f"input {input_id} was never accepted"
        if is_context(known.sender):  # it was taken in on the way, wherever the turn stood then
            if not any(_is_said(known, message) for message in record.messages):
                return f"input {input_id} says {known.text!r:.80}, and no message of the turn does"
            continue
        if ledger.exchange.steers(known.input_id):
            if not any(_is_told(known, message) for message in record.messages):
                return f"input {input_id} says {known.text!r:.80}, and no message of the turn does"
            continue
        said = record.messages[index] if index < len(record.messages) else None
        if (
            not isinstance(said, UserMessage)
            or said.sender != known.sender
            or not said.text.startswith(known.text)
        ):
            return f"input {input_id} says {known.text!r:.80}, the turn begins with {said!r:.120}"
    return None


def _is_said(known: KnownInput, message: Message) -> bool:
    return isinstance(message, SystemMessage) and message.text == known.text


def _is_told(known: KnownInput, message: Message) -> bool:
    """Whether this is the message of one that steered the turn, or began it."""
    return (
        isinstance(message, UserMessage)
        and message.sender == known.sender
        and message.text.startswith(known.text)
    )


def an_interrupt_is_not_lost(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 4.3: a turn whose interruption was confirmed ends as interrupted."""
    record: TurnEnded = written.record
    process = ledger.interrupts.get(record.session_id)
    if process != written.commit.process or record.outcome is TurnOutcome.INTERRUPTED:
        return None
    if not record.input_ids:
        return None  # written by hand, which nobody may while a turn is in flight
    return (
        f"somebody was told that the turn of session {record.session_id} is interrupted, and it"
        f" ended as {record.outcome.name}"
    )


# -- failures --------------------------------------------------------------------------------


def a_failure_surfaces_once(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 5.8, 6.8: when the supervisor gives up, exactly one failed turn follows, for that
    reason; a member's turn fails only so, or by a rule of the turn itself."""
    record: MemberExited | TurnEnded = written.record
    given_up = _of_this_process(ledger, written, record.session_id)
    if isinstance(record, MemberExited):
        if given_up is None:
            return None
        return f"member {record.name!r} was given up, and crashes again before its turn failed"
    if given_up is not None:
        error = record.error or ""
        if record.outcome is TurnOutcome.FAILED and error.startswith(given_up.record.cause):
            return None
        return (
            f"the supervisor gave up because of {given_up.record.cause!r:.80}, and the turn ended"
            f" as {record.outcome.name}: {error!r:.80}"
        )
    if record.outcome is not TurnOutcome.FAILED or not record.input_ids:
        return None
    session = ledger.sessions[record.session_id]
    if session.parent is not None or (record.error or "").startswith(OWN_FAILURES):
        return None
    if session.harness == HARNESS:
        return None  # nobody supervises it: its caller is told
    return f"a turn failed and no crash was recorded: {record.error!r:.120}"


def _of_this_process(ledger: Ledger, written: Written, session_id: str) -> KnownExit | None:
    given_up = ledger.given_up.get(session_id)
    if given_up is None or given_up.commit.process != written.commit.process:
        return None
    return given_up


def restart_intensity_holds(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.8: at most `max_restarts` restarts within `within_s`, per life of a process.

    When a restart was decided is known only from below and from above (its commit takes time), so
    only what is certain is reported.
    """
    record: MemberExited = written.record
    policy = _policy(ledger, record)
    if record.restart_in_s is None or policy is None:
        return None
    if policy["when"] == "never":
        return f"member {record.name!r} is restarted, and its policy is never to"
    limit, within_s = int(policy["max_restarts"]), float(policy["within_s"])
    before = [each for each in _exits(ledger, written) if each.record.restart_in_s is not None]
    if len(before) < limit:
        return None
    if not limit:
        return f"member {record.name!r} is restarted, and its policy allows no restart"
    since_s = before[-limit].earliest_s
    if written.commit.at_s - since_s >= within_s:
        return None
    return (
        f"member {record.name!r} is restarted for the {limit + 1}th time within"
        f" {written.commit.at_s - since_s:g} s; its policy allows {limit} within {within_s:g} s"
    )


def restarts_back_off(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.8: delays double from `backoff_s` to `max_backoff_s`, and one restart at most
    comes with the shortest for each that is forgotten."""
    record: MemberExited = written.record
    policy = _policy(ledger, record)
    if record.restart_in_s is None or policy is None:
        return None
    delays = [
        min(policy["backoff_s"] * 2.0 ** min(n, 1000), policy["max_backoff_s"])
        for n in range(max(int(policy["max_restarts"]), 1))
    ]
    before = [each for each in _exits(ledger, written) if each.record.restart_in_s is not None]
    # Not forgotten is for certain what was decided, at the earliest, within that time of now.
    now_s, within_s = written.commit.at_s, float(policy["within_s"])
    recent = sum(now_s - each.earliest_s < within_s for each in before)
    # Those of earlier processes count too, as old as the wall clock, which may jump, says.
    allowed = delays[recent : len(before) + 1 + _of_earlier(ledger, written)]
    if record.restart_in_s in allowed:
        return None
    return f"restart in {record.restart_in_s} s; after {len(before)} restarts it may be {allowed}"


def giving_up_is_deserved(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.8: restarts older than `within_s` are forgotten: a member that has been well for
    that long is not given up for having been restarted too often."""
    record: TurnEnded = written.record
    given_up = _of_this_process(ledger, written, record.session_id)
    if given_up is None or not _TOO_OFTEN.search(record.error or ""):
        return None
    policy = _policy(ledger, given_up.record)
    if policy is None:
        return None
    recent = [
        each
        for each in ledger.exits[record.session_id]
        if each.record.restart_in_s is not None
        and (
            each.commit.process != written.commit.process
            or given_up.earliest_s - each.commit.at_s < float(policy["within_s"])
        )
    ]
    if len(recent) >= int(policy["max_restarts"]):
        return None
    return (
        f"given up after {len(recent)} restarts within {policy['within_s']} s; the policy allows"
        f" {policy['max_restarts']}"
    )


def _policy(ledger: Ledger, record: MemberExited) -> dict[str, Any] | None:
    row = ledger.members.get(record.name)
    return None if row is None else ledger.profile(row.profile).get("restart")


def _exits(ledger: Ledger, written: Written) -> list[KnownExit]:
    """Earlier exits of the same session in the same life of a process."""
    return [
        each
        for each in ledger.exits.get(written.record.session_id, ())
        if each.commit.process == written.commit.process
    ]


def _of_earlier(ledger: Ledger, written: Written) -> int:
    """How often earlier processes restarted the session."""
    return sum(
        each.commit.process != written.commit.process and each.record.restart_in_s is not None
        for each in ledger.exits.get(written.record.session_id, ())
    )


def nothing_is_left_behind(ledger: Ledger, _: object) -> str | None:
    """CONTRACTS 5.6, 6.7: once the mob has healed and is idle, no input waits and no turn is in
    flight, but in children whose tool call was given up: those wait to be asked again."""
    if ledger.state == "completed":
        return _left_of_members(ledger)
    return _left_behind(ledger, ledger.living())


def _left_of_members(ledger: Ledger) -> str | None:
    return _left_behind(ledger, (e for e in ledger.living() if not _is_guest(ledger, e)))


def _left_behind(ledger: Ledger, sessions: Iterable[KnownSession]) -> str | None:
    for session in sessions:
        if session.archived or _given_up(ledger, session):
            continue
        for known in session.pending.values():
            if waits(known.sender):
                continue  # what is told of children goes with the next turn, if there is one
            return (
                f"input {known.input_id} of session {session.session_id} was never worked on:"
                f" {known.text!r:.80}"
            )
        if session.partial is not None:
            return f"a turn is still in flight in session {session.session_id}"
    return None


def a_completed_mob_has_nothing_left(ledger: Ledger, batch: Batch) -> str | None:
    """CONTRACTS 5.9, 6.1: a mob is completed once all that its members and their children were
    asked has been worked off. Of other sessions their applications run the turns."""
    for written in batch.written:
        record = written.record
        if isinstance(record, MobStateChanged) and record.state == "completed":
            left = _left_of_members(ledger)
            return None if left is None else f"the mob is completed, and {left}"
    return None


def _is_guest(ledger: Ledger, session: KnownSession) -> bool:
    """Whether a session, or the one above all that it is below, is an application's."""
    while session.parent is not None:
        session = ledger.sessions[session.parent]
    return session.harness == HARNESS


def _given_up(ledger: Ledger, session: KnownSession) -> bool:
    """Whether a call of the parent's that made the session, or spoke to it, has another result than
    the child's answer: it timed out, or failed, or was cut off and is not idempotent. So it is too
    with what is below such a child."""
    if session.parent is None:
        return False
    if _given_up(ledger, ledger.sessions[session.parent]):
        return True
    keys = {known.key or "" for known in session.pending.values()} | {session.spawn_key or ""}
    for key in keys:
        _, run_id, call_id = (*key.split(":", 2), "", "")[:3]
        turn = ledger.turns.get(ledger.ended.get(run_id, 0), BEGINNING)
        cut = {
            message.call_id
            for message in turn.messages
            if isinstance(message, ToolResult) and message.outcome is not ToolOutcome.OK
        }
        if any(call_id == each or call_id.startswith(f"{each}:") for each in cut):
            return True
    return False
