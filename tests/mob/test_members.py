"""Joining and leaving."""

from __future__ import annotations

import pytest
import trio

from mob import open_mob
from mob.errors import MemberExists, MemberNotFound
from mob.records import MemberRetired, MemberSpawned
from runtime.errors import MobError, SessionError
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.ports import Ports, SystemIds
from runtime.records import SessionArchived, SessionCreated
from runtime.session import SessionStatus
from stores import MemoryStore
from tests.mob.held import HeldStore
from tests.mob.mobs import Stuck, asked, check_inputs, define, echo, models, opened, records


async def test_a_spawned_member_answers_and_survives_reopening(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 6.2, 6.9."""
    store = MemoryStore()
    async with opened(define("a"), store=store) as mob:
        session = await mob.spawn("b", profile="p")
        assert mob.members == ("a", "b")
        assert mob.session_of("b") == session
        assert (await mob.ask("b", "hello")).text == "hello"
    async with opened(define("a"), store=store) as mob:
        assert mob.members == ("a", "b")
        assert mob.session_of("b") == session
        assert (await mob.ask("b", "again")).text == "again"


async def test_members_stay_in_order_of_joining_though_the_clock_is_set_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 6.9: found by simulation. Rows are read by id, and ids are made by the clock."""

    class Wall:
        now = 2_000_000_000_000_000_000

        def now_ns(self) -> int:
            return self.now

    store, wall = MemoryStore(), Wall()
    for name in ("b", "c"):
        ports = Ports(wall, SystemIds(wall))
        async with open_mob(define("a"), store=store, models=models(echo), ports=ports) as mob:
            await mob.spawn(name, profile="p")
        wall.now -= 86_400_000_000_000
    async with open_mob(define("a"), store=store, models=models(echo)) as mob:
        assert mob.members == ("a", "b", "c")


async def test_a_taken_name_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    """CONTRACTS 6.2."""
    store = MemoryStore()
    async with opened(define("a"), store=store) as mob:
        with pytest.raises(MemberExists, match="'a'") as caught:
            await mob.spawn("a", profile="p")
        assert caught.value.name == "a"
        assert len(records(store, SessionCreated)) == 1


async def test_a_name_is_taken_while_its_spawn_is_pending(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 6.2."""
    store = HeldStore()
    refused: list[MemberExists] = []

    async with opened(define("a"), store=store) as mob:

        async def spawn() -> None:
            try:
                await mob.spawn("x", profile="p")
            except MemberExists as error:
                refused.append(error)

        store.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(spawn)
            nursery.start_soon(spawn)
            await store.wait_held()
            await trio.testing.wait_all_tasks_blocked()
            store.release()
        assert len(refused) == 1
        assert mob.members == ("a", "x")
        assert len(records(store, MemberSpawned)) == 2


async def test_a_name_is_taken_after_its_pending_spawn_was_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 6.2. The record is queued and nothing takes it back."""
    store = HeldStore()
    async with opened(define("a"), store=store) as mob:
        store.hold()
        with trio.move_on_after(1):
            await mob.spawn("x", profile="p")
        with pytest.raises(MemberExists):
            await mob.spawn("x", profile="p")
        store.release()
        assert mob.members == ("a", "x")
        assert (await mob.ask("x", "hi")).text == "hi"
        assert len(records(store, MemberSpawned)) == 2


@pytest.mark.parametrize(("name", "profile"), [("no name", "p"), ("", "p"), ("x", "q")])
async def test_a_failed_spawn_leaves_nothing(
    name: str, profile: str, autojump_clock: trio.testing.MockClock
) -> None:
    """CONTRACTS 6.2."""
    store = MemoryStore()
    async with opened(define("a"), store=store) as mob:
        with pytest.raises(MobError):
            await mob.spawn(name, profile=profile)
        assert mob.members == ("a",)
        assert len(records(store, SessionCreated)) == 1
        await mob.spawn("x", profile="p")


async def test_retiring_twice_is_retiring_once(autojump_clock: trio.testing.MockClock) -> None:
    """CONTRACTS 6.3."""
    store = MemoryStore()
    async with opened(define("a", "b"), store=store) as mob:
        await mob.retire("b")
        await mob.retire("b")
        assert mob.members == ("a",)
        with pytest.raises(MemberNotFound) as caught:
            await mob.ask("b", "hello")
        assert caught.value.known == ("a",)
        with pytest.raises(MemberNotFound):
            await mob.retire("nobody")
    assert len(records(store, MemberRetired)) == 1
    async with opened(define("a", "b"), store=store) as mob:
        await mob.retire("b")
        assert mob.members == ("a",)


async def test_a_retiring_member_is_unroutable_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 6.3. The second `retire` returns when the first is on disk, and records nothing."""
    store = HeldStore()
    ended: list[int] = []
    async with opened(define("a", "b"), store=store) as mob:

        async def retire(which: int) -> None:
            await mob.retire("b")
            assert records(store, MemberRetired)
            ended.append(which)

        async with trio.open_nursery() as nursery:
            store.hold()
            nursery.start_soon(retire, 1)
            nursery.start_soon(retire, 2)
            await store.wait_held()
            await trio.testing.wait_all_tasks_blocked()
            for verb in (mob.ask("b", "x"), mob.send("b", "x")):
                with pytest.raises(MemberNotFound):
                    await verb
            with pytest.raises(MemberExists):
                await mob.spawn("b", profile="p")
            assert ended == []
            store.release()
        assert sorted(ended) == [1, 2]
    assert len(records(store, MemberRetired)) == 1


async def test_whoever_waits_for_a_retired_member_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 6.3: the one being answered and those queued behind it."""
    store = MemoryStore()
    stuck = Stuck()
    told: list[str] = []
    async with opened(define("a", "b"), stuck, store=store) as mob:

        async def ask(text: str) -> None:
            with pytest.raises(SessionError, match="retired"):
                await mob.ask("b", text, idempotency_key=text)
            told.append(text)

        async with trio.open_nursery() as nursery:
            for text in ("1", "2", "3"):
                nursery.start_soon(ask, text)
            await stuck.entered.wait()
            await trio.testing.wait_all_tasks_blocked()
            await mob.retire("b")
        assert sorted(told) == ["1", "2", "3"]
        fates = [mob.realm.state.find_key(key).abandoned for key in "123"]
        assert fates == ["its session was archived: retired"] * 3
    assert len(stuck.calls) == 1
    check_inputs(store)


async def test_waiters_are_told_even_if_retire_is_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 6.3. The retirement is queued and nothing takes it back."""
    store = HeldStore()
    stuck = Stuck()
    async with opened(define("a", "b"), stuck, store=store) as mob:

        async def ask() -> None:
            with pytest.raises(SessionError, match="retired"):
                await mob.ask("b", "1")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await stuck.entered.wait()
            store.hold()
            with trio.move_on_after(1) as scope:
                await mob.retire("b")
            assert scope.cancelled_caught
            with pytest.raises(MemberNotFound):
                await mob.send("b", "x")
            store.release()
        assert mob.members == ("a",)


async def test_whoever_waits_for_a_member_of_a_stopped_mob_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 6.3: there is no activation that could tell."""
    stuck = Stuck()
    async with opened(define("a", "b"), stuck) as mob:

        async def ask() -> None:
            with pytest.raises(SessionError, match="retired"):
                await mob.ask("b", "1")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await stuck.entered.wait()
            await mob.stop(deadline_s=1)
            await mob.retire("b")


@pytest.mark.parametrize("seed", range(8))
async def test_retiring_during_the_commit_of_a_turn(
    seed: int, autojump_clock: trio.testing.MockClock
) -> None:
    """CONTRACTS 6.3, 6.8. The turn was queued first, so its asker gets the answer."""
    store = HeldStore()
    answers: list[str] = []
    async with opened(define("a", "b"), store=store) as mob:

        async def ask() -> None:
            answers.append((await mob.ask("b", "hi")).text)

        async with trio.open_nursery() as nursery:
            store.hold()
            nursery.start_soon(ask)
            await store.wait_held(2)
            nursery.start_soon(mob.retire, "b")
            await store.wait_held(3)
            store.release()
        assert answers == ["hi"]
        assert (await mob.ask("a", "well?")).text == "well?"
    check_inputs(store)


async def test_a_name_may_be_used_again_after_retiring(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 6.2, 6.3."""
    store = MemoryStore()
    async with opened(define("a", "b"), store=store) as mob:
        first = mob.session_of("b")
        await mob.ask("b", "hello")
        await mob.retire("b")
        second = await mob.spawn("b", profile="p")
        assert second != first
        assert len(mob.realm.messages(first)) == 2
        assert (await mob.ask("b", "hi")).text == "hi"
        assert len(mob.realm.messages(second)) == 2
        await mob.retire("b")
        assert mob.members == ("a",)


def _spawns(request: ModelRequest) -> str | ModelReply:
    if "spawn" in asked(request) and request.key.endswith(".1"):
        deeper = asked(request).removeprefix("spawn ")
        return calling(("spawn_agent", {"name": "kid", "instructions": deeper}))
    return "ok"


async def test_retiring_takes_the_children_along(autojump_clock: trio.testing.MockClock) -> None:
    """CONTRACTS 1.10, 6.3: a child and a grandchild, deepest first, before the parent."""
    store = MemoryStore()
    entered = trio.Event()

    async def answer(request: ModelRequest) -> str | ModelReply:
        if asked(request) == "wait":
            entered.set()
            await trio.sleep_forever()
        return _spawns(request)

    definition = define("a", "b", profile={"subagents": {"max_depth": 3}})
    async with opened(definition, answer, store=store) as mob:
        await mob.send("b", "spawn spawn wait")
        await entered.wait()
        parent = mob.realm.state.heads[mob.session_of("b")]
        assert parent.children is not None
        child = mob.realm.state.heads[parent.children[0]]
        assert child.children is not None
        await mob.retire("b")
        ended = [record.session_id for record in records(store, SessionArchived)]
        assert ended == [child.children[0], child.session_id, parent.session_id]
        assert mob.realm.state.descendants[parent.session_id] == (0, 2)
        await mob.wait_idle()
    check_inputs(store)


async def test_a_child_that_is_being_made_goes_with_its_parent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 1.8, 1.10: its record is queued when the parent is retired."""
    store = HeldStore()
    definition = define("a", "b", profile={"subagents": {}})
    async with opened(definition, _spawns, store=store) as mob:
        session = mob.session_of("b")
        async with trio.open_nursery() as nursery:
            store.hold()
            nursery.start_soon(mob.send, "b", "spawn more")
            await store.wait_held(2)  # the input, the call
            store.release(2)
            await store.wait_held(1)  # the child
            nursery.start_soon(mob.retire, "b")
            await store.wait_held(2)
            store.release()
        await mob.wait_idle()
        (child,) = mob.realm.state.heads[session].children or ()
        assert mob.realm.state.heads[child].status is SessionStatus.ARCHIVED
        assert mob.realm.state.descendants[session] == (0, 1)
        assert len(records(store, SessionArchived)) == 2
