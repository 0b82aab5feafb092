"""What floors and works of the benchmarks have in common: a load, and group commit by itself.

The floor of a durable benchmark is the least that Trio and LMDB can do for it: one record each, all
that has gathered in one commit, one wait.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import lmdb
import trio

#: What is sent, asked and echoed: 200 bytes.
MESSAGE = ("the quick brown fox jumps over the lazy dog " * 5)[:200]


async def every(count: int, work: Callable[[int], Awaitable[None]]) -> None:
    """Do `work` for each number below `count` at the same time."""
    async with trio.open_nursery() as nursery:
        for index in range(count):
            nursery.start_soon(work, index)


class GroupCommit:
    """One LMDB record for each `put`, which returns when it is on disk; all that gathers while a
    commit is under way goes into the next one."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self._environment = environment
        self._queue: list[tuple[bytes, bytes]] = []
        self._filled, self._synced = trio.Event(), trio.Event()

    def submit(self, key: bytes, value: bytes) -> trio.Event:
        """Write a record; what is returned is set when it is on disk."""
        self._queue.append((key, value))
        self._filled.set()
        return self._synced

    async def put(self, key: bytes, value: bytes) -> None:
        """Write a record and wait for the disk."""
        await self.submit(key, value).wait()

    async def run(self) -> None:
        """Commit what gathers, until cancelled."""
        while True:
            await self._filled.wait()
            self._filled, done, self._synced = trio.Event(), self._synced, trio.Event()
            batch, self._queue = self._queue, []
            await trio.to_thread.run_sync(self._commit, batch)
            done.set()

    def _commit(self, batch: list[tuple[bytes, bytes]]) -> None:
        with self._environment.begin(write=True) as transaction:
            for key, value in batch:
                transaction.put(key, value)


@asynccontextmanager
async def group_commit(folder: str) -> AsyncIterator[GroupCommit]:
    """A store in `folder` with its one writer."""
    environment = lmdb.open(folder, map_size=4 << 30)
    try:
        async with trio.open_nursery() as nursery:
            disk = GroupCommit(environment)
            nursery.start_soon(disk.run)
            yield disk
            nursery.cancel_scope.cancel()
    finally:
        environment.close()
