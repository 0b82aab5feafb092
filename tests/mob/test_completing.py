"""Ending a mob's work for good, and ending the mob for good."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from mob.app import stored_mob
from mob.errors import MobDestroyed
from mob.lifecycle import MobState, VerbRefused
from mob.mob import Mob
from mob.records import MobStateChanged
from runtime.errors import MobError
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.records import InputAccepted, SessionArchived, SessionCreated, TurnEnded
from runtime.session import SessionStatus
from stores import MemoryStore
from tests.mob.held import HeldStore
from tests.mob.mobs import TOOLS, Stuck, asked, check_inputs, define, opened, records, tool_file

Clock = trio.testing.MockClock


async def _slow(request: ModelRequest) -> str:
    await trio.sleep(3)
    return f"done {asked(request)}"


async def test_completing_works_off_all_there_is_and_takes_nothing_more(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.1: also what is queued behind a turn in flight, unlike `stop`."""
    store = MemoryStore()
    async with opened(define("a", "b"), _slow, store=store) as mob:
        for text in ("1", "2", "3"):
            await mob.send("a", text)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.complete)
            await trio.testing.wait_all_tasks_blocked()
            for verb in (mob.ask("a", "x"), mob.send("b", "x"), mob.spawn("c", profile="p")):
                with pytest.raises(VerbRefused, match="that is being completed does not allow"):
                    await verb
            with pytest.raises(VerbRefused, match="'stop'"):
                await mob.stop()
        assert mob.state is MobState.COMPLETED
        assert len(records(store, TurnEnded)) == 3
        with pytest.raises(VerbRefused, match="that is completed does not allow 'resume'"):
            await mob.resume()
        with pytest.raises(VerbRefused, match="that is completed does not allow 'ask'"):
            await mob.ask("a", "x")
    assert len(records(store, InputAccepted)) == 3
    check_inputs(store)
    async with opened(define("a", "b"), _slow, store=store) as mob:
        assert mob.state is MobState.COMPLETED
        assert [m.text for m in mob.realm.messages(mob.session_of("a"), 1)] == ["done 3"]


async def test_completing_that_is_cancelled_leaves_the_mob_running(autojump_clock: Clock) -> None:
    """CONTRACTS 6.1."""
    stuck = Stuck()
    store = MemoryStore()
    async with opened(define("a", "b"), stuck, store=store) as mob:
        await mob.send("a", "1")
        with trio.move_on_after(5):
            await mob.complete()
        assert mob.state is MobState.RUNNING
        stuck.gate.set()
        assert (await mob.ask("b", "2")).text == "done 2"
        await mob.wait_idle()
        await mob.complete()
    assert [record.state for record in records(store, MobStateChanged)] == ["running", "completed"]


async def test_a_mob_that_completes_waits_for_a_decision(
    autojump_clock: Clock, tmp_path: Any
) -> None:
    """CONTRACTS 6.1: what it waits for may wait for a person, whose verb is admitted."""
    TOOLS["pay"] = _paid
    tools = tool_file(tmp_path, pay=False)
    tools["pay"]["approve"] = "ask"

    def answer(request: ModelRequest) -> str | ModelReply:
        if asked(request) == "pay" and len(request.messages) == 1:
            return calling(("pay", {"text": "5"}))
        return "done"

    definition = define("a", folder=tmp_path, tools=tools, profile={"tools": ["pay"]})
    async with opened(definition, answer) as mob:
        await mob.send("a", "pay")
        await mob.wait_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.complete)
            await trio.sleep(10)
            assert mob.state is MobState.RUNNING
            (waiting,) = mob.approvals()
            await mob.approve(waiting.key, by="me")
        assert mob.state is MobState.COMPLETED
        assert [m.text for m in mob.realm.messages(mob.session_of("a"), 1)] == ["done"]


async def _paid(text: str) -> str:
    return f"paid {text}"


async def test_a_running_mob_is_not_destroyed(autojump_clock: Clock) -> None:
    """CONTRACTS 6.1."""
    async with opened(define("a")) as mob:
        with pytest.raises(VerbRefused, match="when the mob is stopped or completed"):
            await mob.destroy()
        assert mob.state is MobState.RUNNING


async def test_destroying_archives_every_session_with_the_state_in_one_commit(
    autojump_clock: Clock,
) -> None:
    """CONTRACTS 6.1: whoever waits is told, and what is in the store can be read for ever."""
    store = HeldStore()
    stuck = Stuck()
    told: list[MobError] = []
    async with opened(define("a", "b"), stuck, store=store) as mob:

        async def ask() -> None:
            try:
                await mob.ask("a", "1")
            except MobError as error:
                told.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await stuck.entered.wait()
            child = await mob.realm.create("p", parent=mob.session_of("b"))  # type: ignore[arg-type]
            await mob.stop(deadline_s=1)
            store.hold()
            nursery.start_soon(mob.destroy)
            await store.wait_held()
            await trio.testing.wait_all_tasks_blocked()
            assert len(store.held) == 1
            assert [type(op).__name__ for op in store.held[0].batch].count("Append") == 4
            assert mob.state is MobState.STOPPED
            store.release()
        assert mob.state is MobState.DESTROYED
        assert [type(error) for error in told] == [MobDestroyed]
        _all_archived(mob)
        for verb in (mob.resume(), mob.destroy(), mob.ask("a", "x"), mob.retire("a")):
            with pytest.raises(VerbRefused, match="that is destroyed does not allow"):
                await verb
    ended = records(store, SessionArchived)
    assert ended[0].session_id == child.session_id, "the deepest first"
    assert len(ended) == len(records(store, SessionCreated)) == 3
    async with opened(define("a", "b"), stuck, store=store) as mob:
        assert mob.state is MobState.DESTROYED
        _all_archived(mob)
        await mob.wait_idle()
    assert stuck.calls == ["1"]
    stored = stored_mob(store.inner, "t")
    assert stored.roster.mob_state is MobState.DESTROYED
    check_inputs(store)


def _all_archived(mob: Mob) -> None:
    heads = mob.realm.state.heads.values()
    assert {head.status for head in heads} == {SessionStatus.ARCHIVED}
    assert not any(head.inputs for head in heads)


async def test_completing_whose_save_fails_leaves_the_mob_running(autojump_clock: Clock) -> None:
    """CONTRACTS 6.1, 5.11: and its checkpointers are armed."""
    from tests.mob.test_stop_resume import Snapshots

    snapshots = Snapshots()
    async with opened(define("a"), sessions=snapshots) as mob:
        await mob.ask("a", "1")
        snapshots.error = OSError("no disk")
        with pytest.raises(OSError, match="no disk"):
            await mob.complete()
        assert mob.state is MobState.RUNNING
        snapshots.error = None
        await mob.ask("a", "2")
        await mob.complete()
        assert snapshots.saved[mob.session_of("a")].turns == 2
