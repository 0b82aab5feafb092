"""Background children of a mob's members: options, notices, stop and resume, restarts."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mob.definition import MobDefinition
from mob.errors import DefinitionInvalid
from mob.mob import Mob
from mob.receipts import StopReport
from mob.view import Node, live_view
from runtime.messages import TASKS, ToolResult, UserMessage
from runtime.records import SessionArchived, TaskEnded
from runtime.session import TaskState
from runtime.tools.agents import SPAWN_AGENT
from runtime.tools.tasks import TASK_TOOLS
from stores import MemoryStore
from tests.mob.mobs import define, opened, records
from tests.runtime.tasking import Desk, spawn

BACKGROUND = {"background": True, "max_depth": 2, "max_children": 16}


def defined(**subagents: Any) -> MobDefinition:
    return define("a", profile={"subagents": {**BACKGROUND, **subagents}})


def names(mob: Mob, *, depth: int = 0) -> set[str]:
    """The tools of member `a`, or of what is so deep below it."""
    head = next(each for each in mob.realm.state.heads.values() if each.lineage.depth == depth)
    return {spec.name for spec in mob.configure(head).toolbox.specs}


async def test_only_who_may_have_background_children_is_offered_the_tools() -> None:
    """CONTRACTS 1.12; and nobody at its depth."""
    async with opened(defined(), Desk()) as mob:
        assert names(mob) == {SPAWN_AGENT, *TASK_TOOLS}
        await mob.ask("a", spawn("wait x"))
        assert SPAWN_AGENT in names(mob, depth=1)
    async with opened(defined(max_depth=1), Desk()) as mob:
        await mob.ask("a", spawn("wait x"))
        assert names(mob, depth=1) == set()
    async with opened(defined(background=False), Desk()) as mob:
        assert names(mob) == {SPAWN_AGENT}


def test_a_tool_of_its_own_may_not_have_a_task_tool_s_name() -> None:
    tools = {"get_task": {"function": "x.py:f"}}
    define("a", tools=tools, profile={"tools": ["get_task"], "subagents": {}})
    with pytest.raises(DefinitionInvalid, match="taken by a built-in tool"):
        define("a", tools=tools, profile={"tools": ["get_task"], "subagents": BACKGROUND})
    with pytest.raises(DefinitionInvalid, match="next-turn"):
        defined(notify="next-tun")


def test_what_was_not_given_is_in_no_blueprint() -> None:
    """A mob that was stored before these options were there is still the same one."""
    plain = json.loads(define("a", profile={"subagents": {}}).blueprint())
    assert plain["profiles"]["p"]["subagents"].keys() == {"profile", "max_depth", "max_children"}
    given = json.loads(defined(notify="wake").blueprint())["profiles"]["p"]["subagents"]
    assert (given["background"], given["notify"]) == (True, "wake")


async def test_depth_is_that_of_the_profile_that_spawns_and_not_the_widest() -> None:
    """CONTRACTS 1.8: another profile's max_depth lets nobody go deeper."""
    profiles = {"deep": {"model": "m", "subagents": {"max_depth": 9, "max_children": 3}}}
    definition = define("a", profile={"subagents": {"max_depth": 1}}, profiles=profiles)
    async with opened(definition, Desk()) as mob:
        head = mob.realm.state.head(mob.session_of("a"))
        limits = mob.realm.spawning.limits(head, head)
        assert (limits.max_depth, limits.max_active) == (1, 16)


async def test_a_member_at_rest_is_told_at_its_next_turn() -> None:
    desk = Desk()
    async with opened(defined(), desk) as mob:
        await mob.ask("a", spawn("hello"))
        await mob.wait_idle()
        head = mob.realm.state.head(mob.session_of("a"))
        assert (head.turns, len(head.inputs or ())) == (1, 1)
        (node,) = live_view(mob).members
        assert node.state == "idle"
        assert (await mob.ask("a", "next")).text == "said next"
        assert "has completed. Its answer:\nsaid hello" in desk.notices[0]
        assert mob.realm.state.head(mob.session_of("a")).inputs is None


async def test_a_member_that_is_to_be_woken_is_begun_a_turn(autojump_clock: Any) -> None:
    """`notify = "wake"`: one turn tells it of all that has ended by then."""
    desk = Desk()
    async with opened(defined(notify="wake"), desk) as mob:
        await mob.ask("a", spawn("wait x"))
        await mob.ask("a", spawn("wait y"))
        await wait_all_tasks_blocked()
        desk.gate.set()
        await mob.wait_idle()
        head = mob.realm.state.head(mob.session_of("a"))
        assert head.inputs is None
        assert 3 <= head.turns <= 4
        assert sum("has completed" in text for text in desk.seen) >= 1
        assert {text.splitlines()[-1] for text in desk.notices} == {"done x", "done y"}
        assert await mob.ask("a", "still") is not None


@pytest.mark.parametrize("notify", ["next-turn", "wake"])
async def test_a_notice_outlives_the_process(notify: str, autojump_clock: Any) -> None:
    """A stopped mob begins nothing; whoever opens it next wakes the member, or does not."""
    store = MemoryStore()
    desk = Desk()
    async with opened(defined(notify=notify), desk, store=store, grace_s=0) as mob:
        await mob.ask("a", spawn("wait x"))
    desk = Desk()
    desk.gate.set()
    async with opened(defined(notify=notify), desk, store=store) as mob:
        await mob.wait_idle()
        assert len(records(store, TaskEnded)) == 1
        assert mob.realm.state.head(mob.session_of("a")).turns == (2 if notify == "wake" else 1)
    desk = Desk()
    async with opened(defined(notify=notify), desk, store=store) as mob:
        await mob.wait_idle()
        assert (await mob.ask("a", "next")).text == "said next"
        assert any("done x" in text for text in desk.notices)


async def test_a_mob_that_stops_drains_its_children_then_cancels_and_resumes_them(
    autojump_clock: Any,
) -> None:
    """CONTRACTS 5.11 to 5.13 for background children."""
    store = MemoryStore()
    desk = Desk()
    async with opened(defined(), desk, store=store) as mob:
        await mob.ask("a", spawn("wait x"))
        await wait_all_tasks_blocked()
        began = trio.current_time()
        (child,) = mob.realm.state.head(mob.session_of("a")).children or ()
        assert await mob.stop(deadline_s=7) == StopReport((), (), (child,))
        assert trio.current_time() - began == 7
        assert mob.realm.background.running == 0
        desk.gate.set()
        await trio.sleep(60)
        assert records(store, TaskEnded) == []
        await mob.resume()
        await mob.wait_idle()
        (ended,) = records(store, TaskEnded)
        assert ended.state is TaskState.COMPLETED


async def test_a_mob_that_was_stopped_begins_no_child_when_it_is_opened() -> None:
    """CONTRACTS 5.13."""
    store = MemoryStore()
    async with opened(defined(), Desk(), store=store) as mob:
        await mob.ask("a", spawn("wait x"))
        await mob.stop(deadline_s=0)
    async with opened(defined(), Desk(), store=store) as mob:
        await wait_all_tasks_blocked()
        assert mob.realm.background.running == 0
        await mob.resume()
        assert mob.realm.background.running == 1


@pytest.mark.parametrize("how", ["retire", "interrupt", "crash"])
async def test_what_ends_a_member_ends_its_linked_children(how: str, autojump_clock: Any) -> None:
    """CONTRACTS 1.10: detached ones are shown, and run, when their member has left."""
    store = MemoryStore()
    desk = Desk()
    definition = define(
        "a", "b", profile={"subagents": BACKGROUND}, restart={"max": 0, "backoff_s": 0}
    )
    async with opened(definition, desk, store=store) as mob:
        session = mob.session_of("a")
        await mob.ask("a", spawn("wait x"))
        await mob.ask("a", spawn("wait y", name="apart", lifetime="detached"))
        await wait_all_tasks_blocked()
        if how == "retire":
            await mob.retire("a")
            await mob.retire("a")
        else:
            await mob.send("a", "wait z" if how == "interrupt" else "fail")
            await wait_all_tasks_blocked()
            mob.interrupt("a")
            await trio.sleep(1)
        assert mob.realm.background.running == 1
        gone = [record.session_id for record in records(store, SessionArchived)]
        assert len(gone) == (2 if how == "retire" else 1)
        tasks = mob.realm.background.of(session)
        assert [each.state for each in tasks] == [TaskState.CANCELLED, TaskState.RUNNING]
        shown = [node for member in live_view(mob).members for node in below(member)]
        assert [node.task for node in shown if node.name == "apart"] == ["detached"]
        desk.gate.set()
        await mob.wait_idle()
        assert mob.realm.background.of(session)[1].state is TaskState.COMPLETED


def below(node: Node) -> list[Node]:
    return [node, *[each for child in node.children for each in below(child)]]


async def test_a_crashed_member_s_children_run_on_while_it_is_restarted(
    autojump_clock: Any,
) -> None:
    """CONTRACTS 1.10: a turn that is continued has not ended."""
    desk = Desk()
    store = MemoryStore()
    async with opened(defined(), desk, store=store) as mob:
        await mob.ask("a", spawn("wait x"))
        await mob.send("a", "wait y")
        await wait_all_tasks_blocked()
        assert mob.kill("a")
        await trio.sleep(5)
        assert records(store, SessionArchived) == []
        assert mob.realm.background.running == 1


async def test_a_wait_of_a_member_is_repeated_after_a_restart(autojump_clock: Any) -> None:
    """CONTRACTS 1.12: the parent's `wait_task` finds its running children again."""
    store = MemoryStore()
    desk = Desk()

    async def say(request: Any) -> Any:
        last = request.messages[-1]
        if isinstance(last, ToolResult) and "task_id" in last.text and "answer" not in last.text:
            told = json.loads(last.text)
            given = json.dumps({"task_id": told["task_id"]})
            return await desk(Asked(f"call wait_task {given}"))
        return await desk(request)

    async with opened(defined(), say, store=store, grace_s=0) as mob:
        await mob.send("a", spawn("wait x"))
        await wait_all_tasks_blocked()
    desk = Desk()
    desk.gate.set()
    async with opened(defined(), say, store=store) as mob:
        await mob.wait_idle()
        head = mob.realm.state.head(mob.session_of("a"))
        assert (head.turns, head.inputs) == (1, None)
        (answer, *_) = mob.realm.messages(head.session_id)
        assert '"answer": "done x"' in answer.text
        assert len(head.children or ()) == 1


class Asked:
    """A request of one message, as far as a `Desk` looks at it."""

    def __init__(self, text: str) -> None:
        self.messages = (UserMessage(text),)


async def test_a_background_child_is_shown_as_what_it_is() -> None:
    desk = Desk()
    async with opened(defined(), desk) as mob:
        await mob.ask("a", spawn("wait x"))
        await wait_all_tasks_blocked()
        (node,) = live_view(mob).members
        (child,) = node.children
        assert (child.name, child.task, child.state) == ("helper", "background", "model")
        assert TASKS not in {each.name for each in below(node)}
