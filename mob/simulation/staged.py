"""What must hold of sessions beside the members: system context, peers' messages, their end.

Owns: the promises and invariants. Must not: share code with `runtime.addenda` and
`runtime.service`; they are written from what `docs/sessions.md` promises.
"""

from __future__ import annotations

from collections import Counter

import attrs

from mob.simulation.facts import Written, is_context
from mob.simulation.ledger import Ledger
from runtime.messages import CONTEXT, SystemMessage
from runtime.records import TurnEnded


@attrs.frozen
class Staged:
    """`append_system_context` returned: the text is on disk, under its key if it has one."""

    session_id: str
    text: str
    key: str | None


@attrs.frozen
class Conflicting:
    """`append_system_context` said that the key came with another text."""

    session_id: str
    text: str
    key: str


@attrs.frozen
class ToldPeer:
    """`send_peer_message` returned the session that the message is before."""

    session_id: str
    text: str
    sender: str
    key: str


@attrs.frozen
class Archived:
    """`archive` returned."""

    session_id: str


def context_is_said_once(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 4.11: a text that was staged is in one turn, which consumes it, and there once."""
    record: TurnEnded = written.record
    taken = Counter(
        known.text
        for known in (ledger.inputs.get(each) for each in record.input_ids)
        if known is not None and is_context(known.sender)
    )
    said = Counter(each.text for each in record.messages if isinstance(each, SystemMessage))
    for text, times in said.items():
        if times > max(taken[text], 1):
            return f"{text!r:.80} is said {times} times, and was staged {taken[text]} times"
        if not taken[text] and text in ledger.by_text:
            return f"{text!r:.80} was staged, and a turn says it that does not consume it"
    return None


def what_sessions_were_told_is_on_disk(ledger: Ledger, promise: object) -> str | None:
    """CONTRACTS 4.5, 4.11: a staged text and a peer's message are on disk, each once under its key;
    a key with another text is refused, and with its own is not; what was archived is over."""
    if isinstance(promise, Staged):
        return _staged(ledger, promise)
    if isinstance(promise, Conflicting):
        known = ledger.keys.get(f"{CONTEXT}:{promise.session_id}:{promise.key}")
        if known is not None and known.text == promise.text:
            return f"key {promise.key!r} is said to conflict, and came with the same text"
    elif isinstance(promise, ToldPeer):
        key = f"{promise.session_id}:peer:{promise.sender}:{promise.key}"
        known = ledger.keys.get(key)
        if known is None or (known.session_id, known.text, known.sender) != (
            promise.session_id,
            promise.text,
            promise.sender,
        ):
            return f"{promise!r:.160} was said to be delivered, on disk is {known!r:.160}"
    elif isinstance(promise, Archived):
        session = ledger.sessions.get(promise.session_id)
        if session is None or not session.archived:
            return f"session {promise.session_id} was said to be archived and is not, on disk"
    return None


def _staged(ledger: Ledger, promise: Staged) -> str | None:
    if promise.key is not None:
        known = ledger.keys.get(f"{CONTEXT}:{promise.session_id}:{promise.key}")
        if known is not None and known.text == promise.text:
            return None
        return f"{promise!r:.160} was said to be taken, on disk is {known!r:.160}"
    for known in ledger.by_text.get(promise.text, ()):
        if known.session_id == promise.session_id and is_context(known.sender):
            return None
    return f"{promise!r:.160} was said to be taken and is not on disk"
