"""What a search of the memory may show, and what it must.

Owns: the promise of a search and the invariants of memory. Must not: share code with
`runtime.memory`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from runtime.memory import SEARCH_MEMORY, Recollection
from runtime.messages import AssistantMessage, ToolOutcome, ToolResult, UserMessage
from runtime.records import SessionRewound, TurnEnded, TurnProgressed

if TYPE_CHECKING:
    from mob.simulation.facts import KnownTurn, Written
    from mob.simulation.ledger import Ledger

#: As many as a search was asked for.
LIMIT: Final = 20
_WORD: Final = re.compile(r"[^\W_]+")
_INDEXED: Final = 20_000
_CUT: Final = "[...]"


@attrs.frozen
class Searched:
    """A search for the word `query`, as the session would make it, found this; `known` is the last
    record that the process had heard of."""

    session_id: str
    query: str
    found: Sequence[Recollection]
    known: int


def _scope(ledger: Ledger, session_id: str) -> str | None:
    definition = ledger.rounds.definition
    session = ledger.sessions[session_id]
    if definition is None or session.harness not in definition.profiles:
        return None
    return definition.profiles[session.harness].memory


def _readable(ledger: Ledger, asker: str) -> Iterator[str]:
    """Whose turns the session may read."""
    if _scope(ledger, asker) != "mob":
        yield asker
        return
    for session in ledger.living():
        if _scope(ledger, session.session_id) == "mob":
            yield session.session_id


def _said(turn: KnownTurn) -> str:
    parts = [
        each.text
        for each in turn.messages
        if isinstance(each, UserMessage | AssistantMessage) and each.text
    ]
    return "\n\n".join(parts)[:_INDEXED]


def a_search_shows_what_may_be_read(ledger: Ledger, promise: object) -> str | None:
    """CONTRACTS 4.9, memory: only turns of histories that the asker may read, as they are on disk;
    and of those that have the word, all there is room for."""
    if not isinstance(promise, Searched) or promise.session_id not in ledger.sessions:
        return None  # a member that is being respawned has its session before the disk has it
    readable = set(_readable(ledger, promise.session_id))
    moved = _moved(ledger, promise.known)
    shown: set[int] = set()
    for each in promise.found:
        if each.session_id not in readable:
            return f"{promise.session_id} is shown a turn of {each.session_id}"
        session = ledger.sessions[each.session_id]
        heads = [session.head, *session.branches[-moved[each.session_id] :]]
        if not moved[each.session_id]:
            heads = heads[:1]
        part = each.text.removeprefix(f"{_CUT} ").removesuffix(f" {_CUT}")
        seqs = [ledger.turn_at(head, each.turn) for head in heads]
        fits = [seq for seq in seqs if seq and part in _said(ledger.turns[seq])]
        if not fits:
            return f"turn {each.turn} of {each.session_id} is shown as {each.text!r:.80}"
        shown.update(fits)
    if len(promise.found) >= LIMIT:
        return None
    for session_id in readable:
        missed = _missed(ledger, session_id, promise, shown)
        if missed:
            return f"a search for {promise.query!r} by {promise.session_id} misses turn {missed}"
    return None


def _moved(ledger: Ledger, known: int) -> Counter[str]:
    """How often each session was rewound, or brought back, since the record `known`: who has not
    heard of that yet may show what was left behind."""
    late = (each.record for each in ledger.written[known:])
    return Counter(record.session_id for record in late if isinstance(record, SessionRewound))


def _missed(ledger: Ledger, session_id: str, promise: Searched, shown: set[int]) -> int:
    """A turn of the history that has the word and was not shown; 0 if there is none."""
    here = ledger.sessions[session_id].head
    while here:
        turn = ledger.turns[here]
        # Of a commit of which nobody learns what became of it only the disk knows.
        heard = here <= promise.known
        if heard and here not in shown and promise.query in _WORD.findall(_said(turn)):
            return here
        here = turn.prev
    return 0


def members_are_shown_what_they_may_read(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 4.9, memory: what the tool tells a model is of sessions that it may read."""
    record: TurnProgressed | TurnEnded = written.record
    for message in record.messages:
        if (
            not isinstance(message, ToolResult)
            or message.name != SEARCH_MEMORY
            or message.outcome is not ToolOutcome.OK
            or not message.text.startswith("[")
        ):
            continue
        for each in _listed(message.text):
            told = each.get("session_id", "")
            known = ledger.sessions.get(told)
            same = told == record.session_id
            shared = known is not None and all(
                _scope(ledger, reader) == "mob" for reader in (told, record.session_id)
            )
            if known is None or not (same or shared):
                return f"{record.session_id} is told of a turn of {told}"
    return None


def _listed(text: str) -> list[dict[str, Any]]:
    try:
        return [each for each in json.loads(text) if isinstance(each, dict)]
    except ValueError:  # a guardrail has rewritten it
        return []
