"""Helpers: members that are made for one question."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from mob.comms.routing import Rule
from mob.errors import MemberExists, MemberFailed, MemberNotFound
from mob.mob import Mob
from mob.records import MemberRetired, MemberSpawned
from runtime.errors import LimitExceeded, MobError
from runtime.journal import Journal
from runtime.messages import AssistantMessage, Message, UserMessage
from runtime.models.base import ModelRequest
from runtime.models.scripted import calling
from runtime.records import InputAccepted, SessionArchived, SessionForked, TurnEnded
from stores import MemoryStore
from tests.mob.held import HeldStore
from tests.mob.mobs import (
    TOOLS,
    Stuck,
    asked,
    check_inputs,
    define,
    journal,
    member,
    opened,
    records,
    state_of,
    tool_file,
)

Clock = trio.testing.MockClock


def _said(messages: list[Message]) -> list[str]:
    return [each.text for each in messages if isinstance(each, UserMessage)]


async def _crashed(store: MemoryStore, key: str | None, model: Stuck) -> None:
    """A process that dies while a helper of `a` is at work."""
    async with (
        trio.open_nursery() as nursery,
        opened(define("a"), model, store=store, grace_s=0) as mob,
    ):

        async def ask() -> None:
            with pytest.raises(MobError):
                await mob.spawn_helper("a", "why", key=key)

        nursery.start_soon(ask)
        await model.entered.wait()


async def _after(seconds: float, then: Callable[[], None]) -> None:
    await trio.sleep(seconds)
    then()


# -- one question --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["spawn", "fork"])
async def test_a_helper_answers_and_leaves(autojump_clock: Clock, how: str) -> None:
    """CONTRACTS 6.2: it is made in one commit with its question, and nothing of it is left."""
    store = MemoryStore()
    async with opened(define("a", "b"), store=store) as mob:
        verb = mob.spawn_helper if how == "spawn" else mob.fork_helper
        assert (await verb("a", "why")).text == "why"
        assert mob.members == ("a", "b")
        assert mob.at_work == ()
        (spawned,) = [each for each in records(store, MemberSpawned) if each.name == "a~1"]
        (asking,) = [e for e in records(store, InputAccepted) if e.session_id == spawned.session_id]
        assert spawned.profile == "p"
        seqs = {type(e.record): e for e in journal(store) if e.record in (spawned, asking)}
        assert seqs[InputAccepted].seq == seqs[MemberSpawned].seq + 1
        assert [each.name for each in records(store, MemberRetired)] == ["a~1"]
        assert mob.realm.state.heads[spawned.session_id].archived
        assert mob.realm.state.heads[spawned.session_id].agent_id == "a~1"
        # A name is free again.
        assert (await verb("a", "again", name="w")).text == "again"
        assert [each.name for each in records(store, MemberRetired)] == ["a~1", "a~w"]
        folded = state_of(mob)
    check_inputs(store)
    async with opened(define("a", "b"), store=store) as mob:
        assert state_of(mob) == folded


async def test_a_helper_and_its_question_are_one_commit(autojump_clock: Clock) -> None:
    """CONTRACTS 6.2: a store that fails in between has neither."""
    store = HeldStore()
    async with opened(define("a"), store=store) as mob:
        store.hold()
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                assert (await mob.spawn_helper("a", "why")).text == "why"

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            assert len(store.held) == 1, "one batch"
            assert mob.members == ("a",)
            store.release()
    kinds = [type(event.record).__name__ for event in journal(store.inner)]
    made = kinds.index("MemberSpawned", 3)
    assert kinds[made - 1 : made + 2] == ["SessionCreated", "MemberSpawned", "InputAccepted"]


async def test_many_helpers_at_once(autojump_clock: Clock) -> None:
    """CONTRACTS 6.2: each has a name of its own, whoever is first."""
    async with opened(define("a")) as mob:
        said: list[str] = []

        async def ask(text: str) -> None:
            said.append((await mob.fork_helper("a", text)).text)

        async with trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(ask, str(n))
        assert sorted(said) == sorted(map(str, range(20)))
        assert mob.members == ("a",)


async def test_nobody_sends_to_a_helper(autojump_clock: Clock) -> None:
    """CONTRACTS 6.5: it is wired to nobody, not even by default; a broadcast passes it over."""
    model = Stuck()
    async with opened(define("a", "b"), model) as mob, trio.open_nursery() as nursery:

        async def ask() -> None:
            await mob.spawn_helper("a", "why")

        nursery.start_soon(ask)
        await model.entered.wait()
        assert mob.members == ("a", "b", "a~1")
        assert mob.wiring.may_send("a", "a~1") is Rule.HELPER
        assert mob.wiring.may_send("a~1", "b") is Rule.HELPER
        assert mob.wiring.peers_of("a") == ("b",)
        assert mob.wiring.peers_of("a~1") == ()
        model.gate.set()
        assert list(await mob.broadcast("hello")) == ["a", "b"]
        with pytest.raises(MobError, match="helpers have none"):
            await mob.spawn_helper("a~1", "why")
        for verb in (mob.ask, mob.send):
            with pytest.raises(MobError, match="nobody sends to those"):
                await verb("a~1", "psst")
        report = await mob.ensure({"a": "p", "b": "p"})
        assert not report.retired


async def test_a_flow_asks_no_helper(autojump_clock: Clock) -> None:
    """CONTRACTS 6.2: a step for all members of a profile passes the helpers of that over."""
    model = Stuck()
    flows = {"f": {"steps": {"all": {"profile": "p", "message": "hello"}}}}
    async with opened(define("a", "b", flows=flows), model) as mob, trio.open_nursery() as nursery:

        async def ask() -> None:
            await mob.spawn_helper("a", "why")

        nursery.start_soon(ask)
        await model.entered.wait()
        run = await mob.run_flow("f")
        model.gate.set()
        result = await run.result()
        assert len(result.steps["all"].output) == 2


async def test_a_helper_has_what_its_member_is_told(autojump_clock: Clock) -> None:
    """CONTRACTS 1.11: the table of its member is laid over its profile."""
    seen: list[ModelRequest] = []

    def answer(request: ModelRequest) -> str:
        seen.append(request)
        return "yes"

    definition = define("a", members={"a": {"profile": "p", "instructions": "Be brief."}})
    async with opened(definition, answer) as mob:
        await mob.spawn_helper("a", "why")
        assert "Be brief." in str(seen[-1])
        assert member(seen[-1]) == "a~1"


# -- what a fork knows ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("history", "known"),
    [("full", ["0", "1", "2", "3"]), (9, ["0", "1", "2", "3"]), (2, ["2", "3"]), (0, [])],
)
async def test_a_fork_knows_what_its_member_knows(
    autojump_clock: Clock, history: str | int, known: list[str]
) -> None:
    """CONTRACTS 6.2: all, or its last turns; the member's own history stays what it was."""
    seen: list[list[Message]] = []

    def answer(request: ModelRequest) -> str:
        seen.append(list(request.messages))
        return f"re {asked(request)}"

    store = MemoryStore()
    async with opened(define("a"), answer, store=store) as mob:
        for n in range(4):
            await mob.ask("a", str(n))
        assert (await mob.fork_helper("a", "why", history=history)).text == "re why"
        said = _said(seen[-1])
        assert [each for each in said if not each.startswith("What was said")] == [*known, "why"]
        assert len(said) - len(known) - 1 == (len(known) < 4), "it is told that there was more"
        answers = [e.text for e in seen[-1] if isinstance(e, AssistantMessage)]
        assert answers == [f"re {each}" for each in known]
        (fork,) = records(store, SessionForked)
        assert fork.source == mob.session_of("a")
        await mob.ask("a", "4")
        assert _said(seen[-1]) == ["0", "1", "2", "3", "4"]
        folded = state_of(mob)
    async with opened(define("a"), answer, store=store) as mob:
        assert state_of(mob) == folded


@pytest.mark.parametrize("history", [0, 3])
async def test_making_a_fork_costs_the_same_for_any_history(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch, history: int
) -> None:
    """CONTRACTS 6.2: as many records are read at eight turns as at two hundred, but for a few."""
    reads: list[int] = []
    read = Journal.turn

    def counted(self: Journal, seq: int) -> TurnEnded:
        reads.append(seq)
        return read(self, seq)

    monkeypatch.setattr(Journal, "turn", counted)
    cost: list[int] = []
    async with opened(define("a")) as mob:
        for turns in (8, 200):
            while mob.realm.state.head(mob.session_of("a")).turns < turns:
                await mob.ask("a", "x")
            reads.clear()
            await mob.fork_helper("a", "why", history=history)
            cost.append(len(reads))
    assert cost[1] <= cost[0] + 12


async def test_a_wrong_history_is_refused(autojump_clock: Clock) -> None:
    """CONTRACTS 6.2."""
    async with opened(define("a")) as mob:
        wrong: Any
        for wrong in ("all", -1, 1.5, True):
            with pytest.raises(MobError, match="neither 'full' nor a number"):
                await mob.fork_helper("a", "why", history=wrong)
        assert mob.members == ("a",)


# -- keys and crashes ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["spawn", "fork"])
async def test_a_key_joins_the_helper_that_was_made(autojump_clock: Clock, how: str) -> None:
    """CONTRACTS 6.2: while it works, when it has left, and in another process."""
    store, model = MemoryStore(), Stuck()
    async with opened(define("a"), model, store=store) as mob:
        verb = mob.spawn_helper if how == "spawn" else mob.fork_helper
        said: list[str] = []

        async def ask() -> None:
            said.append((await verb("a", "why", key="k")).text)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await model.entered.wait()
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            model.gate.set()
        await ask()
        assert said == ["done why"] * 3
    async with opened(define("a"), model, store=store) as mob:
        verb = mob.spawn_helper if how == "spawn" else mob.fork_helper
        assert (await verb("a", "why", key="k")).text == "done why"
        assert mob.members == ("a",)
    assert model.calls == ["why"]
    assert len(records(store, MemberSpawned)) == 2


async def test_after_a_crash_a_key_joins_the_helper(autojump_clock: Clock) -> None:
    """CONTRACTS 6.9: it works on, is not made again, and leaves also if nobody asks."""
    for fetched in (True, False):
        store = MemoryStore()
        await _crashed(store, "k", Stuck())
        async with opened(define("a"), store=store) as mob:
            assert mob.members == ("a", "a~1")
            if fetched:
                assert (await mob.spawn_helper("a", "why", key="k")).text == "why"
                assert mob.members == ("a",)
            await mob.wait_idle()
            assert mob.members == ("a",)
            assert (await mob.spawn_helper("a", "why", key="k")).text == "why"
        assert [each.name for each in records(store, MemberSpawned)] == ["a", "a~1"]
        check_inputs(store)


async def test_a_helper_without_a_key_does_not_outlive_its_process(autojump_clock: Clock) -> None:
    """CONTRACTS 6.9: nobody could fetch its answer, so it is retired and asks its model nothing."""
    store = MemoryStore()
    await _crashed(store, None, Stuck())
    calls: list[str] = []

    def answer(request: ModelRequest) -> str:
        calls.append(asked(request))
        return "yes"

    async with opened(define("a"), answer, store=store) as mob:
        await mob.wait_idle()
        assert mob.members == ("a",)
    assert calls == []
    check_inputs(store)


async def test_a_helper_that_has_answered_when_the_process_died_leaves(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.9: the turn is on disk and the leaving is not."""
    store, model = MemoryStore(), Stuck()

    async def ask(mob: Mob) -> None:
        assert (await mob.spawn_helper("a", "why", key="k")).text == "done why"

    async with trio.open_nursery() as nursery:
        async with opened(define("a"), model, store=store, grace_s=10) as mob:
            nursery.start_soon(ask, mob)
            await model.entered.wait()
            nursery.start_soon(_after, 1, model.gate.set)
        assert len(records(store, TurnEnded)) == 1
        assert not records(store, MemberRetired)
    async with opened(define("a"), store=store) as mob:
        await mob.wait_idle()
        assert mob.members == ("a",)
        assert (await mob.spawn_helper("a", "why", key="k")).text == "done why"
    assert len(records(store, TurnEnded)) == 1


async def test_a_mob_that_is_stopped_keeps_its_helpers(autojump_clock: Clock) -> None:
    """CONTRACTS 5.13: whoever waits has the answer after the mob is resumed."""
    store, model = MemoryStore(), Stuck()
    async with opened(define("a"), model, store=store) as mob, trio.open_nursery() as nursery:
        said: list[str] = []

        async def ask() -> None:
            said.append((await mob.spawn_helper("a", "why")).text)

        nursery.start_soon(ask)
        await model.entered.wait()
        report = await mob.stop(0)
        assert report.cancelled == ("a~1",)
        model.gate.set()
        await mob.resume()
        await mob.wait_idle()
        await trio.testing.wait_all_tasks_blocked()
        assert said == ["done why"]
        assert mob.members == ("a",)
        await mob.complete()


# -- cancelling, failing, limits -------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "k"])
async def test_cancelling_the_wait(autojump_clock: Clock, key: str | None) -> None:
    """CONTRACTS 6.2: it retires a helper without a key; one with a key works on, and leaves."""
    store, model = MemoryStore(), Stuck()
    async with opened(define("a"), model, store=store) as mob:
        with trio.move_on_after(1):
            await mob.spawn_helper("a", "why", key=key)
        await trio.testing.wait_all_tasks_blocked()
        assert mob.members == (("a",) if key is None else ("a", "a~1"))
        model.gate.set()
        await mob.wait_idle()
        assert mob.members == ("a",)
        assert len(records(store, SessionArchived)) == 1
        if key is not None:
            assert (await mob.spawn_helper("a", "why", key=key)).text == "done why"


async def test_a_helper_that_fails_leaves(autojump_clock: Clock) -> None:
    """CONTRACTS 6.8: its supervisor gives up, whoever asked is told, and nothing is left."""

    def answer(request: ModelRequest) -> str:
        raise ValueError("no")

    async with opened(define("a", restart={"max": 1}), answer) as mob:
        with pytest.raises(MemberFailed):
            await mob.spawn_helper("a", "why")
        assert mob.members == ("a",)


async def test_limits_count_helpers(autojump_clock: Clock) -> None:
    """CONTRACTS 6.15: of members, and of turns; who is refused was never there."""
    store = MemoryStore()
    async with opened(define("a", limits={"members": 1}), store=store) as mob:
        with pytest.raises(LimitExceeded):
            await mob.spawn_helper("a", "why")
        assert mob.members == ("a",)
        assert mob.at_work == ()
    assert len(records(store, MemberSpawned)) == 1
    async with opened(define("a", limits={"turns": 2, "turns_per_member": 1})) as mob:
        assert (await mob.ask("a", "one")).text == "one"
        assert (await mob.fork_helper("a", "why")).text == "why"
        with pytest.raises(LimitExceeded):
            await mob.fork_helper("a", "why")


async def test_what_cannot_be_asked(autojump_clock: Clock) -> None:
    """CONTRACTS 6.2: nothing is made."""
    model = Stuck()
    async with opened(define("a"), model) as mob, trio.open_nursery() as nursery:
        with pytest.raises(MemberNotFound):
            await mob.spawn_helper("nobody", "why")
        with pytest.raises(MobError, match="no profile"):
            await mob.spawn_helper("a", "why", profile="q")
        with pytest.raises(MobError, match="is not a name"):
            await mob.spawn_helper("a", "why", name="x~y")

        async def ask() -> None:
            await mob.spawn_helper("a", "why", name="w")

        nursery.start_soon(ask)
        await model.entered.wait()
        with pytest.raises(MemberExists):
            await mob.spawn_helper("a", "why", name="w")
        model.gate.set()


async def test_a_turn_asks_a_helper(autojump_clock: Clock, tmp_path: Any) -> None:
    """CONTRACTS 6.15: it takes no slot of those for turns, and a mob that drains lets it answer."""

    def answer(request: ModelRequest) -> Any:
        if member(request) == "a" and len(request.messages) == 1:
            return calling(("think", {"text": "deep"}))
        return "thought"

    holder: list[Mob] = []

    async def think(text: str) -> str:
        await trio.sleep(1)
        return (await holder[0].fork_helper("a", text)).text

    TOOLS["think"] = think
    definition = define(
        "a",
        folder=tmp_path,
        tools=tool_file(tmp_path, think=True),
        profile={"tools": ["think"]},
        limits={"concurrent_turns": 1},
    )
    async with opened(definition, answer) as mob, trio.open_nursery() as nursery:
        holder.append(mob)

        async def ask() -> None:
            assert (await mob.ask("a", "go")).text == "thought"

        nursery.start_soon(ask)
        await trio.sleep(0.5)
        report = await mob.stop(5)
        assert report.drained == ("a",)
        assert mob.members == ("a",)
