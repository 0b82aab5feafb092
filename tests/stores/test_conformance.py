"""The suite holds for both engines, and fails for stores that break one rule each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from stores import (
    Append,
    Batch,
    Committed,
    Entry,
    Erase,
    Expect,
    MemoryDisk,
    MemoryStore,
    Store,
    StoreClosed,
    StoreLost,
    StoreMisuse,
    Ticket,
    open_lmdb,
    open_memory,
)
from stores.conformance import StoreConformance


class MemoryConformance(StoreConformance):
    def open(self) -> AbstractAsyncContextManager[Store]:
        return open_memory()


class MemoryDiskConformance(StoreConformance):
    reopens = True

    def __init__(self) -> None:
        super().__init__()
        self._disk = MemoryDisk()

    def open(self) -> AbstractAsyncContextManager[Store]:
        return open_memory(self._disk)

    def take_over(self) -> AbstractAsyncContextManager[Store]:
        return open_memory(self._disk)


class LmdbConformance(StoreConformance):
    def open(self) -> AbstractAsyncContextManager[Store]:
        return open_lmdb(self.directory)

    def take_over(self) -> AbstractAsyncContextManager[Store]:
        return open_lmdb(self.directory, take_over=True)


class SmallLmdbConformance(StoreConformance):
    def open(self) -> AbstractAsyncContextManager[Store]:
        return open_lmdb(self.directory, map_size=1, queue=1)


TestMemory = MemoryConformance.TestCase
TestMemoryDisk = MemoryDiskConformance.TestCase
TestLmdb = LmdbConformance.TestCase
TestSmallLmdb = SmallLmdbConformance.TestCase
TestLmdb.settings = settings(max_examples=40)
TestSmallLmdb.settings = settings(max_examples=30)


class _BlindToAbsence(MemoryStore):
    """An `Expect` of an absent key always holds."""

    def _apply(self, batch: Batch) -> Any:
        return super()._apply(
            [op for op in batch if not (isinstance(op, Expect) and op.value is None)]
        )


class _HalfApplied(MemoryStore):
    """What stands before an `Expect` that fails is kept."""

    def _apply(self, batch: Batch) -> Any:
        for index, op in enumerate(batch):
            if isinstance(op, Expect) and self._values.get(op.key) != op.value:
                super()._apply(batch[:index])
        return super()._apply(batch)


class _NumbersFromZero(MemoryStore):
    """Sequence numbers begin one too low."""

    def _apply(self, batch: Batch) -> Any:
        outcome = super()._apply(batch)
        return tuple(seq - 1 for seq in outcome) if isinstance(outcome, tuple) else outcome


class _DropsEmptyPayloads(MemoryStore):
    """Empty payloads are taken for nothing."""

    def _apply(self, batch: Batch) -> Any:
        outcome = super()._apply(batch)
        for entries in self._entries.values():
            entries[:] = [entry for entry in entries if entry.payload]
        return outcome


class _ForgetsVersions(MemoryStore):
    """The version of a record does not come back."""

    def read(self, stream: bytes, *, after: int = 0, limit: int = 256) -> list[Entry]:
        entries = super().read(stream, after=after, limit=limit)
        return [Entry(entry.seq, entry.kind, 1, entry.payload) for entry in entries]


class _SilentCallbacks(MemoryStore):
    """`committed` is taken and not called."""

    def submit(self, batch: Batch, committed: Committed | None = None) -> Ticket:
        return super().submit(batch)


class _EagerCallbacks(MemoryStore):
    """`committed` is called for rejected batches too."""

    def submit(self, batch: Batch, committed: Committed | None = None) -> Ticket:
        ticket = super().submit(batch)
        if committed is not None:
            outcome: Any = ticket._outcome  # type: ignore[attr-defined]
            committed(outcome if isinstance(outcome, tuple) else ())
        return ticket


class _InclusiveScan(MemoryStore):
    """`after` is part of the answer."""

    def scan(
        self, prefix: bytes, *, after: bytes | None = None, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        rows = [row for row in super().scan(prefix) if after is None or row[0] >= after]
        return rows[:limit]


class _MixesStreams(MemoryStore):
    """A stream whose name is the beginning of another's shows that one's entries as well."""

    def read(self, stream: bytes, *, after: int = 0, limit: int = 256) -> list[Entry]:
        names = [name for name in self.streams() if name.startswith(stream)]
        entries = [entry for name in names for entry in self._entries[name]]
        return entries[after : after + limit]


class _UnsortedStreams(MemoryStore):
    """Streams are listed by length, as they may lie on disk."""

    def streams(self) -> list[bytes]:
        return sorted(super().streams(), key=lambda name: (len(name), name))


class _Permissive(MemoryStore):
    """Any name will do."""

    def submit(self, batch: Batch, committed: Committed | None = None) -> Ticket:
        try:
            return super().submit(batch, committed)
        except StoreClosed:
            raise
        except StoreMisuse:
            return super().submit([], committed)


class _Impatient(MemoryStore):
    """`wait_beyond` does not wait."""

    async def wait_beyond(self, stream: bytes, seq: int) -> None:
        await self.barrier()


class _NeverTells(MemoryStore):
    """`wait_beyond` is not told of growth."""

    def _apply(self, batch: Batch) -> Any:
        events, self._watch._events = self._watch._events, {}
        try:
            return super()._apply(batch)
        finally:
            self._watch._events = events


class _NeverCloses(MemoryStore):
    """Batches are taken after the end."""

    def close(self) -> None:
        """Do nothing."""


class _Liar(MemoryStore):
    """Says that it is durable, and begins anew each time."""

    @property
    def durable(self) -> bool:
        return True


class _LosesTheLast(MemoryStore):
    """Acknowledges an append to a long stream, and loses it."""

    def _apply(self, batch: Batch) -> Any:
        outcome = super()._apply(batch)
        for op in batch:
            if isinstance(op, Append) and len(self._entries.get(op.stream, ())) > 3:
                self._entries[op.stream].pop()
        return outcome


class _ErasesTheNumber(MemoryStore):
    """An erased record is taken out, and those behind it move up."""

    def _erase(self, operation: Erase) -> None:
        entries = self._entries.get(operation.stream, [])
        del entries[operation.seq - 1 : operation.seq]


class _ErasesNothing(MemoryStore):
    """What was erased can still be read."""

    def _erase(self, operation: Erase) -> None:
        """Do nothing."""


class _ErasesBeforeItChecks(MemoryStore):
    """A batch that is rejected has erased all the same."""

    def _apply(self, batch: Batch) -> Any:
        for op in batch:
            if isinstance(op, Erase):
                self._erase(op)
        return super()._apply(batch)


class _KeepsTheKind(MemoryStore):
    """An erased record is only emptied."""

    def _erase(self, operation: Erase) -> None:
        entries = self._entries.get(operation.stream, [])
        if operation.seq <= len(entries):
            old = entries[operation.seq - 1]
            entries[operation.seq - 1] = Entry(old.seq, old.kind, old.version, b"")


_BROKEN = [
    _BlindToAbsence,
    _DropsEmptyPayloads,
    _EagerCallbacks,
    _ErasesBeforeItChecks,
    _ErasesNothing,
    _ErasesTheNumber,
    _ForgetsVersions,
    _HalfApplied,
    _Impatient,
    _KeepsTheKind,
    _InclusiveScan,
    _Liar,
    _LosesTheLast,
    _MixesStreams,
    _NeverCloses,
    _NeverTells,
    _NumbersFromZero,
    _Permissive,
    _SilentCallbacks,
    _UnsortedStreams,
]


@pytest.mark.parametrize("broken", _BROKEN, ids=lambda broken: broken.__name__.strip("_"))
def test_the_suite_catches_a_store_that_breaks_a_rule(broken: type[MemoryStore]) -> None:
    class Machine(StoreConformance):
        patience_s = 2  # a busy machine pauses for longer than a hang need be

        @asynccontextmanager
        async def _opened(self) -> AsyncIterator[Store]:
            store = broken()
            try:
                yield store
            finally:
                store.close()

        def open(self) -> AbstractAsyncContextManager[Store]:
            return self._opened()

    fails(Machine)


def fails(machine: type[StoreConformance]) -> None:
    """The suite finds something within a few thousand examples."""
    with pytest.raises((AssertionError, ExceptionGroup, trio.TooSlowError)) as caught:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=3_000,
                stateful_step_count=20,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    assert _is_a_finding(caught.value), caught.value


class _Unfenced(MemoryStore):
    """A handle goes on writing after another took the disk over."""

    def _check_open(self) -> None:
        if self._closed:
            raise StoreClosed("closed")


class _LateWriter(MemoryStore):
    """A handle that lost the disk says so, and writes all the same."""

    def submit(self, batch: Batch, committed: Committed | None = None) -> Ticket:
        try:
            return super().submit(batch, committed)
        except StoreLost:
            self._apply(batch)
            raise


class _StaleReader(MemoryStore):
    """A handle that lost the disk goes on reading."""

    def get(self, key: bytes) -> bytes | None:
        try:
            return super().get(key)
        except StoreLost:
            return self._values.get(key)


class _ForgetsItsGeneration(MemoryStore):
    """Every handle is of the first generation."""

    @property
    def generation(self) -> int:
        return 1


class _CountsDown(MemoryStore):
    """The generation falls while a store is open."""

    @property
    def generation(self) -> int:
        self._generation_told = getattr(self, "_generation_told", 100 * self._generation) - 1
        return self._generation_told


class _LosesOnReopening(MemoryStore):
    """What the last handle wrote last is gone when the next one opens."""

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        super().__init__(disk)
        for entries in self._entries.values():
            del entries[3:]


class _LosesOnTakeover(MemoryStore):
    """A takeover begins with an empty disk."""

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        assert disk is not None
        if disk.generation and not getattr(disk, "closed", False):
            disk.values.clear()
            disk.order.clear()
        disk.closed = False  # type: ignore[attr-defined]
        super().__init__(disk)

    def close(self) -> None:
        super().close()
        self._disk.closed = True  # type: ignore[attr-defined]


_BROKEN_OWNERS = [
    _CountsDown,
    _ForgetsItsGeneration,
    _LateWriter,
    _LosesOnReopening,
    _LosesOnTakeover,
    _StaleReader,
    _Unfenced,
]


@pytest.mark.parametrize("broken", _BROKEN_OWNERS, ids=lambda broken: broken.__name__.strip("_"))
def test_the_suite_catches_a_store_that_breaks_a_rule_of_owners(broken: type[MemoryStore]) -> None:
    class Machine(StoreConformance):
        reopens = True
        patience_s = 2  # a busy machine pauses for longer than a hang need be

        def __init__(self) -> None:
            super().__init__()
            self._disk = MemoryDisk()

        @asynccontextmanager
        async def _opened(self) -> AsyncIterator[Store]:
            store = broken(self._disk)
            try:
                yield store
            finally:
                store.close()

        def open(self) -> AbstractAsyncContextManager[Store]:
            return self._opened()

        def take_over(self) -> AbstractAsyncContextManager[Store]:
            return self._opened()

    fails(Machine)


def _is_a_finding(error: BaseException) -> bool:
    """An assertion of the suite, or a wait that never ended."""
    if isinstance(error, BaseExceptionGroup):
        return all(_is_a_finding(inner) for inner in error.exceptions)
    return isinstance(error, AssertionError | trio.TooSlowError)
