"""A history is a sequence like a tuple, and reads no more than it is asked for."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from runtime.history import History
from runtime.manager import RealmSessions
from runtime.messages import Message, UserMessage
from runtime.models.base import ModelRequest
from runtime.models.sim import EchoModel
from runtime.records import TurnEnded, turn_bytes
from stores import MemoryStore
from tests.runtime.fakes import make_realm, new_session

MANY = tuple(UserMessage(str(index)) for index in range(20))
INDICES = st.none() | st.integers(-25, 25)


def unread(count: int, asked: list[int]) -> History:
    """A history that is read when it is looked at."""

    def newest(limit: int) -> Sequence[Message]:
        asked.append(limit)
        return MANY[:count][count - limit :]

    return History(count, None, newest)


@given(st.integers(0, 12), INDICES, INDICES, st.sampled_from([None, 1, 2, -1, -3]))
def test_it_is_what_a_tuple_is(
    count: int, start: int | None, stop: int | None, step: int | None
) -> None:
    wanted = MANY[:count]
    for history in (History(count, list(MANY)), unread(count, [])):
        assert history[start:stop:step] == wanted[start:stop:step]
        assert len(history) == count
        assert tuple(history) == wanted
        assert history == wanted
        assert wanted == history
        assert history == History(count, wanted)
        assert hash(history) == hash(wanted)
        assert history != MANY[: count + 1]
        assert history != list(wanted)
        assert history + MANY[:1] == wanted + MANY[:1]
        assert copy.deepcopy(history) == pickle.loads(pickle.dumps(history)) == wanted
        assert list(reversed(history)) == list(reversed(wanted))
        for index in range(-count, count):
            assert history[index] == wanted[index]
        for index in (count, -count - 1):
            with pytest.raises(IndexError):
                history[index]


def test_it_stays_while_what_it_shows_grows() -> None:
    live: list[Message] = list(MANY[:3])
    history = History(3, live)
    live.append(MANY[3])
    assert history == MANY[:3]
    assert history[-1] == MANY[2]
    assert history[1:] == MANY[1:3]


def test_its_end_is_read_without_its_beginning() -> None:
    asked: list[int] = []
    history = unread(20, asked)
    assert history[-2:] == MANY[-2:]
    assert history[19] == MANY[19]
    assert asked == [2, 1]
    assert history[0] == MANY[0]
    assert list(history) == list(MANY)
    assert asked == [2, 1, 20]


async def test_a_snapshot_does_not_change_when_the_session_goes_on_or_back() -> None:
    realm = make_realm(MemoryStore(), EchoModel())
    manager = RealmSessions(realm)
    session = await new_session(realm)
    taken = []
    for number in range(4):
        await realm.runner.send_message(session, str(number))
        taken.append(realm.snapshot(session))
    await manager.rewind(session, 1)
    taken.append(realm.snapshot(session))
    await realm.runner.send_message(session, "another way")
    lengths = [2, 4, 6, 8, 4]
    assert [len(tuple(value.messages)) for value in taken] == lengths
    assert taken[4].messages == taken[1].messages
    assert taken[3].messages[-1].text == "3"


async def test_what_a_turn_writes_does_not_grow_with_the_history() -> None:
    """CONTRACTS 6.14."""
    realm = make_realm(MemoryStore(), EchoModel())
    session = await new_session(realm)
    written = []
    for _ in range(300):
        before = realm.journal.last
        await realm.runner.send_message(session, "same")
        written.append(
            sum(
                turn_bytes(event.record)
                for event in realm.journal.read(before, 100)
                if isinstance(event.record, TurnEnded)
            )
        )
    assert 0 < max(written) < written[0] + 100


async def test_what_is_let_go_from_memory_is_on_disk(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRACTS 2.7, 5.4: sessions beyond a number are let go, but none with a turn in flight;
    nothing stored changes by it."""
    monkeypatch.setattr("runtime.copies.LIVE_SESSIONS", 2)
    store, gate = MemoryStore(), trio.Event()

    async def answer(request: ModelRequest) -> str:
        text = request.messages[-1].text
        if text == "slow":
            await gate.wait()
        return f"{len(request.messages)}"

    realm = make_realm(store, answer)
    slow, *others = [await new_session(realm) for _ in range(4)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(realm.runner.send_message, slow, "slow")
        await wait_all_tasks_blocked()
        at_work = realm.live(slow)
        for turn in range(3):
            for session in others:
                assert (await realm.runner.send_message(session, "x")).text == str(2 * turn + 1)
                if turn == 1:
                    realm.discard_live(session)
                    realm.discard_live(slow)
        assert realm.live(slow) is at_work
        for session in others:
            assert realm.live(session).history == realm.history(realm.state.heads[session])
        gate.set()
    again = make_realm(store)
    for session in (slow, *others):
        assert again.snapshot(session) == realm.snapshot(session)
