"""The durable engine: one LMDB environment, written by one process and read by many.

Owns: the two ways to open a store, the owner's handle. Must not: queue batches or wake anybody
(`stores.writer` does), write (`stores.transactions` does), understand a payload.

Theory. LMDB is a copy-on-write B+ tree in one file: a commit writes new pages, syncs them, and
only then switches a meta page, so a crash at any instant leaves the old tree or the new one.
`sync` and `metasync` are on and `writemap` is off: so no simulated power cut ever tore it.
Streams lie in one database and keys in another, in the form that `stores.codec` gives them.

The map, the address space
reserved for the file, is enlarged on the Trio thread, where reads happen (`stores.reader`): no
transaction can be open then.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final, final

import trio

from stores.base import Batch, Committed, Ticket
from stores.errors import StoreMisuse
from stores.files import Files, open_owned, open_shared
from stores.reader import LmdbReader
from stores.transactions import Transactions
from stores.writer import DEFAULT_QUEUE, Incident, Serving, Writer

#: Address space reserved at first, in bytes. It costs nothing until it is filled, while growing
#: it means committing one group twice.
DEFAULT_MAP_SIZE: Final = 16 << 30


@asynccontextmanager
async def open_lmdb(
    path: str | os.PathLike[str],
    *,
    map_size: int = DEFAULT_MAP_SIZE,
    queue: int = DEFAULT_QUEUE,
    take_over: bool = False,
    verify: bool | None = None,
) -> AsyncIterator[LmdbStore]:
    """Open the store in the directory `path` as its one owner; create it if it is missing.

    `map_size` is the address space to reserve, in bytes; it grows by itself. `queue` is the
    number of waiting batches from which the store is `crowded`. Leaving the body, also by an
    exception or a cancellation, makes every submitted batch durable and closes the store; an
    exception of the body comes out as it is.

    Opening writes a new, durable `generation` before anything else is done with the store.

    `take_over` takes the store from an owner that is stopped or hangs, without waiting for it.
    **Dangerous** for an owner that is well: it is fenced off. Whatever it has not committed by now
    is refused (`StoreLost`), at the latest when it next commits; its waiters are told; it reads
    nothing more from then on. The file is copied, so there must be room for a second one; readers
    in other processes go over to it. Without an owner that lives it changes nothing. Killing the
    old owner and opening normally does the same, and costs no copy.

    `verify` says whether every byte is looked at first: None does so unless the last owner closed
    the store in order. A broken structure is refused, since LMDB would end the process over it; a
    damaged record or row is not: it raises `Damaged` when it is read, and all others are readable.

    Raises:
        StoreInUse: it has an owner already, in this process or another.
        StoreDamaged: its pages are broken, or it has gone back in time: `mob doctor`.
        StoreUnreadable: no permission, or what is there is not a store of ours.
        StoreFull: the disk has no room for a new store, or for opening this one.
        StoreMisuse: `queue` is not positive.
    """
    files = await trio.to_thread.run_sync(open_owned, os.fspath(path), map_size, take_over, verify)
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

    Every read sees the latest commit. Blocks for the moment that opening takes, and while every
    byte is looked at, if the store has no owner now and its last one did not close it in order.

    Raises:
        StoreInUse: this process has it open already; use that handle.
        StoreDamaged: its pages are broken.
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
        self._transactions = Transactions(files)
        self.writer = Writer(self._transactions, location=files.path, queue=queue)

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """Commits that failed and what became of them, oldest first; empty on a good disk."""
        return tuple(self.writer.incidents)

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
