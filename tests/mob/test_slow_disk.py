"""A disk that is slower than the time that things have to unwind."""

from __future__ import annotations

import pytest
import trio

from mob.errors import MemberFailed
from mob.lifecycle import MobState
from mob.receipts import StopReport
from runtime.errors import ModelRefused
from runtime.live import Doing
from runtime.session import SessionStatus
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


async def test_a_failure_that_waits_for_the_disk_is_not_given_up_on(autojump_clock: object) -> None:
    """CONTRACTS 5.8, 5.11: what was recorded as given up ends as failed, and is not continued."""
    told: list[str] = []

    def refuse(_request: object) -> Exception:
        return ModelRefused("no", provider="m")

    async with open_lagging(delay_s=8.0) as store:
        async with (
            opened(define("a"), refuse, store=store, grace_s=0.0) as mob,
            trio.open_nursery() as tasks,
        ):

            async def ask() -> None:
                with pytest.raises(MemberFailed) as caught:
                    await mob.ask("a", "hi")
                told.append(str(caught.value))

            tasks.start_soon(ask)
            await trio.sleep(9.0)  # all that the turn had queued is on disk, and its exit is not
            report = await mob.stop(0.0)
            assert report.stuck == ()
            assert len(told) == 1
            head = mob.realm.state.head(mob.session_of("a"))
            assert (head.status, head.turns) == (SessionStatus.FAILED, 1)
