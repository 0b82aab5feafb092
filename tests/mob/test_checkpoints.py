"""[checkpoint] in a mob file: each key does something that shows."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from runtime.checkpoint import CheckpointPolicy
from runtime.ids import RealmId
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.store import StoredSessions
from stores import open_memory
from tests.mob.held import HeldStore
from tests.mob.mobs import asked, define, echo, opened
from tests.mob.test_stop_resume import Snapshots

#: More turns than any test here makes.
MANY = 1000


@pytest.mark.parametrize(
    ("key", "value", "turns"),
    [
        ("every_turns", 3, 3),
        ("every_messages", 4, 2),  # a turn of an echo is a question and an answer
        ("every_bytes", 700, 4),
    ],
)
async def test_the_snapshot_comes_when_the_key_says(
    key: str, value: int, turns: int, autojump_clock: MockClock
) -> None:
    snapshots = Snapshots()
    keys: dict[str, Any] = {"every_turns": MANY, key: value}
    async with opened(define("a", checkpoint=keys), sessions=snapshots) as mob:
        for number in range(1, turns + 1):
            assert snapshots.saves == 0
            await mob.ask("a", "x" if key != "every_bytes" else "x" * 20)
            await wait_all_tasks_blocked()
            assert snapshots.saves == (number == turns)
        assert snapshots.saved[mob.session_of("a")].turns == turns


async def test_the_snapshot_comes_when_its_time_has(autojump_clock: MockClock) -> None:
    snapshots = Snapshots()
    checkpoint = {"every_turns": MANY, "every_s": 30}
    async with opened(define("a", checkpoint=checkpoint), sessions=snapshots) as mob:
        await mob.ask("a", "x")
        await trio.sleep(29)
        assert snapshots.saves == 0
        await trio.sleep(2)
        assert snapshots.saves == 1
        await trio.sleep(1000)
        assert snapshots.saves == 1


@pytest.mark.parametrize("key", ["every_messages", "every_bytes", "every_s"])
async def test_without_the_key_only_turns_count(key: str, autojump_clock: MockClock) -> None:
    assert getattr(define("a").checkpoint, key) is None
    snapshots = Snapshots()
    async with opened(define("a"), sessions=snapshots) as mob:
        for _ in range(63):
            await mob.ask("a", "x" * 100)
        await trio.sleep(600)
        assert snapshots.saves == 0
        await mob.ask("a", "x")
        await wait_all_tasks_blocked()
        assert snapshots.saves == 1


async def test_what_opening_must_replay_is_bounded(autojump_clock: MockClock) -> None:
    """CONTRACTS 6.9: and what is opened then is what there was."""
    bounded, free = define("a", "b", checkpoint={"max_tail": 20}), define("a", "b")
    for definition, most in ((bounded, 20), (free, MANY)):
        async with open_memory() as store, opened(definition, store=store) as mob:
            longest = 0
            for number in range(100):
                await mob.ask("ab"[number % 2], f"{number}")
                await wait_all_tasks_blocked()
                longest = max(longest, mob.realm.recovery.tail)
            assert (longest > 20) is (most > 20)
            assert longest <= most


def test_a_blueprint_has_only_the_keys_that_were_given() -> None:
    """A mob stored before a key existed is not changed by it."""
    table = json.loads(define("a", checkpoint={"every_turns": 64}).blueprint())
    assert table["checkpoint"] == {"every_turns": 64}
    assert define("a").blueprint() == define("a", checkpoint={"every_turns": 64}).blueprint()
    table = json.loads(define("a", checkpoint={"every_s": 5, "max_tail": 9}).blueprint())
    assert table["checkpoint"] == {"every_turns": 64, "every_s": 5.0, "max_tail": 9}


async def test_a_definition_in_python_takes_the_same_keys(autojump_clock: MockClock) -> None:
    snapshots = Snapshots()
    definition = attrs.evolve(define("a"), checkpoint=CheckpointPolicy(every_messages=2))
    async with opened(definition, echo, sessions=snapshots) as mob:
        await mob.ask("a", "x")
        await wait_all_tasks_blocked()
        assert snapshots.saves == 1


async def test_a_turn_whose_end_is_on_its_way_when_the_mob_stops_is_in_a_snapshot(
    autojump_clock: MockClock,
) -> None:
    """CONTRACTS 5.10, 5.11: found by simulation. A child's turn is cut off by its parent's end, and
    nobody waits for its record any more; it is one of those that stopping saves all the same."""
    store, snapshots = HeldStore(), Snapshots()

    def answer(request: ModelRequest) -> str | ModelReply:
        if asked(request) == "go":
            return calling(("spawn_agent", {"name": "kid", "instructions": "work"}))
        store.hold()
        return "done"

    definition = define("a", profile={"subagents": {}})
    async with opened(definition, answer, store=store, sessions=snapshots) as mob:
        await mob.send("a", "go")
        await store.wait_held()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.stop, 0)
            await wait_all_tasks_blocked()
            store.release()
        (kid,) = mob.realm.state.heads[mob.session_of("a")].children or ()
        assert mob.realm.state.heads[kid].turns == 1
        assert snapshots.saved[kid].turns == 1


async def test_a_session_that_is_deleted_while_it_is_saved_leaves_no_snapshot(
    autojump_clock: MockClock,
) -> None:
    """CONTRACTS 3.6: found by simulation. The deletion was made before the snapshot was there."""
    store = HeldStore()
    async with opened(define("a", "b"), store=store) as mob:
        await mob.ask("a", "x")
        session_id = mob.session_of("a")
        async with trio.open_nursery() as nursery:
            store.hold()
            nursery.start_soon(mob.retire, "a")
            await store.wait_held()
            store.release(1)
            await store.wait_held()  # its first and last snapshot
            nursery.start_soon(mob.sessions.delete, session_id)
            await wait_all_tasks_blocked()
            store.release()
        await wait_all_tasks_blocked()
        assert session_id not in mob.realm.state.heads
    assert session_id not in await StoredSessions(store, RealmId("t")).list()
