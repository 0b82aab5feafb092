"""A mob that is played call by call on a virtual clock, over either engine, and whose process dies.

Owns: `World`: Trio's loop as a guest in this thread, the lives of the process, its death at a
commit, the stores. Must not: know a verb. No thread runs, so the same calls are the same run.

Both engines stand behind the production writer, whose `Offload` takes virtual time before and after
it does the work: between "submitted" and "durable", and between "durable" and "known". There the
process is killed: from that instant it writes nothing, and nobody is told anything.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import ExitStack, asynccontextmanager
from random import Random
from typing import Any, TypeVar

import outcome
import trio

from mob.mob import Mob
from mob.simulation.pinning import pinned, still, virtual_clock
from mob.simulation.ports import SimClock, sim_ports
from stores import Append, Batch, Committed, MemoryDisk, MemoryStore, Store, StoreLost, Ticket
from stores.files import open_owned
from stores.lmdb import DEFAULT_MAP_SIZE, LmdbStore
from stores.writer import DEFAULT_QUEUE, Outcome, Serving, Writer
from tests.mob.handle.team import Models, open_team

T = TypeVar("T")

#: Virtual seconds before and after the work of a commit.
TAKES_S = 0.001


class Died(Exception):
    """The process died while it was in this call; nobody was told how it ended."""


class Life:
    """One process. It is the `stores.writer.Offload` of its store."""

    def __init__(self) -> None:
        self.models = Models()
        self.scope = trio.CancelScope()
        self.leave, self.ended = trio.Event(), trio.Event()
        self.dead = False
        self.commits = 0
        #: At which commit it dies, and whether before or after that is on disk.
        self.fate: tuple[int, str] | None = None
        #: Around the call that is made from outside.
        self.calling = trio.CancelScope()
        self.mob: Mob

    def die(self) -> None:
        """From now on it writes nothing and tells nothing."""
        self.dead = True
        self.scope.cancel()
        self.calling.cancel()

    async def __call__(self, work: Callable[[Sequence[Batch]], T], batches: Sequence[Batch]) -> T:
        """See `stores.writer.Offload`."""
        self.commits += 1
        await trio.sleep(TAKES_S)
        self._check("before")
        result = work(batches)
        self._check("after")
        await trio.sleep(TAKES_S)
        self._check("")
        return result

    def _check(self, point: str) -> None:
        if self.fate == (self.commits, point):
            self.die()
        if self.dead:
            raise StoreLost("this process of the test is dead: nothing was written", path="test")


class QueuedStore:
    """A memory disk behind the production writer. It is the writer's engine, too."""

    durable = True
    location = "memory"

    def __init__(self, disk: MemoryDisk, life: Life) -> None:
        self.inner = MemoryStore(disk)
        self.writer = Writer(self, location="memory", offload=life)  # type: ignore[arg-type]

    def submit(self, batch: Batch, committed: Committed | None = None) -> Ticket:
        return self.writer.submit(batch, committed)

    async def commit(self, batch: Batch) -> tuple[int, ...]:
        return await self.submit(batch).wait()

    @property
    def crowded(self) -> bool:
        return self.writer.crowded

    async def room(self) -> None:
        await self.writer.room()

    async def barrier(self) -> None:
        await self.writer.barrier()

    async def wait_beyond(self, stream: bytes, seq: int) -> None:
        await trio.lowlevel.checkpoint()
        while self.inner.last(stream) <= seq:
            await self.writer.watch.wait(stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Engine:
    """What the writer of a `QueuedStore` commits with."""

    def __init__(self, inner: MemoryStore) -> None:
        self._inner = inner

    def commit(self, batches: Sequence[Batch]) -> tuple[list[Outcome], Collection[bytes]]:
        outcomes = [self._inner.submit(batch).outcome for batch in batches]
        grown = [each.stream for batch in batches for each in batch if isinstance(each, Append)]
        return outcomes, grown

    def reopen(self, _: Sequence[Batch]) -> None: ...

    def grow(self, _: Sequence[Batch]) -> None: ...

    def recover(self, _: Sequence[Batch]) -> tuple[bool, list[Outcome], Collection[bytes]]:
        raise AssertionError("no commit of this engine fails")


class World:
    """A store, and one process after the other that opens the mob on it."""

    def __init__(self, *, on_disk: bool) -> None:
        self._open = ExitStack()
        self._folder = self._open.enter_context(tempfile.TemporaryDirectory()) if on_disk else None
        self._disk = MemoryDisk()
        self._dice = Random(0)
        self._lives = 0
        self._ticks: deque[Callable[[], object]] = deque()
        self._ended: outcome.Outcome[None] | None = None
        self._send, self._calls = trio.open_memory_channel[Callable[[], Awaitable[None]]](1)
        self._wall = SimClock()
        self._clock = virtual_clock()
        self.life: Life
        self.store: Store
        with pinned(self._dice):
            trio.lowlevel.start_guest_run(
                self._main,
                run_sync_soon_threadsafe=self._ticks.append,
                done_callback=self._done,
                clock=self._clock,
            )

    @property
    def mob(self) -> Mob:
        return self.life.mob

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run ``await work()`` with everything that goes on meanwhile; time stands still after it.

        Raises:
            Died: the process died before the call returned.
        """
        results: list[outcome.Outcome[T]] = []

        async def captured() -> None:
            try:
                with trio.fail_after(3600):
                    results.append(outcome.Value(await work()))
            except Exception as error:  # noqa: BLE001 raised again where the call was made
                results.append(outcome.Error(error))

        # Before the loop's next tick, which would find everybody parked and let the clock jump.
        self._ticks.appendleft(lambda: self._send.send_nowait(captured))
        self._pump(lambda: bool(results))
        if not results:
            assert self._ended is not None
            self._ended.unwrap()
        return results[0].unwrap()

    def end(self) -> None:
        """End the loop."""
        if self._ended is None:
            self._ticks.appendleft(self._send.close)
            self._pump(lambda: False)
        self._open.close()

    # -- lives -----------------------------------------------------------------------------

    async def open(self) -> None:
        """Begin a life."""
        self.life = life = Life()
        self._lives += 1
        life.mob = await self._nursery.start(self._live, life)

    async def close(self) -> None:
        """End the life in order."""
        self.life.leave.set()
        await self.life.ended.wait()

    async def crash(self) -> None:
        """End the life as the system does."""
        self.life.die()
        await self.life.ended.wait()

    async def within(self, work: Callable[[], Awaitable[T]]) -> T:
        """Run ``await work()`` in the process. Raises `Died`."""
        life = self.life
        life.calling = trio.CancelScope()
        try:
            with life.calling:
                return await work()
        except Exception as error:
            if life.dead:
                raise Died from error
            raise
        raise Died

    async def _live(self, life: Life, task_status: trio.TaskStatus[Mob]) -> None:
        ports = sim_ports(self._wall, self._lives, Random(self._lives))
        try:
            with life.scope:
                async with self._opened(life) as self.store:
                    async with open_team(self.store, life.models, ports=ports) as mob:
                        task_status.started(mob)
                        await life.leave.wait()
        except BaseException:
            # Whatever a process that is dead still raises, nobody hears.
            if not life.dead:
                raise
        finally:
            life.ended.set()

    @asynccontextmanager
    async def _opened(self, life: Life) -> AsyncIterator[Any]:
        if self._folder is None:
            queued = QueuedStore(self._disk, life)
            queued.writer._engine = Engine(queued.inner)
            async with Serving(queued.writer):
                yield queued
            return
        store = LmdbStore(open_owned(self._folder, DEFAULT_MAP_SIZE, False, None), DEFAULT_QUEUE)
        store.writer._offload = life
        try:
            async with Serving(store.writer):
                yield store
        finally:
            store.close()

    # -- the loop --------------------------------------------------------------------------

    async def _main(self) -> None:
        async with trio.open_nursery() as self._nursery:
            async for work in self._calls:
                await work()
            self._nursery.cancel_scope.cancel()

    def _pump(self, done: Callable[[], bool]) -> None:
        with pinned(self._dice):
            while self._ended is None and not done():
                self._ticks.popleft()()
            if self._ended is not None:
                self._clock._real_clock = still

    def _done(self, ended: outcome.Outcome[None]) -> None:
        self._ended = ended
