"""The journal and its followers: one sequence, live and replayed alike (CONTRACTS 6.12)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime.errors import RecordUnreadable
from runtime.ids import InputId, SessionId
from runtime.journal import PAGE, Event, Journal
from runtime.records import RUNTIME_RECORDS, InputAbandoned, InputAccepted
from stores import Append, MemoryStore, Store, StoreClosed, open_lmdb
from tests.runtime.fakes import REALM, open_lagging


def record(number: int) -> InputAbandoned:
    return InputAbandoned(SessionId("s"), InputId("i"), "", number)


def make_journal(store: Store, applied: list[Any] | None = None) -> Journal:
    def apply(seq: int, given: Any) -> None:
        if applied is not None:
            applied.append((seq, given))

    return Journal(store, REALM, RUNTIME_RECORDS, apply)


@pytest.fixture(params=["memory", "lmdb"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
    else:
        async with open_lmdb(tmp_path) as opened:
            yield opened


async def test_records_are_applied_in_order_before_anyone_is_told(store: Store) -> None:
    applied: list[Any] = []
    journal = make_journal(store, applied)
    tickets = [journal.append(record(n), record(n + 1)) for n in (1, 3, 5)]
    assert await tickets[2].wait() == (5, 6)
    assert applied == [(n, record(n)) for n in range(1, 7)]
    assert journal.last == 6
    again: list[Any] = []
    assert make_journal(store, again).replay() == 6
    assert again == applied


async def test_a_follower_sees_the_past_then_the_future_from_any_cursor(store: Store) -> None:
    """CONTRACTS 6.12 and 4.6: live and replayed, from any cursor, the same events."""
    journal = make_journal(store)
    seen: dict[int, list[Event]] = {}

    async def follow(after: int) -> None:
        seen[after] = []
        async for event in journal.follow(after):
            seen[after].append(event)

    await journal.append(*(record(n) for n in range(1, 4))).wait()
    async with trio.open_nursery() as nursery:
        for after in (0, 2, 3, 5):
            nursery.start_soon(follow, after)
        await wait_all_tasks_blocked()
        for n in range(4, 8):
            await journal.append(record(n)).wait()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    expected = [Event(n, record(n)) for n in range(1, 8)]
    assert seen == {after: expected[after:] for after in (0, 2, 3, 5)}
    assert journal.read() == expected


async def test_a_slow_follower_loses_nothing_and_slows_nobody(autojump_clock: Any) -> None:
    """CONTRACTS 4.6, 6.12."""
    journal = make_journal(MemoryStore())
    seen: list[int] = []
    total = 3 * PAGE

    async def follow() -> None:
        async with aclosing(journal.follow()) as events:
            async for event in events:
                await trio.sleep(1)
                seen.append(event.seq)
                if event.seq == total:
                    return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        began = trio.current_time()
        for n in range(1, total + 1):
            await journal.append(record(n)).wait()
        assert trio.current_time() == began
    assert seen == list(range(1, total + 1))


async def test_a_follower_costs_nothing_while_nothing_happens(autojump_clock: Any) -> None:
    """CONTRACTS 6.13: no polling."""
    journal = make_journal(MemoryStore())
    steps = 0

    class Count(trio.abc.Instrument):
        def before_task_step(self, task: Any) -> None:
            nonlocal steps
            steps += task.name == "follower"

    async def follow() -> None:
        async for _ in journal.follow():
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, name="follower")
        await wait_all_tasks_blocked()
        count = Count()
        trio.lowlevel.add_instrument(count)
        await trio.sleep(3600)
        trio.lowlevel.remove_instrument(count)
        nursery.cancel_scope.cancel()
    assert steps == 0


async def test_a_follower_ends_when_the_store_closes() -> None:
    store = MemoryStore()
    journal = make_journal(store)

    async def follow() -> None:
        with pytest.raises(StoreClosed):
            async for _ in journal.follow():
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await wait_all_tasks_blocked()
        store.close()


async def test_nothing_is_seen_before_it_is_on_disk(autojump_clock: Any) -> None:
    applied: list[Any] = []
    async with open_lagging() as store:
        journal = make_journal(store, applied)
        ticket = journal.append(record(1))
        await trio.sleep(0.5)
        assert (applied, journal.read(), journal.last) == ([], [], 0)
        await ticket.wait()
        assert journal.last == 1


async def test_replay_goes_on_beyond_a_page_and_from_a_position() -> None:
    store = MemoryStore()
    journal = make_journal(store)
    for n in range(1, 2 * PAGE + 2):
        journal.append(record(n))
    applied: list[Any] = []
    assert make_journal(store, applied).replay() == 2 * PAGE + 1
    assert [seq for seq, _ in applied] == list(range(1, 2 * PAGE + 2))
    applied.clear()
    make_journal(store, applied).replay(PAGE)
    assert applied[0] == (PAGE + 1, record(PAGE + 1))


async def test_an_unknown_kind_stops_readers_at_that_record() -> None:
    store = MemoryStore()
    journal = make_journal(store)
    journal.append(record(1))
    store.submit([Append(b"realm/test", 99, b"")])
    with pytest.raises(RecordUnreadable) as found:
        journal.read()
    assert (found.value.realm, found.value.seq) == ("test", 2)
    assert "later mob" in str(found.value)
    assert journal.get(1) == record(1)
    with pytest.raises(RecordUnreadable, match="it should be there"):
        journal.get(3)
    with pytest.raises(RecordUnreadable, match="a turn was expected"):
        journal.turn(1)


async def test_a_record_of_no_known_type_is_refused_before_anything_is_queued() -> None:
    journal = make_journal(MemoryStore())
    accepted = InputAccepted(SessionId("s"), InputId("i"), "x", None, None, 1)
    with pytest.raises(KeyError):
        journal.append(accepted, "no record")
    assert journal.last == 0
