"""SessionManager: looking after sessions; for people and tools, not for turns.

Owns: the protocol (seed: synwire, `SessionManager`) and its implementation over a realm: list,
save, fork, rewind, restore, labels, deletion, comparison. Must not: run a turn, or copy a history.

Every operation is one batch of the journal: a crash leaves it done or not done. A session with a
turn in flight is left alone: changing its history under it raises `SessionBusy`. So does changing
it while an earlier change is on its way to the disk; labels are computed from the latest that were
given, so of two that are given at once none is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Protocol, TypeAlias

import attrs

from runtime.compaction import in_force
from runtime.damage import broken_turn, idle
from runtime.edits import check_lineage, creation, update
from runtime.errors import (
    MobError,
    SessionBusy,
    SessionError,
    SessionQuarantined,
    StaleRevision,
    Unusable,
)
from runtime.heads import pack_head
from runtime.ids import SessionId
from runtime.messages import Message, check_sequence
from runtime.realm import Realm
from runtime.records import (
    SessionArchived,
    SessionCreated,
    SessionDeleted,
    SessionForked,
    SessionLabelled,
    SessionMended,
    SessionRewound,
)
from runtime.session import Compaction, Session, SessionHead, SessionMetadata, SessionStatus
from runtime.store import SessionStore, StoredSessions
from stores import Operation, Ticket

#: Characters of a tag, and of a name.
MAX_TAG = 64
MAX_NAME = 200

#: `SessionManager.list` shadows the builtin inside the classes below.
_Rows: TypeAlias = list[SessionMetadata]
_Heads: TypeAlias = list[SessionHead]
_Tags: TypeAlias = tuple[str, ...]


@attrs.frozen
class Difference:
    """How two histories part: turns in common from the beginning, and the messages after that."""

    shared_turns: int
    only_first: tuple[Message, ...]
    only_second: tuple[Message, ...]


class RewindOutOfRange(MobError):
    """`turn_index` names no turn; `turns` is how many there are."""

    def __init__(self, session_id: SessionId, turn_index: int, turns: int) -> None:
        valid = f"0 to {turns - 1}" if turns else "nothing: it has no turns"
        super().__init__(
            f"session {session_id} has no turn {turn_index}; it can be rewound to {valid}"
        )
        self.turn_index = turn_index
        self.turns = turns


class SessionManager(Protocol):
    """Operations on sessions at rest. Unknown ids raise `SessionNotFound` and change nothing."""

    async def list(self) -> Sequence[SessionMetadata]:
        """Most recently updated first, ties by id. No message is read."""
        ...

    async def resume(self, session_id: SessionId) -> Session:
        """The session as it is on disk, with all its messages, oldest first. Runs nothing."""
        ...

    async def save(self, session: Session) -> SessionMetadata:
        """Create the session or bring it up to `session`; refreshes its time of update.

        Messages that are not the stored ones any more become a branch, as after a rewind.

        Raises:
            StaleRevision: the stored session changed since `session` was read.
            SessionBusy: a turn, or another change, is in flight.
            LimitExceeded: it is a new child, and its tree is full or as deep as it may be.
            SessionError: it has no id, its messages are no valid sequence, a tag or its new name
                is too long, or what a session keeps for good differs (harness, agent, locale,
                lineage, spec).
        """
        ...

    async def delete(self, session_id: SessionId) -> None:
        """Remove the session, its children and its snapshots; what a fork shares stays. It may be
        quarantined.

        Raises:
            SessionBusy: a turn is in flight in it or below it.
        """
        ...

    async def fork(self, session_id: SessionId, new_name: str | None = None) -> SessionMetadata:
        """A new session that shares the history up to now. Constant cost; usage begins at zero.

        The unnamed copy of "x" is "x (fork)", then "x (fork 2)"; an unnamed one stays unnamed.
        """
        ...

    async def rewind(self, session_id: SessionId, turn_index: int) -> Session:
        """Keep the turns ``0..turn_index``; what followed is kept as a branch.

        A quarantined session is rewound to before the damage and usable again: what followed, and
        what it had not worked on yet, is given up.

        Raises:
            RewindOutOfRange: there is no such turn; names the valid range.
            SessionBusy: a turn is in flight.
        """
        ...

    async def restore(self, session_id: SessionId, branch: int = -1) -> Session:
        """Bring a branch back (by default the latest); where the session was becomes one.

        Raises:
            SessionError: there is no such branch.
            SessionBusy: a turn is in flight.
        """
        ...

    async def tag(self, session_id: SessionId, tags: Sequence[str]) -> None:
        """Add tags; order is kept, duplicates are dropped. Raises `SessionError` for one that has
        not 1 to 64 characters; then none is added."""
        ...

    async def untag(self, session_id: SessionId, tags: Sequence[str]) -> None:
        """Remove tags; those it does not have are passed over."""
        ...

    async def rename(self, session_id: SessionId, new_name: str) -> None:
        """Give the session another name. Raises `SessionError` unless it has 1 to 200
        characters."""
        ...

    async def diff(self, first: SessionId, second: SessionId) -> Difference:
        """Where two histories part, and what each has from there on, oldest first. Costs what is
        different, not what is shared."""
        ...


class RealmSessions:
    """`SessionManager` over one realm.

    `snapshots` is where the realm's snapshots are, deleted with their sessions: in the same commit
    if they are in the realm's own store, else after it. `guard` is asked before a history is
    changed, with the session and one of ``rewind``, ``restore``, ``save``, ``delete``; it says why
    not (it is the session of a member of a mob), or returns None.
    """

    def __init__(
        self,
        realm: Realm,
        snapshots: SessionStore | None = None,
        guard: Callable[[SessionHead, str], str | None] = lambda _head, _verb: None,
    ) -> None:
        self._realm = realm
        self._snapshots = snapshots
        self._guard = guard
        #: Labels and names that are on their way to the disk, with their tickets.
        self._labels: dict[SessionId, tuple[str | None, _Tags, Ticket]] = {}
        self._names: dict[str, Ticket] = {}

    async def list(self) -> _Rows:
        heads = sorted(
            self._realm.state.heads.values(),
            key=lambda head: (-head.updated_at_ns, head.session_id),
        )
        return [head.metadata() for head in heads]

    async def resume(self, session_id: SessionId) -> Session:
        session = self._realm.snapshot(session_id)
        for _ in session.messages:
            break  # reads them: whoever holds the session may close the store
        return session

    async def fork(self, session_id: SessionId, new_name: str | None = None) -> SessionMetadata:
        head = self._realm.state.head(session_id)
        name = self._fork_name(head.title) if new_name is None else _checked_name(new_name)
        record = SessionForked(
            SessionId(self._realm.ports.ids.new()),
            session_id,
            name,
            head.head,
            head.turns,
            head.message_count,
            head.links,
            self._now(),
            head.compaction,
        )
        ticket = self._realm.append(record)
        if name is not None:
            self._names[name] = ticket
        await ticket.wait()
        if name is not None and self._names.get(name) is ticket:
            del self._names[name]
        return self._realm.state.head(record.session_id).metadata()

    async def rewind(self, session_id: SessionId, turn_index: int) -> Session:
        if session_id in self._realm.state.quarantined:
            return await self._mend(session_id, turn_index)
        head = self._at_rest(session_id, "rewind")
        if not 0 <= turn_index < head.turns:
            raise RewindOutOfRange(session_id, turn_index, head.turns)
        if turn_index < head.turns - 1:
            with self._realm.reading(session_id):
                seq = self._realm.journal.find_turn(head.head, turn_index + 1)
            compaction = in_force(self._realm.journal, head.compaction, turn_index + 1)
            await self._move(head, seq, compaction, restored=None)
        return self._realm.snapshot(session_id)

    async def restore(self, session_id: SessionId, branch: int = -1) -> Session:
        head = self._at_rest(session_id, "restore")
        count = len(head.branches)
        if not -count <= branch < count:
            valid = f"the branches are 0 to {count - 1}" if count else "nothing was rewound"
            raise SessionError(f"session {session_id} has no branch {branch}; {valid}", session_id)
        place = branch % count
        aside = head.branches[place]
        await self._move(head, aside.head, aside.compaction, restored=place)
        return self._realm.snapshot(session_id)

    async def tag(self, session_id: SessionId, tags: Sequence[str]) -> None:
        title, now = self._labelled(session_id)
        await self._label(
            session_id, title, _checked_tags((*now, *_listed(tags, session_id)), session_id)
        )

    async def untag(self, session_id: SessionId, tags: Sequence[str]) -> None:
        title, now = self._labelled(session_id)
        gone = _listed(tags, session_id)
        await self._label(session_id, title, tuple(tag for tag in now if tag not in gone))

    async def rename(self, session_id: SessionId, new_name: str) -> None:
        _, tags = self._labelled(session_id)
        await self._label(session_id, _checked_name(new_name), tags)

    async def delete(self, session_id: SessionId) -> None:
        self._doomed(session_id)
        gate = self._realm.checkpoints
        # Of a snapshot that is on its way the deletion would not know, and it would stay.
        async with nullcontext() if gate is None else gate.still():
            if gate is not None and gate.cut_off:
                await self._realm.store.barrier()
                gate.cut_off = False
            await self._delete(self._doomed(session_id))

    def _doomed(self, session_id: SessionId) -> Sequence[SessionId]:
        """The session and its children, deepest first, if all of them may be deleted now."""
        doomed = [head.session_id for head in self._subtree(self._realm.state.known(session_id))]
        for each in doomed:
            self._at_rest(each, "delete", sound=False)
            if self._realm.spawning.below(each):
                raise SessionBusy(each)
        return doomed

    async def _delete(self, doomed: Sequence[SessionId]) -> None:
        now = self._now()
        rows: list[Operation] = []
        if isinstance(self._snapshots, StoredSessions):
            for each in doomed:
                rows += self._snapshots.deletions(each)
        records = [SessionDeleted(each, now) for each in doomed]
        state = self._realm.state
        state.leaving.update(doomed)
        try:
            await self._realm.change(
                doomed, lambda: self._realm.journal.append(*records, also=rows)
            )
        finally:
            state.leaving.difference_update(doomed)
        if self._snapshots is not None and not isinstance(self._snapshots, StoredSessions):
            for each in doomed:
                await self._snapshots.delete(each)

    async def diff(self, first: SessionId, second: SessionId) -> Difference:
        one, other = self._realm.state.head(first), self._realm.state.head(second)
        shared = self._shared_turns(one, other)
        return Difference(
            shared, self._messages_after(one, shared), self._messages_after(other, shared)
        )

    async def save(self, session: Session) -> SessionMetadata:
        if not session.session_id:
            raise SessionError("a session without an id cannot be saved; give it one")
        reason = check_sequence(session.messages)
        if reason is not None:
            raise SessionError(f"the messages are not whole turns: {reason}", session.session_id)
        head = self._realm.state.heads.get(session.session_id)
        if head is None:
            if self._realm.busy(session.session_id):  # it is being made
                raise SessionBusy(session.session_id)
            check_lineage(session, self._realm.state.heads)
            if session.lineage.parent is not None:
                self._realm.state.head(session.lineage.parent)
        else:
            self._at_rest(head.session_id, "save")
            if session.revision != head.applied:
                raise StaleRevision(session.session_id, session.revision, head.applied)
            if self._labelled(head.session_id) != (head.title, head.tags):
                raise SessionBusy(session.session_id)
        tags = _checked_tags(_listed(session.tags, session.session_id), session.session_id)
        session = attrs.evolve(session, tags=tags)
        if session.title is not None and (head is None or session.title != head.title):
            _checked_name(session.title)
        ports = self._realm.ports
        if head is None:
            records = creation(session, ports)
        else:
            with self._realm.reading(head.session_id):
                records = update(head, session, self._realm.journal, ports)
        if session.status is SessionStatus.ARCHIVED and (head is None or not head.archived):
            why = "saved as archived"
            records += self._realm.background.told_of(session.session_id, why)
            records.append(SessionArchived(session.session_id, why, self._now()))

        def commit() -> Ticket:
            ticket = self._append(records)
            self._labels[session.session_id] = (session.title, tags, ticket)
            return ticket

        await self._realm.change([session.session_id], commit)
        self._forget_labels(session.session_id)
        return self._realm.state.head(session.session_id).metadata()

    # -- inside ----------------------------------------------------------------------------

    def _append(self, records: Sequence[Any]) -> Ticket:
        """Queue what is saved. A child that is made so takes its place in its tree."""
        append = partial(self._realm.append, *records)
        made = records[0]
        if not isinstance(made, SessionCreated):
            return append()
        archived = isinstance(records[-1], SessionArchived)
        return self._realm.spawning.made(made, append, archived=archived)

    def _now(self) -> int:
        return self._realm.ports.clock.now_ns()

    def _at_rest(self, session_id: SessionId, verb: str, *, sound: bool = True) -> SessionHead:
        """The head, if its history may be changed now; `sound`: and if it is not quarantined."""
        state = self._realm.state
        head = state.head(session_id) if sound else state.known(session_id)
        busy = self._realm.busy(session_id) or session_id in self._realm.trailing
        if busy or head.partial is not None:
            raise SessionBusy(session_id)
        reason = self._guard(head, verb)
        if reason is not None:
            raise SessionError(reason, session_id)
        return head

    async def _mend(self, session_id: SessionId, turn_index: int) -> Session:
        """Rewind a quarantined session to a turn before the damage. What is behind that, what it
        had not worked on yet, and branches that are damaged are given up. Reads the whole journal.
        """
        state = self._realm.state
        rebuilt = await self._realm.recovery.rebuilt()
        now = self._at_rest(session_id, "rewind", sound=False)
        if session_id not in state.quarantined:  # somebody else was quicker
            return await self.rewind(session_id, turn_index)
        head = rebuilt.state.heads.get(session_id)
        whole = rebuilt.whole(head.head) if head is not None and head.harness_id else None
        if head is None or whole is None:
            raise SessionQuarantined(session_id, f"{now.quarantined}; nothing whole is left of it")
        if not 0 <= turn_index < whole.turns:
            raise RewindOutOfRange(session_id, turn_index, whole.turns)
        journal = self._realm.journal
        place = rebuilt.at(journal.find_turn(whole.head, turn_index + 1))
        head = attrs.evolve(
            idle(head, place),
            branches=tuple(each for each in head.branches if not broken_turn(journal, each.head)),
            branch=max(head.branch, now.branch) + 1,
            compaction=in_force(journal, head.compaction, turn_index + 1),
            updated_at_ns=self._now(),
        )
        record = SessionMended(session_id, pack_head(head), head.updated_at_ns)
        await self._realm.change([session_id], lambda: self._realm.append(record))
        return self._realm.snapshot(session_id)

    async def _move(
        self, head: SessionHead, seq: int, compaction: Compaction | None, restored: int | None
    ) -> None:
        with self._realm.reading(head.session_id):
            turn, links = self._realm.journal.turn(seq), self._realm.journal.links(seq)
        record = SessionRewound(
            head.session_id, seq, turn.turn, turn.total, links, restored, self._now(), compaction
        )
        await self._realm.change([head.session_id], lambda: self._realm.append(record))

    def _labelled(self, session_id: SessionId) -> tuple[str | None, _Tags]:
        """The latest title and tags, on disk or on their way there. Raises `SessionNotFound`."""
        head = self._realm.state.head(session_id)
        title, tags, ticket = self._labels.get(session_id, (head.title, head.tags, None))
        if ticket is not None and ticket.done:
            self._forget_labels(session_id)
            return head.title, head.tags
        return title, tags

    def _forget_labels(self, session_id: SessionId) -> None:
        """Those that are on disk are in the fold."""
        latest = self._labels.get(session_id)
        if latest is not None and latest[2].done:
            del self._labels[session_id]

    async def _label(self, session_id: SessionId, title: str | None, tags: _Tags) -> None:
        ticket = self._realm.append(SessionLabelled(session_id, title, tags, self._now()))
        self._labels[session_id] = (title, tags, ticket)
        await ticket.wait()
        self._forget_labels(session_id)

    def _fork_name(self, name: str | None) -> str | None:
        if name is None:
            return None
        taken = {head.title for head in self._realm.state.heads.values()}
        taken.update(each for each, ticket in self._names.items() if not ticket.done)
        candidate, number = f"{name} (fork)", 2
        while candidate in taken:
            candidate, number = f"{name} (fork {number})", number + 1
        return candidate

    def _subtree(self, head: SessionHead) -> _Heads:
        """The session and its children, deepest first."""
        found: _Heads = []
        state = self._realm.state
        for child in head.children or ():
            if child not in state.leaving:
                found.extend(self._subtree(state.heads[child]))
        found.append(head)
        return found

    def _shared_turns(self, one: SessionHead, other: SessionHead) -> int:
        """How many turns two chains have in common: they agree up to some place and never after."""
        journal = self._realm.journal
        low, high = 0, min(one.turns, other.turns)
        while low < high:
            middle = (low + high + 1) // 2
            with self._realm.reading(one.session_id):
                mine = journal.find_turn(one.head, middle)
            with self._realm.reading(other.session_id):
                its = journal.find_turn(other.head, middle)
            if mine == its:
                low = middle
            else:
                high = middle - 1
        return low

    def _messages_after(self, head: SessionHead, turns: int) -> tuple[Message, ...]:
        journal = self._realm.journal
        with self._realm.reading(head.session_id):
            shared = journal.turn(journal.find_turn(head.head, turns)).total if turns else 0
            return tuple(journal.messages(head.head, head.message_count - shared))


def _checked_name(name: str) -> str:
    if type(name) is not str:
        raise Unusable(f"a name is a text of 1 to {MAX_NAME} characters, not {name!r:.80}")
    if not 1 <= len(name) <= MAX_NAME:
        raise Unusable(f"a name has 1 to {MAX_NAME} characters, not {len(name)}")
    return name


def _listed(tags: Sequence[str], session_id: SessionId) -> Sequence[str]:
    """`tags`, which must not be one text: its letters would be taken for tags."""
    if isinstance(tags, str):
        raise SessionError(f"give a list of tags, such as [{tags[:80]!r}], not a text", session_id)
    return tags


def _checked_tags(tags: Sequence[str], session_id: SessionId) -> _Tags:
    """The tags in order, each once."""
    for tag in tags:
        if type(tag) is not str:
            raise SessionError(f"a tag is a text, not {tag!r:.80}", session_id)
        if not 1 <= len(tag) <= MAX_TAG:
            raise SessionError(
                f"a tag has 1 to {MAX_TAG} characters, not {len(tag)}: {tag[:80]!r}", session_id
            )
    return tuple(dict.fromkeys(tags))
