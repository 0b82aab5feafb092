"""Limits of a mob: members, turns, turns at the same time; calls of one model at the same time."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from mob.definition import MobDefinition
from mob.errors import DefinitionInvalid
from mob.models import Limited
from mob.receipts import Receipt
from runtime.errors import LimitExceeded
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.records import TurnEnded
from stores import MemoryStore
from tests.mob.held import HeldStore
from tests.mob.mobs import Stuck, asked, check_inputs, define, member, opened, pair, records, table

Clock = trio.testing.MockClock


class Counting:
    """A model that takes its time, and knows whom it served in which order and how many at once."""

    def __init__(self, takes_s: float = 10) -> None:
        self.takes_s = takes_s
        self.now = self.most = 0
        self.order: list[str] = []

    async def __call__(self, request: ModelRequest) -> str:
        self.order.append(f"{member(request)}{asked(request)}")
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await trio.sleep(self.takes_s)
        finally:
            self.now -= 1
        return "done"


async def test_no_more_members_than_allowed_also_while_they_join(autojump_clock: Clock) -> None:
    """CONTRACTS 6.15: the error names the limit; room is made by retiring."""
    store = HeldStore()
    async with opened(define("a", "b", limits={"members": 3}), store=store) as mob:
        with pytest.raises(LimitExceeded, match="limit of 3 members is reached") as caught:
            await mob.spawn_many([("x", "p"), ("y", "p")])
        assert (caught.value.limit, caught.value.allowed) == ("members", 3)
        refused = 0

        async def spawn(name: str) -> None:
            nonlocal refused
            try:
                await mob.spawn(name, profile="p")
            except LimitExceeded:
                refused += 1

        store.hold()
        async with trio.open_nursery() as nursery:
            for name in ("x", "y", "z"):
                nursery.start_soon(spawn, name)
            await store.wait_held()
            await trio.testing.wait_all_tasks_blocked()
            store.release()
        assert refused == 2
        await mob.retire("a")
        await mob.spawn("w", profile="p")
        assert len(mob.members) == 3
    with pytest.raises(DefinitionInvalid, match=r"limits.members: is 1, and the file has 2"):
        define("a", "b", limits={"members": 1})


async def test_turns_at_the_same_time_are_bounded_and_given_in_order(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.15: one turn each, in the order in which members came; a member with a long
    queue passes nobody over."""
    model = Counting()
    store = MemoryStore()
    definition = define("a", "b", "c", "d", limits={"concurrent_turns": 2})
    async with opened(definition, model, store=store) as mob:
        for text in ("1", "2", "3"):
            await mob.send("a", text)
        for name in ("b", "c", "d"):
            await mob.send(name, "1")
        await mob.wait_idle()
    assert model.most == 2
    assert len(model.order) == 6
    assert model.order[-1] == "a3"
    assert model.order.index("a2") >= 3, "whoever came before its second turn goes first"
    check_inputs(store)


async def test_a_question_needs_no_slot_of_its_own(autojump_clock: Clock) -> None:
    """CONTRACTS 6.15: whoever asks waits for the answer in its slot, so it could never come."""

    def first(request: ModelRequest) -> Any:
        if len(request.messages) == 1:
            return calling(("ask_pb", {"message": "well?"}))
        return "heard"

    async with opened(
        pair(limits={"concurrent_turns": 1}), a=first, b=lambda request: "well"
    ) as mob:
        with trio.fail_after(100):
            assert (await mob.ask("a", "go")).text == "heard"


async def test_what_is_queued_before_a_question_needs_no_slot_either(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.15: whoever asks holds the slot, and what came before its question goes first."""

    async def first(request: ModelRequest) -> Any:
        if len(request.messages) == 1:
            await trio.sleep(5)
            return calling(("ask_pb", {"message": "well?"}))
        return "heard"

    async with opened(
        pair(limits={"concurrent_turns": 1}), a=first, b=lambda request: "well"
    ) as mob:
        await mob.send("a", "go")
        await trio.sleep(1)
        await mob.send("b", "and you")  # it waits for the slot
        with trio.fail_after(100):
            await mob.wait_idle()
        assert mob.realm.state.head(mob.session_of("b")).turns == 2


@pytest.mark.parametrize("limit", ["turns", "turns_per_member"])
async def test_a_prompt_on_its_way_to_the_disk_counts(autojump_clock: Clock, limit: str) -> None:
    """CONTRACTS 6.15: a member that goes on by itself is asked for no turn beside that one."""
    store = HeldStore()

    async def answer(request: ModelRequest) -> str:
        await trio.sleep(5)
        return "more"

    definition = define("a", profile={"mode": "autonomous"}, limits={limit: 2})
    async with opened(definition, answer, store=store) as mob:
        await mob.send("a", "begin")
        store.hold()
        await store.wait_held()
        with pytest.raises(LimitExceeded, match="s limit of 2 turns"):
            await mob.send("a", "and this")
        store.release()
        await mob.wait_idle()
        assert mob.realm.state.head(mob.session_of("a")).turns == 2


async def test_a_slot_is_given_back_while_a_member_waits_to_be_restarted(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.15."""
    times: dict[str, float] = {}

    async def answer(request: ModelRequest) -> str:
        name = member(request)
        if name not in times:
            times[name] = trio.current_time()
            if name == "a":
                raise RuntimeError("a broke")
        return "done"

    restart = {"backoff_s": 50, "max_backoff_s": 50}
    definition = define("a", "b", restart=restart, limits={"concurrent_turns": 1})
    async with opened(definition, answer) as mob:
        await mob.send("a", "1")
        await mob.send("b", "1")
        await mob.wait_idle()
    assert times["b"] - times["a"] < 1


async def test_stopping_and_leaving_take_whoever_waits_for_a_slot_along(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 5.11, 6.15."""
    store = MemoryStore()
    model = Counting(100)
    definition = define("a", "b", "c", limits={"concurrent_turns": 1})
    async with opened(definition, model, store=store, grace_s=0) as mob:
        for name in "abc":
            await mob.send(name, "1")
        await trio.sleep(1)
        await mob.retire("b")
        start = trio.current_time()
        report = await mob.stop(1)
        assert trio.current_time() - start < 3
        assert report.stuck == ()
        await mob.resume()
        await trio.sleep(1)
    async with opened(definition, model, store=store) as mob:
        await mob.wait_idle()
    assert model.most == 1
    check_inputs(store)


@pytest.mark.parametrize(
    ("limits", "limit"), [({"turns_per_member": 2}, "turns_per_member"), ({"turns": 3}, "turns")]
)
async def test_turns_are_counted_with_what_waits_and_over_reopenings(
    limits: dict[str, int], limit: str, autojump_clock: Clock
) -> None:
    """CONTRACTS 6.15."""
    store = MemoryStore()
    definition = define("a", "b", limits=limits)
    async with opened(definition, store=store) as mob:
        await mob.ask("a", "1")
        await mob.ask("b", "1", idempotency_key="k")
    async with opened(definition, Counting(), store=store) as mob:
        await mob.send("a", "2")
        with pytest.raises(LimitExceeded, match=r"has had|have had") as caught:
            await mob.send("a", "3")
        assert caught.value.limit == limit
        assert (await mob.ask("b", "1", idempotency_key="k")).text == "1", "it joins"
        await mob.wait_idle()
        with pytest.raises(LimitExceeded):
            await mob.ask("a", "3")
    assert len(records(store, TurnEnded)) == 3


@pytest.mark.parametrize(("limit", "most"), [("turns_per_member", 1), ("turns", 2)])
async def test_a_broadcast_counts_too(autojump_clock: Clock, limit: str, most: int) -> None:
    """CONTRACTS 6.15: whom it would give a turn too many is not reached, also of one commit."""
    async with opened(define("a", "b", limits={limit: most}), Counting()) as mob:
        await mob.ask("a", "x")
        found = await mob.broadcast("hello")
        reached = [name for name, each in found.items() if isinstance(each, Receipt)]
        assert reached == (["b"] if limit == "turns_per_member" else ["a"])
        (refused,) = [each for each in found.values() if not isinstance(each, Receipt)]
        assert isinstance(refused, LimitExceeded)


async def test_the_turns_that_a_fork_came_with_are_nobodys_again(autojump_clock: Clock) -> None:
    """CONTRACTS 6.15: they were had once, by whom it is a fork of."""
    store = MemoryStore()
    definition = define("a", "b", limits={"turns": 4})
    async with opened(definition, store=store) as mob:
        for text in ("1", "2"):
            await mob.ask("a", text)
        fork = await mob.sessions.fork(mob.session_of("a"))
        assert mob.realm.state.head(fork.session_id).turns == 2
        again = await mob.sessions.fork(fork.session_id)
        await mob.sessions.rewind(again.session_id, 0)
    async with opened(definition, store=store) as mob:
        for text in ("3", "4"):
            await mob.ask("a", text)
        with pytest.raises(LimitExceeded, match="4 turns"):
            await mob.ask("b", "5")


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_turn_that_was_cut_off_counts_until_it_has_landed(
    autojump_clock: Clock, leaves: bool
) -> None:
    """CONTRACTS 6.15: the turn of a session that its member has left ends some time, and is one."""
    gone = trio.Event()

    async def deaf(request: ModelRequest) -> str:
        if asked(request) == "1":
            with trio.CancelScope(shield=True):
                await gone.wait()
        return "done"

    store = HeldStore()
    async with opened(define("a", "b", limits={"turns": 2}), deaf, store=store) as mob:
        await mob.send("a", "1")
        await trio.testing.wait_all_tasks_blocked()
        if leaves:
            assert mob.interrupt("a")
            await mob.retire("a")
        else:
            await mob.respawn("a")
        try:
            await mob.ask("b", "2")
            with pytest.raises(LimitExceeded, match="have still to do, 2"):
                await mob.send("b", "3")
        finally:
            store.hold()
            gone.set()
        await store.wait_held()
        store.release(1)
        with pytest.raises(LimitExceeded, match="have still to do, 2"):
            await mob.send("b", "3")
        store.release()
        await mob.wait_idle()
        with pytest.raises(LimitExceeded, match="have still to do, 2"):
            await mob.send("b", "3")
    assert len(records(store.inner, TurnEnded)) == 2


async def test_a_turn_that_a_member_leaves_without_an_end_is_none(autojump_clock: Clock) -> None:
    """CONTRACTS 6.15: what was cut off with its member is on no disk as a turn."""
    stuck = Stuck()
    store = MemoryStore()
    async with opened(define("a", "b", limits={"turns": 1}), stuck, store=store) as mob:
        await mob.send("a", "1")
        await trio.testing.wait_all_tasks_blocked()
        await mob.retire("a")
        await trio.testing.wait_all_tasks_blocked()
        stuck.gate.set()
        await mob.ask("b", "2")
    assert len(records(store, TurnEnded)) == 1


@pytest.mark.parametrize("limit", ["turns", "turns_per_member"])
async def test_a_turn_is_counted_once_in_the_moment_in_which_it_lands(
    autojump_clock: Clock, limit: str
) -> None:
    """CONTRACTS 6.15: whoever sees it on the disk before its member's task goes on may ask for the
    next one; and what steered it was part of it."""
    store = HeldStore()
    async with opened(define("a", limits={limit: 3}), Counting(), store=store) as mob:
        for text in ("1", "2"):
            await mob.send("a", text)
        await mob.send("a", "3", mode="steer")
        await trio.sleep(15)
        store.hold()
        await store.wait_held()
        store.release(1)
        assert mob.realm.state.head(mob.session_of("a")).turns == 2
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.send, "a", "4")
            await store.wait_held()
            with pytest.raises(LimitExceeded, match=r"(have|has) still to do, 3"):
                await mob.send("a", "5")
            store.release()
        await mob.wait_idle()
    assert len(records(store.inner, TurnEnded)) == 3


async def test_a_member_that_goes_on_by_itself_rests_at_the_limit(autojump_clock: Clock) -> None:
    """CONTRACTS 6.15."""
    store = MemoryStore()
    definition = define("a", profile={"mode": "autonomous"}, limits={"turns_per_member": 4})
    async with opened(definition, store=store) as mob:
        await mob.ask("a", "go")
        await mob.wait_idle()
    assert len(records(store, TurnEnded)) == 4


def test_limits_are_no_part_of_the_blueprint_and_are_checked() -> None:
    assert define(limits={"turns": 3}).blueprint() == define().blueprint()
    for key in ("members", "concurrent_turns", "turns_per_member", "turns"):
        with pytest.raises(DefinitionInvalid) as caught:
            MobDefinition.from_table(table(limits={key: 0}))
        assert f"limits.{key}" in [each.path for each in caught.value.mistakes]


# -- one model -------------------------------------------------------------------------------------


class Model:
    name = "test:model"
    supports_tools = True

    def __init__(self) -> None:
        self.order: list[str] = []
        self.gate = trio.Event()

    async def generate(self, request: ModelRequest, emit: Any = None) -> ModelReply:
        self.order.append(request.key)
        await self.gate.wait()
        return ModelReply("done")

    async def aclose(self) -> None: ...


async def test_calls_of_one_model_are_served_in_order_and_survive_cancellation(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.15: one that is cancelled while it waits leaves no hole and takes no place."""
    model = Model()
    limited = Limited(model, 1)

    async def call(key: str, scope: trio.CancelScope | None = None) -> None:
        with scope or trio.CancelScope():
            await limited.generate(ModelRequest((), key=key))

    async with trio.open_nursery() as nursery:
        scopes = {key: trio.CancelScope() for key in "abcd"}
        for key, scope in scopes.items():
            nursery.start_soon(call, key, scope)
            await trio.testing.wait_all_tasks_blocked()
        scopes["c"].cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert model.order == ["a"]
        scopes["a"].cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert model.order == ["a", "b"]
        model.gate.set()
    assert model.order == ["a", "b", "d"]
