"""Queue, tickets and groups, over an engine whose commits the test lets through one by one."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from stores import (
    Append,
    Batch,
    CommitUnknown,
    Conflict,
    Put,
    StoreClosed,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreMisuse,
)
from stores.writer import GroupTicket, MapFull, Outcome, Serving, Watch, Writer


class GatedEngine:
    """Counts appends; a commit stays under way while the gate is shut."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.errors: list[StoreError] = []
        self.grown = 0
        self.threads: set[int] = set()
        self._seq = 0

    def commit(self, batches: Sequence[Batch]) -> tuple[list[Outcome], Collection[bytes]]:
        self.threads.add(threading.get_ident())
        assert self.gate.wait(10)
        if self.errors:
            raise self.errors.pop(0)
        self.groups.append(len(batches))
        outcomes: list[Outcome] = []
        for batch in batches:
            if any(isinstance(op, Put) for op in batch):
                outcomes.append(Conflict(b"k", None, b"v"))
                continue
            outcomes.append(tuple(range(self._seq + 1, self._seq + 1 + len(batch))))
            self._seq += len(batch)
        return outcomes, {b"s"}

    def grow(self, batches: Sequence[Batch]) -> None:
        assert threading.get_ident() not in self.threads
        self.grown += 1


RECORD = (Append(b"s", 1, b"x"),)
REJECTED = (Put(b"k", b"v"),)


@asynccontextmanager
async def a_writer(engine: GatedEngine, queue: int = 100) -> AsyncIterator[Writer]:
    writer = Writer(engine, location="here", queue=queue)
    async with Serving(writer):
        yield writer


@pytest.fixture
def engine() -> GatedEngine:
    return GatedEngine()


async def committing(engine: GatedEngine) -> None:
    """Until the writer sits in the engine, behind its gate."""
    await trio.testing.wait_all_tasks_blocked(0.01)


async def test_what_gathers_during_a_commit_shares_the_next(engine: GatedEngine) -> None:
    async with a_writer(engine) as writer:
        engine.gate.clear()
        first = writer.submit(RECORD)
        await committing(engine)
        others = [writer.submit(RECORD) for _ in range(50)]
        assert not first.done
        engine.gate.set()
        assert [await ticket.wait() for ticket in others] == [(seq,) for seq in range(2, 52)]
        assert first.done
    assert engine.groups == [1, 50]


async def test_tasks_that_run_together_share_a_commit(engine: GatedEngine) -> None:
    async with a_writer(engine) as writer:

        async def member(steps: int) -> None:
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            await writer.submit(RECORD).wait()

        async with trio.open_nursery() as nursery:
            for index in range(100):
                nursery.start_soon(member, index % 3)
    assert engine.groups == [100]


async def test_callbacks_run_in_order_before_any_waiter_and_not_for_the_rejected(
    engine: GatedEngine,
) -> None:
    told: list[str | tuple[int, ...]] = []
    async with a_writer(engine) as writer:

        async def wait(name: str) -> None:
            await writer.submit(RECORD, told.append).wait()
            told.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, "a")
            nursery.start_soon(wait, "b")
            rejected = writer.submit(REJECTED, told.append)
            with pytest.raises(Conflict):
                await rejected.wait()
    assert told[:2] == [(1,), (2,)]
    assert sorted(map(str, told[2:])) == ["a", "b"]


async def test_a_callback_may_submit(engine: GatedEngine) -> None:
    async with a_writer(engine) as writer:
        more: list[GroupTicket] = []
        await writer.submit(RECORD, lambda _: more.append(writer.submit(RECORD))).wait()
        assert await more[0].wait() == (2,)
    assert engine.groups == [1, 1]


async def test_a_cancelled_wait_withdraws_the_waiter_only(engine: GatedEngine) -> None:
    async with a_writer(engine) as writer:
        engine.gate.clear()
        ticket = writer.submit(RECORD)
        await committing(engine)
        with trio.CancelScope() as scope:
            scope.cancel()
            await ticket.wait()
        assert scope.cancelled_caught
        assert not ticket.done
        engine.gate.set()
        assert await ticket.wait() == (1,)


async def test_leaving_the_body_commits_what_is_queued(engine: GatedEngine) -> None:
    with trio.CancelScope() as scope:
        async with a_writer(engine) as writer:
            engine.gate.clear()
            tickets = [writer.submit(RECORD)]
            await committing(engine)
            tickets += [writer.submit(RECORD), writer.submit(RECORD)]
            scope.cancel()
            engine.gate.set()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert all(ticket.done for ticket in tickets)
    assert engine.groups == [1, 2]
    with pytest.raises(StoreClosed):
        writer.submit(RECORD)


async def test_a_shielded_wait_in_the_writers_own_cancelled_nursery_ends(
    engine: GatedEngine,
) -> None:
    acknowledged: list[tuple[int, ...]] = []

    async def serve(task_status: trio.TaskStatus[Writer]) -> None:
        async with a_writer(engine) as writer:
            task_status.started(writer)
            await trio.sleep_forever()

    async def last_word(writer: Writer) -> None:
        with trio.CancelScope(shield=True):
            acknowledged.append(await writer.submit(RECORD).wait())

    async with trio.open_nursery() as nursery:
        writer = await nursery.start(serve)
        engine.gate.clear()
        nursery.start_soon(last_word, writer)
        await committing(engine)
        nursery.cancel_scope.cancel()
        engine.gate.set()
    assert acknowledged == [(1,)]


async def test_room_is_made_for_all_who_wait(engine: GatedEngine) -> None:
    async with a_writer(engine, queue=2) as writer:
        engine.gate.clear()
        writer.submit(RECORD)
        await committing(engine)
        writer.submit(RECORD)
        assert not writer.crowded
        writer.submit(RECORD)
        assert writer.crowded

        async def come() -> None:
            await writer.room()
            await writer.submit(RECORD).wait()

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(come)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert writer.crowded
            engine.gate.set()
    assert sum(engine.groups) == 8
    assert max(engine.groups) <= 2


def test_a_queue_without_room_is_refused(engine: GatedEngine) -> None:
    with pytest.raises(StoreMisuse, match="give 1 or more"):
        Writer(engine, location="here", queue=0)


async def test_a_barrier_waits_for_what_came_before_it(engine: GatedEngine) -> None:
    async with a_writer(engine) as writer:
        await writer.barrier()
        engine.gate.clear()
        under_way = writer.submit(RECORD)
        await committing(engine)
        passed: list[str] = []

        async def barrier(name: str) -> None:
            await writer.barrier()
            passed.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(barrier, "of one")
            await trio.testing.wait_all_tasks_blocked(0.01)
            queued = writer.submit(REJECTED)
            nursery.start_soon(barrier, "of two")
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert passed == []
            engine.gate.set()
        assert passed == ["of one", "of two"]
        assert under_way.done
        assert queued.done


async def test_a_full_map_is_enlarged_and_the_group_done_again(engine: GatedEngine) -> None:
    engine.errors = [MapFull("full", path="here")]
    async with a_writer(engine) as writer:
        assert await writer.submit(RECORD).wait() == (1,)
    assert engine.grown == 1


@pytest.mark.parametrize(
    ("error", "told", "later"),
    [
        (StoreFull("no room", path="here"), StoreFull, StoreFull),
        (StoreFailed("broken", path="here"), StoreFailed, StoreFailed),
        (CommitUnknown("who knows"), CommitUnknown, StoreFailed),
    ],
)
async def test_a_failed_commit_ends_the_handle(
    engine: GatedEngine,
    error: StoreError,
    told: type[StoreError],
    later: type[StoreError],
) -> None:
    engine.errors = [error]
    called: list[object] = []
    async with a_writer(engine, queue=1) as writer:
        engine.gate.clear()
        first = writer.submit(RECORD, called.append)
        await committing(engine)
        second = writer.submit(RECORD, called.append)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.room)
            await trio.testing.wait_all_tasks_blocked(0.01)
            engine.gate.set()
        with pytest.raises(told, match=str(error)):
            await first.wait()
        with pytest.raises(later, match=str(error)):
            await second.wait()
        with pytest.raises(later, match=str(error)):
            writer.submit(RECORD)
        with pytest.raises(later):
            await writer.watch.wait(b"s")
        with pytest.raises(later, match=str(error)):
            await writer.barrier()  # who waits for what others queued must learn of it too
    assert called == []
    assert engine.groups == []


async def test_a_callback_that_raises_leaves_nobody_waiting(engine: GatedEngine) -> None:
    def broken(_: tuple[int, ...]) -> None:
        raise ZeroDivisionError

    async def wait(ticket_of: Writer) -> None:
        with trio.CancelScope(shield=True):
            outcomes.append(await ticket_of.submit(RECORD).wait())

    outcomes: list[tuple[int, ...]] = []
    with pytest.RaisesGroup(ZeroDivisionError):
        async with a_writer(engine) as writer, trio.open_nursery() as nursery:
            nursery.start_soon(wait, writer)
            writer.submit(RECORD, broken)
            await trio.sleep_forever()
    assert len(outcomes) == 1
    with pytest.raises(StoreError):
        writer.submit(RECORD)


async def test_an_engine_that_crashes_leaves_nobody_waiting(
    engine: GatedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_: Sequence[Batch]) -> tuple[list[Outcome], Collection[bytes]]:
        assert engine.gate.wait(10)
        raise ZeroDivisionError

    monkeypatch.setattr(engine, "commit", crash)
    engine.gate.clear()
    with pytest.RaisesGroup(ZeroDivisionError):
        async with a_writer(engine) as writer:
            under_way = writer.submit(RECORD)
            await committing(engine)
            queued = writer.submit(RECORD)
            engine.gate.set()
            await trio.sleep_forever()
    with pytest.raises(CommitUnknown):
        await under_way.wait()
    with pytest.raises(StoreFailed, match="crashed"):
        await queued.wait()


async def test_an_exception_of_the_body_comes_out_as_itself(engine: GatedEngine) -> None:
    error = ValueError("of the body")
    first = KeyError("met before it")

    async def body() -> None:
        async with a_writer(engine) as writer:
            tickets.append(writer.submit(RECORD))
            try:
                raise first
            except KeyError:
                raise error  # noqa: B904  # its implicit context is part of the question

    tickets: list[GroupTicket] = []
    with pytest.raises(ValueError, match="of the body") as caught:
        await body()
    assert caught.value is error
    assert error.__context__ is first
    assert error.__cause__ is None
    assert not error.__suppress_context__
    assert tickets[0].done


async def test_a_group_of_the_body_comes_out_as_itself(engine: GatedEngine) -> None:
    error = ExceptionGroup("of the body", [ValueError()])
    with pytest.raises(ExceptionGroup) as caught:
        async with a_writer(engine):
            raise error
    assert caught.value is error


async def test_an_idle_writer_is_not_scheduled(engine: GatedEngine) -> None:
    async with a_writer(engine) as writer:
        await writer.submit(RECORD).wait()
        steps: list[trio.lowlevel.Task] = []

        class Steps(trio.abc.Instrument):
            def before_task_step(self, task: trio.lowlevel.Task) -> None:
                steps.append(task)

        instrument = Steps()
        trio.lowlevel.add_instrument(instrument)
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        trio.lowlevel.remove_instrument(instrument)
    assert {task.name for task in steps} == {trio.lowlevel.current_task().name}


async def test_those_who_wait_for_growth_leave_nothing_behind(engine: GatedEngine) -> None:
    async with a_writer(engine) as writer:
        for _ in range(3):
            with trio.move_on_after(0):
                await writer.watch.wait(b"s")
        assert writer.watch._events == {}


async def test_watchers_that_are_cancelled_together_leave_quietly() -> None:
    watch = Watch()
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(watch.wait, b"s")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
