"""Bugs below the domain: what is on disk, who may write it, and when somebody is told.

Owns: the patches. Must not: know a workload.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import trio

from mob.simulation import process as processes
from mob.simulation.disk import SimDisk
from mob.simulation.store import SimStore
from runtime.recovery import ROWS, Recovery
from runtime.session import Session
from runtime.store import StoredSessions
from stores import Batch, Conflict, Delete, Operation, Put
from stores.memory import MemoryStore
from stores.writer import CommitFailed, MapFull, Outcome, Writer
from tests.simulation.planted.table import planted


@planted("no_stale_write_lands", within=300)
def no_generation_fence() -> Iterator[None]:
    """A process that was replaced writes on. Breaks CONTRACTS 6.4, 6.9: a stale handle writes
    nothing. (The fence of the simulated disk stands for LMDB's.)"""

    def check(self: SimDisk, generation: int) -> None:
        """Everybody may write."""

    with patch.object(SimDisk, "check", check):
        yield


@planted("recovery_follows_the_fence", within=2000)
def recovery_before_the_fence() -> Iterator[None]:
    """The journal is read and then the other process is fenced off: what that one wrote in between
    nobody knows. Breaks CONTRACTS 6.9, 6.12: recovery comes after the fence."""
    fenced = processes.open_sim
    load = Recovery.load
    seen: dict[int, MemoryStore] = {}

    @asynccontextmanager
    async def open_late(disk: SimDisk, *args: Any, **options: Any) -> AsyncIterator[SimStore]:
        before = copy.copy(disk.memory)
        before.entries = {name: list(rows) for name, rows in disk.memory.entries.items()}
        before.values, before.order = dict(disk.memory.values), list(disk.memory.order)
        async with fenced(disk, *args, **options) as store:
            seen[id(store)] = MemoryStore(before)
            yield store

    def load_early(self: Recovery) -> int:
        store: Any = self._store
        if id(store) not in seen:
            return load(self)
        disk = store._disk
        store._disk = copy.copy(disk)
        store._disk.platter = seen[id(store)]
        try:
            return load(self)
        finally:
            store._disk = disk

    with patch.object(processes, "open_sim", open_late), patch.object(Recovery, "load", load_early):
        yield


@planted(
    "messages_are_whole_turns",
    "usage_adds_up",
    "ids_never_repeat",
    "an_input_has_one_fate",
    "turns_form_a_chain",
    "progress_stays",
    "the_fold_is_recovered_whole",
    within=300,
)
def repeats_without_looking() -> Iterator[None]:
    """A commit that failed is made again without a look at what is on the disk. Breaks CONTRACTS
    6.9: what is told of a commit is what became of it."""

    async def made_durable(
        self: Writer, batches: Sequence[Batch]
    ) -> tuple[list[Outcome], Collection[bytes]]:
        try:
            return await self._offload(self._engine.commit, batches)
        except MapFull:
            self._engine.grow(batches)
        except CommitFailed:
            self._engine.reopen(batches)
        return await self._offload(self._engine.commit, batches)

    with patch.object(Writer, "_made_durable", made_durable):
        yield


@planted("the_fold_is_recovered_whole", "nothing_needed_is_erased", within=500)
def rows_in_two_transactions() -> Iterator[None]:
    """The position behind which a journal is replayed is on disk before the rows are that stand
    for what is in front of it. Breaks CONTRACTS 6.9: rows and tail make the whole state."""

    async def write(self: Recovery, most: int = ROWS) -> bool:
        async with self._lock:
            if self._ticket is not None:
                await self._ticket.wait()
            operations = self.step(most)
            if not operations:
                return False
            last = operations[-1]
            assert isinstance(last, Put)
            for part in (operations[-1:], operations[:-1]):
                self._ticket = self._store.submit(part)
                await self._ticket.wait()
            self.position = self._state.applied
            return True

    with patch.object(Recovery, "write", write):
        yield


@planted("snapshots_equal_the_fold", "snapshots_never_go_back", within=500)
def snapshot_in_two_transactions() -> Iterator[None]:
    """A snapshot's row is written first and its messages in a transaction of their own. Breaks
    CONTRACTS 2.1, 5.2: a stored session is one that there was."""

    async def save(self: StoredSessions, session: Session) -> None:
        while True:
            operations = self._operations(session)
            behind: list[Operation] = [
                each
                for each in operations
                if isinstance(each, Put | Delete) and each.key.startswith(self._parts)
            ]
            try:
                await self._store.commit([each for each in operations if each not in behind])
                await self._store.commit(behind)
            except Conflict:
                continue
            return

    with patch.object(StoredSessions, "save", save):
        yield


@planted("the_fold_agrees_with_the_ledger", "acknowledged_means_durable", within=1000)
def barrier_that_does_not_wait() -> Iterator[None]:
    """Whoever asks that all before it be on disk is told so at once. Breaks CONTRACTS 6.8: a
    restarted member begins from what is on disk."""

    async def barrier(self: Writer) -> None:
        await trio.lowlevel.checkpoint()

    with patch.object(Writer, "barrier", barrier):
        yield


@planted(
    "acknowledged_means_durable",
    "what_senders_were_told_is_on_disk",
    within=1000,
    mended="Let a barrier fail with the store: a member killed while the store failed told its"
    " asker that an input was abandoned of which nothing was on disk",
)
def barrier_that_hides_a_failure() -> Iterator[None]:
    """A barrier returns as if all were on disk when the store has failed. Breaks CONTRACTS 1.2,
    5.6: what somebody was told is on disk."""

    async def barrier(self: Writer) -> None:
        if self._gathering.batches:
            await self._gathering.finished.wait()
        elif self._committing is not None:
            await self._committing.finished.wait()
        else:
            await trio.lowlevel.checkpoint()

    with patch.object(Writer, "barrier", barrier):
        yield
