"""The durable engine: one LMDB environment, written by one process and read by many.

Owns: the transaction of a group of batches, the two ways to open a store. Must not: queue batches
or wake anybody (`stores.writer` does), understand a payload.

Theory. LMDB is a copy-on-write B+ tree in one file: a commit writes new pages, syncs them, and
only then switches a meta page, so a crash at any instant leaves the old tree or the new one.
`sync` and `metasync` are on and `writemap` is off: so no simulated power cut ever tore it.
Streams lie in one database and keys in another, in the form that `stores.codec` gives them.

A write transaction begins and ends within one call, on one thread. The map, the address space
reserved for the file, is enlarged on the Trio thread, where reads happen (`stores.reader`): no
transaction can be open then.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final, TypeAlias, final

import lmdb
import trio

from stores.base import Append, Batch, Committed, Delete, Expect, Put, Ticket
from stores.codec import (
    CHAIN_START,
    decode_row,
    encode_record,
    encode_row,
    record_crc,
    record_key,
    stream_prefix,
)
from stores.errors import (
    CommitUnknown,
    Conflict,
    Damaged,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreMisuse,
)
from stores.files import FULL, Files, open_owned, open_shared
from stores.reader import LmdbReader, last_seq, read_entries
from stores.writer import DEFAULT_QUEUE, MapFull, Outcome, Serving, Writer

#: Address space reserved at first, in bytes. It costs nothing until it is filled, while growing
#: it means committing one group twice.
DEFAULT_MAP_SIZE: Final = 16 << 30

#: Streams whose ends are remembered, before all are forgotten and looked up again.
_MAX_TAILS: Final = 1 << 16

#: Sequence number and checksum of the last record of a stream.
_Tail: TypeAlias = tuple[int, int]


@asynccontextmanager
async def open_lmdb(
    path: str | os.PathLike[str],
    *,
    map_size: int = DEFAULT_MAP_SIZE,
    queue: int = DEFAULT_QUEUE,
) -> AsyncIterator[LmdbStore]:
    """Open the store in the directory `path` as its one owner; create it if it is missing.

    `map_size` is the address space to reserve, in bytes; it grows by itself. `queue` is the
    number of waiting batches from which the store is `crowded`. Leaving the body, also by an
    exception or a cancellation, makes every submitted batch durable and closes the store; an
    exception of the body comes out as it is.

    Raises:
        StoreInUse: it has an owner already, in this process or another.
        StoreUnreadable: no permission, or what is there is not a store of ours.
        StoreFull: the disk has no room for a new store.
        StoreMisuse: `queue` is not positive.
    """
    files = await trio.to_thread.run_sync(open_owned, os.fspath(path), map_size)
    try:
        store = LmdbStore(files, queue)
    except StoreMisuse:
        files.close()
        raise
    try:
        async with Serving(store.writer):
            yield store
    finally:
        store.close()


@contextmanager
def read_lmdb(path: str | os.PathLike[str]) -> Iterator[LmdbReader]:
    """Open the store in the directory `path` to look into it, beside its owner in another process.

    Every read sees the latest commit. Blocks for the moment that opening takes.

    Raises:
        StoreInUse: this process has it open already; use that handle.
        StoreUnreadable: missing, no permission, or not a store of ours.
    """
    reader = LmdbReader(open_shared(os.fspath(path)))
    try:
        yield reader
    finally:
        reader.close()


@final
class LmdbStore(LmdbReader):
    """The owner's store: reads inline, writes through a `Writer`.

    Made by `open_lmdb`.
    """

    def __init__(self, files: Files, queue: int) -> None:
        super().__init__(files)
        self._transactions = _Transactions(files)
        self.writer = Writer(self._transactions, location=files.path, queue=queue)

    def submit(self, batch: Batch, committed: Committed | None = None) -> Ticket:
        """See `stores.base.Store.submit`."""
        return self.writer.submit(batch, committed)

    async def commit(self, batch: Batch) -> tuple[int, ...]:
        """See `stores.base.Store.commit`."""
        await self.writer.room()
        return await self.writer.submit(batch).wait()

    @property
    def crowded(self) -> bool:
        """See `stores.base.Store.crowded`."""
        return self.writer.crowded

    async def room(self) -> None:
        """See `stores.base.Store.room`."""
        await self.writer.room()

    async def barrier(self) -> None:
        """See `stores.base.Store.barrier`."""
        await self.writer.barrier()

    async def wait_beyond(self, stream: bytes, seq: int) -> None:
        """See `stores.base.Store.wait_beyond`."""
        await trio.lowlevel.checkpoint()
        while self.last(stream) <= seq:
            await self.writer.watch.wait(stream)


@final
class _Transactions:
    """The `Engine`: applies a group of batches in one transaction."""

    def __init__(self, files: Files) -> None:
        self._path = files.path
        self._env = files.env
        self._streams = files.streams
        self._keys = files.keys
        # Invariant: as committed; a group works on its own overlay until its commit succeeded.
        self._tails: dict[bytes, _Tail] = {}

    def commit(self, batches: Sequence[Batch]) -> tuple[list[Outcome], Collection[bytes]]:
        """See `stores.writer.Engine.commit`."""
        tails: dict[bytes, _Tail] = {}
        records: list[tuple[bytes, bytes]] = []
        try:
            with self._env.begin(write=True) as txn:
                outcomes = [self._apply(txn, batch, tails, records) for batch in batches]
                _, added = txn.cursor(self._streams).putmulti(records, overwrite=False)
                if added != len(records):
                    raise StoreFailed(
                        f"{self._path} has records that its owner did not write: another program"
                        " wrote to data.mdb; stop it, then open the store again",
                        path=self._path,
                    )
        except lmdb.MapFullError as error:
            raise MapFull(
                f"the map of {self._path} has no room: open the store with a larger one",
                path=self._path,
            ) from error
        except lmdb.Error as error:
            raise self._failure(error, batches) from error
        if len(self._tails) > _MAX_TAILS:
            self._tails.clear()
        self._tails.update(tails)
        return outcomes, tails

    def grow(self, batches: Sequence[Batch]) -> None:
        """See `stores.writer.Engine.grow`."""
        # Doubled, so that growing is rare; and enough for the group even if every value takes
        # twice its size in pages, once in the old tree and once in the new.
        size: int = self._env.info()["map_size"]
        try:
            self._env.set_mapsize(max(2 * size, size + 4 * _size(batches)))
        except lmdb.Error as error:
            raise StoreFailed(
                f"cannot enlarge the map of {self._path} beyond {size} bytes ({error}): raise the"
                " limit of the process's address space",
                path=self._path,
            ) from error

    def _apply(
        self,
        txn: lmdb.Transaction[bytes],
        batch: Batch,
        tails: dict[bytes, _Tail],
        records: list[tuple[bytes, bytes]],
    ) -> Outcome:
        """Apply `batch` whole, or nothing of it; appends are left in `records` and `tails`."""
        try:
            for operation in batch:
                if type(operation) is Append:
                    if operation.stream not in tails:
                        tails[operation.stream] = self._tail(txn, operation.stream)
                elif type(operation) is Expect:
                    self._check(txn, operation)
        except (Conflict, Damaged) as error:
            return error
        sequences: list[int] = []
        for operation in batch:
            if type(operation) is Append:
                stream = operation.stream
                seq, crc = tails[stream]
                seq += 1
                key = record_key(stream_prefix(stream), seq)
                raw, crc = encode_record(
                    key, crc, operation.kind, operation.version, operation.payload
                )
                records.append((key, raw))
                tails[stream] = (seq, crc)
                sequences.append(seq)
            elif type(operation) is Put:
                row = encode_row(operation.key, operation.value)
                txn.put(operation.key, row, db=self._keys)
            elif type(operation) is Delete:
                txn.delete(operation.key, db=self._keys)
        return tuple(sequences)

    def _check(self, txn: lmdb.Transaction[bytes], expect: Expect) -> None:
        raw = txn.get(expect.key, db=self._keys)
        found = None if raw is None else decode_row(expect.key, raw)
        if found != expect.value:
            raise Conflict(expect.key, expect.value, found)

    def _tail(self, txn: lmdb.Transaction[bytes], stream: bytes) -> _Tail:
        """The end of `stream`, verified when it is read from disk: a chain must start sound."""
        tail = self._tails.get(stream)
        if tail is None:
            prefix = stream_prefix(stream)
            cursor = txn.cursor(self._streams)
            seq = last_seq(cursor, prefix)
            tail = (0, CHAIN_START)
            if seq:
                read_entries(cursor, prefix, seq - 1, 1)
                key = record_key(prefix, seq)
                cursor.set_key(key)
                tail = (seq, record_crc(key, cursor.value()))
        return tail

    def _failure(self, error: lmdb.Error, batches: Sequence[Batch]) -> StoreError:
        """What `error`, which ended a commit, means to our callers."""
        # LMDB reports a write that the full disk cut short as an input/output error.
        if error.code in FULL or (
            error.code == errno.EIO and _free(self._path) < 2 * _size(batches) + (1 << 16)
        ):
            return StoreFull(
                f"no room on the disk of {self._path}: free some, then open the store again;"
                " nothing of the failed batches was kept",
                path=self._path,
            )
        try:
            self._env.begin(write=True).abort()
        except lmdb.PanicError:
            # The new meta page could not be written, and nobody knows how much of it was.
            return CommitUnknown(
                f"the last step of a commit to {self._path} failed ({error}): open the store again"
                " and read back whether it happened"
            )
        except lmdb.Error as second:
            error.add_note(f"and then: {second}")
        return StoreFailed(
            f"a commit to {self._path} failed ({error}): look at the disk, then open the store"
            " again; nothing of the failed batches was kept",
            path=self._path,
        )


def _free(path: str) -> int:
    """Bytes that this user may still write to the disk of `path`."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def _size(batches: Sequence[Batch]) -> int:
    """Roughly the bytes that `batches` carry."""
    size = 0
    for batch in batches:
        for operation in batch:
            if isinstance(operation, Append):
                size += 512 + len(operation.payload)
            elif isinstance(operation, Put):
                size += 512 + len(operation.value)
    return size
