"""`spawn_agent` over the session seam: CONTRACTS 1.9, 1.10, 1.13."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime.errors import TurnInterrupted
from runtime.ids import HarnessId, SessionId
from runtime.messages import ToolOutcome, ToolResult
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.realm import Realm
from runtime.records import SessionCreated
from runtime.session import SessionStatus
from runtime.spawning import SpawnLimits
from runtime.tools.agents import SPAWN_AGENT, SpawnAgent
from stores import MemoryStore
from tests.runtime.fakes import Doing, asking, call, make_realm, new_session, open_lagging


def spawning(told: str, name: str = "helper") -> ModelReply:
    return calling((SPAWN_AGENT, {"name": name, "instructions": told}))


def told(realm: Realm, session: SessionId) -> list[ToolResult]:
    found = realm.messages(session, order="oldest")
    return [message for message in found if isinstance(message, ToolResult)]


async def test_a_child_runs_one_level_down_answers_and_is_archived() -> None:
    """CONTRACTS 1.12 (foreground)."""
    realm = make_realm(MemoryStore(), [spawning("find out"), "found", "so it is"], [SpawnAgent()])
    session = await new_session(realm, agent_id="lead", locale="de")
    result = await realm.runner.send_message(session, "go")
    assert result.text == "so it is"
    (answer,) = told(realm, session)
    assert (answer.text, answer.outcome) == ("found", ToolOutcome.OK)
    (child,) = realm.state.head(session).children or []
    head = realm.state.head(child)
    assert (head.title, head.agent_id, head.locale, head.harness_id) == (
        "helper",
        "lead",
        "de",
        "plain",
    )
    assert (head.lineage.parent, head.lineage.depth) == (session, 1)
    assert head.status is SessionStatus.ARCHIVED
    assert [m.text for m in realm.messages(child, order="oldest")] == ["find out", "found"]
    assert realm.state.descendants[session] == (0, 1)


async def test_a_child_may_run_on_a_harness_of_its_own() -> None:
    tool = SpawnAgent(harness_id=HarnessId("other"))
    realm = make_realm(MemoryStore(), [spawning("x"), "y", "z"], [tool])
    session = await new_session(realm)
    await realm.runner.send_message(session, "go")
    (child,) = realm.state.head(session).children or []
    assert realm.state.head(child).harness_id == "other"


async def test_a_child_that_fails_is_data_for_its_parent_and_holds_no_slot() -> None:
    realm = make_realm(MemoryStore(), [spawning("x"), ValueError("no"), "well"], [SpawnAgent()])
    session = await new_session(realm)
    assert (await realm.runner.send_message(session, "go")).text == "well"
    (answer,) = told(realm, session)
    assert answer.outcome is ToolOutcome.ERROR
    assert "ValueError: no" in answer.text
    assert realm.state.descendants[session] == (0, 1)


async def test_a_limit_is_data_for_the_model() -> None:
    """CONTRACTS 1.8."""
    limits = SpawnLimits(max_depth=0)
    realm = make_realm(MemoryStore(), [spawning("x"), "well"], [SpawnAgent()], limits=limits)
    session = await new_session(realm)
    assert (await realm.runner.send_message(session, "go")).text == "well"
    (answer,) = told(realm, session)
    assert "max_depth = 0" in answer.text
    assert realm.state.head(session).children is None


@pytest.mark.parametrize("how", ["interrupt", "cancel"])
async def test_children_end_deepest_first_and_before_their_parent(
    how: str, autojump_clock: Any
) -> None:
    """CONTRACTS 1.10: a nested chain is cancelled from below, then the parent is told."""
    ended: list[str] = []

    async def say(request: ModelRequest) -> ModelReply | str:
        text = request.messages[0].text
        depth = int(text)
        if len(request.messages) == 1 and depth < 2:
            return calling(
                (SPAWN_AGENT, {"name": "n", "instructions": str(depth + 1)}), ("mark", {"d": depth})
            )
        try:
            await trio.sleep_forever()
        finally:
            ended.append(f"model {depth}")
        return ""

    async def mark(given: Any) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(f"tool {given['d']}")

    tools = [SpawnAgent(), Doing(mark, name="mark")]
    realm = make_realm(MemoryStore(), say, tools)
    session = await new_session(realm)

    async def send() -> None:
        try:
            await realm.runner.send_message(session, "0")
        except TurnInterrupted:
            ended.append("told")
        finally:
            ended.append("out")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        if how == "interrupt":
            realm.interrupt(session)
        else:
            nursery.cancel_scope.cancel()
    assert set(ended[:3]) == {"model 2", "tool 0", "tool 1"}
    statuses = [realm.state.head(child).status for child in realm.state.heads]
    records = [event.record for event in realm.journal.read()]
    if how == "interrupt":
        assert ended[3:] == ["told", "out"]
        # The children's ends and the parent's are one commit, deepest first.
        child = (realm.state.head(session).children or [])[0]
        grandchild = (realm.state.head(child).children or [])[0]
        assert [record.session_id for record in records[-3:]] == [grandchild, child, session]
        assert statuses == [SessionStatus.IDLE, SessionStatus.ARCHIVED, SessionStatus.ARCHIVED]
    else:
        assert ended[3:] == ["out"]
        assert SessionStatus.ARCHIVED not in statuses


@pytest.mark.parametrize("lag", [0.0, 1.0])
@pytest.mark.parametrize("cut_at", [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5])
@pytest.mark.parametrize("reopened", [False, True])
async def test_a_replayed_call_finds_the_child_it_made(
    cut_at: float, reopened: bool, lag: float, autojump_clock: Any
) -> None:
    """CONTRACTS 1.9: cut off anywhere, also by the end of the process; one child, one answer."""

    async def say(request: ModelRequest) -> ModelReply | str:
        await trio.sleep(1)
        last = request.messages[-1]
        if isinstance(last, ToolResult):
            return f"heard {last.text}"
        return "child's answer" if last.text == "help" else spawning("help")

    inner = MemoryStore()
    async with open_lagging(inner, lag) as store:
        realm = make_realm(store, say, [SpawnAgent()])
        session = await new_session(realm)
        with trio.move_on_after(cut_at):
            await realm.runner.send_message(session, "go", idempotency_key="k")
        if reopened:
            await store.barrier()
            realm = make_realm(store, say, [SpawnAgent()])
        result = await realm.runner.send_message(session, "go", idempotency_key="k")
        assert result.text == "heard child's answer"
        await store.barrier()
        made = [e for e in realm.journal.read() if isinstance(e.record, SessionCreated)]
        assert len(made) == 2
        (child,) = realm.state.head(session).children or []
        assert realm.state.head(child).turns == 1
        assert realm.state.head(child).archived
        assert realm.state.descendants[session] == (0, 1)


async def test_a_model_that_repeats_its_call_ids_gets_a_new_child_each_time() -> None:
    """CONTRACTS 1.9: the call is meant, not what a model happens to number it with."""

    def spawn(told: str) -> ModelReply:
        return asking(call("call_0", SPAWN_AGENT, f'{{"name": "n", "instructions": "{told}"}}'))

    script = [spawn("a"), "A", spawn("b"), "B", "done", spawn("c"), "C", "done"]
    realm = make_realm(MemoryStore(), script, [SpawnAgent()])
    session = await new_session(realm)
    await realm.runner.send_message(session, "go")
    await realm.runner.send_message(session, "again")
    assert [answer.text for answer in told(realm, session)] == ["A", "B", "C"]
    assert len(realm.state.head(session).children or []) == 3


async def test_cancelling_a_child_cancels_its_running_turn(autojump_clock: Any) -> None:
    """CONTRACTS 1.13: archiving the child ends its model call; the parent goes on."""
    script = [spawning("x"), lambda _: FOREVER(), "well then"]
    realm = make_realm(MemoryStore(), script, [SpawnAgent()])
    session = await new_session(realm)
    results: list[str] = []

    async def send() -> None:
        results.append((await realm.runner.send_message(session, "go")).text)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        (child,) = realm.state.head(session).children or []
        await realm.runner.archive_session(child, "not needed")
    assert results == ["well then"]
    assert (
        "not needed" in told(realm, session)[0].text or "archived" in told(realm, session)[0].text
    )


FOREVER = trio.sleep_forever
