"""The store port: everything the floors above may ask of an engine, and nothing else.

Owns: the operations of a batch as frozen data, the ticket of a submitted batch, the `Store`
protocol. Must not: know a session, a mob or any other domain type; import an engine.

Theory. A store is two things under one transaction: *streams*, append-only and gap-free, numbered
from 1; and *keys*, a sorted map from bytes to bytes. Batches are applied whole or not at all, in
the order in which they were submitted, and many batches share one commit (group commit, the one
lever of durable speed: see docs/architecture.md). Every engine passes `stores.conformance`.

`submit` is synchronous on purpose. A turn submits its record and parks once on the ticket; the
queue keeps the order, so a later batch may rely on an earlier one without waiting for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

import attrs

from stores.values import value

#: Bytes of a stream name or of a key: LMDB's default limit is 511, of which 16 are ours.
MAX_KEY_BYTES = 480

#: Called on the Trio thread once its batch is durable, in commit order, before any waiter runs.
#: It receives the sequence numbers of the batch's appends. It must not block and must not raise;
#: one that submits must expect `StoreClosed`, since the queue is drained after the store closed.
Committed: TypeAlias = Callable[[tuple[int, ...]], None]


@value
class Append:
    """Append `payload` to `stream`; the engine gives it the next sequence number.

    `kind` (0..255) and `version` (0..65535) are the caller's record type and schema version,
    stored in the envelope and handed back by reads without being understood here.
    """

    stream: bytes
    kind: int
    payload: bytes
    version: int = 1


@value
class Put:
    """Set `key` to `value`, replacing what was there."""

    key: bytes
    value: bytes


@value
class Delete:
    """Remove `key`; removing an absent key is not an error."""

    key: bytes


@value
class Expect:
    """The batch applies only if `key` holds exactly `value` (None: is absent).

    Checked inside the transaction, against the state that the batches before this one left.
    """

    key: bytes
    value: bytes | None


@value
class Erase:
    """Forget what record `seq` of `stream` says; its place stays, and reads as kind and version 0
    with an empty payload.

    The numbers of the others, and cursors, stay as they are. Looked up in the state before the
    batch: a number that the stream has not reached then is passed over, and so is one that is
    erased already. Nothing brings an erased record back.
    """

    stream: bytes
    seq: int


Operation: TypeAlias = Append | Put | Delete | Expect | Erase
Batch: TypeAlias = Sequence[Operation]


@attrs.frozen
class Entry:
    """One record of a stream as read back; `seq` counts from 1 without gaps. One that was erased
    has kind and version 0 and no payload."""

    seq: int
    kind: int
    version: int
    payload: bytes


class Ticket(Protocol):
    """The receipt for a submitted batch."""

    async def wait(self) -> tuple[int, ...]:
        """Park until the batch is durable; return the sequence numbers of its appends in order.

        Any number of tasks may wait, before or after the fact. Cancelling a wait withdraws the
        waiter, not the batch.

        Raises:
            Conflict: an `Expect` did not hold; nothing of this batch was applied.
            Damaged: what the batch builds on fails its checksum; nothing of it was applied.
            StoreFull, StoreFailed: the commit failed; nothing of this batch was applied.
            StoreLost: another process took the store over; nothing of this batch was applied.
            CommitUnknown: the outcome could not be learnt.
        """
        ...

    @property
    def done(self) -> bool:
        """Whether the outcome (success or error) is known."""
        ...


class Store(Protocol):
    """One environment, owned by one process, written by one writer.

    Reads see committed batches only. They are inline and take microseconds; none of them blocks
    on a commit in progress.
    """

    @property
    def durable(self) -> bool:
        """Whether a finished ticket survives the end of the process."""
        ...

    @property
    def generation(self) -> int:
        """How often the store has been opened for writing, this handle included; from 1.

        Durable, and part of every commit: a handle that is not of the newest generation writes
        nothing (`StoreLost`). It may rise while a store is open, after a commit that failed.
        """
        ...

    @property
    def location(self) -> str:
        """Where the data lives, for messages to people: a path, or ``memory``."""
        ...

    def submit(self, batch: Batch, committed: Committed | None = None) -> Ticket:
        """Queue `batch` behind all earlier ones and return at once.

        Raises:
            StoreClosed: the store was closed.
            StoreFull, StoreFailed: an earlier commit failed; this handle only reads.
            StoreLost: another process took the store over.
            StoreMisuse: a key or stream name is empty or longer than `MAX_KEY_BYTES`.
        """
        ...

    async def commit(self, batch: Batch) -> tuple[int, ...]:
        """Wait for room in the queue, submit, wait for the ticket; return the sequence numbers of
        its appends, in order. Errors are the ticket's. Cancelled while it waits for room it submits
        nothing; later, the batch is committed or not, and nobody here is told."""
        ...

    @property
    def crowded(self) -> bool:
        """Whether the queue is at its bound; polite callers then await `room` before `submit`."""
        ...

    async def room(self) -> None:
        """Park until the queue is below its bound; returns at once if it is."""
        ...

    async def barrier(self) -> None:
        """Park until every batch submitted before this call has an outcome.

        Returning means that what no `Expect` rejected is durable: whoever goes on may tell others.

        Raises:
            StoreUnavailable: the store writes no more, and an earlier batch may not be there.
        """
        ...

    def get(self, key: bytes) -> bytes | None:
        """The value at `key`, or None if there is none.

        Raises:
            Damaged: something is there and fails its checksum.
        """
        ...

    def scan(
        self, prefix: bytes, *, after: bytes | None = None, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """Keys that start with `prefix` with their values, ascending, strictly after `after`."""
        ...

    def last(self, stream: bytes) -> int:
        """The highest committed sequence number of `stream`; 0 if it is empty."""
        ...

    def read(self, stream: bytes, *, after: int = 0, limit: int = 256) -> list[Entry]:
        """At most `limit` entries with sequence numbers above `after`, ascending.

        Raises:
            Damaged: an entry fails its checksum, its chain, or is missing inside the range.
        """
        ...

    def entry(self, stream: bytes, seq: int) -> Entry | None:
        """The entry with number `seq`; None if it is beyond the end. Raises `Damaged` as `read`."""
        ...

    def streams(self) -> list[bytes]:
        """The names of all non-empty streams, ascending.

        Raises:
            Damaged: a stream is there that nobody wrote, or one is gone; its name is wrong on disk.
        """
        ...

    async def wait_beyond(self, stream: bytes, seq: int) -> None:
        """Park until `last(stream)` exceeds `seq`. Costs nothing while nothing is appended.

        Raises:
            StoreClosed: the store was closed while waiting.
        """
        ...
