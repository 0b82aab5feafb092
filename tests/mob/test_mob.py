"""The handle: opening, asking, sending, watching, leaving."""

from __future__ import annotations

import gc

import pytest
import trio

from mob import MobDefinition, open_mob
from mob.errors import DefinitionChanged, DefinitionInvalid, MemberNotFound, MobClosed
from mob.lifecycle import MobState
from mob.receipts import Receipt
from mob.records import BlueprintAdopted, MemberSpawned, MobCreated, MobStateChanged
from runtime.errors import TurnInterrupted
from runtime.messages import AssistantMessage, UserMessage
from runtime.models.base import ModelRequest
from runtime.records import InputAccepted, SessionCreated, TurnEnded
from stores import MemoryStore, StoreFailed, open_lmdb
from tests.mob.held import HeldStore
from tests.mob.mobs import (
    Stuck,
    check_inputs,
    define,
    echo,
    journal,
    opened,
    records,
    state_of,
    table,
)

Clock = trio.testing.MockClock


async def test_opening_creates_the_mob_in_one_commit(autojump_clock: Clock) -> None:
    """CONTRACTS 6.1, 6.2, 6.9."""
    store = HeldStore()
    store.hold()
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            async with opened(define("a", "b"), store=store) as mob:
                assert mob.state is MobState.RUNNING
                assert mob.members == ("a", "b")

        nursery.start_soon(run)
        await store.wait_held()
        assert len(store.held) == 1
        store.release()
    kinds = [type(event.record) for event in journal(store)]
    created = [SessionCreated] * 2 + [MemberSpawned] * 2
    assert kinds == [MobCreated, *created, MobStateChanged]


async def test_an_answer_is_on_disk_before_it_is_told(autojump_clock: Clock) -> None:
    """CONTRACTS 5.6, 6.6: `ask` costs one wait, for the turn itself."""
    store = HeldStore()
    async with opened(define("a"), store=store) as mob:
        store.hold()
        answered = trio.Event()

        async def ask() -> None:
            assert (await mob.ask("a", "hello")).text == "hello"
            (turn,) = records(store, TurnEnded)
            assert [type(message) for message in turn.messages] == [UserMessage, AssistantMessage]
            answered.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await store.wait_held(2)
            await trio.testing.wait_all_tasks_blocked()
            assert not answered.is_set()
            store.release(1)  # the input, not the turn
            await trio.testing.wait_all_tasks_blocked()
            assert not answered.is_set()
            store.release()
        assert answered.is_set()
    check_inputs(store)


async def test_a_receipt_is_given_when_the_input_is_on_disk(autojump_clock: Clock) -> None:
    """CONTRACTS 5.6, 6.6."""
    store = HeldStore()
    receipts: list[Receipt] = []
    async with opened(define("a"), Stuck(), store=store, grace_s=0) as mob:
        store.hold()

        async def send() -> None:
            receipts.append(await mob.send("a", "hello"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await store.wait_held()
            await trio.testing.wait_all_tasks_blocked()
            assert receipts == []
            store.release()
        (accepted,) = records(store, InputAccepted)
        assert receipts == [Receipt(accepted.input_id, mob.session_of("a"), "a")]


async def test_an_unknown_member_is_named_with_those_there_are(autojump_clock: Clock) -> None:
    store = MemoryStore()
    async with opened(define("a", "b"), store=store) as mob:
        before = len(journal(store))
        for verb in (mob.ask("x", "hi"), mob.send("x", "hi")):
            with pytest.raises(MemberNotFound, match="'x'; the members are: a, b"):
                await verb
        assert len(journal(store)) == before


async def test_messages_of_one_sender_are_answered_in_order(autojump_clock: Clock) -> None:
    """CONTRACTS 6.7."""
    store = MemoryStore()
    seen: dict[str, list[str]] = {"a": [], "b": []}

    async def slow(request: ModelRequest) -> str:
        seen[request.key.split("/")[1]].append(echo(request))
        await trio.sleep(0.5)
        return "ok"

    async with opened(define("a", "b"), slow, store=store) as mob:
        for index in range(5):
            await mob.send("a", str(index))
            await mob.send("b", str(index))
        await mob.wait_idle()
    assert seen == {name: ["0", "1", "2", "3", "4"] for name in "ab"}
    check_inputs(store)


async def test_order_holds_across_a_reopening(autojump_clock: Clock) -> None:
    """CONTRACTS 6.7, 6.9: the first is cut off, the others were never begun."""
    store = MemoryStore()
    stuck = Stuck()
    async with opened(define("a"), stuck, store=store, grace_s=0) as mob:
        for index in range(4):
            await mob.send("a", str(index))
        await stuck.entered.wait()
    stuck.gate.set()
    async with opened(define("a"), stuck, store=store) as mob:
        await mob.wait_idle()
    assert stuck.calls == ["0", "0", "1", "2", "3"]
    texts = [turn.messages[0].text for turn in records(store, TurnEnded)]
    assert texts == ["0", "1", "2", "3"]
    check_inputs(store)


async def test_a_subscriber_sees_what_a_later_replay_shows(autojump_clock: Clock) -> None:
    """CONTRACTS 6.12, from any cursor."""
    store = MemoryStore()
    seen = []
    async with opened(define("a"), store=store) as mob:
        start = mob.realm.journal.last
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                async for event in mob.events(after=start):
                    seen.append(event)
                    if len(seen) == 8:
                        nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await mob.ask("a", "1")
            await mob.spawn("b", profile="p")
            await mob.ask("b", "2")
            await mob.retire("b")
            await trio.sleep_forever()
    assert seen == journal(store)[start:]


async def test_reopening_gives_the_live_state_again(autojump_clock: Clock) -> None:
    """CONTRACTS 6.9, 6.12: the fold of the journal is the state."""
    store = MemoryStore()
    async with opened(define("a", "b"), store=store) as mob:
        await mob.ask("a", "1", idempotency_key="k")
        await mob.spawn("x", profile="p")
        await mob.retire("b")
        live = state_of(mob)
    async with opened(define("a", "b"), store=store) as mob:
        assert state_of(mob) == live


async def test_an_interrupted_turn_ends_and_the_next_is_not_touched(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 4.3, 2.8."""
    store = MemoryStore()
    stuck = Stuck()
    async with opened(define("a"), stuck, store=store) as mob:

        async def ask() -> None:
            with pytest.raises(TurnInterrupted):
                await mob.ask("a", "1")

        assert mob.interrupt("a") is False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await stuck.entered.wait()
            assert mob.interrupt("a") is True
        stuck.gate.set()
        assert (await mob.ask("a", "2")).text == "done 2"
    check_inputs(store)


@pytest.mark.parametrize("first", ["interrupt", "kill"])
async def test_an_interrupt_and_a_kill_at_once_end_the_turn(
    first: str, autojump_clock: Clock
) -> None:
    """CONTRACTS 4.3: an interrupt that was confirmed is not lost."""
    stuck = Stuck()
    async with opened(define("a"), stuck) as mob:

        async def ask() -> None:
            with pytest.raises(TurnInterrupted):
                await mob.ask("a", "1")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await stuck.entered.wait()
            for verb in ("interrupt", "kill") if first == "interrupt" else ("kill", "interrupt"):
                getattr(mob, verb)("a")
            stuck.gate.set()


async def test_cancelling_an_ask_does_not_cancel_the_turn(autojump_clock: Clock) -> None:
    store = MemoryStore()
    stuck = Stuck()
    async with opened(define("a"), stuck, store=store) as mob:
        with trio.move_on_after(1):
            await mob.ask("a", "1", idempotency_key="k")
        stuck.gate.set()
        assert (await mob.ask("a", "1", idempotency_key="k")).text == "done 1"
    assert stuck.calls == ["1"]


async def test_an_exception_of_the_body_comes_out_as_itself(autojump_clock: Clock) -> None:
    for error in (ValueError("mine"), ExceptionGroup("ours", [KeyError("x")]), SystemExit(3)):

        async def run(raised: BaseException) -> None:
            async with opened(define("a"), Stuck(), grace_s=0) as mob:
                await mob.send("a", "busy")
                raise raised

        with pytest.raises(type(error)) as caught:
            await run(error)
        assert caught.value is error


async def test_a_cancelled_body_leaves_tidily(autojump_clock: Clock) -> None:
    """CONTRACTS 6.9. Cancelling reaches the turns as well; they are taken up again."""
    store = MemoryStore()
    stuck = Stuck()
    with trio.move_on_after(0.5) as scope:
        async with opened(define("a"), stuck, store=store) as mob:
            await mob.send("a", "x")
            await trio.sleep_forever()
    assert scope.cancelled_caught
    with pytest.raises(MobClosed):
        await mob.ask("a", "y")
    assert records(store, TurnEnded) == []
    async with opened(define("a"), store=store) as mob:
        await mob.wait_idle()
    (turn,) = records(store, TurnEnded)
    assert turn.messages[-1].text == "x"


async def test_leaving_tells_whoever_still_waits(autojump_clock: Clock) -> None:
    """FIELD 7: nobody waits for ever for a handle that is gone."""
    told: list[str] = []
    stuck = Stuck()
    async with trio.open_nursery() as nursery:
        async with opened(define("a"), stuck, grace_s=0) as mob:

            async def ask(text: str) -> None:
                with pytest.raises(MobClosed, match="continued when the mob is opened again"):
                    await mob.ask("a", text)
                told.append(text)

            nursery.start_soon(ask, "1")
            nursery.start_soon(ask, "2")
            await stuck.entered.wait()
    assert sorted(told) == ["1", "2"]


async def test_leaving_waits_for_what_is_on_its_way_to_the_disk(autojump_clock: Clock) -> None:
    """CONTRACTS 5.6, 6.9: the next handle begins from what is on disk, and would never learn of an
    input that is committed after that."""
    store = HeldStore()
    stuck = Stuck()
    async with opened(define("a"), store=store):
        pass  # with that, leaving again has nothing of its own to write
    async with trio.open_nursery() as nursery:
        async with opened(define("a"), stuck, store=store, grace_s=0) as mob:
            store.hold()
            nursery.start_soon(mob.send, "a", "late")
            await store.wait_held()

            async def release() -> None:
                await trio.sleep(1)
                store.release()

            nursery.start_soon(release)
        stuck.gate.set()
        async with opened(define("a"), stuck, store=store) as mob:
            await mob.wait_idle()
    assert len(records(store, TurnEnded)) == 1
    check_inputs(store)


async def test_leaving_while_a_stop_is_under_way(autojump_clock: Clock) -> None:
    """CONTRACTS 5.11: the stop has failed, and says so; nothing is begun on a closed handle."""
    store = MemoryStore()
    stuck = Stuck()
    async with trio.open_nursery() as nursery:
        async with opened(define("a"), stuck, store=store, grace_s=1) as mob:

            async def stop() -> None:
                with pytest.raises(MobClosed):
                    await mob.stop(deadline_s=60)

            await mob.send("a", "1")
            await stuck.entered.wait()
            nursery.start_soon(stop)
            await trio.testing.wait_all_tasks_blocked()
    assert mob.state is MobState.RUNNING
    assert stuck.calls == ["1"]


async def test_an_error_while_being_cancelled_comes_out_as_itself(autojump_clock: Clock) -> None:
    async def run() -> None:
        async with opened(define("a"), Stuck()) as mob:
            await mob.send("a", "x")
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"), trio.move_on_after(1):
        await run()


async def test_a_closed_handle_refuses_every_verb(autojump_clock: Clock) -> None:
    async with opened(define("a")) as mob:
        pass
    for verb in (
        mob.ask("a", "x"),
        mob.send("a", "x"),
        mob.spawn("b", profile="p"),
        mob.retire("a"),
        mob.stop(),
        mob.resume(),
    ):
        with pytest.raises(MobClosed):
            await verb
    with pytest.raises(MobClosed):
        mob.kill("a")


async def test_a_changed_definition_is_refused_unless_adopted(autojump_clock: Clock) -> None:
    store = MemoryStore()
    async with opened(define("a"), store=store):
        pass
    changed = define("a", profile={"instructions": "new"})
    with pytest.raises(DefinitionChanged) as caught:
        async with opened(changed, store=store):
            raise AssertionError
    assert caught.value.changed == ("profiles.p",)
    async with opened(changed, store=store, adopt=True) as mob:
        await mob.ask("a", "x")
    assert len(records(store, BlueprintAdopted)) == 1
    async with opened(changed, store=store):
        pass


async def test_adopting_a_definition_without_a_members_profile_is_refused(
    autojump_clock: Clock,
) -> None:
    """A member whose profile is gone could not run, and would fail on every message."""
    store = MemoryStore()
    async with opened(define("a"), store=store) as mob:
        await mob.spawn("x", profile="p")
    data = table(("a",), members={"a": {"profile": "q"}})
    data["profiles"] = {"q": {"model": "m"}}
    other = MobDefinition.from_table(data)
    with pytest.raises(DefinitionInvalid, match=r"profiles\.p.*a, x"):
        async with opened(other, store=store, adopt=True):
            raise AssertionError
    assert records(store, BlueprintAdopted) == []


async def test_a_store_that_fails_ends_the_mob_with_one_error(autojump_clock: Clock) -> None:
    """However many members are at work."""
    store = HeldStore()

    async def run() -> None:
        async with opened(define("a", "b", "c"), store=store) as mob:
            store.hold()
            async with trio.open_nursery() as nursery:
                for name in "abc":
                    nursery.start_soon(mob.ask, name, "x")
                await store.wait_held(6)
                store.fail(StoreFailed("the disk is gone", path="here"))

    with pytest.raises(StoreFailed, match="gone"):
        await run()


class _Spawns(trio.abc.Instrument):
    """Counts the tasks that exist."""

    def __init__(self) -> None:
        self.alive: dict[int, str] = {}  # by id: a task has the name of whoever it works for now

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.alive[id(task)] = task.name

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self.alive.pop(id(task), None)


async def test_an_idle_member_holds_no_task(autojump_clock: Clock) -> None:
    """CONTRACTS 6.13."""
    tasks = _Spawns()
    definition = define("a", members={"a": {"profile": "p"}, "w": {"profile": "p", "replicas": 50}})
    async with opened(definition) as mob:
        trio.lowlevel.add_instrument(tasks)
        await mob.ask("a", "x")
        async with trio.open_nursery() as nursery:
            for index in range(50):
                nursery.start_soon(mob.ask, f"w-{index}", "x")
        await mob.wait_idle()
        await trio.testing.wait_all_tasks_blocked()
        assert mob.at_work == ()
        assert tasks.alive == {}
        trio.lowlevel.remove_instrument(tasks)


class _Steps(trio.abc.Instrument):
    """Counts the steps of tasks."""

    def __init__(self) -> None:
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1


async def test_an_idle_mob_does_nothing_for_a_day(autojump_clock: Clock) -> None:
    """CONTRACTS 6.13: no polling loop anywhere, watched or not."""
    steps = _Steps()
    async with opened(define("a")) as mob:
        await mob.ask("a", "x")
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                async for _ in mob.events():
                    pass

            nursery.start_soon(watch)
            await trio.testing.wait_all_tasks_blocked()
            trio.lowlevel.add_instrument(steps)
            await trio.sleep(3000)
            trio.lowlevel.remove_instrument(steps)
            nursery.cancel_scope.cancel()
    assert steps.steps <= 3


async def test_a_mob_on_disk_goes_on_where_it_was(tmp_path: pytest.TempPathFactory) -> None:
    """CONTRACTS 6.9, on LMDB."""
    definition = MobDefinition.from_table(
        {
            "mob": {"id": "t", "lead": "a"},
            "models": {"m": {"model": "sim:echo"}},
            "profiles": {"p": {"model": "m"}},
            "members": {"a": {"profile": "p"}},
        }
    )
    async with open_lmdb(str(tmp_path)) as store, open_mob(definition, store=store) as mob:
        await mob.ask("a", "1", idempotency_key="k")
        async with trio.open_nursery() as nursery:
            for index in range(20):
                nursery.start_soon(mob.send, "a", str(index))
        await mob.wait_idle()
        live = state_of(mob)
    async with open_lmdb(str(tmp_path)) as store, open_mob(definition, store=store) as mob:
        assert state_of(mob) == live
        assert (await mob.ask("a", "other", idempotency_key="k")).text == "1"
        check_inputs(store)
    gc.collect()


async def test_what_a_member_says_is_seen_while_it_says_it() -> None:
    async with opened(define("a", "b")) as mob:
        with mob.watch("a") as watch, mob.watch() as every:
            await mob.ask("b", "psst")
            await mob.ask("a", "hello")
            assert (await anext(watch)).text == "hello"  # type: ignore[union-attr]
            assert [(await anext(every)).text for _ in range(2)] == ["psst", "hello"]  # type: ignore[union-attr]
        with pytest.raises(MemberNotFound):
            mob.watch("c")
