"""Following a mob's events, and leaving."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mob.errors import MemberNotFound
from mob.mob import Mob
from mob.records import MemberRetired, MemberSpawned
from runtime.records import InputAccepted, SessionCreated, TurnEnded
from runtime.subscribing import StreamTruncated
from tests.mob.mobs import define, opened


async def test_leaving_the_events_leaves_nothing_open(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Found by simulation: the journal's own generator was left to the garbage collector, which
    Trio warns of; warnings are errors here."""
    async with opened(define("a")) as mob:
        async with aclosing(mob.events()) as events:
            async for event in events:
                assert event.seq == 1
                break
        assert (await mob.ask("a", "hello")).text == "hello"


async def read(mob: Mob, into: list[Any], **how: Any) -> None:
    async with aclosing(mob.subscribe(**how)) as events:
        async for event in events:
            into.append(event)  # noqa: PERF401 seen while it goes on


async def test_a_subscriber_sees_what_a_replay_shows_from_any_cursor(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 6.12: replay from any cursor gives the same events that a live subscriber saw."""
    async with opened(define("a", "b")) as mob, trio.open_nursery() as nursery:
        live: list[Any] = []
        late: list[Any] = []
        nursery.start_soon(partial(read, mob, live, after=0))
        await wait_all_tasks_blocked()
        await mob.ask("a", "one")
        cursor = mob.realm.journal.last
        nursery.start_soon(partial(read, mob, late))
        await wait_all_tasks_blocked()
        await mob.ask("b", "two")
        await mob.retire("b")
        await wait_all_tasks_blocked()
        assert [event.seq for event in live] == list(range(1, mob.realm.journal.last + 1))
        assert late == live[cursor:]
        for after in range(len(live)):
            async with aclosing(mob.events(after)) as events:
                assert [await anext(events) for _ in live[after:]] == live[after:]
            again: list[Any] = []
            async with aclosing(mob.subscribe(after)) as seen:
                while len(again) < len(live) - after:
                    again.append(await anext(seen))
            assert again == live[after:]
        await mob.close(0)  # which ends them
    assert mob.realm.journal._listeners == ()


async def test_a_subscriber_that_falls_behind_finds_one_marker_and_slows_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 6.12: the marker says how many are missing and between which; `events` has them."""
    async with opened(define("a")) as mob, aclosing(mob.subscribe(buffer=2)) as events:
        start = mob.realm.journal.last
        first: list[Any] = []

        async def begin() -> None:
            first.append(await anext(events))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin)
            await wait_all_tasks_blocked()
            for text in "abcd":  # two records each, and nobody reads
                await mob.ask("a", text)
        last = mob.realm.journal.last
        assert last == start + 8
        assert [event.seq for event in first] == [start + 1]
        marker = await anext(events)
        assert marker == StreamTruncated(5, start + 1, last - 1)
        assert [(await anext(events)).seq for _ in range(2)] == [last - 1, last]
        async with aclosing(mob.events(marker.after)) as missed:
            seqs = [(await anext(missed)).seq for _ in range(marker.dropped)]
        assert seqs == list(range(start + 2, marker.next))


async def test_what_is_not_asked_for_is_neither_kept_nor_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 6.12: by record type and by member, in the past and from now on."""
    async with opened(define("a", "b")) as mob, trio.open_nursery() as nursery:
        turns: list[Any] = []
        of_b: list[Any] = []
        nursery.start_soon(partial(read, mob, turns, types=(TurnEnded,), buffer=4))
        nursery.start_soon(partial(read, mob, of_b, after=0, member="b", buffer=2))
        await wait_all_tasks_blocked()
        for _ in range(4):
            await mob.ask("a", "x")
        await wait_all_tasks_blocked()
        await mob.ask("b", "y")
        await wait_all_tasks_blocked()
        kinds = [type(event.record) for event in of_b]
        assert kinds == [SessionCreated, MemberSpawned, InputAccepted, TurnEnded]
        await mob.retire("b")
        await wait_all_tasks_blocked()
        assert isinstance(of_b[-1].record, MemberRetired)
        assert [type(event.record) for event in turns] == [TurnEnded] * 5
        with pytest.raises(MemberNotFound):
            mob.subscribe(member="c")
        with pytest.raises(ValueError, match="holds none"):
            mob.subscribe(buffer=0)
        nursery.cancel_scope.cancel()
