"""SessionStore: an optional persistence adapter for session snapshots.

Owns: the protocol (seed: agent-base, `SessionStore`) and its implementation over the store port,
which serves memory and LMDB alike. Must not: take part in control flow; the journal makes a turn
durable, a snapshot only makes recovery short.

Layout. One row per session says what it is, how many segments and messages there are of it, and
the checksum of its last `TAIL` messages; a segment is immutable and holds the messages of one save.
So `save` writes what is new since the stored row, in one commit, whatever the length of the
history. Segments lie apart from the rows, so that listing reads rows only; those of rows that list
a number for each segment lie beside them, and are moved by the next save.

A history is taken for the continuation of the stored one if its head did not go back, it did not
shrink, and the messages just before the point where the stored one ended are the same; otherwise it
is written whole. To compare all of them would make a save cost what the history is long.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import attrs
import msgpack

from runtime.codec import converter, structured
from runtime.errors import SessionError, WrittenLater
from runtime.ids import RealmId, SessionId
from runtime.messages import Message, pack_message, unpack_message
from runtime.session import Session
from stores import Conflict, Damaged, Delete, Expect, Operation, Put, Store

#: Messages at the end of a stored history that tell whether another one continues it. A branch that
#: forked off further back and then said the same 16 things would be mistaken; none does.
TAIL: Final = 16

#: The layout of a row. Rows of layout 0 do not say so; a change of what is in a row or a segment
#: raises it, and what understood the one before stays.
FORMAT: Final = 1

#: What stands for a "/" in keys: a byte that no text has in UTF-8, so that two ids never meet.
_SLASH: Final = b"\xff"

#: What bytes of another layout can cause while they are understood.
_MISFITS: Final = (ValueError, TypeError, LookupError, AttributeError)

#: `SessionStore.list` shadows the builtin inside the classes below.
_Operations: TypeAlias = list[Operation]
_Messages: TypeAlias = list[Message]
_SessionIds: TypeAlias = list[SessionId]


class SessionStore(Protocol):
    """Saves and loads whole sessions. Implement it to keep snapshots where you want them."""

    async def save(self, session: Session) -> None:
        """Replace what is stored for the session's id. Durable on return, all or nothing.

        Raises:
            SessionError: the session has no id.
        """
        ...

    async def load(self, session_id: SessionId) -> Session | None:
        """An equal session, or None if none was saved.

        Raises:
            stores.Damaged: something is stored and cannot be read; never reported as None.
            WrittenLater: a later version saved it; it is not overwritten either.
        """
        ...

    async def list(self) -> Sequence[SessionId]:
        """The ids of all saved sessions, ascending."""
        ...

    async def delete(self, session_id: SessionId) -> bool:
        """Remove what is stored; whether anything was."""
        ...


@attrs.frozen
class _Row:
    """The stored row: the session without messages, where its segments are, how many messages they
    hold, and the checksum of the last ones. `packed` is the row's bytes."""

    session: Session
    segments: int
    count: int
    tail: int
    packed: bytes
    #: Whether the segments lie beside the row, as they did once.
    beside: bool
    #: What the session is called in its keys; an id with a "/" was once called as it is.
    name: bytes


class StoredSessions:
    """`SessionStore` over the store port, for the sessions of one realm."""

    def __init__(self, store: Store, realm: RealmId) -> None:
        self._store = store
        self._prefix = b"snapshot/" + realm.encode() + b"/"
        self._parts = b"snapshot-part/" + realm.encode() + b"/"

    async def save(self, session: Session) -> None:
        if not session.session_id:
            raise SessionError(
                "a session without an id cannot be saved; create it in a realm first"
            )
        while True:
            try:
                await self._store.commit(self._operations(session))
            except Conflict:  # somebody saved it meanwhile: what is new is another question now
                continue
            return

    def _operations(self, session: Session) -> _Operations:
        name = name_of(session.session_id)
        key = self._prefix + name
        segments, count = 0, 0
        operations: list[Operation] = []
        try:
            old = self._row(session.session_id)
        except Damaged:  # the session that lives is the authority: what it left here is made anew
            old = None
            operations.extend(self.deletions(session.session_id))
        else:
            there = key if old is None else self._prefix + old.name
            operations.append(Expect(there, old.packed if old is not None else None))
        if old is not None and old.name == name and _extends(session, old):
            segments, count = old.segments, old.count
        elif old is not None:
            operations.extend(self._deletions(old))
        fresh = session.messages[count:]
        if fresh:
            packed: bytes = msgpack.packb([pack_message(message) for message in fresh])
            operations.append(Put(self._segment_key(name, segments), packed))
            segments += 1
        row = {
            "format": FORMAT,
            "session": converter().unstructure(attrs.evolve(session, messages=())),
            "segments": segments,
            "count": count + len(fresh),
            "tail": _checksum(session.messages[-TAIL:]),
        }
        operations.append(Put(key, msgpack.packb(row)))
        return operations

    async def load(self, session_id: SessionId) -> Session | None:
        row = self._row(session_id)
        if row is None:
            return None
        messages: list[Message] = []
        for key in self._segment_keys(row):
            messages.extend(self._segment(key))
        if len(messages) != row.count:
            raise Damaged(
                f"the snapshot of session {session_id}",
                f"{row.count} messages were saved, {len(messages)} are there",
            )
        return attrs.evolve(row.session, messages=tuple(messages))

    async def list(self) -> _SessionIds:
        found: list[SessionId] = []
        for key, packed in self._store.scan(self._prefix):
            name = key[len(self._prefix) :]
            if b"/" not in name or not _is_segment(packed):
                found.append(SessionId(name.replace(_SLASH, b"/").decode()))
        return sorted(found)

    async def delete(self, session_id: SessionId) -> bool:
        operations = self.deletions(session_id)
        if not operations:
            return False
        await self._store.commit(operations)
        return True

    def deletions(self, session_id: SessionId) -> _Operations:
        """The operations of `delete`, for a caller that commits them with something else."""
        try:
            row = self._row(session_id)
        except Damaged:  # which is no reason to keep it
            name = name_of(session_id)
            operations: _Operations = [Delete(self._prefix + name)]
            while self._there(key := self._segment_key(name, len(operations) - 1)):
                operations.append(Delete(key))
            return operations
        return [] if row is None else self._deletions(row)

    def _there(self, key: bytes) -> bool:
        try:
            return self._store.get(key) is not None
        except Damaged:
            return True

    def _deletions(self, row: _Row) -> _Operations:
        return [Delete(key) for key in (self._prefix + row.name, *self._segment_keys(row))]

    def _row(self, session_id: SessionId) -> _Row | None:
        name = name_of(session_id)
        packed = self._store.get(self._prefix + name)
        if packed is None and _SLASH in name:
            name = session_id.encode()
            packed = self._store.get(self._prefix + name)
            if packed is not None and _is_segment(packed):
                return None
        if packed is None:
            return None
        try:
            row: dict[str, Any] = msgpack.unpackb(packed)
            form = row.pop("format", 0)
            if type(form) is int and form > FORMAT:
                raise WrittenLater(f"the snapshot of session {session_id}", form, FORMAT)
            segments, tail = row.pop("segments"), row.pop("tail")
            beside = isinstance(segments, list)
            count = sum(segments) if beside else row.pop("count")
            session = structured(row.pop("session"), Session)
            segments = len(segments) if beside else segments
            numbers = (form, segments, count, tail)
            if row or any(type(each) is not int or each < 0 for each in numbers):
                raise ValueError("the row has another layout")
        except _MISFITS as error:
            raise Damaged(f"the snapshot of session {session_id}", repr(error)) from error
        return _Row(session, segments, count, tail, packed, beside, name)

    def _segment(self, key: bytes) -> _Messages:
        packed = self._store.get(key)
        if packed is None:
            raise Damaged(repr(key), "a segment of a session snapshot is missing")
        try:
            return [unpack_message(item) for item in msgpack.unpackb(packed, use_list=False)]
        except _MISFITS as error:
            raise Damaged(repr(key), repr(error)) from error

    def _segment_keys(self, row: _Row) -> Iterable[bytes]:
        for place in range(row.segments):
            yield self._segment_key(row.name, place, beside=row.beside)

    def _segment_key(self, name: bytes, place: int, *, beside: bool = False) -> bytes:
        prefix = self._prefix if beside else self._parts
        return prefix + name + b"/" + place.to_bytes(4, "big")


def name_of(session_id: SessionId) -> bytes:
    """What the session is called in keys: its id, without a "/", which separates."""
    return session_id.encode().replace(b"/", _SLASH)


def _is_segment(packed: bytes) -> bool:
    """Whether this is a segment of a session, and not the row of one: where they lay together, an
    id with a "/" could make the key of either."""
    try:
        return isinstance(msgpack.unpackb(packed), list)
    except _MISFITS:
        return False


def _extends(session: Session, old: _Row) -> bool:
    """Whether the stored messages are the beginning of the new ones, and lie where new ones do."""
    count = old.count
    if old.beside or session.branch != old.session.branch or len(session.messages) < count:
        return False
    return _checksum(session.messages[max(count - TAIL, 0) : count]) == old.tail


def _checksum(messages: Sequence[Message]) -> int:
    return zlib.crc32(msgpack.packb([pack_message(message) for message in messages]))
