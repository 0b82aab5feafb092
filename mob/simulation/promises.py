"""Promises: what somebody was told, and that the disk says the same at that instant.

Owns: the kinds of promises and their checks against the ledger. Must not: decide what a caller may
be told; a promise of a process that was dead when the answer arrived is never made.

Acknowledged means durable *with the same content*: ids alone would let a store through that keeps
its numbers and loses its words. Whoever is told makes the promise in the same step, before any
checkpoint, so a promise that only a later commit would keep is broken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import attrs

from mob.errors import MemberFailed
from mob.receipts import Receipt
from mob.simulation.accounts import ModelCalled
from mob.simulation.attendance import ComesByMessage
from mob.simulation.boards import BoardTold
from mob.simulation.facts import KnownInput, KnownTurn, ToolRan
from mob.simulation.flowing import FlowPromise
from mob.simulation.ledger import Ledger
from mob.simulation.mailing import Mailed
from mob.simulation.recall import Searched
from mob.simulation.receipts import Applied, GivenUp, Queued
from mob.simulation.rounds import HookAnswered, HookAsked
from mob.simulation.staged import Archived, Conflicting, Staged, ToldPeer
from mob.simulation.tenures import AtWork, Completed, Ensured, Fenced, Hired, Respawned
from mob.simulation.voyages import Parted, Snapped, WentBack
from runtime.errors import BudgetExceeded, TurnInterrupted
from runtime.journal import Event
from runtime.messages import CONTINUED, AssistantMessage, Message, SystemMessage, UserMessage
from runtime.records import TurnOutcome
from runtime.results import TurnResult


@attrs.frozen
class Sent:
    """`Mob.send` returned `receipt`. `text` None: it is not compared, as for a key's later use."""

    receipt: Receipt
    text: str | None
    key: str | None = None


@attrs.frozen
class Answered:
    """`Mob.ask` returned `result`, or `SessionService.start_turn` of a session without a member."""

    member: str | None
    text: str | None
    result: TurnResult
    key: str | None = None


@attrs.frozen
class Failed:
    """`Mob.ask` raised `error` about the turn or its input: `AgentError`, `SessionError`."""

    member: str
    text: str | None
    error: Exception


@attrs.frozen
class Spawned:
    """`Mob.spawn` returned."""

    member: str
    profile: str
    session_id: str


@attrs.frozen
class Retired:
    """`Mob.retire` returned."""

    member: str


@attrs.frozen
class Stopped:
    """`Mob.stop` returned; `since` is the ledger's last record when it was called."""

    since: int = 0


@attrs.frozen
class Resumed:
    """`Mob.resume` returned; `since` as for `Stopped`."""

    since: int = 0


@attrs.frozen
class Interrupted:
    """`Mob.interrupt` returned true: the session's turn in flight in `process` is to end so."""

    member: str
    session_id: str
    process: int


@attrs.frozen
class Reported:
    """`Mob.report_run` returned."""

    key: str


@attrs.frozen
class Forked:
    """`SessionManager.fork` returned a session of so many turns."""

    source: str
    session_id: str
    turns: int


@attrs.frozen
class Rewound:
    """`SessionManager.rewind` returned; the history has so many turns."""

    session_id: str
    turns: int


@attrs.frozen
class Restored:
    """`SessionManager.restore` returned; the history has so many turns."""

    session_id: str
    turns: int


@attrs.frozen
class Labelled:
    """`tag`, `untag` or `rename` returned, and nobody else labels the session."""

    session_id: str
    title: str | None
    tags: tuple[str, ...]


@attrs.frozen
class Deleted:
    """`SessionManager.delete` returned."""

    session_id: str


@attrs.frozen
class SavedSession:
    """`SessionManager.save` returned."""

    session_id: str
    messages: Sequence[Message]


@attrs.frozen
class Subscribed:
    """Somebody follows the events above `after`, under a name of its own."""

    subscriber: str
    after: int


@attrs.frozen
class Saw:
    """A subscriber was handed `event`."""

    subscriber: str
    event: Event


@attrs.frozen
class Decided:
    """`Mob.approve` or `Mob.deny` returned: what counts for this call."""

    key: str
    verdict: str
    by: str
    reason: str = ""
    arguments: str | None = None


@attrs.frozen
class NotWaiting:
    """Somebody was told that no call waits under this key, by a process whose fold had `applied`
    records then."""

    key: str
    applied: int


@attrs.frozen
class ToolReturned:
    """A tool returned this text for this call."""

    session_id: str
    run_id: str
    call_id: str
    text: str


Promise: TypeAlias = (
    Sent
    | Answered
    | Failed
    | Spawned
    | Retired
    | Stopped
    | Resumed
    | Interrupted
    | Reported
    | Forked
    | Rewound
    | Restored
    | Labelled
    | Deleted
    | SavedSession
    | Subscribed
    | Saw
    | Decided
    | NotWaiting
    | Applied
    | Queued
    | GivenUp
    | Staged
    | Conflicting
    | ToldPeer
    | Archived
    | ToolRan
    | ToolReturned
    | ModelCalled
    | HookAsked
    | HookAnswered
    | Searched
    | Mailed
    | Snapped
    | WentBack
    | Parted
    | Respawned
    | Fenced
    | Hired
    | Ensured
    | Completed
    | AtWork
    | FlowPromise
    | BoardTold
    | ComesByMessage
)


# -- inputs and answers ----------------------------------------------------------------------


def _sent(ledger: Ledger, promise: Sent) -> str | None:
    receipt = promise.receipt
    known = ledger.inputs.get(receipt.input_id)
    if known is None:
        return f"input {receipt.input_id} was acknowledged and is not on disk"
    if known.session_id != receipt.session_id:
        return f"input {known.input_id} was sent to {receipt.session_id}, not {known.session_id}"
    if ledger.sessions[known.session_id].agent != receipt.member:
        return f"input {known.input_id} was sent to {receipt.member!r} and is not its"
    return _input(ledger, known, promise.text, promise.key)


def _input(ledger: Ledger, known: KnownInput, text: str | None, key: str | None) -> str | None:
    if known.key != key:
        return f"input {known.input_id} has the key {known.key!r}, not {key!r}"
    if key is not None and ledger.keys[key].input_id != ledger.tenures.latest(known.input_id):
        return f"key {key!r} stands for input {ledger.keys[key].input_id}, not {known.input_id}"
    if text is not None and known.text != text:
        return f"input {known.input_id} says {known.text!r:.80}, and {text!r:.80} was sent"
    return None


def _answered(ledger: Ledger, promise: Answered) -> str | None:
    result = promise.result
    seq = ledger.ended.get(result.run_id or "")
    if seq is None:
        return f"the answer of run {result.run_id} was given, and its turn is not on disk"
    turn = ledger.turns[seq]
    if turn.session_id != result.session_id:
        return f"run {result.run_id} is of session {turn.session_id}, not {result.session_id}"
    if ledger.sessions[turn.session_id].agent != promise.member:
        return f"the answer of run {result.run_id} is not {promise.member!r}'s"
    if turn.outcome is not TurnOutcome.COMPLETED:
        return f"an answer was given for a turn that ended as {turn.outcome.name}"
    output = None if turn.output is None else json.loads(turn.output)
    said = (last_text(turn), output, turn.usage, turn.error is not None)
    if said != (result.text, result.output, result.usage, result.truncated):
        return f"the answer is {result!r:.200}, the disk says {said!r:.200}"
    for input_id in turn.inputs:
        if _input(ledger, ledger.inputs[input_id], promise.text, promise.key) is None:
            return None
    return f"the turn in record {seq} is an answer to something else than {promise.text!r:.80}"


def last_text(turn: KnownTurn) -> str:
    """What the turn's last reply says; nothing if there was none. A reply that was cut off and
    what continues it are one, also if system context came in between."""
    text = ""
    said = [each for each in turn.messages if not isinstance(each, SystemMessage)]
    for place, message in enumerate(said):
        if isinstance(message, AssistantMessage):
            before = said[place - 1] if place else None
            goes_on = isinstance(before, UserMessage) and before.sender == CONTINUED
            text = text + message.text if goes_on else message.text
    return text


def _failed(ledger: Ledger, promise: Failed) -> str | None:
    error = promise.error
    wanted = TurnOutcome.FAILED
    if isinstance(error, TurnInterrupted):
        wanted = TurnOutcome.INTERRUPTED
    elif isinstance(error, BudgetExceeded):
        wanted = TurnOutcome.OVER_BUDGET
    if promise.text is None:
        return None
    for known in ledger.by_text.get(promise.text, ()):
        if ledger.sessions[known.session_id].agent != promise.member:
            continue
        if known.abandoned is not None or ledger.sessions[known.session_id].archived:
            return None
        if known.pending:
            continue
        turn = ledger.turns[known.turn]
        if turn.outcome is wanted and (turn.error or "") in str(error):
            return None
    if not isinstance(error, MemberFailed | TurnInterrupted) and promise.member in ledger.retired:
        return None
    if any(
        f"was used for an input of session {each.session_id};" in str(error)
        for each in ledger.sessions.values()
        if each.agent == promise.member
    ):
        return None  # a key of a generation before, or of one that is just being replaced
    return (
        f"{promise.member!r} was said to have failed over {promise.text!r:.80}: {error!r:.160};"
        " no turn on disk says so"
    )


# -- the mob ---------------------------------------------------------------------------------


def _spawned(ledger: Ledger, promise: Spawned) -> str | None:
    row = ledger.members.get(promise.member)
    if row is not None and row.session_id == promise.session_id:
        return None if row.profile == promise.profile else f"its profile is {row.profile!r}"
    session = ledger.sessions.get(promise.session_id)
    if session is not None and session.archived:
        return None  # it has been retired since
    return f"member {promise.member!r} was said to have joined and is not on disk"


def _retired(ledger: Ledger, promise: Retired) -> str | None:
    if promise.member in ledger.retired:
        return None
    return f"member {promise.member!r} was said to have left and has not, on disk"


def _state(ledger: Ledger, since: int, state: str) -> str | None:
    if ledger.state == state or any(
        seq > since and recorded == state for seq, recorded in reversed(ledger.states[-8:])
    ):
        return None
    return f"the mob was said to be {state} and is {ledger.state} on disk"


def _interrupted(ledger: Ledger, promise: Interrupted) -> None:
    if promise.session_id in ledger.sessions:
        ledger.interrupts[promise.session_id] = promise.process


# -- sessions --------------------------------------------------------------------------------


def _there(ledger: Ledger, session_id: str, turns: int) -> str | None:
    session = ledger.sessions.get(session_id)
    if session is None:
        return f"session {session_id} was said to be there and is not on disk"
    if turns in {ledger.turns[head].place for head in session.heads}:
        return None
    return f"session {session_id} was said to have {turns} turns, on disk it never had"


def _forked(ledger: Ledger, promise: Forked) -> str | None:
    session = ledger.sessions.get(promise.session_id)
    if session is not None and session.forked_from != promise.source:
        return f"session {promise.session_id} is a fork of {session.forked_from}"
    return _there(ledger, promise.session_id, promise.turns)


def _labelled(ledger: Ledger, promise: Labelled) -> str | None:
    session = ledger.sessions.get(promise.session_id)
    found = None if session is None else (session.title, session.tags)
    if found == (promise.title, promise.tags):
        return None
    return f"session {promise.session_id} was said to be labelled {promise!r:.160}, is {found!r}"


def _deleted(ledger: Ledger, promise: Deleted) -> str | None:
    session = ledger.sessions.get(promise.session_id)
    if session is not None and session.deleted:
        return None
    return f"session {promise.session_id} was said to be deleted and is there on disk"


def _saved(ledger: Ledger, promise: SavedSession) -> str | None:
    session = ledger.sessions.get(promise.session_id)
    if session is None:
        return f"session {promise.session_id} was said to be saved and is not on disk"
    if ledger.history(session.head) == list(promise.messages):
        return None
    return f"session {promise.session_id} was saved, and its messages on disk are others"


ACKNOWLEDGED: Final[dict[type, Callable[[Ledger, Any], str | None]]] = {
    Sent: _sent,
    Answered: _answered,
    Failed: _failed,
    Spawned: _spawned,
    Retired: _retired,
    Stopped: lambda ledger, promise: _state(ledger, promise.since, "stopped"),
    Resumed: lambda ledger, promise: _state(ledger, promise.since, "running"),
    Interrupted: _interrupted,
    Reported: lambda ledger, promise: (
        None if promise.key in ledger.reported else f"run {promise.key!r} is not reported on disk"
    ),
    Forked: _forked,
    Rewound: lambda ledger, promise: _there(ledger, promise.session_id, promise.turns),
    Restored: lambda ledger, promise: _there(ledger, promise.session_id, promise.turns),
    Labelled: _labelled,
    Deleted: _deleted,
    SavedSession: _saved,
}


def acknowledged_means_durable(ledger: Ledger, promise: Promise) -> str | None:
    """CONTRACTS 1.2, 5.6, 6.6: what somebody was told is on disk, with the same content."""
    check = ACKNOWLEDGED.get(type(promise))
    return None if check is None else check(ledger, promise)


# -- events and tools ------------------------------------------------------------------------


def subscribers_see_everything(ledger: Ledger, promise: Promise) -> str | None:
    """CONTRACTS 4.6, 6.12: from any cursor, every event once, in order, as it is on disk."""
    if isinstance(promise, Subscribed):
        ledger.cursors[promise.subscriber] = promise.after
        return None
    if not isinstance(promise, Saw):
        return None
    event, before = promise.event, ledger.cursors.get(promise.subscriber, 0)
    if event.seq != before + 1:
        return f"{promise.subscriber!r} sees event {event.seq} after event {before}"
    ledger.cursors[promise.subscriber] = event.seq
    if event.seq > ledger.last:
        return f"{promise.subscriber!r} sees event {event.seq}, the last on disk is {ledger.last}"
    if event.seq not in ledger.erased and ledger.written[event.seq - 1].record != event.record:
        return f"{promise.subscriber!r} sees event {event.seq} with another content than the disk"
    return None


def tools_run_once(ledger: Ledger, promise: Promise) -> str | None:
    """CONTRACTS 5.5, 6.9: a tool runs only when its call is journalled and its result is not, and
    once only if it is not idempotent."""
    if isinstance(promise, ToolReturned):
        key = f"{promise.session_id}:{promise.run_id}:{promise.call_id}"
        ledger.returned[key] = promise.text
        return None
    if not isinstance(promise, ToolRan):
        return None
    key = f"{promise.session_id}:{promise.run_id}:{promise.call_id}"
    ledger.ran[key] += 1
    ledger.returned.pop(key, None)
    if not promise.idempotent and ledger.ran[key] > 1:
        return f"{promise.name!r} is not idempotent and runs again for call {key}"
    if promise.run_id in ledger.ended:
        return f"{promise.name!r} runs for call {key}, whose turn has ended"
    session = ledger.sessions.get(promise.session_id)
    if session is None or session.archived:
        return None  # it is being cancelled
    partial = session.partial
    if partial is None or partial.run_id != promise.run_id:
        return f"{promise.name!r} runs for call {key}, which is not journalled"
    if promise.call_id not in partial.open_calls():
        return f"{promise.name!r} runs for call {key}, which has its result or was never made"
    return None
