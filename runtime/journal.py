"""A realm's journal: typed records over one stream of the store.

Owns: packing, unpacking, the order in which committed records are applied, and following. Must
not: decide anything; know which engine is underneath.

Committed records are handed to `apply` in sequence order on the Trio thread, before any waiter of
their ticket runs. So live state is the same fold that recovery computes, and whoever is told "it is
durable" can already read it.

A realm that is a fork of another (`runtime.points`) begins with that one's records: they have the
same numbers here, and are read where they are. Its own stream goes on behind them.

A record may be erased (`runtime.retention`): it keeps its number and reads as `Erased`.

Subscribers read the journal itself from a cursor and park when they reach its end. A slow one holds
nothing in memory, loses nothing and slows nobody down.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Any, Final

import attrs

from runtime.errors import OriginLost, RecordUnreadable
from runtime.heads import unpack_row
from runtime.ids import RealmId
from runtime.messages import Message
from runtime.points import RealmForked
from runtime.records import ERASED, RUNTIME_RECORDS, RecordType, TurnEnded
from stores import Append, Damaged, Entry, Erase, Operation, Store, Ticket

_FORKED: Final = next(each for each in RUNTIME_RECORDS if each.cls is RealmForked)

#: Records read from the store in one go by followers and by recovery: enough to amortise the
#: read transaction, few enough to keep it short.
PAGE = 256


@attrs.frozen
class Event:
    """One committed record with its place: `seq` counts from 1 in its realm without gaps."""

    seq: int
    record: Any


@attrs.frozen
class Lost:
    """A record that is damaged or missing. `raw` is what stands there, not to be trusted."""

    seq: int
    reason: str
    raw: bytes = b""


def _shifted(entries: list[Entry], offset: int) -> list[Entry]:
    return [Entry(each.seq + offset, each.kind, each.version, each.payload) for each in entries]


def _limit(after: int, until: int | None) -> int:
    return PAGE if until is None else min(PAGE, max(until - after, 0))


@attrs.frozen
class Origin:
    """Where the records up to number `until` are, behind those of earlier origins: in `stream`,
    whose first one has the number `offset` + 1."""

    stream: bytes
    offset: int
    until: int


def stream_of(realm: str) -> bytes:
    """The stream of a realm's journal."""
    return b"realm/" + realm.encode()


def origin_key(realm: str) -> bytes:
    """The key of a row that says once more what a fork's first record does: what is said there
    decides which number each record has."""
    return b"origin/" + realm.encode()


def forked_from(store: Store, realm: str) -> tuple[str, int] | None:
    """Which realm this one is a fork of, and at which record; None if it is none.

    Raises:
        stores.Damaged: it can not be read.
    """
    try:
        entry = store.entry(stream_of(realm), 1)
        if entry is None or entry.kind != _FORKED.kind:
            return None
        record = _FORKED.unpack(entry.payload)
    except (Damaged, ValueError, TypeError, LookupError):
        row = store.get(origin_key(realm))
        return None if row is None else unpack_row(row)[:2]
    return record.parent, record.at


def forks_of(store: Store, realm: str) -> dict[str, int]:
    """The realms in the store that are forks of this one, and at which record each is."""
    found: dict[str, int] = {}
    for stream in store.streams():
        if stream.startswith(b"realm/"):
            name = stream[len(b"realm/") :].decode()
            origin = forked_from(store, name)
            if origin is not None and origin[0] == realm:
                found[name] = origin[1]
    return found


def _origins(store: Store, realm: str) -> tuple[Origin, ...]:
    """Where the records before a realm's own are, oldest first."""
    found = forked_from(store, realm)
    if found is None:
        return ()
    parent, at = found
    before = tuple([each for each in _origins(store, parent) if each.offset < at])
    offset = before[-1].until if before else 0
    stream = stream_of(parent)
    if at > offset + store.last(stream):
        raise OriginLost(realm, parent, at, offset + store.last(stream))
    clipped = tuple([attrs.evolve(each, until=min(each.until, at)) for each in before])
    return clipped if at <= offset else (*clipped, Origin(stream, offset, at))


class Journal:
    """The durable, gap-free, append-only sequence of one realm."""

    def __init__(
        self,
        store: Store,
        realm: RealmId,
        types: Iterable[RecordType],
        apply: Callable[[int, Any], None],
    ) -> None:
        self._store = store
        self._realm = realm
        self._stream = stream_of(realm)
        self._origins = _origins(store, realm)
        #: The number of the record before its first own one: 0 unless it is a fork.
        self.base = self._origins[-1].until if self._origins else 0
        self._by_class = {record_type.cls: record_type for record_type in types}
        self._by_kind = {record_type.kind: record_type for record_type in self._by_class.values()}
        self._apply = apply
        #: They hear of every record once it is applied.
        self._listeners: tuple[Callable[[int, Any], None], ...] = ()

    @property
    def last(self) -> int:
        """The highest committed sequence number, 0 for an empty journal."""
        return self.base + self._store.last(self._stream)

    def base_of(self, at: int) -> int:
        """The number behind which the state at record `at` can be folded: 0, or where the latest
        fork up to it begins, which says what was there by then."""
        starts = [each.until for each in self._origins if each.until < at]
        return max(starts, default=0)

    def place(self, seq: int) -> tuple[str, int] | None:
        """Where record `seq` is in the store, so that it can be told from one of the same number in
        another journal: the stream, and its number there. None for 0, which is none."""
        for each in self._origins:
            if each.offset < seq <= each.until:
                return each.stream.decode(), seq - each.offset
        return (self._stream.decode(), seq - self.base) if seq else None

    def number(self, place: tuple[str, int]) -> int | None:
        """The number that the record at this place has here; None if it is none of these."""
        stream, own = place
        if stream == self._stream.decode():
            return self.base + own
        for each in self._origins:
            if each.stream.decode() == stream and own + each.offset <= each.until:
                return own + each.offset
        return None

    def realms_between(self, after: int, until: int) -> list[str]:
        """The realms whose records those above `after` are, up to number `until`."""
        found = [each for each in self._origins if after < each.until and each.offset < until]
        own = [self._stream] if until > self.base else []
        return [each[len(b"realm/") :].decode() for each in (*[e.stream for e in found], *own)]

    def append(self, *records: Any, also: Sequence[Operation] = ()) -> Ticket:
        """Queue `records` as one atomic batch and return at once. Store errors are the ticket's.

        `also` are operations on keys that belong to the same batch.
        """
        stream = self._stream
        by_class = self._by_class
        batch: list[Operation] = list(also)
        for record in records:
            record_type = by_class[type(record)]
            batch.append(
                Append(stream, record_type.kind, record_type.pack(record), record_type.version)
            )

        def committed(sequences: tuple[int, ...]) -> None:
            base = self.base
            for seq, record in zip(sequences, records, strict=True):
                self._apply(base + seq, record)
                for hear in self._listeners:
                    hear(base + seq, record)

        return self._store.submit(batch, committed)

    def listen(self, hear: Callable[[int, Any], None]) -> None:
        """Have `hear` told of every record that is committed from now on, right after it is
        applied; it must not raise or block."""
        self._listeners = (*self._listeners, hear)

    def unlisten(self, hear: Callable[[int, Any], None]) -> None:
        """Tell `hear` no more. One that does not listen is no error."""
        self._listeners = tuple(each for each in self._listeners if each != hear)

    def read(self, after: int = 0, limit: int = PAGE) -> list[Event]:
        """At most `limit` events above `after`, ascending.

        Raises:
            RecordUnreadable: a record is intact and of a kind or layout we do not know.
            stores.Damaged: a record's bytes are not what was written.
        """
        return [self._event(entry) for entry in self._entries(after, limit)]

    def sized(self, after: int = 0, limit: int = PAGE) -> list[tuple[Event, int]]:
        """As `read`, each event with the bytes of its payload."""
        entries = self._entries(after, limit)
        return [(self._event(entry), len(entry.payload)) for entry in entries]

    def erasure(self, seq: int) -> Erase:
        """The operation that erases record `seq`, one of its own: it reads as `Erased` from then
        on."""
        assert seq > self.base, "what is before a fork belongs to the realm that it comes from"
        return Erase(self._stream, seq - self.base)

    def get(self, seq: int) -> Any:
        """The record number `seq`, which must exist. Raises as `read`."""
        if seq > self.base:
            entry = self._store.entry(self._stream, seq - self.base)
        else:
            entry = next(iter(self._entries(seq - 1, 1)), None)
        if entry is None:
            raise RecordUnreadable(self._realm, seq, "it should be there and is not")
        return self._event(entry).record

    def readable(self, seq: int) -> bool:
        """Whether record `seq` is there and what was written."""
        try:
            self.get(seq)
        except (Damaged, RecordUnreadable):
            return False
        return True

    def turn(self, seq: int) -> TurnEnded:
        """The turn recorded as `seq`. Raises `RecordUnreadable` if there is none."""
        record = self.get(seq)
        if not isinstance(record, TurnEnded):
            raise RecordUnreadable(
                self._realm, seq, f"a turn was expected, found {type(record).__name__}"
            )
        if record.prev < 0 or record.skip < 0:
            return attrs.evolve(
                record,
                prev=self.absolute(seq, record.prev),
                skip=self.absolute(seq, record.skip),
            )
        return record

    @staticmethod
    def absolute(seq: int, link: int) -> int:
        """The number that `link`, in the turn `seq`, stands for: a negative one counts back."""
        return seq + link if link < 0 else link

    def find_turn(self, head: int, turn: int) -> int:
        """The number of the record of the turn at place `turn` (from 1) of the chain that ends at
        `head`. Reads a number of records that is logarithmic in the chain's length."""
        seq = head
        record = self.turn(seq)
        while record.turn != turn:
            seq = record.skip if record.skip_turn >= turn else record.prev
            record = self.turn(seq)
        return seq

    def chain(self, head: int) -> list[int]:
        """The numbers of the turns of the chain that ends at `head`, oldest first."""
        found: list[int] = []
        while head:
            found.append(head)
            head = self.turn(head).prev
        return found[::-1]

    def check_chain(self, head: int, known: set[int]) -> None:
        """Read the turns of the chain that ends at `head`, down to one that is in `known`; they
        are in it afterwards. Raises as `turn`, for the first that cannot be read."""
        while head and head not in known:
            prev = self.turn(head).prev
            known.add(head)
            head = prev

    def links(self, head: int) -> tuple[int, ...]:
        """The links of the chain that ends at `head` (see `runtime.chain`), read from it."""
        links: list[int] = []
        while head:
            record = self.turn(head)
            links = [head, record.turn - record.skip_turn, *links]
            head = record.skip
        return tuple(links)

    def messages(self, seq: int, limit: int | None = None) -> list[Message]:
        """The messages of the turn `seq` and of those before it in its chain, oldest first; with
        `limit` the newest so many. Costs what is returned, not the length of the chain."""
        wanted = limit if limit is not None else float("inf")
        newest: list[Message] = []
        while seq and len(newest) < wanted:
            turn = self.turn(seq)
            newest.extend(reversed(turn.messages))
            seq = turn.prev
        if limit is not None:
            del newest[max(limit, 0) :]
        newest.reverse()
        return newest

    async def follow(self, after: int = 0) -> AsyncGenerator[Event, None]:
        """Every event above `after`, first the past, then the future, without end.

        Ends only by cancellation or when the store is closed (`StoreClosed`).
        """
        while True:
            events = self.read(after)
            for event in events:
                after = event.seq
                yield event
            if not events:
                await self._store.wait_beyond(self._stream, after - self.base)

    def replay(
        self,
        after: int = 0,
        apply: Callable[[int, Any], None] | None = None,
        lost: Callable[[Lost], None] | None = None,
        until: int | None = None,
    ) -> int:
        """Apply every committed record above `after`, up to number `until` if that is given; return
        the number of the last one.

        A record that is damaged or missing goes to `lost`, if that is given, and those behind it
        are applied.

        Raises:
            RecordUnreadable: a record was written by a later version.
            stores.Damaged: a record is damaged and `lost` is not given, or where the journal ends
                is not known.
        """
        apply = apply or self._apply
        read = self._entries if lost is None else self._salvage
        while page := read(after, _limit(after, until)):
            for entry in page:
                event = entry if isinstance(entry, Lost) else self._salvaged(entry, lost is None)
                if isinstance(event, Event):
                    apply(event.seq, event.record)
                elif lost is not None:
                    lost(event)
            after = page[-1].seq
        return after

    def _salvaged(self, entry: Entry, strict: bool) -> Event | Lost:
        try:
            return self._event(entry)
        except RecordUnreadable as error:
            if strict or not error.damaged:
                raise
            return Lost(entry.seq, str(error), entry.payload)

    def _entries(self, after: int, limit: int) -> list[Entry]:
        """As `Store.read`, by the numbers of this journal."""
        if after >= self.base:
            entries = self._store.read(self._stream, after=after - self.base, limit=limit)
            return entries if not self.base else _shifted(entries, self.base)
        found: list[Entry] = []
        for each in self._origins:
            if after < each.until and len(found) < limit:
                many = min(limit - len(found), each.until - after)
                entries = self._store.read(each.stream, after=after - each.offset, limit=many)
                found += _shifted(entries, each.offset)
                after += len(entries)
        if len(found) < limit and after == self.base:
            found += self._entries(after, limit - len(found))
        return found

    def _salvage(self, after: int, limit: int) -> Sequence[Entry | Lost]:
        """As `_entries`, one by one where something is damaged. A record behind one that is
        missing cannot be verified and counts as damaged."""
        try:
            return self._entries(after, limit)
        except Damaged:
            found: list[Entry | Lost] = []
        for seq in range(after + 1, min(after + limit, self.last) + 1):
            try:
                found.extend(self._entries(seq - 1, 1))
            except Damaged as error:
                found.append(Lost(seq, f"{error.where}: {error.reason}", error.raw))
        return found

    def _event(self, entry: Entry) -> Event:
        if not (entry.kind or entry.version or entry.payload):
            return Event(entry.seq, ERASED)
        record_type = self._by_kind.get(entry.kind)
        if record_type is None or record_type.version != entry.version:
            raise RecordUnreadable(
                self._realm,
                entry.seq,
                f"kind {entry.kind} version {entry.version} is not known here; "
                "it was written by a later mob: open it with that version",
                damaged=False,
            )
        try:
            return Event(entry.seq, record_type.unpack(entry.payload))
        except (ValueError, TypeError, LookupError) as error:  # what a wrong layout can cause
            raise RecordUnreadable(self._realm, entry.seq, repr(error)) from error
