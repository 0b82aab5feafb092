"""Interrupts that were confirmed hold, also if whoever waits for the turn goes away."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime.containing import abandon
from runtime.driver import TurnAborted
from runtime.ids import SessionId
from runtime.lanes import Lane
from runtime.live import Doing as At
from runtime.realm import Realm
from runtime.records import TurnEnded, TurnOutcome
from stores import MemoryStore
from tests.runtime.fakes import Doing, asking, call, make_realm, new_session, open_lagging

FOREVER = trio.sleep_forever


def outcomes(realm: Realm, session: SessionId) -> list[TurnOutcome]:
    head = realm.state.head(session)
    found: list[TurnEnded] = []
    seq = head.head
    while seq:
        found.insert(0, realm.turn(seq))
        seq = found[0].prev
    return [each.outcome for each in found]


async def interrupted_and_left(realm: Realm, session: SessionId) -> None:
    """Interrupt a caller who waits for what is on its way to the disk, and who then goes away."""
    leaving = trio.CancelScope()

    async def send() -> None:
        with leaving:
            await realm.runner.send_message(session, "second")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.sleep(0.01)
        assert realm.busy(session)
        assert realm.running(session) is None, "it waits for the disk"
        assert realm.interrupt(session, "enough") is True
        leaving.cancel()


@pytest.mark.parametrize("in_a_tool", [False, True])
@pytest.mark.parametrize("cancelled_first", [False, True])
async def test_it_holds_though_the_caller_goes_away_in_the_same_instant(
    cancelled_first: bool, in_a_tool: bool
) -> None:
    """CONTRACTS 4.3: whoever was told that the turn is interrupted finds it so, and the caller who
    comes next has a turn of their own."""
    script: list[Any] = [asking(call("a")) if in_a_tool else lambda _: FOREVER(), "next"]
    realm = make_realm(MemoryStore(), script, [Doing(lambda _: FOREVER())])
    session = await new_session(realm)
    leaving = trio.CancelScope()

    async def send() -> None:
        with leaving:
            await realm.runner.send_message(session, "go")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        if cancelled_first:
            leaving.cancel()
        assert realm.interrupt(session, "enough") is True
        leaving.cancel()
    assert leaving.cancelled_caught
    assert outcomes(realm, session) == [TurnOutcome.INTERRUPTED]
    assert not realm.state.head(session).inputs
    assert (await realm.runner.send_message(session, "and now?")).text == "next"


async def test_without_one_a_turn_that_is_cancelled_stays_in_flight() -> None:
    """CONTRACTS 4.3: only what was interrupted ends."""
    realm = make_realm(MemoryStore(), [lambda _: FOREVER(), "one", "two"])
    session = await new_session(realm)
    with trio.move_on_after(0.01):
        await realm.runner.send_message(session, "go")
    assert outcomes(realm, session) == []
    assert (await realm.runner.send_message(session, "and now?")).text == "two"


async def test_it_holds_for_the_turn_that_a_caller_left_before_it_was_taken_up(
    autojump_clock: Any,
) -> None:
    """CONTRACTS 4.3: the caller waits for what is on its way to the disk; the turn in flight is the
    one that ends, and not what is asked after."""
    async with open_lagging() as store:
        script: list[Any] = [asking(call("a")), "answer"]
        realm = make_realm(store, script, [Doing(lambda _: FOREVER())])
        session = await new_session(realm)
        with trio.move_on_after(5):
            await realm.runner.send_message(session, "first")
        assert realm.state.head(session).partial is not None
        await interrupted_and_left(realm, session)
        assert (await realm.runner.send_message(session, "third")).text == "answer"
        assert outcomes(realm, session)[0] is TurnOutcome.INTERRUPTED


async def test_a_turn_that_ended_all_the_same_takes_it_along(autojump_clock: Any) -> None:
    """CONTRACTS 4.3: none reaches the turn after."""
    async with open_lagging() as store:
        script: list[Any] = [asking(call("a")), "one", "two"]
        realm = make_realm(store, script, [Doing(lambda _: "ok")])
        session = await new_session(realm)
        leaving = trio.CancelScope()

        async def send() -> None:
            with leaving:
                await realm.runner.send_message(session, "first")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.sleep(1.5)
            assert realm.live(session).doing is At.SAVING
            leaving.cancel()
        assert realm.state.head(session).partial is not None, "its end is on its way"
        await interrupted_and_left(realm, session)
        assert (await realm.runner.send_message(session, "third")).text == "two"
        assert outcomes(realm, session) == [TurnOutcome.COMPLETED] * 2


async def test_one_for_a_turn_that_never_began_is_forgotten() -> None:
    """CONTRACTS 4.3: none reaches the turn after."""
    realm = make_realm(MemoryStore(), ["one", "two"])
    session = await new_session(realm)
    with realm.hold(session):
        assert realm.interrupt(session, "enough") is True
    assert (await realm.runner.send_message(session, "go")).text == "one"


async def test_it_holds_though_its_driver_is_given_up_on() -> None:
    """CONTRACTS 4.3, 5.11: found by simulation. A stop gives up on a turn that waits for a slow
    disk; whoever takes it up ends it as it was said to end."""
    realm = make_realm(MemoryStore(), [lambda _: FOREVER(), "next"])
    session = await new_session(realm)

    async def send() -> None:
        with pytest.raises(TurnAborted):
            await realm.runner.send_message(session, "first")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        assert realm.interrupt(session, "enough") is True
        abandon(realm, session)
    inputs = tuple((realm.state.head(session).inputs or {}).values())
    record = await realm.driver(session, inputs).run(inputs)
    assert (record.outcome, record.error) == (TurnOutcome.INTERRUPTED, "enough")


async def test_an_archived_session_lets_the_turn_that_is_being_saved_reach_the_disk() -> None:
    """CONTRACTS 1.2: its task may have the scope for the next turn already, so the turn's end is
    waited for and not cut off."""
    async with open_lagging(delay_s=1.0) as store:
        realm = make_realm(store, ["said"])
        session = await new_session(realm)
        lane, ended = Lane(), []

        async def turn() -> None:
            pending = realm.inputs.accept(session, "go").pending
            assert pending is not None
            ended.append(await realm.driver(session, [pending], None, lane).run([pending]))
            lane.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(turn)
            await trio.sleep(0.5)
            assert realm.live(session).doing is At.SAVING
            await realm.archive(session, "enough")
        assert [each.outcome for each in ended] == [TurnOutcome.COMPLETED]
