"""The simulated store keeps the rules of every store, and fails as it is told to."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest
import trio
from hypothesis import settings

from mob.simulation import FaultKind, FaultPlan, Faults, SimDisk, Streams
from mob.simulation.store import Life, SimStore, open_sim
from mob.simulation.trace import Incarnation
from stores import Append, CommitUnknown, Put, Store, StoreFailed, StoreFull, StoreInUse, StoreLost
from stores.conformance import StoreConformance


class Machine:
    """A disk, and processes on it."""

    def __init__(self, plan: str = "none", seed: int = 0) -> None:
        self.disk = SimDisk()
        self.streams = Streams(seed)
        self.faults = Faults(FaultPlan.parse(plan), self.streams)
        self.lives: list[Life] = []

    def open(self, *, take_over: bool = False) -> AbstractAsyncContextManager[SimStore]:
        number = len(self.lives) + 1
        self.lives.append(Life(Incarnation(number), lambda _why: self.lives[number - 1].end()))
        return open_sim(self.disk, self.faults, self.streams, self.lives[-1], take_over=take_over)


class SimConformance(StoreConformance):
    """Conformance: every rule of the store port."""

    patience_s = 30

    def __init__(self) -> None:
        super().__init__()
        self._machine = Machine()

    def open(self) -> AbstractAsyncContextManager[Store]:
        return self._machine.open()

    def take_over(self) -> AbstractAsyncContextManager[Store]:
        return self._machine.open(take_over=True)


class FailingConformance(SimConformance):
    """The same with a disk of which every failed commit can be mended: nobody notices."""

    def __init__(self) -> None:
        super().__init__()
        self._machine = Machine("store.error=0.2,store.false_alarm=0.2,store.map_full=0.2")


TestSim = SimConformance.TestCase
TestFailing = FailingConformance.TestCase
TestSim.settings = settings(max_examples=20, stateful_step_count=25)
TestFailing.settings = settings(max_examples=20, stateful_step_count=25)


async def test_a_second_process_is_refused_while_the_first_lives(
    autojump_clock: trio.testing.MockClock,
) -> None:
    machine = Machine()
    async with machine.open():
        with pytest.raises(StoreInUse):
            async with machine.open():
                raise AssertionError("it was opened")
        machine.lives[0].end()
        machine.disk.release(1)
        async with machine.open() as store:
            assert await store.commit([Append(b"s", 1, b"a")]) == (1,)


async def test_a_paused_process_that_was_replaced_writes_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Fencing: a late write is refused, its waiter told `StoreLost`, and it reads nothing more."""
    machine = Machine()
    async with machine.open() as old:
        await old.commit([Put(b"k", b"old")])
        machine.lives[0].moving = trio.Event()
        told: list[int] = []
        late = old.submit([Put(b"k", b"late")], lambda _: told.append(1))
        await trio.sleep(60)
        assert not late.done
        async with machine.open(take_over=True) as new:
            await new.commit([Put(b"k", b"new")])
            machine.lives[0].moving.set()
            with pytest.raises(StoreLost):
                await late.wait()
            with pytest.raises(StoreLost):
                old.submit([Put(b"k", b"later")])
            with pytest.raises(StoreLost):
                old.get(b"k")
            assert new.get(b"k") == b"new"
            assert not told
    assert [commit.process for commit in machine.disk.commits] == [1, 2]


async def test_a_dead_process_settles_its_tickets_at_once_and_writes_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    machine = Machine()
    async with machine.open() as store:
        told: list[int] = []
        tickets = [store.submit([Put(b"k", b"v")], lambda _: told.append(1)) for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked()
        tickets.append(store.submit([Put(b"k", b"w")]))
        before = trio.current_time()
        machine.lives[0].end()
        for ticket in tickets:
            with pytest.raises(StoreLost):
                await ticket.wait()
        assert trio.current_time() == before
        assert not told
        assert machine.disk.commits == []
        for use in (lambda: store.submit([]), lambda: store.get(b"k"), store.streams):
            with pytest.raises(StoreLost):
                use()
        with pytest.raises(StoreLost):
            await store.wait_beyond(b"s", 0)


@pytest.mark.parametrize(
    ("fault", "error", "written"),
    [
        ("store.error", None, True),
        ("store.false_alarm", None, True),
        ("store.map_full", None, True),
        ("store.slow", None, True),
        ("store.broken", StoreFailed, False),
        ("store.no_space", StoreFull, False),
        ("store.unknown_applied", CommitUnknown, True),
        ("store.unknown_lost", CommitUnknown, False),
        ("process.crash_before_commit", StoreLost, False),
        ("process.crash_after_commit", StoreLost, True),
    ],
)
async def test_what_a_waiter_is_told_is_what_is_on_disk(
    fault: str,
    error: type[Exception] | None,
    written: bool,
    autojump_clock: trio.testing.MockClock,
) -> None:
    machine = Machine(f"only={fault}@commit/2")
    async with machine.open() as store:
        assert await store.commit([Append(b"s", 1, b"first")]) == (1,)
        second = store.submit([Append(b"s", 1, b"second")])
        if error is None:
            assert await second.wait() == (2,)
            assert await store.commit([Append(b"s", 1, b"third")]) == (3,)
        else:
            with pytest.raises(error):
                await second.wait()
    assert machine.faults.fired[FaultKind(fault)] == 1
    payloads = [entry.payload for entry in machine.disk.platter.read(b"s")]
    assert payloads[1:] == ([b"second"] if written else []) + ([b"third"] if error is None else [])
    async with machine.open() as store:
        assert await store.commit([Append(b"s", 1, b"next")]) == (len(payloads) + 1,)


async def test_a_crash_in_a_commit_leaves_it_whole_or_not_at_all(
    autojump_clock: trio.testing.MockClock,
) -> None:
    found = set()
    for seed in range(20):
        machine = Machine("only=process.crash_in_commit@commit/1", seed)
        async with machine.open() as store:
            ticket = store.submit([Append(b"s", 1, b"a"), Append(b"s", 1, b"b")])
            with pytest.raises(StoreLost):
                await ticket.wait()
        found.add(machine.disk.platter.last(b"s"))
    assert found == {0, 2}


async def test_a_directed_crash_strikes_at_the_commit_it_names(
    autojump_clock: trio.testing.MockClock,
) -> None:
    machine = Machine("crash=commit.after:3")
    async with machine.open() as store:
        for number in (1, 2):
            assert await store.commit([Append(b"s", 1, b"")]) == (number,)
        with pytest.raises(StoreLost):
            await store.commit([Append(b"s", 1, b"")])
    assert machine.disk.platter.last(b"s") == 3


async def test_a_read_fails_where_the_plan_says_so(
    autojump_clock: trio.testing.MockClock,
) -> None:
    machine = Machine("only=store.read_error@read/2")
    async with machine.open() as store:
        assert store.get(b"k") is None
        with pytest.raises(StoreFailed):
            store.get(b"k")
        assert store.get(b"k") is None
