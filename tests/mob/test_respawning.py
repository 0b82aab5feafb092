"""What is on its way to the disk, or is said, while a member is given another session."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from mob.lifecycle import MobState
from mob.records import MemberExited
from runtime.messages import ToolResult
from runtime.models.base import ModelRequest
from runtime.models.scripted import calling
from runtime.records import InputAccepted, TurnEnded
from tests.mob.held import HeldStore
from tests.mob.mobs import (
    TOOLS,
    Stuck,
    asked,
    check_inputs,
    define,
    member,
    opened,
    records,
    tool_file,
)

Clock = trio.testing.MockClock

ESCALATES: Any = {"g": {"members": ["a"], "restart": {"max": 0}, "escalate": "member:b"}}


def _fails(heard: list[str]) -> Any:
    """The model of a member that fails after a second, and of others that hear of it."""

    async def answer(request: ModelRequest) -> str:
        if member(request) == "a":
            await trio.sleep(1)
            raise RuntimeError("a broke")
        heard.append(asked(request))
        await trio.sleep(5)
        return "I see"

    return answer


async def test_a_letter_on_its_way_to_the_disk_goes_with_the_name(autojump_clock: Clock) -> None:
    """CONTRACTS 6.4, 6.8: what a supervisor writes to a member that is respawned before that is on
    disk is worked on in the new session, in its place among what waits."""
    store, heard = HeldStore(), list[str]()
    async with opened(define("a", "b", groups=ESCALATES), _fails(heard), store=store) as mob:
        await mob.send("b", "first")
        await mob.send("a", "go")
        store.hold()
        await store.wait_held()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.send, "b", "behind it")
            await store.wait_held(2)
            nursery.start_soon(mob.respawn, "b")
            await store.wait_held(3)
            store.release()
        await mob.wait_idle()
        assert mob.fence("b").generation == 2
        assert mob.realm.state.head(mob.session_of("b")).turns == 2
    assert heard[1].startswith("Member 'a' has failed")
    assert [heard[0], *heard[2:]] == ["first", "behind it"]
    check_inputs(store.inner)


async def test_a_letter_during_a_respawn_is_for_the_new_session(autojump_clock: Clock) -> None:
    """CONTRACTS 6.4, 6.8: the old one takes nothing any more from when the respawn is queued."""
    store, heard = HeldStore(), list[str]()
    async with opened(define("a", "b", groups=ESCALATES), _fails(heard), store=store) as mob:
        await mob.send("a", "go")
        store.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(mob.spawn, "c", profile="p"))
            await trio.sleep(2)  # it has failed, and waits for what is on its way
            nursery.start_soon(mob.respawn, "b")
            await store.wait_held(2)
            store.release(1)
            await store.wait_held(2)
            store.release()
        await mob.wait_idle()
        new = mob.session_of("b")
        assert mob.realm.state.head(new).turns == 1
    letter = records(store.inner, InputAccepted)[-1]
    assert letter.text.startswith("Member 'a' has failed")
    assert letter.session_id == new
    assert len(heard) == 1
    check_inputs(store.inner)


async def test_who_is_leaving_is_told_of_no_failure(autojump_clock: Clock) -> None:
    """CONTRACTS 6.3, 6.8: a supervisor has nobody to write to then, and the mob stops."""
    store, heard = HeldStore(), list[str]()
    async with opened(define("a", "b", groups=ESCALATES), _fails(heard), store=store) as mob:
        await mob.send("a", "go")
        store.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(mob.spawn, "c", profile="p"))
            await trio.sleep(2)  # it has failed, and waits for what is on its way
            nursery.start_soon(mob.retire, "b")
            await store.wait_held(2)
            store.release(1)
            await store.wait_held(2)
            store.release()
        await trio.sleep(100)
        assert mob.state is MobState.STOPPED
    assert heard == []
    assert [each.text for each in records(store.inner, InputAccepted)] == ["go"]


async def test_a_prompt_on_its_way_to_the_disk_goes_with_the_name(autojump_clock: Clock) -> None:
    """CONTRACTS 6.4, 6.8: a member that goes on by itself does so in its new session, and its
    prompts are counted on."""
    store = HeldStore()

    async def answer(request: ModelRequest) -> str:
        await trio.sleep(5)
        return "more"

    definition = define("a", profile={"mode": "autonomous", "max_turns": 2})
    async with opened(definition, answer, store=store) as mob:
        await mob.send("a", "begin")
        old = mob.session_of("a")
        store.hold()
        await store.wait_held()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.respawn, "a")
            await store.wait_held(2)
            store.release()
        await mob.wait_idle()
        heads = mob.realm.state.heads
        assert (heads[old].turns, heads[mob.session_of("a")].turns) == (1, 2)
    prompts = [each.input_id.rpartition("+")[2] for each in records(store.inner, InputAccepted)[1:]]
    assert prompts == ["1", "1", "2"]
    check_inputs(store.inner)


async def test_a_turn_that_a_respawn_cuts_off_prompts_nobody(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRACTS 6.4, 6.8: while what is below a turn ends its member may be given another session.
    What is committed with that turn then is nothing more to do."""
    store = HeldStore()
    stuck = Stuck()
    always = {"policy": "always", "max": 5, "backoff_s": 1.0}
    definition = define("a", profile={"mode": "autonomous"}, restart=always)
    async with opened(definition, stuck, store=store) as mob:
        await mob.send("a", "begin")
        await stuck.entered.wait()
        old = mob.session_of("a")
        below = trio.Event()

        async def slowly(_session: object) -> None:
            await below.wait()

        monkeypatch.setattr(mob.realm.background, "end_below", slowly)
        assert mob.interrupt("a")
        await trio.testing.wait_all_tasks_blocked()
        await mob.respawn("a")
        below.set()
        await trio.testing.wait_all_tasks_blocked()
        assert mob.realm.state.heads[old].turns == 1
        assert mob.session_of("a") != old
    assert records(store.inner, MemberExited) == []
    assert [each.text for each in records(store.inner, InputAccepted)] == ["begin"]


async def test_what_steers_is_worked_on_once_after_a_respawn(autojump_clock: Clock) -> None:
    """CONTRACTS 6.4, 6.7: a turn that takes in a message which waits beside it answers for both,
    also in a session to which both were carried over."""
    store, stuck = HeldStore(), Stuck()
    async with opened(define("a"), stuck, store=store) as mob:
        await mob.send("a", "1")
        await stuck.entered.wait()
        await mob.send("a", "2")
        await mob.send("a", "3", mode="steer")
        await mob.respawn("a")
        stuck.gate.set()
        await mob.wait_idle()
        assert mob.realm.state.head(mob.session_of("a")).turns == 1
    check_inputs(store.inner)


@pytest.mark.parametrize("saved", [False, True])
async def test_what_has_steered_a_turn_ends_with_it(
    autojump_clock: Clock, tmp_path: Path, saved: bool
) -> None:
    """CONTRACTS 5.6, 6.4: a message that the turn in flight has taken in has begun, and is not
    worked on again in the next session, whether or not that is on disk yet."""
    store, stuck = HeldStore(), Stuck()
    used = trio.Event()

    async def use(text: str) -> str:
        await used.wait()
        return "used"

    TOOLS["use"] = use

    async def answer(request: ModelRequest) -> Any:
        results = sum(isinstance(each, ToolResult) for each in request.messages)
        if request.messages[0].text == "1" and results < 1 + saved:
            return calling(("use", {"text": ""}))
        return await stuck(request)

    tools = tool_file(tmp_path, use=False)
    definition = define("a", folder=tmp_path, tools=tools, profile={"tools": ["use"]})
    async with opened(definition, answer, store=store) as mob:
        await mob.send("a", "1")
        await trio.testing.wait_all_tasks_blocked()
        await mob.send("a", "2", mode="steer")
        await mob.send("a", "3", mode="steer")
        used.set()
        await stuck.entered.wait()
        await mob.send("a", "4")
        await mob.respawn("a")
        stuck.gate.set()
        await mob.wait_idle()
        assert mob.realm.state.head(mob.session_of("a")).turns == 1
    assert stuck.calls == ["3", "4"]
    assert [len(each.input_ids) for each in records(store.inner, TurnEnded)] == [3, 1]
    check_inputs(store.inner)
