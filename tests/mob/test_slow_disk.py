"""A disk that is slower than the time that things have to unwind."""

from __future__ import annotations

import pytest
import trio

from mob.lifecycle import MobState
from mob.receipts import StopReport
from runtime.live import Doing
from tests.mob.mobs import define, opened
from tests.runtime.fakes import open_lagging


@pytest.mark.parametrize("leaving", [False, True])
async def test_a_turn_that_waits_for_the_disk_is_not_given_up_on(
    leaving: bool, autojump_clock: object
) -> None:
    """CONTRACTS 5.11: it has ended, and its asker is told what it said."""
    said: list[str] = []
    reports: list[StopReport] = []
    async with open_lagging(delay_s=8.0) as store:
        async with (
            opened(define("a"), store=store, grace_s=0.0) as mob,
            trio.open_nursery() as tasks,
        ):

            async def ask() -> None:
                said.append((await mob.ask("a", "hi")).text)

            tasks.start_soon(ask)
            await trio.sleep(1.0)
            live = mob.realm.live(mob.session_of("a"))
            assert live.doing is Doing.SAVING
            if not leaving:
                reports.append(await mob.stop(0.0))
                assert mob.state is MobState.STOPPED
                assert reports[0].stuck == ()
                assert said == ["hi"]
                assert mob.realm.state.head(mob.session_of("a")).turns == 1
            else:
                await mob.close(0.0)
                assert not mob.at_work
