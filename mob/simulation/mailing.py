"""What must hold of messages between members: along which edges, how many, requests, promises.

Owns: the invariants of wiring, mailboxes, steering, silence and requests, and what senders are
told. Must not: change the ledger. Each invariant of a record is asked before the ledger takes that
in.
"""

from __future__ import annotations

from typing import TypeAlias

import attrs

from mob.comms.records import RequestSent, RequestSettled
from mob.receipts import Receipt
from mob.simulation.exchange import ASKING, KnownRequest, Pair
from mob.simulation.facts import KnownInput, Written, is_context, waits
from mob.simulation.ledger import Ledger
from runtime.messages import CONTEXT
from runtime.records import InputAccepted, TurnEnded


@attrs.frozen
class Wired:
    """`Mob.wire` (`open`) or `Mob.unwire` of these pairs returned; `since` is the last
    record that the process had heard of when it was called."""

    pairs: tuple[Pair, ...]
    open: bool
    since: int


@attrs.frozen
class Posted:
    """`Mob.send` of a text that nobody else sends returned, in the name of a member or (None) from
    outside; `silent`: with an intent that wakes nobody."""

    receipt: Receipt
    text: str
    sender: str | None
    silent: bool


@attrs.frozen
class StoodInLine:
    """These texts were sent to one member by callers of one process, who began in this order."""

    to: str
    texts: tuple[str, ...]


@attrs.frozen
class Told:
    """`Mob.broadcast` of a text that nobody else sends returned: for each name its receipt, or None
    for an error. To those of `together`, whose mailboxes are never full, it is one commit."""

    text: str
    sender: str | None
    found: tuple[tuple[str, Receipt | None], ...]
    together: tuple[str, ...] = ()


@attrs.frozen
class Replied:
    """`Mob.request` with this text returned a reply."""

    text: str
    reply: str


@attrs.frozen
class Unanswered:
    """`Mob.request` with this text said that there is no reply: ``passed`` or ``failed``."""

    text: str
    how: str


@attrs.frozen
class Kept:
    """`Mob.reply` returned: this is the reply."""

    request_id: str
    text: str


@attrs.frozen
class LookedAround:
    """What a process whose fold had `applied` records said of who may send to whom, and of which
    requests wait."""

    applied: int
    allowed: tuple[tuple[Pair, bool], ...]
    requests: tuple[str, ...]


Mailed: TypeAlias = Wired | Posted | StoodInLine | Told | Replied | Unanswered | Kept | LookedAround


# -- records ---------------------------------------------------------------------------------


def _member_of(ledger: Ledger, session_id: str) -> str | None:
    """Whose session this is now."""
    session = ledger.sessions.get(session_id)
    row = None if session is None else ledger.members.get(session.agent or "")
    return row.name if row is not None and row.session_id == session_id else None


def messages_go_along_edges(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.5: a message of one member to another is accepted only if an edge, a rule or the
    default allows it then."""
    record: InputAccepted = written.record
    to = _member_of(ledger, record.session_id)
    if to is None or record.sender not in ledger.exchange.ever:
        return None
    if ledger.tenures.was_let_in(record.input_id):
        return None  # it waited through a respawn
    assert record.sender is not None
    if ledger.exchange.allowed(record.sender, to):
        return None
    return f"{record.sender!r} may not send to {to!r}, and input {record.input_id} was accepted"


def mailboxes_are_bounded(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.6, 6.15: never more than `max_messages` messages and `max_bytes` bytes wait for a
    member, from acceptance until their turn is on disk."""
    record: InputAccepted = written.record
    if waits(record.sender) or ledger.tenures.was_let_in(record.input_id):
        return None  # it waited through a respawn, perhaps to a profile with less room
    to = _member_of(ledger, record.session_id)
    bounds = None if to is None else ledger.exchange.bounds(to)
    if bounds is None:
        return None
    sizes = [each.size for each in ledger.exchange.messages(record.session_id)]
    sizes.append(len(record.text.encode("utf-8", "surrogatepass")))
    if len(sizes) > bounds[0] or sum(sizes) > bounds[1]:
        return f"{len(sizes)} messages of {sum(sizes)} bytes wait for {to!r}; allowed are {bounds}"
    return None


def requests_come_with_their_messages(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.6: a request is one commit with the message that asks it, of the same sender to
    the same member, and is sent once."""
    record: RequestSent = written.record
    if record.request_id in ledger.exchange.requests:
        return f"request {record.request_id} was sent before"
    before = ledger.written[-1]
    message = before.record
    asks = ASKING.fullmatch(message.text) if isinstance(message, InputAccepted) else None
    if asks is None or before.commit is not written.commit or asks[1] != record.request_id:
        return f"request {record.request_id} is without its message"
    if message.sender != record.sender or _member_of(ledger, message.session_id) != record.to:
        return f"request {record.request_id} is from {record.sender!r} to {record.to!r}, not so"
    return None


def requests_are_settled_once(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.6: a request is settled once; what comes after an edge or a member has gone was
    on its way then."""
    record: RequestSettled = written.record
    known = ledger.exchange.requests.get(record.request_id)
    if known is None:
        return f"request {record.request_id} is settled and was never sent"
    if known.how is None:
        return None
    if known.how in ("left", "unwired") and known.process == written.commit.process:
        return None
    return f"request {record.request_id} was settled by record {known.ended}: {known.how}"


def deadlines_are_not_early(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.6: no deadline has passed before its time on the clock of the journal."""
    record: RequestSettled = written.record
    known = ledger.exchange.requests.get(record.request_id)
    if known is None or record.how.value != "passed" or record.at_ns >= known.sent.deadline_ns:
        return None
    early_s = (known.sent.deadline_ns - record.at_ns) / 1e9
    return f"the deadline of request {record.request_id} has passed {early_s:g} s too early"


def what_steers_goes_with_the_next_turn(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 4.9, 6.6: a message that steers, or that wakes nobody, goes with the turn in flight
    or with the next."""
    late = ledger.exchange.overdue(written.record)
    if late is None:
        return None
    return f"input {late} waits for a turn that was begun since, and that does not take it in"


def silence_wakes_nobody(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 4.9: what is recorded without waking begins no turn."""
    record: TurnEnded = written.record
    if _member_of(ledger, record.session_id) is None or not record.input_ids:
        return None
    known = [ledger.inputs.get(each) for each in record.input_ids]
    if all(each is not None and is_context(each.sender) for each in known):
        return f"run {record.run_id} was begun by what wakes nobody: {list(record.input_ids)}"
    return None


# -- promises --------------------------------------------------------------------------------


def what_senders_were_told_is_on_disk(ledger: Ledger, promise: object) -> str | None:
    """CONTRACTS 6.5, 6.6, 6.7: who may send, what was sent, how often and in which order, what was
    replied: as it was told, so it is on disk."""
    match promise:
        case Wired():
            return _wired(ledger, promise)
        case Posted():
            return _posted(ledger, promise.receipt, promise)
        case StoodInLine():
            return _in_order(ledger, promise)
        case Told():
            return _told(ledger, promise)
        case Replied():
            return _settled(ledger, promise.text, "replied", promise.reply)
        case Unanswered():
            return _settled(ledger, promise.text, promise.how, None)
        case Kept():
            known = ledger.exchange.requests.get(promise.request_id)
            if known is not None and (known.how, known.reply) == ("replied", promise.text):
                return None
            return f"{promise!r:.160} was said to be the reply; on disk it is {_shown(known)}"
        case LookedAround():
            return _agrees(ledger, promise)
        case _:
            pass
    return None


def _wired(ledger: Ledger, promise: Wired) -> str | None:
    exchange = ledger.exchange
    for pair in promise.pairs:
        as_told = exchange.wired(*pair) if promise.open else not exchange.allowed(*pair)
        if not as_told and exchange.since(pair) <= promise.since:
            done = "wired" if promise.open else "unwired"
            return (
                f"{pair} were said to be {done}, and on disk they are not since record"
                f" {exchange.since(pair)}; it was asked for after record {promise.since}"
            )
    return None


def _sent_texts(ledger: Ledger, text: str, sender: str | None) -> list[KnownInput]:
    """The inputs that are this text, whether they wake anybody or not."""
    aside = CONTEXT if sender is None else f"{CONTEXT}: {sender}"
    known = ledger.exchange.texts.get(text, ())
    return [ledger.inputs[each] for each in known if ledger.inputs[each].sender in (sender, aside)]


def _posted(ledger: Ledger, receipt: Receipt, promise: Posted | Told) -> str | None:
    known = ledger.inputs.get(receipt.input_id)
    if known is None or known.session_id != receipt.session_id:
        return f"input {receipt.input_id} to {receipt.member!r} was acknowledged, is not on disk"
    if not known.text.endswith(promise.text):
        return f"input {known.input_id} says {known.text!r:.80}, not {promise.text!r:.80}"
    silent = isinstance(promise, Posted) and promise.silent
    aside = CONTEXT if promise.sender is None else f"{CONTEXT}: {promise.sender}"
    sender = aside if silent else promise.sender
    if known.sender != sender:
        return f"input {known.input_id} is from {known.sender!r}, and {sender!r} sent it"
    again = [
        each
        for each in _sent_texts(ledger, promise.text, promise.sender)
        if each.session_id == known.session_id
    ]
    return None if len(again) == 1 else f"{promise.text!r:.80} was sent once, and is {again!r:.200}"


def _in_order(ledger: Ledger, promise: StoodInLine) -> str | None:
    last = 0
    for text in promise.texts:
        known = ledger.by_text.get(text, [])
        if len({each.session_id for each in known}) < len(known):
            return f"{text!r} was sent once, and is {len(known)} inputs"
        if not known:
            continue
        if known[0].seq < last:
            return f"{text!r} to {promise.to!r} is accepted before what was before it in the line"
        last = known[0].seq
    return None


def _told(ledger: Ledger, promise: Told) -> str | None:
    commits: dict[int, str] = {}
    for name, receipt in promise.found:
        if receipt is not None:
            wrong = _posted(ledger, receipt, promise)
            if wrong is not None:
                return wrong
            if name in promise.together:
                seq = ledger.inputs[receipt.input_id].seq
                commits[ledger.written[seq - 1].commit.number] = name
            continue
        for known in _sent_texts(ledger, promise.text, promise.sender):
            if ledger.sessions[known.session_id].agent == name:
                return f"{name!r} was said not to have {promise.text!r:.80}, and it is on disk"
    if len(commits) > 1:
        return f"the broadcast of {promise.text!r:.80} is in several commits: {commits}"
    return None


def _settled(ledger: Ledger, text: str, how: str, reply: str | None) -> str | None:
    wanted = ("unwired", "left") if how == "failed" else (how,)
    known = [ledger.exchange.requests[each] for each in ledger.exchange.asked.get(text, ())]
    for each in known:
        if each.how in wanted and reply in (None, each.reply):
            return None
    shown = [_shown(each) for each in known]
    return f"request {text!r:.80} was said to be {how} ({reply!r:.80}), on disk {shown}"


def _shown(known: KnownRequest | None) -> str:
    return "nothing" if known is None else f"{known.how} {known.reply!r:.80}"


def _agrees(ledger: Ledger, promise: LookedAround) -> str | None:
    if promise.applied != ledger.last:
        return None  # what was committed meanwhile may have changed it
    for pair, allowed in promise.allowed:
        if ledger.exchange.allowed(*pair) is not allowed:
            return f"{pair} were said to be {'open' if allowed else 'closed'}, on disk otherwise"
    waiting = {key for key, each in ledger.exchange.requests.items() if each.how is None}
    if waiting != set(promise.requests):
        return f"the requests {sorted(promise.requests)} wait; on disk {sorted(waiting)}"
    return None
