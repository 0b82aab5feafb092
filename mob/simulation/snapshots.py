"""What must hold of the snapshots of sessions on the disk.

Owns: reading them, comparing them with the fold at their revision, and when they must be there.
Must not: read them through `runtime.store`, which writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgpack

from mob.folds import MobFolds
from mob.records import MobStateChanged
from mob.simulation.facts import Batch
from mob.simulation.ledger import Ledger
from runtime.codec import structured
from runtime.messages import Message, unpack_message
from runtime.session import Session, SessionHead
from runtime.state import RealmState
from stores import Put

#: The keys of a store and what is there.
Values = Mapping[bytes, bytes]


def snapshots(values: Values, mob_id: str) -> Iterator[tuple[Session, list[Message]]]:
    """The stored snapshots of a mob, each with its messages."""
    rows = b"snapshot/" + mob_id.encode() + b"/"
    parts = b"snapshot-part/" + mob_id.encode() + b"/"
    for key, value in values.items():
        if not key.startswith(rows):
            continue
        row = msgpack.unpackb(value)
        session = structured(row["session"], Session)
        messages: list[Message] = []
        for place in range(row["segments"]):
            part = parts + session.session_id.encode() + b"/" + place.to_bytes(4, "big")
            packed = values.get(part)
            if packed is not None:  # what is missing shows: the messages are not those of then
                stored = msgpack.unpackb(packed, use_list=False)
                messages.extend(unpack_message(each) for each in stored)
        yield session, messages


def snapshots_equal_the_fold(ledger: Ledger, values: Values) -> str | None:
    """CONTRACTS 2.1, 5.2, 5.4: a stored snapshot is the session as it was at its revision."""
    wanted: dict[int, list[tuple[Session, list[Message]]]] = {}
    for session, messages in snapshots(values, ledger.mob_id):
        wanted.setdefault(session.revision, []).append((session, messages))
    if not wanted:
        return None
    state = RealmState()
    MobFolds(state)
    for written in ledger.written[ledger.voyages.base_of(ledger.last) :]:
        state.apply(written.seq, written.record)
        if state.restoring.half_done:
            continue  # a rewind is whole with its last record
        first = ledger.voyages.begun.get(written.seq, written.seq)
        for session, messages in wanted.pop(first, ()):
            known = ledger.sessions.get(session.session_id)
            if known is not None and known.deleted:
                if ledger.voyages.begun:
                    continue  # a known limit: a rewind to where it was deleted leaves its snapshot
                return f"session {session.session_id} is deleted and has a snapshot"
            reason = _differs(ledger, session, messages, state)
            if reason is not None:
                return f"the snapshot of session {session.session_id}: {reason}"
    return f"snapshots of revisions {sorted(wanted)}: no such record" if wanted else None


_SAVED: Final[tuple[tuple[str, Callable[[SessionHead], Any]], ...]] = (
    *((name, lambda head, name=name: getattr(head, name)) for name in (
        "harness_id", "agent_id", "title", "locale", "lineage", "spec", "created_at_ns",
        "updated_at_ns", "status", "head", "turns", "usage", "tags", "branch",
        "external_id",
    )),
    ("revision", lambda head: head.applied),
)  # fmt: skip


def _differs(
    ledger: Ledger, session: Session, messages: list[Message], state: RealmState
) -> str | None:
    head = state.heads.get(session.session_id)
    if head is None:
        return f"it was not there at revision {session.revision}"
    for name, read in _SAVED:
        if getattr(session, name) != read(head):
            return f"{name} is {getattr(session, name)!r:.200}, it was {read(head)!r:.200}"
    if messages != ledger.history(head.head):
        return f"its {len(messages)} messages are not those of the history up to {head.head}"
    return None


def prefix(ledger: Ledger) -> bytes:
    """What the keys of a mob's snapshots begin with."""
    return b"snapshot/" + ledger.mob_id.encode() + b"/"


def saved(ledger: Ledger, batch: Batch) -> dict[str, int]:
    """The sessions whose snapshots are written by a commit, with their revisions."""
    found: dict[str, int] = {}
    start = prefix(ledger)
    for operation in batch.commit.operations:
        if isinstance(operation, Put) and operation.key.startswith(start):
            row = msgpack.unpackb(operation.value)
            if isinstance(row, dict):
                session = row["session"]
                found[session["session_id"]] = session["revision"]
    return found


def snapshots_never_go_back(ledger: Ledger, batch: Batch) -> str | None:
    """CONTRACTS 4.5, 5.9: a snapshot is replaced by a later one only, and shows what is on disk."""
    for session_id, revision in saved(ledger, batch).items():
        before = ledger.saved.get(session_id, 0)
        if revision < before:
            return f"the snapshot of session {session_id} goes back from {before} to {revision}"
        if revision > ledger.last:
            return f"the snapshot of session {session_id} shows record {revision} before its commit"
        if ledger.sessions[session_id].deleted:
            return f"session {session_id} is deleted, and a snapshot of it is written"
        ledger.saved[session_id] = revision
    return None


def a_mob_that_stops_is_saved(ledger: Ledger, batch: Batch) -> str | None:
    """CONTRACTS 5.10, 5.11: when a mob is recorded as stopped or completed, every session that
    this process drove has a snapshot of its last turn."""
    for written in batch.written:
        record = written.record
        if not isinstance(record, MobStateChanged) or record.state not in ("stopped", "completed"):
            continue
        for session in ledger.living():
            process, turn = session.driven
            if process == batch.commit.process and ledger.saved.get(session.session_id, 0) < turn:
                return (
                    f"the mob stops, and the turn in record {turn} of session"
                    f" {session.session_id} is in no snapshot"
                )
    return None
