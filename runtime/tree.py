"""The history tree in the fold: forks, rewinds, labels, deletion. Pure.

Owns: the transitions of the records by which people rearrange histories. Must not: read the store;
the records carry the links that a reader of the journal found.

A session is a head over a chain of turns. A fork is another head over the same chain; a rewind
moves the head back and keeps where it was as a branch. Nothing is copied and nothing is removed, so
each costs the same at ten turns and at a hundred thousand.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from runtime.heads import unpack_head
from runtime.messages import NO_USAGE
from runtime.records import (
    SessionDeleted,
    SessionForked,
    SessionLabelled,
    SessionMended,
    SessionRewound,
)
from runtime.session import Branch, Lineage, SessionHead, SessionStatus

if TYPE_CHECKING:
    from runtime.state import RealmState


def forked(state: RealmState, seq: int, record: SessionForked) -> None:
    """A new head over the source's chain; its own usage begins at zero, and is charged to whom the
    source's is."""
    if record.session_id in state.heads:
        return
    source = state.heads.get(record.source)
    if source is None:
        state.missing(seq, record.source)
    if source is None or not source.harness_id:  # what it would run on is not known
        if record.source in state.quarantined:
            reason = f"it is a fork of session {record.source}, which is quarantined"
            state.quarantine(record.session_id, reason)
        return
    head = SessionHead(
        session_id=record.session_id,
        harness_id=source.harness_id,
        agent_id=record.agent_id,
        title=record.title,
        locale=source.locale,
        lineage=Lineage(
            forked_from=record.source,
            fork_seq=record.head,
            budget_root=source.lineage.budget_root or record.source,
        ),
        spec=source.spec.unnamed(),
        created_at_ns=record.at_ns,
        updated_at_ns=record.at_ns,
        head=record.head,
        turns=record.turns,
        message_count=record.total,
        usage=NO_USAGE,
        status=SessionStatus.IDLE if record.turns else SessionStatus.STARTED,
        links=record.links,
        compaction=record.compaction,
        applied=seq,
    )
    state.add(head, seq)


def rewound(state: RealmState, seq: int, record: SessionRewound) -> None:
    """The head moves; where it was becomes the newest branch."""
    head = state.touch(seq, record.session_id)
    if head is None:
        return
    branches = head.branches
    if record.restored is not None:
        branches = branches[: record.restored] + branches[record.restored + 1 :]
    if head.head:
        place = (head.head, head.turns, head.message_count)
        aside = Branch(*place, record.at_ns, head.compaction)
        branches = (*branches, aside)
    head.branches = branches
    head.branch += 1
    head.head = record.head
    head.turns = record.turns
    head.message_count = record.total
    head.links = record.links
    head.compaction = record.compaction
    head.updated_at_ns = record.at_ns
    if head.status is SessionStatus.FAILED:
        head.status = SessionStatus.IDLE


def labelled(state: RealmState, seq: int, record: SessionLabelled) -> None:
    """Title and tags."""
    head = state.touch(seq, record.session_id)
    if head is not None:
        head.title = record.title
        head.tags = record.tags
        head.updated_at_ns = record.at_ns


def deleted(state: RealmState, seq: int, record: SessionDeleted) -> None:
    """The head goes; the chain stays for whoever else reaches it.

    It was whole when it was deleted. In a fold of what is left of the journal it may be quarantined
    by now, because of turns that were erased since: it goes all the same.
    """
    session_id = record.session_id
    if session_id not in state.heads and state.lost:
        return  # what made it is lost, and it is gone anyway
    if session_id in state.quarantined and seq > state.heads[session_id].applied:
        state.lift(session_id)
        state.dirty.setdefault(session_id, seq)
        state.remove(session_id)
    elif state.touch(seq, session_id) is not None:
        state.remove(session_id)


def mended(state: RealmState, seq: int, record: SessionMended) -> None:
    """The session is what the record says, whatever was known or damaged of it before."""
    old = state.heads.get(record.session_id)
    if old is not None and seq <= old.applied:
        return
    head = unpack_head(record.row)
    head.applied = seq
    state.lift(record.session_id)
    if old is None or not old.harness_id:  # nothing was known of it but its id
        state.add(head, seq)
    state.heads[record.session_id] = head
    head.children = None if old is None else old.children
    state.index(head)
    state.dirty.setdefault(record.session_id, seq)


def tree_transitions(state: RealmState) -> dict[type, Callable[[int, Any], None]]:
    """The part of a realm's table that this module owns."""
    return {
        SessionForked: partial(forked, state),
        SessionRewound: partial(rewound, state),
        SessionLabelled: partial(labelled, state),
        SessionDeleted: partial(deleted, state),
        SessionMended: partial(mended, state),
    }
