"""The group-commit writer: a queue of batches, one task that makes them durable.

Owns: the order of batches, tickets and their outcomes, the bound of the queue, waking up whoever
waits. Must not: know an engine or the form of stored data.

Theory. A commit costs one wait for the disk however much is in it, so everything that gathers
while one commit is on its way goes into the next: a *group*. One task takes a whole group, has
the engine commit it in one call on one thread (a write transaction that changes threads hangs
the next one for ever), and then, back on the Trio thread and without a checkpoint in between,
runs the callbacks in order of submission and wakes the waiters. The waiters of a group share one
event, and a ticket is no more than a group and a position in it: that keeps a batch cheap.

The writer is shielded: it outlives the nurseries it serves. A task that was cancelled may wait
in a shield for its last batch, so a writer that obeyed the same cancellation would leave it
waiting for ever. The shield ends with the queue: after `close` it commits what is there and is
gone, which takes as long as one or two waits for the disk; no deadline can hasten a thread.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Literal, Protocol, TypeAlias, TypeVar, final

import attrs
import trio

from stores.base import Batch, Committed
from stores.codec import check_batch
from stores.errors import (
    CommitUnknown,
    Conflict,
    Damaged,
    StoreClosed,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreLost,
    StoreMisuse,
    StoreUnavailable,
)

_T = TypeVar("_T")
_LOG: Final = logging.getLogger(__name__)

#: Batches that may wait before callers are asked to. Enough for thousands of members that each
#: wait for one turn; at some kilobytes a turn it keeps tens of megabytes, not more.
DEFAULT_QUEUE: Final = 8192

#: Scheduler passes that the writer lets go by before it takes the queue. Tasks that were woken
#: together do not all come back in the same pass: with 50 members that take 0 to 5 steps between
#: turns, this halved the commits and took a third off the processor time of a turn. More gave
#: nothing, and alone in a quiet loop five passes cost less than the thread that follows them.
_PASSES: Final = 5

#: Batches from which a group is large enough to go at once: a commit of 512 records already costs
#: each of them an eightieth of what it would cost alone.
_AMPLE: Final = 512

#: Failed commits that are remembered.
MAX_INCIDENTS: Final = 100

_SAID: Final = {
    "found": "after reopening, its group was found on disk",
    "repeated": "after reopening, its group was not found on disk and was committed anew",
    "given up": "that failed again, and the store only reads from here on",
}

Outcome: TypeAlias = tuple[int, ...] | StoreError


class MapFull(StoreFull):
    """Raised by an engine's `commit`: nothing was written, and `grow` may help."""


class CommitFailed(StoreError):
    """Raised by an engine's `commit` or `recover`: the environment cannot be trusted as it is.

    `told` is for the waiters of the group if recovering fails, `reason` for everybody after them.
    """

    def __init__(self, message: str, *, told: StoreError, reason: StoreUnavailable) -> None:
        super().__init__(message)
        self.told = told
        self.reason = reason


@attrs.frozen
class Incident:
    """A commit that failed and what became of its group; a store keeps the last `MAX_INCIDENTS`.

    `outcome` is ``found`` (it was on disk all the same), ``repeated`` (it was not there, and was
    committed again on a fresh environment) or ``given up`` (the store only reads from then on).
    """

    reason: str
    batches: int
    outcome: Literal["found", "repeated", "given up"]


class Engine(Protocol):
    """What the writer asks of an engine."""

    def commit(self, batches: Sequence[Batch]) -> tuple[list[Outcome], Collection[bytes]]:
        """Make `batches` durable in one transaction; runs on a thread that is not Trio's.

        Returns, for each batch, the sequence numbers of its appends or the `Conflict` that
        rejected it; and the streams that grew.

        Raises:
            MapFull: nothing was applied; the writer calls `grow` and tries once more.
            CommitFailed: it may have been applied; the writer calls `reopen`, then `recover`.
            StoreLost, StoreFailed: nothing was applied; this is the writer's last commit.
            CommitUnknown: it may have been applied; this is the writer's last commit.
        """
        ...

    def reopen(self, batches: Sequence[Batch]) -> None:
        """Close the environment and open it afresh; runs on the Trio thread, like `grow`.

        Raises:
            StoreUnavailable: it cannot be opened any more.
        """
        ...

    def recover(self, batches: Sequence[Batch]) -> tuple[bool, list[Outcome], Collection[bytes]]:
        """Learn whether the failed commit of `batches` is on disk; if not, make it so, once.

        Runs as `commit` does, after `reopen`. Returns whether it was there, and what `commit`
        would have. What it returns is durable. Raises as `commit`.
        """
        ...

    def grow(self, batches: Sequence[Batch]) -> None:
        """Make room for `batches`; runs on the Trio thread, while no transaction is open."""
        ...


class Offload(Protocol):
    """How the writer has the blocking work of an engine done; a simulation brings its own."""

    async def __call__(self, work: Callable[[Sequence[Batch]], _T], batches: Sequence[Batch]) -> _T:
        """Run ``work(batches)`` where it may block, one call at a time; return or raise as it does.

        It is called in a shield, and must come to an end.
        """
        ...


@final
class OnThread:
    """An `Offload` to one thread at a time."""

    def __init__(self) -> None:
        # Ours alone: with Trio's default limiter, forty slow threads of the application would
        # hold up every commit.
        self._limiter = trio.CapacityLimiter(1)

    async def __call__(self, work: Callable[[Sequence[Batch]], _T], batches: Sequence[Batch]) -> _T:
        """See `Offload`."""
        return await trio.to_thread.run_sync(work, batches, limiter=self._limiter)


class _Group:
    """Batches that will share a commit."""

    __slots__ = ("batches", "callbacks", "filled", "finished", "outcomes")

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.callbacks: list[Committed | None] = []
        self.filled = trio.Event()
        self.finished = trio.Event()
        # Invariant: one for each batch once `finished` is set.
        self.outcomes: Sequence[Outcome] = ()

    def resolve(self, outcomes: Sequence[Outcome]) -> None:
        """Hand out `outcomes` and wake every waiter. The payloads are let go."""
        self.outcomes = outcomes
        self.batches = []
        self.callbacks = []
        self.finished.set()


@final
class GroupTicket:
    """A `Ticket`: a group and a position in it."""

    __slots__ = ("_group", "_index")

    def __init__(self, group: _Group, index: int) -> None:
        self._group = group
        self._index = index

    async def wait(self) -> tuple[int, ...]:
        """See `stores.base.Ticket.wait`."""
        await self._group.finished.wait()
        return settled(self._group.outcomes[self._index])

    @property
    def done(self) -> bool:
        """See `stores.base.Ticket.done`."""
        return self._group.finished.is_set()


@final
class Writer:
    """The write half of a store: queue, tickets and the task that commits.

    `run` is started by `Serving`; everything else is called on the Trio thread.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        location: str,
        queue: int = DEFAULT_QUEUE,
        offload: Offload | None = None,
    ) -> None:
        if queue < 1:
            raise StoreMisuse(f"a queue for {queue} batches would never have room; give 1 or more")
        self._engine = engine
        self._location = location
        self._bound = queue
        self._gathering = _Group()
        self._committing: _Group | None = None
        self._room = trio.Event()
        self._refusal: StoreError | None = None
        self._closed = False
        self._offload: Offload = offload or OnThread()
        self.watch = Watch()
        #: Commits that failed and what became of them, the newest last.
        self.incidents: deque[Incident] = deque(maxlen=MAX_INCIDENTS)
        #: Whether `run` has come to its end; before `close` that means that it crashed.
        self.ended = False

    # An interrupt halfway through would leave a batch without its place for a callback.
    @trio.lowlevel.enable_ki_protection
    def submit(self, batch: Batch, committed: Committed | None = None) -> GroupTicket:
        """See `stores.base.Store.submit`."""
        if self._refusal is not None:
            raise again(self._refusal) from self._refusal
        batch = tuple(batch)
        check_batch(batch)
        group = self._gathering
        index = len(group.batches)
        group.batches.append(batch)
        group.callbacks.append(committed)
        if not index:
            group.filled.set()
        return GroupTicket(group, index)

    @property
    def crowded(self) -> bool:
        """See `stores.base.Store.crowded`."""
        return len(self._gathering.batches) >= self._bound

    async def room(self) -> None:
        """See `stores.base.Store.room`."""
        # All who wait are woken when the queue is taken: to wake only as many as there is room
        # for would strand the others whenever one of those goes away without submitting.
        while self.crowded:
            await self._room.wait()

    async def barrier(self) -> None:
        """See `stores.base.Store.barrier`."""
        if self._gathering.batches:
            await self._gathering.finished.wait()
        elif self._committing is not None:
            await self._committing.finished.wait()
        else:
            await trio.lowlevel.checkpoint()
        if self._refusal is not None and not isinstance(self._refusal, StoreClosed):
            raise again(self._refusal) from self._refusal

    def close(self) -> None:
        """Refuse further batches; `run` ends once those in the queue have an outcome."""
        self._closed = True
        if self._refusal is None:
            self._refusal = StoreClosed("the store was closed; open it again to write")
        self._gathering.filled.set()

    # An interrupt in the middle of handing out outcomes would leave waiters without one; Trio
    # raises it in the main task instead.
    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Commit group after group until `close`, deaf to cancellation."""
        try:
            with trio.CancelScope(shield=True):
                while self._gathering.batches or not self._closed:
                    await self._gather()
                    if self._gathering.batches:
                        await self._commit(self._take())
        finally:
            self._leave()

    async def _gather(self) -> None:
        """Park until there is something to commit, then let more of it come."""
        await self._gathering.filled.wait()
        for _ in range(_PASSES):
            if len(self._gathering.batches) >= _AMPLE:
                break
            await trio.lowlevel.checkpoint()

    def _take(self) -> _Group:
        group = self._committing = self._gathering
        self._gathering = _Group()
        if self._closed:
            self._gathering.filled.set()
        if len(group.batches) >= self._bound:
            self._room.set()
            self._room = trio.Event()
        return group

    async def _commit(self, group: _Group) -> None:
        try:
            outcomes, streams = await self._made_durable(group.batches)
        except StoreError as error:
            self._fail(group, error)
            return
        callbacks = group.callbacks
        try:
            for outcome, callback in zip(outcomes, callbacks, strict=True):
                if callback is not None and type(outcome) is tuple:
                    callback(outcome)
        finally:
            # Also if a callback breaks its promise not to raise: the batches are on disk.
            group.resolve(outcomes)
            self._committing = None
        self.watch.advance(streams)

    async def _made_durable(
        self, batches: Sequence[Batch]
    ) -> tuple[list[Outcome], Collection[bytes]]:
        """Commit `batches`: a full map grows, once; what else fails is looked up on the disk."""
        try:
            try:
                return await self._offload(self._engine.commit, batches)
            except MapFull:
                self._engine.grow(batches)
                return await self._offload(self._engine.commit, batches)
        except CommitFailed as error:
            failed = error
        try:
            self._engine.reopen(batches)
            found, outcomes, streams = await self._offload(self._engine.recover, batches)
        except (CommitFailed, MapFull) as again_failed:
            with suppress(StoreUnavailable):  # reads will say so
                self._engine.reopen(())
            last = again_failed if isinstance(again_failed, CommitFailed) else failed
            self._note(failed, batches, "given up")
            raise last from again_failed
        except StoreUnavailable as closed:
            self._note(failed, batches, "given up")
            if isinstance(closed, StoreLost):
                raise
            raise failed from closed
        self._note(failed, batches, "found" if found else "repeated")
        return outcomes, streams

    def _note(
        self,
        failed: CommitFailed,
        batches: Sequence[Batch],
        outcome: Literal["found", "repeated", "given up"],
    ) -> None:
        incident = Incident(str(failed.reason), len(batches), outcome)
        self.incidents.append(incident)
        _LOG.warning("store %s: %s; %s", self._location, failed.reason, _SAID[outcome])

    def _fail(self, group: _Group, error: StoreError) -> None:
        """Write nothing more: `group` failed with `error`, what waits behind it never starts."""
        later = error
        if isinstance(error, CommitFailed):
            later, error = error.reason, error.told
        if not isinstance(error, StoreUnavailable):
            later = StoreFailed(
                f"an earlier commit failed and ended this handle, open the store again: {error}",
                path=self._location,
            )
        self._refusal = later
        group.resolve([error] * len(group.batches))
        self._committing = None
        waiting = self._gathering
        self._gathering = _Group()
        waiting.resolve([later] * len(waiting.batches))
        self._room.set()
        self.watch.close(later)

    def _leave(self) -> None:
        """The last act: nobody may go on waiting for a writer that is gone."""
        if self._refusal is None or self._gathering.batches:
            self._refusal = StoreFailed(
                "the writer of this store crashed; this is a bug: report it, open the store again",
                path=self._location,
            )
        if self._committing is not None:
            lost = CommitUnknown("the writer crashed before it learnt this batch's outcome")
            self._committing.resolve([lost] * len(self._committing.batches))
        self._gathering.resolve([self._refusal] * len(self._gathering.batches))
        self._room.set()
        self.watch.close(self._refusal)
        self.ended = True


class Watch:
    """Tasks that wait for a stream to grow."""

    def __init__(self) -> None:
        self._events: dict[bytes, trio.Event] = {}
        self._end: StoreError | None = None

    async def wait(self, stream: bytes) -> None:
        """Park until `stream` grows. The caller looks before and after.

        Raises:
            StoreError: what `close` was given; nothing will grow any more.
        """
        if self._end is None:
            event = self._events.setdefault(stream, trio.Event())
            try:
                await event.wait()
            finally:
                # The last one to give up takes the event along. Of several that are cancelled at
                # once each is the last, and a later waiter may have made a new event by then.
                if not event.statistics().tasks_waiting and self._events.get(stream) is event:
                    del self._events[stream]
        if self._end is not None:
            raise again(self._end) from self._end

    def advance(self, streams: Collection[bytes]) -> None:
        """Wake those who wait for any of `streams`."""
        if self._events:
            for stream in streams:
                event = self._events.pop(stream, None)
                if event is not None:
                    event.set()

    def close(self, end: StoreError) -> None:
        """Wake all who wait, and refuse those who come, with `end`."""
        self._end = self._end or end
        while self._events:
            self._events.popitem()[1].set()


class Serving:
    """Run `writer` while the body runs; drain and end it when the body is left.

    A class, because an exception of the body must come out as itself: a nursery that gets to see
    it wraps it in a group, and raising it again from a handler would rewrite its context.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._nursery = trio.open_nursery()

    async def __aenter__(self) -> None:
        nursery = await self._nursery.__aenter__()
        nursery.start_soon(self._writer.run)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if self._writer.ended:
            # It crashed: what the body met is the nursery's cancellation, for the nursery to sort.
            return await self._nursery.__aexit__(kind, error, traceback)
        self._writer.close()
        await self._nursery.__aexit__(None, None, None)
        return False


def settled(outcome: Outcome) -> tuple[int, ...]:
    """The sequence numbers in `outcome`, or its error, raised anew for each waiter."""
    if type(outcome) is tuple:
        return outcome
    assert isinstance(outcome, StoreError)
    raise again(outcome) from outcome


def again(error: StoreError) -> StoreError:
    """A fresh copy of `error`: one instance raised in several tasks would mix their tracebacks."""
    if isinstance(error, Conflict):
        return Conflict(error.key, error.expected, error.found)
    if isinstance(error, Damaged):
        return Damaged(error.where, error.reason)
    if isinstance(error, StoreLost):
        return StoreLost(str(error), path=error.path, generation=error.generation)
    if isinstance(error, StoreUnavailable):
        return type(error)(str(error), path=error.path)
    assert not isinstance(error, CommitFailed)
    return type(error)(str(error))
