"""A store that fails under a mob: nobody is told of what is not on disk."""

from __future__ import annotations

import pytest
import trio

from mob.errors import MobClosed
from mob.mob import Mob
from runtime.errors import MobError
from stores import StoreFailed
from tests.mob.held import HeldStore
from tests.mob.mobs import Stuck, define, opened

Clock = trio.testing.MockClock


async def test_an_input_that_never_reached_the_disk_is_not_said_to_be_abandoned(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.6: found by simulation. A member that is killed while the store fails decides
    from what is on disk, and that says nothing of what the store lost."""
    store, model = HeldStore(), Stuck()
    told: list[Exception] = []

    async def ask(mob: Mob) -> None:
        try:
            await mob.ask("a", "hello")
        except MobError as error:
            told.append(error)

    async def run(nursery: trio.Nursery) -> None:
        async with opened(define("a"), model, store=store) as mob:
            store.hold()
            nursery.start_soon(ask, mob)
            await model.entered.wait()
            mob.kill("a")
            await trio.testing.wait_all_tasks_blocked()
            store.fail(StoreFailed("the disk is gone", path="here"))
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        with pytest.raises(StoreFailed, match="gone"):
            await run(nursery)
    assert [type(each) for each in told] == [MobClosed]
