"""A mob on a disk in memory, watched by an oracle, for tests that need no simulated world.

Owns: turning what a store commits into `Commit`s, opening mobs on it one after the other. Must not:
fail or delay anything (the simulated store does).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from mob import open_mob
from mob.definition import MobDefinition
from mob.mob import Mob
from mob.simulation.disk import Commit
from mob.simulation.oracle import Oracle
from runtime.models.base import Model
from stores import Batch, Committed, MemoryStore, Ticket
from stores.memory import MemoryDisk


class WatchedStore:
    """A `MemoryStore` that tells the oracle of every batch before anybody else hears of it."""

    def __init__(self, disk: MemoryDisk, oracle: Oracle, process: int) -> None:
        self._store = MemoryStore(disk)
        self._oracle = oracle
        self._process = process
        oracle.opened(process, self._store.generation, trio.current_time())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def submit(self, batch: Batch, committed: Committed | None = None) -> Ticket:
        operations = tuple(batch)

        def told(sequences: tuple[int, ...]) -> None:
            number = self._oracle.commits + 1
            self._oracle.committed(
                Commit(
                    number,
                    number,
                    trio.current_time(),
                    self._process,
                    self._store.generation,
                    operations,
                    sequences,
                )
            )
            if committed is not None:
                committed(sequences)

        return self._store.submit(operations, told)

    async def commit(self, batch: Batch) -> tuple[int, ...]:
        return await self.submit(batch).wait()


class Watched:
    """One disk, one oracle, any number of processes on it, one after the other."""

    def __init__(self, oracle: Oracle | None = None) -> None:
        self.oracle = oracle or Oracle()
        self.disk = MemoryDisk()
        self.process = 0

    @asynccontextmanager
    async def open(
        self, definition: MobDefinition, models: Mapping[str, Model], **more: Any
    ) -> AsyncIterator[Mob]:
        self.process += 1
        process = self.process
        store: Any = WatchedStore(self.disk, self.oracle, process)
        async with open_mob(definition, store=store, models=models, **more) as mob:
            self.oracle.recovered(process, mob)
            yield mob
        self.oracle.closed(process)
        store.close()
        self.oracle.check()
