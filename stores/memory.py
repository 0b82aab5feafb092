"""The engine without a disk: for simulation, for tests, for mobs that need not survive.

Owns: a store in two dictionaries, and the `MemoryDisk` that outlives a handle. Must not: start a
thread or a task, look at a clock; it serves seeded simulations, which must see the same steps
every time.

A batch is applied when it is submitted, so its ticket is done at once and its `committed`
callback has run when `submit` returns; a durable engine calls it later. What holds for both:
callbacks run in order of submission and before any waiter. A batch that a callback submits is
applied at once and its own callback runs after the present one.

A simulated process that crashes drops its `MemoryStore` and opens another on the same `MemoryDisk`:
what was submitted is there. One that is paused keeps its handle, and finds, when it goes on, that
the newer one has fenced it off: it neither writes nor reads any more.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import final

import trio

from stores.base import Append, Batch, Committed, Delete, Entry, Erase, Expect, Put
from stores.codec import check_batch, check_key
from stores.errors import Conflict, StoreClosed, StoreLost
from stores.writer import Outcome, Watch, settled


@final
class MemoryDisk:
    """What a `MemoryStore` leaves behind: give it to the next one, as a path to `open_lmdb`."""

    def __init__(self) -> None:
        self.entries: dict[bytes, list[Entry]] = {}
        self.values: dict[bytes, bytes] = {}
        # Invariant: the keys of `values`, ascending.
        self.order: list[bytes] = []
        #: How often it has been opened. Only the handle of that generation may write.
        self.generation = 0


@asynccontextmanager
async def open_memory(disk: MemoryDisk | None = None) -> AsyncIterator[MemoryStore]:
    """A `MemoryStore` on `disk` (an empty one if None), closed when the body is left.

    A handle that has `disk` open already is fenced off, without being asked. Executes no
    checkpoint.
    """
    store = MemoryStore(disk)
    try:
        yield store
    finally:
        store.close()


@final
class MemoryTicket:
    """A `Ticket` whose outcome was known from the start."""

    __slots__ = ("_outcome",)

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    @property
    def outcome(self) -> Outcome:
        """What `wait` returns or raises, without waiting."""
        return self._outcome

    async def wait(self) -> tuple[int, ...]:
        """See `stores.base.Ticket.wait`. Always executes a checkpoint."""
        await trio.lowlevel.checkpoint()
        return settled(self._outcome)

    @property
    def done(self) -> bool:
        """True."""
        return True


class MemoryStore:
    """A `stores.base.Store` that ends with the process, and is never crowded."""

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        self._disk = disk = MemoryDisk() if disk is None else disk
        disk.generation += 1
        self._generation = disk.generation
        self._entries = disk.entries
        self._values = disk.values
        self._order = disk.order
        self._watch = Watch()
        self._due: deque[tuple[Committed, tuple[int, ...]]] = deque()
        self._calling = False
        self._closed = False

    @property
    def durable(self) -> bool:
        """False."""
        return False

    @property
    def generation(self) -> int:
        """How often the disk had been opened when this handle was, itself included."""
        return self._generation

    @property
    def location(self) -> str:
        """The word ``memory``."""
        return "memory"

    # An interrupt halfway through would leave a batch applied in part.
    @trio.lowlevel.enable_ki_protection
    def submit(self, batch: Batch, committed: Committed | None = None) -> MemoryTicket:
        """See `stores.base.Store.submit`; the batch is applied before this returns."""
        self._check_open()
        batch = tuple(batch)
        check_batch(batch)
        outcome = self._apply(batch)
        if committed is not None and isinstance(outcome, tuple):
            self._due.append((committed, outcome))
            self._call()
        return MemoryTicket(outcome)

    async def commit(self, batch: Batch) -> tuple[int, ...]:
        """See `stores.base.Store.commit`."""
        return await self.submit(batch).wait()

    @property
    def crowded(self) -> bool:
        """False: nothing queues here."""
        return False

    async def room(self) -> None:
        """Return at once: nothing queues here."""

    async def barrier(self) -> None:
        """Return after a checkpoint: nothing queues here."""
        await trio.lowlevel.checkpoint()

    def get(self, key: bytes) -> bytes | None:
        """See `stores.base.Store.get`."""
        self._check_open()
        check_key(key)
        return self._values.get(key)

    def scan(
        self, prefix: bytes, *, after: bytes | None = None, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """See `stores.base.Store.scan`."""
        self._check_open()
        start = bisect_left(self._order, prefix)
        for bound in (prefix, after):
            if bound:
                check_key(bound)
        if after is not None:
            start = max(start, bisect_right(self._order, after))
        rows: list[tuple[bytes, bytes]] = []
        for index in range(start, len(self._order)):
            key = self._order[index]
            if not key.startswith(prefix) or (limit is not None and len(rows) >= limit):
                break
            rows.append((key, self._values[key]))
        return rows

    def last(self, stream: bytes) -> int:
        """See `stores.base.Store.last`."""
        self._check_open()
        check_key(stream)
        return len(self._entries.get(stream, ()))

    def read(self, stream: bytes, *, after: int = 0, limit: int = 256) -> list[Entry]:
        """See `stores.base.Store.read`."""
        self._check_open()
        check_key(stream)
        after = max(after, 0)
        return self._entries.get(stream, [])[after : after + max(limit, 0)]

    def entry(self, stream: bytes, seq: int) -> Entry | None:
        """See `stores.base.Store.entry`."""
        entries = self.read(stream, after=seq - 1, limit=1) if seq > 0 else []
        return entries[0] if entries else None

    def streams(self) -> list[bytes]:
        """See `stores.base.Store.streams`."""
        self._check_open()
        return sorted(self._entries)

    async def wait_beyond(self, stream: bytes, seq: int) -> None:
        """See `stores.base.Store.wait_beyond`."""
        await trio.lowlevel.checkpoint()
        while self.last(stream) <= seq:
            await self._watch.wait(stream)

    def close(self) -> None:
        """Refuse everything from now on and wake those who wait. Idempotent."""
        self._closed = True
        self._watch.close(StoreClosed("the store was closed"))

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed("the store was closed; open another")
        if self._disk.generation != self._generation:
            raise StoreLost(
                f"another handle took this memory store over at generation {self._disk.generation},"
                f" this one is of generation {self._generation}: nothing was written",
                path=self.location,
                generation=self._disk.generation,
            )

    def _apply(self, batch: Batch) -> Outcome:
        for operation in batch:
            if isinstance(operation, Expect):
                found = self._values.get(operation.key)
                if found != operation.value:
                    return Conflict(operation.key, operation.value, found)
        sequences: list[int] = []
        streams: list[bytes] = []
        for operation in batch:
            if isinstance(operation, Erase):
                self._erase(operation)
        for operation in batch:
            if isinstance(operation, Append):
                entries = self._entries.setdefault(operation.stream, [])
                seq = len(entries) + 1
                entries.append(Entry(seq, operation.kind, operation.version, operation.payload))
                sequences.append(seq)
                streams.append(operation.stream)
            elif isinstance(operation, Put):
                if operation.key not in self._values:
                    insort(self._order, operation.key)
                self._values[operation.key] = operation.value
            elif isinstance(operation, Delete) and operation.key in self._values:
                del self._values[operation.key]
                del self._order[bisect_left(self._order, operation.key)]
        self._watch.advance(streams)
        return tuple(sequences)

    def _erase(self, operation: Erase) -> None:
        entries = self._entries.get(operation.stream, [])
        if operation.seq <= len(entries):
            entries[operation.seq - 1] = Entry(operation.seq, 0, 0, b"")

    def _call(self) -> None:
        """Run the callbacks that are due, in order; one that is running comes first."""
        if self._calling:
            return
        self._calling = True
        try:
            while self._due:
                callback, sequences = self._due.popleft()
                callback(sequences)
        finally:
            self._calling = False
