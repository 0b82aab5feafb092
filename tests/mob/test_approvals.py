"""Members whose calls wait for approval: at no cost, across stop and crash, down to children."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mob import open_mob
from mob.definition import MobDefinition
from mob.errors import DefinitionInvalid
from mob.mob import Mob
from mob.records import MemberExited
from mob.view import live_view
from runtime.errors import SessionError, TurnInterrupted
from runtime.messages import ToolResult
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import ScriptedModel
from runtime.records import TurnEnded, TurnOutcome
from stores import MemoryDisk, StoreFailed, open_memory
from tests.mob.mobs import define, member
from tests.runtime.fakes import Doing, asking, call

TOOLS = {"pay": {"function": "x.py:pay", "approve": "ask"}, "work": {"function": "x.py:work"}}


def answer(request: ModelRequest) -> str | ModelReply:
    """Pay, then say what came of it."""
    last = request.messages[-1]
    if isinstance(last, ToolResult):
        return f"{member(request)}: {last.text}"
    if last.text == "hello":
        return "hello"
    return asking(call(f"pay {request.key}", "pay"))


def defined(**parts: Any) -> MobDefinition:
    profile = {"tools": ["pay", "work"], **parts.pop("profile", {})}
    return define("a", "b", tools=parts.pop("tools", TOOLS), profile=profile, **parts)


@asynccontextmanager
async def opened(
    disk: MemoryDisk,
    pay: Doing,
    definition: MobDefinition | None = None,
    says: Any = answer,
) -> AsyncIterator[Mob]:
    async with open_memory(disk) as store:
        tools = {"pay": pay, "work": Doing(lambda _: "worked", "work")}
        definition = definition or defined()
        models = {"m": ScriptedModel(says)}
        async with open_mob(
            definition, store=store, models=models, tools=tools, grace_s=0.0
        ) as mob:
            yield mob


def paying() -> Doing:
    return Doing(lambda _: "paid", "pay")


@asynccontextmanager
async def asked(mob: Mob, name: str = "a") -> AsyncIterator[list[Any]]:
    """A question to a member that waits for approval; in the list how it ends."""
    ended: list[Any] = []

    async def ask() -> None:
        try:
            ended.append((await mob.ask(name, "go")).text)
        except SessionError as error:
            ended.append(error)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await mob.wait_blocked()
        yield ended


async def test_a_member_that_waits_holds_no_task_and_goes_on_when_it_is_approved() -> None:
    """CONTRACTS 6.13: an idle member holds no task; one that waits for a person is idle."""
    pay = paying()
    async with opened(MemoryDisk(), pay) as mob:
        async with asked(mob) as ended:
            assert (mob.at_work, pay.begun, ended) == ((), [], [])
            (waits,) = mob.approvals()
            assert (waits.tool, waits.asker) == ("pay", "a")
            (node, _) = live_view(mob).members
            assert (node.state, node.detail) == ("waiting", "pay")
            assert (await mob.ask("b", "hello")).text == "hello", "others work"
            await mob.approve(waits.key, by="ada")
        assert ended == ["a: paid"]
        assert mob.approvals() == ()


@pytest.mark.parametrize("decide_when", ["waiting", "stopped", "resumed"])
async def test_what_waits_survives_stop_and_crash(decide_when: str) -> None:
    """CONTRACTS 5.11 to 5.13, 6.9: nothing is lost, nothing is run twice."""
    disk, pay = MemoryDisk(), paying()
    async with opened(disk, pay) as mob:
        await mob.send("a", "go")
        await mob.send("a", "hello")
        await mob.wait_blocked()
        (waits,) = mob.approvals()
        if decide_when == "waiting":
            with trio.CancelScope() as scope:  # the process dies before the turn can go on
                mob._activations.halt()
                await mob.approve(waits.key, by="ada")
                scope.cancel()
        else:
            report = await mob.stop()
            assert report.cancelled == ()
            if decide_when == "stopped":
                await mob.approve(waits.key, by="ada")
                await wait_all_tasks_blocked()
                assert pay.begun == [], "a stopped mob does nothing"
    async with opened(disk, pay) as mob:
        if decide_when != "waiting":
            assert pay.begun == []
            await mob.resume()
        if decide_when == "resumed":
            await mob.approve(waits.key, by="ada")
        await mob.wait_idle()
        assert len(pay.finished) == 1
        texts = [m.text for m in mob.realm.messages(mob.session_of("a"))]
        assert texts[:2] == ["hello", "hello"], "the input behind it had its turn"
        assert texts[2] == "a: paid"


async def test_an_interrupt_ends_a_turn_that_waits() -> None:
    """CONTRACTS 4.3."""
    pay = paying()
    async with opened(MemoryDisk(), pay) as mob:
        async with asked(mob) as ended:
            assert mob.interrupt("a")
        assert isinstance(ended[0], TurnInterrupted)
        assert (mob.approvals(), pay.begun) == ((), [])
        assert (await mob.ask("a", "hello")).text == "hello"


async def test_a_member_that_waits_can_be_retired() -> None:
    """CONTRACTS 6.3."""
    pay = paying()
    async with opened(MemoryDisk(), pay) as mob:
        async with asked(mob) as ended:
            await mob.retire("a")
        assert "was retired" in str(ended[0])
        assert (mob.approvals(), mob.members) == ((), ("b",))


SPAWN = {"subagents": {"max_depth": 1}}


def with_child(request: ModelRequest) -> str | ModelReply:
    """The member starts a child, which pays."""
    last = request.messages[-1]
    if isinstance(last, ToolResult):
        return last.text
    if request.key.count("/") == 2:
        arguments = '{"name": "kid", "instructions": "go"}'
        return asking(call(f"spawn {request.key}", "spawn_agent", arguments))
    return asking(call(f"pay {request.key}", "pay"))


@pytest.mark.parametrize("background", [False, True])
async def test_a_childs_call_waits_and_its_parent_with_it(background: bool) -> None:
    """CONTRACTS 1.10: the child is found again and made once, also after a crash."""
    disk, pay = MemoryDisk(), paying()

    def says(request: ModelRequest) -> str | ModelReply:
        reply = with_child(request)
        if background and isinstance(reply, ModelReply) and reply.tool_calls[0].name != "pay":
            arguments = '{"name": "kid", "instructions": "go", "mode": "background"}'
            return asking(call(f"spawn {request.key}", "spawn_agent", arguments))
        return reply

    spawn = {"subagents": {"max_depth": 1, "background": background}}
    definition = defined(profile=spawn)
    async with opened(disk, pay, definition, says) as mob:
        await mob.send("a", "go")
        await mob.wait_blocked()
        (waits,) = mob.approvals()
        assert waits.asker == "kid"
        with trio.fail_after(1):
            report = await mob.stop(60.0)
        assert report.cancelled == (() if background else ("a",))
    async with opened(disk, pay, definition, says) as mob:
        await mob.resume()
        await mob.wait_blocked()
        assert mob.approvals() == (waits,)
        await mob.approve(waits.key, by="ada")
        await mob.wait_idle()
        assert len(pay.finished) == 1
        assert len(mob.realm.state.heads) == 3


def test_a_mob_file_says_which_calls_wait() -> None:
    definition = defined(profile={"approve": ["work", "sh*"], "shell": {}})
    assert definition.profiles["p"].approve == ("work", "sh*")
    with pytest.raises(DefinitionInvalid, match="there is no tool 'wrok'"):
        defined(profile={"approve": ["wrok"]})
    with pytest.raises(DefinitionInvalid, match="approve"):
        defined(tools={"pay": {"function": "x.py:pay", "approve": "maybe"}})


def test_what_is_not_given_changes_no_stored_mob() -> None:
    """A mob stored by an earlier version has the blueprint that it always had."""
    plain = define("a", tools={"work": {"function": "x.py:work"}})
    assert "approve" not in plain.blueprint()
    assert "approve" in defined().blueprint()


async def test_whoever_begins_to_wait_last_is_noticed() -> None:
    """CONTRACTS 6.9: once nothing but decisions is waited for, whoever waits for that is told
    so, also if the last to rest is one that asks a member whose turn waits already."""
    begun, go = trio.Event(), trio.Event()

    async def says(request: ModelRequest) -> str | ModelReply:
        if member(request) == "b" or isinstance(request.messages[-1], ToolResult):
            return answer(request)
        begun.set()
        await go.wait()
        return asking(call("q", "ask_p", '{"message": "and you?"}'))

    async with opened(MemoryDisk(), paying(), says=says) as mob, trio.open_nursery() as nursery:
        await mob.send("b", "go")
        await mob.send("a", "go")
        await begun.wait()
        nursery.start_soon(mob.wait_blocked)
        await wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1, "a is at work"
        go.set()
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks
        nursery.cancel_scope.cancel()


async def test_a_store_that_fails_under_a_stop_is_told_as_that() -> None:
    """CONTRACTS 5.11: what a verb raises is what its documentation names, also while calls
    wait."""

    async def failing() -> None:
        raise StoreFailed("an earlier commit failed", path="p")

    async with opened(MemoryDisk(), paying()) as mob:
        async with asked(mob):
            with (
                patch.object(mob.realm.store, "barrier", failing),
                pytest.raises(StoreFailed, match="an earlier commit"),
            ):
                await mob.stop(60.0)
            (waits,) = mob.approvals()
            await mob.deny(waits.key, by="ada")


@pytest.mark.parametrize("given_up", [True, False])
async def test_a_turn_that_is_given_up_is_not_said_to_be_interrupted(given_up: bool) -> None:
    """CONTRACTS 4.3, 6.8: while its member's activation ends, a turn that waits is interrupted, or
    it fails and nobody was told that it is interrupted."""

    def says(request: ModelRequest) -> str | ModelReply:
        if isinstance(request.messages[-1], ToolResult):
            return answer(request)
        return asking(call("p", "pay"), call("w", "work"))

    async def hangs(_: Any) -> str:
        await trio.sleep_forever()
        return ""

    told: list[bool] = []
    definition = defined(restart={"policy": "never"} if given_up else {"backoff_s": 0.01})
    tools = {"pay": paying(), "work": Doing(hangs, "work")}
    models = {"m": ScriptedModel(says)}
    async with (
        open_memory(MemoryDisk()) as store,
        open_mob(definition, store=store, models=models, tools=tools) as mob,
    ):
        queue = mob.realm.append

        def append(*records: Any) -> Any:
            if isinstance(records[0], MemberExited):
                told.append(mob.interrupt("a"))
            return queue(*records)

        await mob.send("a", "go")
        await wait_all_tasks_blocked()
        with patch.object(mob.realm, "append", append):
            mob.kill("a", "killed")
            await mob.wait_idle()
        last = list(mob.realm.journal.read(0))[-1].record
        assert isinstance(last, TurnEnded)
        assert told == [not given_up]
        assert last.outcome is TurnOutcome[("INTERRUPTED", "FAILED")[given_up]]


async def test_what_is_left_of_a_batch_when_a_child_has_answered_is_noticed() -> None:
    """CONTRACTS 6.9: as above, when the last to rest is a child beside whose call the same turn
    asks a member that waits."""
    go = trio.Event()

    async def says(request: ModelRequest) -> str | ModelReply:
        last = request.messages[-1]
        if request.key.count("/") > 2 and not isinstance(last, ToolResult):
            await go.wait()
            return "dug"
        if member(request) == "b" or isinstance(last, ToolResult):
            return answer(request)
        child = call("c", "spawn_agent", '{"name": "kid", "instructions": "dig"}')
        return asking(child, call("q", "ask_p", '{"message": "and you?"}'))

    definition = defined(profile={"subagents": {"max_depth": 1}})
    async with (
        opened(MemoryDisk(), paying(), definition, says) as mob,
        trio.open_nursery() as nursery,
    ):
        await mob.send("b", "go")
        await mob.send("a", "go")
        nursery.start_soon(mob.wait_blocked)
        await wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1, "the child is at work"
        go.set()
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks
        nursery.cancel_scope.cancel()
