"""SessionManager: looking after sessions; for people and tools, not for turns.

Owns: the protocol (seed: synwire, `SessionManager`) and its implementation over a realm: list,
save, fork, rewind, restore, labels, deletion, comparison. Must not: run a turn, or copy a history.

Every operation is one batch of the journal: a crash leaves it done or not done. A session with a
turn in flight is left alone: changing its history under it raises `SessionBusy`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import attrs

from runtime.chain import Links, extend, next_skip
from runtime.errors import MobError, SessionBusy, SessionError, StaleRevision
from runtime.ids import RunId, SessionId
from runtime.messages import (
    NO_USAGE,
    AssistantMessage,
    Message,
    Usage,
    UserMessage,
    check_sequence,
)
from runtime.realm import Realm
from runtime.records import (
    SessionArchived,
    SessionCreated,
    SessionDeleted,
    SessionForked,
    SessionLabelled,
    SessionRewound,
    TurnEnded,
    TurnOutcome,
)
from runtime.session import Session, SessionHead, SessionMetadata, SessionStatus
from runtime.store import SessionStore, StoredSessions
from stores import Operation

#: Characters of a tag, and of a name.
MAX_TAG = 64
MAX_NAME = 200

#: `SessionManager.list` shadows the builtin inside the classes below.
_Records: TypeAlias = list[Any]
_Rows: TypeAlias = list[SessionMetadata]
_Heads: TypeAlias = list[SessionHead]
_Turns: TypeAlias = list[tuple[Message, ...]]


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
        """The session with its messages."""
        ...

    async def save(self, session: Session) -> SessionMetadata:
        """Create the session or bring it up to `session`; refreshes its time of update.

        Messages that are not the stored ones any more become a branch, as after a rewind.

        Raises:
            StaleRevision: the stored session changed since `session` was read.
            SessionBusy: a turn is in flight.
            SessionError: it has no id, or its messages are no valid sequence.
        """
        ...

    async def delete(self, session_id: SessionId) -> None:
        """Remove the session, its children and its snapshots; what a fork shares stays.

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
        """Add tags of 1 to 64 characters; order is kept, duplicates are dropped."""
        ...

    async def untag(self, session_id: SessionId, tags: Sequence[str]) -> None:
        """Remove tags; those it does not have are passed over."""
        ...

    async def rename(self, session_id: SessionId, new_name: str) -> None:
        """Give the session another name of 1 to 200 characters."""
        ...

    async def diff(self, first: SessionId, second: SessionId) -> Difference:
        """Where two histories part. Costs what is different, not what is shared."""
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

    async def list(self) -> _Rows:
        heads = sorted(
            self._realm.state.heads.values(),
            key=lambda head: (-head.updated_at_ns, head.session_id),
        )
        return [head.metadata() for head in heads]

    async def resume(self, session_id: SessionId) -> Session:
        return self._realm.snapshot(session_id)

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
        )
        await self._realm.append(record).wait()
        return self._realm.state.head(record.session_id).metadata()

    async def rewind(self, session_id: SessionId, turn_index: int) -> Session:
        head = self._at_rest(session_id, "rewind")
        if not 0 <= turn_index < head.turns:
            raise RewindOutOfRange(session_id, turn_index, head.turns)
        if turn_index < head.turns - 1:
            seq = self._realm.journal.find_turn(head.head, turn_index + 1)
            await self._move(head, seq, restored=None)
        return self._realm.snapshot(session_id)

    async def restore(self, session_id: SessionId, branch: int = -1) -> Session:
        head = self._at_rest(session_id, "restore")
        count = len(head.branches)
        if not -count <= branch < count:
            valid = f"the branches are 0 to {count - 1}" if count else "nothing was rewound"
            raise SessionError(f"session {session_id} has no branch {branch}; {valid}", session_id)
        place = branch % count
        await self._move(head, head.branches[place].head, restored=place)
        return self._realm.snapshot(session_id)

    async def tag(self, session_id: SessionId, tags: Sequence[str]) -> None:
        head = self._realm.state.head(session_id)
        for tag in tags:
            if not 1 <= len(tag) <= MAX_TAG:
                raise SessionError(
                    f"a tag has 1 to {MAX_TAG} characters, not {len(tag)}: {tag[:80]!r}", session_id
                )
        await self._label(head, head.title, tuple(dict.fromkeys((*head.tags, *tags))))

    async def untag(self, session_id: SessionId, tags: Sequence[str]) -> None:
        head = self._realm.state.head(session_id)
        await self._label(head, head.title, tuple(tag for tag in head.tags if tag not in tags))

    async def rename(self, session_id: SessionId, new_name: str) -> None:
        head = self._realm.state.head(session_id)
        await self._label(head, _checked_name(new_name), head.tags)

    async def delete(self, session_id: SessionId) -> None:
        doomed = [head.session_id for head in self._subtree(self._realm.state.head(session_id))]
        for each in doomed:
            self._at_rest(each, "delete")
        now = self._now()
        rows: list[Operation] = []
        if isinstance(self._snapshots, StoredSessions):
            for each in doomed:
                rows += self._snapshots.deletions(each)
        for made in self._realm.spawning.creating.values():
            if made.lineage.parent in doomed:
                raise SessionBusy(session_id)
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
            records = self._creation(session)
        else:
            self._at_rest(head.session_id, "save")
            if session.revision != head.applied:
                raise StaleRevision(session.session_id, session.revision, head.applied)
            records = self._update(head, session)
        if session.status is SessionStatus.ARCHIVED and (head is None or not head.archived):
            records.append(SessionArchived(session.session_id, "saved as archived", self._now()))
        await self._realm.change([session.session_id], lambda: self._realm.append(*records))
        return self._realm.state.head(session.session_id).metadata()

    # -- inside ----------------------------------------------------------------------------

    def _now(self) -> int:
        return self._realm.ports.clock.now_ns()

    def _at_rest(self, session_id: SessionId, verb: str) -> SessionHead:
        """The head, if its history may be changed now."""
        head = self._realm.state.head(session_id)
        if self._realm.busy(session_id) or head.partial is not None:
            raise SessionBusy(session_id)
        reason = self._guard(head, verb)
        if reason is not None:
            raise SessionError(reason, session_id)
        return head

    async def _move(self, head: SessionHead, seq: int, restored: int | None) -> None:
        turn = self._realm.journal.turn(seq)
        record = SessionRewound(
            head.session_id,
            seq,
            turn.turn,
            turn.total,
            self._realm.journal.links(seq),
            restored,
            self._now(),
        )
        await self._realm.change([head.session_id], lambda: self._realm.append(record))

    async def _label(self, head: SessionHead, title: str | None, tags: tuple[str, ...]) -> None:
        await self._realm.append(SessionLabelled(head.session_id, title, tags, self._now())).wait()

    def _fork_name(self, name: str | None) -> str | None:
        if name is None:
            return None
        taken = {head.title for head in self._realm.state.heads.values()}
        candidate, number = f"{name} (fork)", 2
        while candidate in taken:
            candidate, number = f"{name} (fork {number})", number + 1
        return candidate

    def _subtree(self, head: SessionHead) -> _Heads:
        """The session and its children, deepest first."""
        found: _Heads = []
        for child in head.children or ():
            found.extend(self._subtree(self._realm.state.heads[child]))
        found.append(head)
        return found

    def _shared_turns(self, one: SessionHead, other: SessionHead) -> int:
        """How many turns two chains have in common: they agree up to some place and never after."""
        journal = self._realm.journal
        low, high = 0, min(one.turns, other.turns)
        while low < high:
            middle = (low + high + 1) // 2
            if journal.find_turn(one.head, middle) == journal.find_turn(other.head, middle):
                low = middle
            else:
                high = middle - 1
        return low

    def _messages_after(self, head: SessionHead, turns: int) -> tuple[Message, ...]:
        shared = 0
        if turns:
            shared = self._realm.journal.turn(self._realm.journal.find_turn(head.head, turns)).total
        return tuple(self._realm.journal.messages(head.head, head.message_count - shared))

    def _creation(self, session: Session) -> _Records:
        records: _Records = [
            SessionCreated(
                session.session_id,
                session.harness_id,
                session.agent_id,
                session.title,
                session.locale,
                session.lineage,
                session.spec,
                None,
                self._now(),
            )
        ]
        if session.lineage.parent is not None:
            self._realm.state.head(session.lineage.parent)
        if session.tags:
            label = SessionLabelled(session.session_id, session.title, session.tags, self._now())
            records.append(label)
        records += self._turns(session.session_id, split_turns(session.messages), 0, 0, 0, ())
        return records

    def _update(self, head: SessionHead, session: Session) -> _Records:
        journal = self._realm.journal
        records: _Records = [
            SessionLabelled(head.session_id, session.title, session.tags, self._now())
        ]
        kept, place, rest = 0, 0, session.messages
        for seq in journal.chain(head.head):
            turn = journal.turn(seq)
            size = len(turn.messages)
            if rest[:size] != turn.messages:
                break
            kept, place, rest = turn.turn, seq, rest[size:]
        links = head.links
        total = len(session.messages) - len(rest)
        if kept < head.turns:
            links = journal.links(place)
            rewound = SessionRewound(head.session_id, place, kept, total, links, None, self._now())
            records.append(rewound)
        records += self._turns(head.session_id, split_turns(rest), place, kept, total, links)
        return records

    def _turns(
        self,
        session_id: SessionId,
        turns: _Turns,
        prev: int,
        place: int,
        total: int,
        links: Links,
    ) -> _Records:
        """Records for turns that are committed together: their numbers are not known yet, so what
        links among them is relative. Within, the turn at index i stands as -(i + 1)."""
        records: _Records = []
        now = self._now()
        for index, messages in enumerate(turns):
            place += 1
            total += len(messages)
            skip, skip_turn = next_skip(links, place)
            records.append(
                TurnEnded(
                    session_id,
                    RunId(self._realm.ports.ids.new()),
                    -1 if index else prev,
                    TurnOutcome.COMPLETED,
                    messages,
                    _usage(messages),
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


def split_turns(messages: Sequence[Message]) -> _Turns:
    """Messages cut into turns: one begins at each user message that does not follow another."""
    turns: list[list[Message]] = []
    before: Message | None = None
    for message in messages:
        begins = isinstance(message, UserMessage) and not isinstance(before, UserMessage)
        if begins or not turns:
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


def _checked_name(name: str) -> str:
    if not 1 <= len(name) <= MAX_NAME:
        raise MobError(f"a name has 1 to {MAX_NAME} characters, not {len(name)}")
    return name
