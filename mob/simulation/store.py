"""The store of a simulated process: the production writer over a disk that fails on request.

Owns: the engine behind `stores.writer.Writer`, what a commit costs in virtual time, which fault
strikes at a commit or a read, and that a dead process writes nothing. Must not: queue a batch, run
a callback or wake a waiter (the production `Writer` does, and is what is tested here).

The life of a commit. The writer hands a group to `SimEngine`, which waits for half of what a disk
takes, applies the group in one transaction, waits for the other half, and returns. Between the two
halves the group is on disk and nobody knows it: that is where a crash hurts most. A process that is
paused waits in the first half, and finds, when it goes on, whether somebody took its disk over.

A death is one instant. `Life.end` is called, and from then on the engine refuses (`StoreLost`), so
that the writer settles every ticket with that and runs no callback; reads refuse too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Final, NoReturn, TypeVar, final

import attrs
import trio

from mob.records import MOB_RECORDS
from mob.simulation.disk import LOCATION, SimDisk
from mob.simulation.faults import Faults
from mob.simulation.kinds import FaultKind
from mob.simulation.streams import Streams
from mob.simulation.trace import Incarnation
from runtime.records import RUNTIME_RECORDS
from stores import (
    Append,
    Batch,
    Committed,
    CommitUnknown,
    Entry,
    StoreClosed,
    StoreFailed,
    StoreFull,
    StoreLost,
    StoreUnavailable,
    Ticket,
)
from stores.writer import DEFAULT_QUEUE, CommitFailed, Incident, MapFull, Outcome, Serving, Writer

_T = TypeVar("_T")

#: Virtual seconds that a commit takes: least, and how much more at most.
_COMMIT_S: Final = (0.001, 0.008)

#: Virtual seconds that opening takes at most, before the others are fenced off.
OPENS_S: Final = 0.02

#: What a slow commit takes. Longer than a drain or a grace period, shorter than patience.
_SLOW_S: Final = (0.5, 30.0)

#: What the records of a mob are called, by kind.
_NAMES: Final = {each.kind: each.cls.__name__ for each in (*RUNTIME_RECORDS, *MOB_RECORDS)}

_ApplyResult = tuple[list[Outcome], Collection[bytes]]


@final
@attrs.define(eq=False)
class Life:
    """Whether a process lives and whether it moves. Shared by the process and its store."""

    who: Incarnation
    #: Ends the process, with the reason; asked by the engine when a fault says so.
    crash: Callable[[str], None]
    over: trio.Event = attrs.field(factory=trio.Event)
    #: Called once, in order, in the instant it dies.
    ending: list[Callable[[], None]] = attrs.field(factory=list)
    #: Set while the process may go on.
    moving: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.moving.set()

    def end(self) -> None:
        """From this instant on it writes nothing, reads nothing and says nothing."""
        if not self.over.is_set():
            self.who.alive = False
            self.over.set()
            self.moving.set()
            for each in self.ending:
                each()

    def check(self) -> None:
        """Raise `StoreLost` if it is over."""
        if self.over.is_set():
            raise StoreLost(
                f"process {self.who.number} of the simulation is dead: nothing was written",
                path=LOCATION,
            )


@final
class SimEngine:
    """The `stores.writer.Engine` of a `SimStore`, and its `Offload`."""

    def __init__(self, disk: SimDisk, faults: Faults, streams: Streams, life: Life) -> None:
        self.generation = 0
        self._disk = disk
        self._faults = faults
        self._streams = streams
        self._life = life
        # What the commit that failed last left on the disk; None: nothing.
        self._failed: _ApplyResult | None = None
        self._broken: StoreUnavailable | None = None
        self._spacious = False

    async def offload(self, work: Callable[[Sequence[Batch]], _T], batches: Sequence[Batch]) -> _T:
        """Do `work` in the middle of the time that a disk takes; see `stores.writer.Offload`."""
        self._disk.attempts += 1
        number = self._disk.attempts
        least, more = _COMMIT_S
        if self._fires(FaultKind.STORE_SLOW):
            least, more = _SLOW_S
        takes = least + more * self._streams.unit("disk", "takes", number)
        before = takes * self._streams.unit("disk", "before", number)
        await self._pass(before)
        result = work(batches)
        await self._pass(takes - before)
        return result

    def commit(self, batches: Sequence[Batch]) -> _ApplyResult:
        """See `stores.writer.Engine.commit`."""
        self._failed = None
        if self._dies("commit.before", FaultKind.CRASH_BEFORE_COMMIT, batches):
            self._die("commit.before")
        if self._dies("commit.in", FaultKind.CRASH_IN_COMMIT, batches):
            if self._amount(FaultKind.CRASH_IN_COMMIT) < 0.5:
                self._apply(batches)
            self._die("commit.in")
        if not self._spacious and self._fires(FaultKind.STORE_MAP_FULL):
            raise MapFull("the simulated map is full", path=LOCATION)
        self._spacious = False
        self._fail()
        result = self._apply(batches)
        if self._fires(FaultKind.STORE_FALSE_ALARM):
            self._failed = result
            raise _failure("the last step of a commit failed, simulated", StoreFailed)
        if self._fires(FaultKind.STORE_UNKNOWN_APPLIED):
            raise CommitUnknown("nobody knows what became of a simulated commit")
        if self._dies("commit.after", FaultKind.CRASH_AFTER_COMMIT, batches):
            self._die("commit.after")
        return result

    def grow(self, batches: Sequence[Batch]) -> None:
        """See `stores.writer.Engine.grow`."""
        self._spacious = True

    def reopen(self, batches: Sequence[Batch]) -> None:
        """See `stores.writer.Engine.reopen`."""

    def recover(self, batches: Sequence[Batch]) -> tuple[bool, list[Outcome], Collection[bytes]]:
        """See `stores.writer.Engine.recover`."""
        if self._dies("commit.before", FaultKind.CRASH_BEFORE_COMMIT, batches):
            self._die("commit.before")
        if self._broken is not None:
            raise CommitFailed(str(self._broken), told=self._broken, reason=self._broken)
        self._disk.check(self.generation)
        failed, self._failed = self._failed, None
        if failed is not None:
            self._disk.generation += 1
            self.generation = self._disk.generation
            return True, *failed
        result = self._apply(batches, fresh=True)
        return False, *result

    def check(self) -> None:
        """Raise `StoreLost` if the process is dead or the disk is somebody else's."""
        self._life.check()
        self._disk.check(self.generation)

    def _apply(self, batches: Sequence[Batch], *, fresh: bool = False) -> _ApplyResult:
        self._disk.check(self.generation)
        if fresh:
            self._disk.generation += 1
            self.generation = self._disk.generation
        return self._disk.apply(
            self._life.who.number, self.generation, batches, trio.current_time()
        )

    def _fail(self) -> None:
        """Raise what a fault that keeps the group off the disk looks like, if one strikes."""
        self._disk.check(self.generation)
        if self._fires(FaultKind.STORE_ERROR):
            raise _failure("a commit failed, simulated", StoreFailed)
        if self._fires(FaultKind.STORE_BROKEN):
            failed = _failure("a commit failed and the disk is gone, simulated", StoreFailed)
            self._broken = failed.reason
            raise failed
        if self._fires(FaultKind.STORE_NO_SPACE):
            failed = _failure("the simulated disk is full", StoreFull)
            self._broken = failed.reason
            raise failed
        if self._fires(FaultKind.STORE_UNKNOWN_LOST):
            raise CommitUnknown("nobody knows what became of a simulated commit")

    def _dies(self, point: str, kind: FaultKind, batches: Sequence[Batch]) -> bool:
        """Whether the process dies here, by direction or by chance."""
        parts = records_in(batches) if self._faults.directed else ()
        return self._faults.crashes_at(point, parts) or self._fires(kind)

    def _die(self, point: str) -> NoReturn:
        self._life.crash(point)
        self._life.check()
        raise AssertionError("whoever crashes a process ends its life")

    def _fires(self, kind: FaultKind) -> bool:
        return self._faults.active and self._faults.fires(kind, "commit", self._disk.attempts)

    def _amount(self, kind: FaultKind) -> float:
        return self._faults.amount(kind, "commit", self._disk.attempts)

    async def _pass(self, seconds: float) -> None:
        """Let virtual time pass; raise as soon as the process is dead, park while it is paused."""
        life = self._life
        with trio.move_on_after(seconds):
            await life.over.wait()
        while not life.moving.is_set():
            await life.moving.wait()
        life.check()


@final
class SimStore:
    """A `stores.Store` over a `SimDisk`. Get one from `open_sim`."""

    durable: Final = True
    location: Final = LOCATION

    def __init__(
        self, disk: SimDisk, faults: Faults, life: Life, engine: SimEngine, queue: int
    ) -> None:
        self._disk = disk
        self._faults = faults
        self._life = life
        self._engine = engine
        self._closed = False
        self.writer = Writer(engine, location=LOCATION, queue=queue, offload=engine.offload)

    @property
    def generation(self) -> int:
        """See `stores.base.Store.generation`."""
        return self._engine.generation

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """Commits that failed and what became of them, oldest first."""
        return tuple(self.writer.incidents)

    def submit(self, batch: Batch, committed: Committed | None = None) -> Ticket:
        """See `stores.base.Store.submit`."""
        self._life.check()
        return self.writer.submit(batch, committed)

    async def commit(self, batch: Batch) -> tuple[int, ...]:
        """See `stores.base.Store.commit`."""
        await self.writer.room()
        return await self.submit(batch).wait()

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

    def get(self, key: bytes) -> bytes | None:
        """See `stores.base.Store.get`."""
        self._check()
        return self._disk.platter.get(key)

    def scan(
        self, prefix: bytes, *, after: bytes | None = None, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """See `stores.base.Store.scan`."""
        self._check()
        return self._disk.platter.scan(prefix, after=after, limit=limit)

    def last(self, stream: bytes) -> int:
        """See `stores.base.Store.last`."""
        self._check()
        return self._disk.platter.last(stream)

    def read(self, stream: bytes, *, after: int = 0, limit: int = 256) -> list[Entry]:
        """See `stores.base.Store.read`."""
        self._check()
        return self._disk.platter.read(stream, after=after, limit=limit)

    def entry(self, stream: bytes, seq: int) -> Entry | None:
        """See `stores.base.Store.entry`."""
        self._check()
        return self._disk.platter.entry(stream, seq)

    def streams(self) -> list[bytes]:
        """See `stores.base.Store.streams`."""
        self._check()
        return self._disk.platter.streams()

    async def wait_beyond(self, stream: bytes, seq: int) -> None:
        """See `stores.base.Store.wait_beyond`."""
        await trio.lowlevel.checkpoint()
        while self.last(stream) <= seq:
            await self.writer.watch.wait(stream)

    def close(self) -> None:
        """Refuse reads from now on. Idempotent."""
        self._closed = True

    def _check(self) -> None:
        """Refuse to read for the dead, the fenced and the closed; fail if a fault says so."""
        if self._closed:
            raise StoreClosed("the simulated store was closed: open it again")
        self._engine.check()
        disk = self._disk
        disk.reads += 1
        if self._faults.active and self._faults.fires(
            FaultKind.STORE_READ_ERROR, "read", disk.reads
        ):
            raise StoreFailed("a read of the simulated disk failed", path=LOCATION)


@asynccontextmanager
async def open_sim(
    disk: SimDisk,
    faults: Faults,
    streams: Streams,
    life: Life,
    *,
    take_over: bool = False,
    queue: int = DEFAULT_QUEUE,
) -> AsyncIterator[SimStore]:
    """The store on `disk` for the process of `life`; as `stores.open_lmdb` otherwise.

    Raises:
        StoreInUse: a process that lives owns the disk.
    """
    engine = SimEngine(disk, faults, streams, life)
    number = life.who.number
    await trio.sleep(OPENS_S * streams.unit("disk", "opens", number))
    engine.generation = disk.open(number, take_over=take_over)
    try:
        store = SimStore(disk, faults, life, engine, queue)
        # A writer that is parked must notice the death too, and settle what it has.
        life.ending.append(store.writer.close)
        try:
            async with Serving(store.writer):
                yield store
        finally:
            store.close()
    finally:
        disk.release(number)


def records_in(batches: Sequence[Batch]) -> list[str]:
    """The names of the types of the records in `batches`, each once."""
    appends = (each for batch in batches for each in batch if isinstance(each, Append))
    return list(dict.fromkeys(_NAMES.get(each.kind, str(each.kind)) for each in appends))


def _failure(message: str, kind: type[StoreFailed] | type[StoreFull]) -> CommitFailed:
    reason = kind(message, path=LOCATION)
    return CommitFailed(message, told=reason, reason=reason)
