"""Edits: the records that make a stored session what a caller says it is.

Owns: the turns of a given history, which lineages can be, and the records of a session that is made
or changed from outside a turn. Must not: append them.

Turns that are in both histories stay as they are, shared with whoever else reaches them; what
follows is cut off, as by a rewind, and what is new is recorded behind that. The records are
committed together, so what links them to each other is relative: they do not know their numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runtime.chain import Links, extend, next_skip
from runtime.compaction import in_force
from runtime.errors import LineageCycle, SessionError, SessionNotFound
from runtime.ids import RunId, SessionId
from runtime.journal import Journal
from runtime.messages import NO_USAGE, AssistantMessage, Message, Usage, UserMessage
from runtime.particulars import SessionTracked
from runtime.ports import Ports
from runtime.records import (
    SessionCreated,
    SessionLabelled,
    SessionRewound,
    TurnEnded,
    TurnOutcome,
)
from runtime.session import Session, SessionHead

#: What a session is made with and keeps.
_FIXED = ("harness_id", "agent_id", "locale", "lineage", "spec")


def check_lineage(session: Session, heads: Mapping[SessionId, SessionHead]) -> None:
    """Refuse the lineage of a session that is not there yet, if it cannot be.

    Others may name a session that is not there: one that was deleted. So it may come to be its own
    ancestor, and whoever follows the links would do so for ever.

    Raises:
        LineageCycle: by some of the links it is its own ancestor.
        SessionNotFound: its parent is not there.
        SessionError: as a child it is not as deep as it says, or charged to another root.
    """
    mine, given = session.session_id, session.lineage
    for name in ("parent", "forked_from", "budget_root"):
        way: list[SessionId] = []
        here: SessionId | None = getattr(given, name)
        while here is not None and here not in way and here != mine:
            way.append(here)
            head = heads.get(here)
            here = None if head is None else getattr(head.lineage, name)
        if here == mine and not (name == "parent" and not way):
            told = " -> ".join((mine, *way, mine))
            raise LineageCycle(f"{name} would make session {mine} its own ancestor: {told}")
    if given.parent is None:
        return
    above = heads.get(given.parent)
    if above is None:
        raise SessionNotFound(given.parent)
    depth, root = above.lineage.depth + 1, above.lineage.budget_root or given.parent
    if (given.depth, given.budget_root) != (depth, root):
        raise SessionError(
            f"a child of session {given.parent} is at depth {depth} and charged to session {root},"
            f" not at {given.depth} and charged to {given.budget_root}",
            mine,
        )


def creation(session: Session, ports: Ports) -> list[Any]:
    """The records of a session that is not there yet."""
    now = ports.clock.now_ns()
    records: list[Any] = [
        SessionCreated(
            session.session_id,
            session.harness_id,
            session.agent_id,
            session.title,
            session.locale,
            session.lineage,
            session.spec,
            None,
            now,
            session.external_id,
        )
    ]
    if session.tags:
        records.append(SessionLabelled(session.session_id, session.title, session.tags, now))
    turns = split_turns(session.messages)
    return records + _turns(session.session_id, turns, 0, 0, 0, (), ports)


def update(head: SessionHead, session: Session, journal: Journal, ports: Ports) -> list[Any]:
    """The records that bring the session at `head` up to `session`. Reads its whole history.

    Raises:
        SessionError: something differs that a session is made with and keeps.
    """
    for name in _FIXED:
        if getattr(session, name) != getattr(head, name):
            raise SessionError(
                f"{name} of session {head.session_id} was given when it was made and stays;"
                " save it under another id to change that",
                head.session_id,
            )
    now = ports.clock.now_ns()
    records: list[Any] = [SessionLabelled(head.session_id, session.title, session.tags, now)]
    if session.external_id != head.external_id:
        records.append(SessionTracked(head.session_id, session.external_id, now))
    messages = tuple(session.messages)
    kept, place, total = 0, 0, 0
    for seq in journal.chain(head.head):
        turn = journal.turn(seq)
        if tuple(messages[total : total + len(turn.messages)]) != turn.messages:
            break
        kept, place, total = turn.turn, seq, total + len(turn.messages)
    again = 0
    if kept and total < len(messages) and not isinstance(messages[total], UserMessage):
        # What follows begins no turn: it belongs to the one before, which is recorded once more.
        last = journal.turn(place)
        again = len(last.messages)
        kept, place, total = kept - 1, last.prev, total - again
    links = head.links
    if kept < head.turns:
        links = journal.links(place)
        compaction = in_force(journal, head.compaction, kept)
        records.append(
            SessionRewound(head.session_id, place, kept, total, links, None, now, compaction)
        )
    turns = split_turns(messages[total:])
    return records + _turns(head.session_id, turns, place, kept, total, links, ports, again)


def _turns(
    session_id: SessionId,
    turns: list[tuple[Message, ...]],
    prev: int,
    place: int,
    total: int,
    links: Links,
    ports: Ports,
    again: int = 0,
) -> list[Any]:
    """Turns behind `prev`. The one at index i stands as -(i + 1) while links are made. What the
    first `again` messages cost is charged already."""
    records: list[Any] = []
    now = ports.clock.now_ns()
    for index, messages in enumerate(turns):
        place += 1
        total += len(messages)
        skip, skip_turn = next_skip(links, place)
        records.append(
            TurnEnded(
                session_id,
                RunId(ports.ids.new()),
                -1 if index else prev,
                TurnOutcome.COMPLETED,
                messages,
                _usage(messages if index else messages[again:]),
                (),
                None,
                None,
                now,
                now,
                place,
                total,
                skip if skip >= 0 else -skip - 1 - index,
                skip_turn,
            )
        )
        links = extend(links, -(index + 1), place, skip_turn)
    return records


def split_turns(messages: Sequence[Message]) -> list[tuple[Message, ...]]:
    """Messages cut into turns: one begins at each user message that does not follow another.

    What comes before the first user message is part of the first turn.
    """
    turns: list[list[Message]] = []
    before: Message | None = None
    asked = False
    for message in messages:
        if isinstance(message, UserMessage):
            if not turns or (asked and not isinstance(before, UserMessage)):
                turns.append([])
            asked = True
        elif not turns:
            turns.append([])
        turns[-1].append(message)
        before = message
    return [tuple(turn) for turn in turns]


def _usage(messages: Sequence[Message]) -> Usage:
    total = NO_USAGE
    for message in messages:
        if isinstance(message, AssistantMessage):
            total = total + message.usage
    return total
