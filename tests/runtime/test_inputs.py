"""Inputs: what was accepted is worked on, once, in order (CONTRACTS 5.6, 5.7)."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from runtime.errors import (
    SessionBusy,
    SessionError,
    TurnFailed,
)
from runtime.session import SessionStatus
from stores import MemoryStore
from tests.runtime.fakes import (
    make_realm,
    new_session,
    open_lagging,
)


@pytest.mark.parametrize("lag", [0.0, 1.0])
async def test_what_was_cut_off_is_answered_before_the_next_message(
    lag: float, autojump_clock: Any
) -> None:
    """CONTRACTS 5.7: an input without a receipt is worked on again, and never for another one."""
    slow: list[bool] = []

    async def say(request: Any) -> str:
        if slow and slow.pop():
            await trio.sleep_forever()
        return f"re: {request.messages[-1].text}"

    async with open_lagging(delay_s=lag) as store:
        realm = make_realm(store, say)
        session = await new_session(realm)
        for text, patience in (("one", 0.5), ("two", 0.5 + 3 * lag)):
            slow[:] = [True]
            with trio.move_on_after(patience):
                await realm.runner.send_message(session, text)
        result = await realm.runner.send_message(session, "three")
        assert result.text == "re: three"
        found = await realm.runner.get_messages(session, order="oldest")
        assert [m.text for m in found] == ["one", "re: one", "two", "re: two", "three", "re: three"]
        assert realm.state.head(session).inputs is None


async def test_a_key_joins_the_outcome_of_its_first_message_also_after_a_restart(
    autojump_clock: Any,
) -> None:
    """CONTRACTS 5.7."""
    store = MemoryStore()
    realm = make_realm(store, ["one", ValueError("broke"), "three"])
    session = await new_session(realm)
    assert (await realm.runner.send_message(session, "a", idempotency_key="a")).text == "one"
    with pytest.raises(TurnFailed):
        await realm.runner.send_message(session, "b", idempotency_key="b")
    for again in (realm, make_realm(store)):
        result = await again.runner.send_message(session, "a", idempotency_key="a")
        assert result.text == "one"
        with pytest.raises(TurnFailed, match="broke"):
            await again.runner.send_message(session, "b", idempotency_key="b")
    assert realm.state.head(session).turns == 2


async def test_what_was_abandoned_stays_so_and_says_why() -> None:
    """CONTRACTS 5.6, 5.7: terminal is final, for whoever comes with the same key, and later too."""
    store = MemoryStore()
    realm = make_realm(store, ["never said"])
    session = await new_session(realm)
    accepted = realm.inputs.accept(session, "x", idempotency_key="k").pending
    assert accepted is not None
    await realm.inputs.abandon(session, accepted.input_id, "nobody wanted it")
    await realm.inputs.abandon(session, accepted.input_id, "another reason")
    for here in (realm, make_realm(store, ["never said"])):
        with pytest.raises(SessionError, match="abandoned: nobody wanted it"):
            await here.runner.send_message(session, "x", idempotency_key="k")
        assert here.state.heads[session].turns == 0
        assert await here.runner.get_messages(session) == []


async def test_a_key_of_another_session_is_refused() -> None:
    realm = make_realm(MemoryStore(), ["one", "two"])
    one, two = await new_session(realm), await new_session(realm)
    await realm.runner.send_message(one, "a", idempotency_key="k")
    with pytest.raises(SessionError, match="'k' was used"):
        await realm.runner.send_message(two, "a", idempotency_key="k")
    assert realm.state.head(two).turns == 0
    assert not realm.state.head(two).inputs


@pytest.mark.parametrize("lag", [0.0, 1.0])
async def test_only_one_message_is_in_at_a_time_also_while_a_failure_is_recorded(
    lag: float, autojump_clock: Any
) -> None:
    """CONTRACTS 4.2: the loser is told, and what it said is never queued."""

    async def say(request: Any) -> str:
        await trio.sleep(1)
        raise ValueError(request.messages[-1].text)

    async with open_lagging(delay_s=lag) as store:
        realm = make_realm(store, say)
        session = await new_session(realm)
        told: list[str] = []

        async def send(text: str) -> None:
            try:
                await realm.runner.send_message(session, text)
            except (TurnFailed, SessionBusy) as error:
                told.append(type(error).__name__)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, "first")
            for _ in range(20):
                await trio.sleep(0.1 + lag / 20)
                nursery.start_soon(send, "meanwhile")
                if await realm.runner.get_session_status(session) is not SessionStatus.ACTIVE:
                    break
        ended = realm.state.head(session).turns
        assert told.count("TurnFailed") == ended
        assert told.count("SessionBusy") >= 9
        assert not realm.state.head(session).inputs


async def test_keys_that_are_on_their_way_to_the_disk_are_not_looked_at_again_for_each_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CONTRACTS 5.7: what a key costs does not grow with how many inputs are in flight."""
    async with open_lagging(delay_s=0.0) as store:
        realm = make_realm(store)
        session = await new_session(realm)
        looked: list[str] = []
        find = type(realm.state).find_key

        def counted(state: Any, key: str) -> Any:
            looked.append(key)
            return find(state, key)

        monkeypatch.setattr(type(realm.state), "find_key", counted)
        admitted = [
            realm.inputs.accept(session, "x", idempotency_key=f"k{number}") for number in range(800)
        ]
        assert len(looked) <= 800 * 4
        assert admitted[0].ticket is not None
        for number in (0, 400, 799):
            again = realm.inputs.accept(session, "x", idempotency_key=f"k{number}")
            assert again.pending == admitted[number].pending, "a key in flight joins its input"
        assert admitted[-1].ticket is not None
        await admitted[-1].ticket.wait()
        for number in (0, 799):
            again = realm.inputs.accept(session, "x", idempotency_key=f"k{number}")
            assert again.pending == admitted[number].pending
