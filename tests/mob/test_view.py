"""The tree of a mob as data: stored, and while it runs."""

from __future__ import annotations

import trio
import trio.testing

from mob import open_mob
from mob.app import stored_mob
from mob.view import live_view, mob_view
from runtime.ids import ToolCallId
from runtime.messages import NO_USAGE, ToolCall
from runtime.models.base import ModelReply, ModelRequest, StopReason
from runtime.models.scripted import ScriptedModel
from stores import open_memory
from tests.mob.mobs import define

CHILDREN = {"profile": {"subagents": {"max_depth": 1}}}


def spawn(name: str) -> ModelReply:
    call = ToolCall(
        ToolCallId(name), "spawn_agent", f'{{"name": "{name}", "instructions": "Help {name}."}}'
    )
    return ModelReply("", (call,), StopReason.TOOL_CALLS, NO_USAGE, "scripted")


async def test_a_stored_mob_is_at_rest_and_adds_up() -> None:
    async with open_memory() as store:
        async with open_mob(define("a", "b"), store=store) as mob:
            await mob.ask("a", "hello there")
        stored = stored_mob(store, "t")
        view = mob_view(stored.mob_id, stored.state, stored.roster)
    a, b = view.members
    assert (a.name, a.profile, a.state, a.turns, a.since_s) == ("a", "p", "idle", 1, None)
    assert (b.state, b.turns, b.usage) == ("idle", 0, NO_USAGE)
    assert (view.state, view.turns, view.sessions, view.usage) == ("running", 1, 2, a.usage)


async def test_a_running_child_shows_below_its_parent_and_finished_ones_are_counted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    names = [f"c{number}" for number in range(6)]

    async def answer(request: ModelRequest) -> str | ModelReply:
        asked = request.messages[0].text
        if asked == "hello":
            said = sum(1 for message in request.messages if type(message).__name__ == "ToolResult")
            return spawn(names[said])
        if "c5" in asked:
            await trio.sleep_forever()
        return f"done with {asked}"

    models = {"m": ScriptedModel(answer)}
    async with (
        open_memory() as store,
        open_mob(define("a", **CHILDREN), store=store, models=models, grace_s=0.0) as mob,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(mob.ask, "a", "hello")
        await trio.testing.wait_all_tasks_blocked()
        await trio.sleep(7.0)
        view = live_view(mob)
        (a,) = view.members
        assert (a.state, a.detail, a.busy) == ("tool", "spawn_agent", True)
        assert [child.name for child in a.children] == ["c2", "c3", "c4", "c5"]
        assert a.hidden == 2
        assert [child.state for child in a.children] == ["archived"] * 3 + ["model"]
        await trio.sleep(5.0)
        assert live_view(mob) == view, "nothing but time has passed"
        assert live_view(mob, most=0).hidden == 1
        nursery.cancel_scope.cancel()


async def test_a_killed_member_shows_that_it_restarts_and_how_often(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def never(_: ModelRequest) -> str:
        await trio.sleep_forever()
        raise AssertionError("unreachable")

    models = {"m": ScriptedModel(never)}
    async with (
        open_memory() as store,
        open_mob(define("a", "b"), store=store, models=models, grace_s=0.0) as mob,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(mob.ask, "a", "hello")
        await trio.testing.wait_all_tasks_blocked()
        assert live_view(mob).members[0].state == "model"
        assert mob.kill("a", "on purpose")
        await trio.testing.wait_all_tasks_blocked()
        a, b = live_view(mob).members
        assert (a.state, a.restarts, a.last_exit) == ("restarting", 1, "on purpose")
        assert (b.state, b.busy) == ("idle", False)
        await trio.sleep(1.5)
        assert live_view(mob).members[0].state == "model"
        assert live_view(mob, most=1).members[0].name == "a"
        nursery.cancel_scope.cancel()
