"""Following a mob's events, and leaving."""

from __future__ import annotations

from contextlib import aclosing

import trio

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
