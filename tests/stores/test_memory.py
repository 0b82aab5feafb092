"""What is particular to the engine without a disk."""

from __future__ import annotations

import threading

import pytest
import trio
import trio.testing

from stores import Append, Committed, Conflict, Expect, MemoryStore, Put, StoreClosed, open_memory


def test_it_works_without_a_loop_and_without_threads() -> None:
    before = threading.active_count()
    store = MemoryStore()
    assert store.submit([Append(b"s", 1, b"x"), Put(b"k", b"v")]).done
    assert (store.last(b"s"), store.get(b"k")) == (1, b"v")
    assert threading.active_count() == before


async def test_a_wait_costs_no_time_on_a_virtual_clock(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_memory() as store:
        for _ in range(100):
            await store.commit([Append(b"s", 1, b"x")])
        assert store.last(b"s") == 100
    assert trio.current_time() == 0


async def test_a_batch_of_a_callback_is_told_of_after_the_present_one() -> None:
    told: list[str] = []
    async with open_memory() as store:

        def note(name: str, then: str | None = None) -> Committed:
            def callback(_: tuple[int, ...]) -> None:
                if then is not None:
                    store.submit([Append(b"s", 1, b"")], note(then))
                told.append(name)

            return callback

        store.submit([Append(b"s", 1, b"")], note("first", then="second"))
        assert told == ["first", "second"]


async def test_every_waiter_of_a_rejected_batch_gets_an_error_of_its_own() -> None:
    async with open_memory() as store:
        ticket = store.submit([Expect(b"k", b"v")])
        errors: list[Conflict] = []
        for _ in range(2):
            with pytest.raises(Conflict) as caught:
                await ticket.wait()
            errors.append(caught.value)
        assert errors[0] is not errors[1]
        assert (errors[0].key, errors[0].expected, errors[0].found) == (b"k", b"v", None)


async def test_a_closed_store_says_so_to_all() -> None:
    async with trio.open_nursery() as nursery:
        async with open_memory() as store:

            async def wait() -> None:
                with pytest.raises(StoreClosed):
                    await store.wait_beyond(b"s", 0)

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
    for use in (lambda: store.submit([]), lambda: store.get(b"k"), store.streams):
        with pytest.raises(StoreClosed):
            use()
