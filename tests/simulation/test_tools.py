"""The simulated tools, in a session of their own: what each fault comes to for the model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from mob.simulation.faults import FaultPlan, Faults
from mob.simulation.kinds import FaultKind
from mob.simulation.streams import Streams
from mob.simulation.tools import Effects, sim_tools
from runtime.driver import SessionConfig
from runtime.ids import HarnessId, RealmId, RunId, SessionId, ToolCallId
from runtime.messages import ToolCall, ToolOutcome, ToolResult
from runtime.models.sim import EchoModel
from runtime.realm import Realm
from runtime.tools.base import Toolbox, ToolContext
from stores import open_memory

Clock = trio.testing.MockClock


class Bench:
    """A realm with one session, and the tools of one world under one kind of fault."""

    def __init__(self, realm: Realm, session_id: SessionId, kind: FaultKind | None) -> None:
        streams = Streams(1)
        plan = FaultPlan({} if kind is None else {kind: 1.0})
        self.began: list[tuple[str, bool]] = []
        self.returned: list[str] = []
        self.effects = Effects(
            lambda tool, context: self.began.append((tool.spec.name, tool.idempotent)),
            lambda context, text: self.returned.append(text),
        )
        self.passed: list[str] = []
        self.realm = realm
        self.session_id = session_id
        tools = sim_tools(Faults(plan, streams), streams, self.effects, self.passed.append)
        self.toolbox = Toolbox(tools.values())

    async def call(self, name: str, number: int = 0) -> tuple[ToolResult | None, float]:
        """One call's result within an hour, and how long it took."""
        call = ToolCall(ToolCallId(f"t/a/{number}.1#0"), name, json.dumps({"what": "it"}))
        context = ToolContext(self.session_id, RunId(f"run{number}"), call, self.realm.runner)
        began = trio.current_time()
        with trio.move_on_after(3600):
            result = await self.toolbox.run(context)
            return result, trio.current_time() - began
        return None, trio.current_time() - began


@asynccontextmanager
async def bench(kind: FaultKind | None = None) -> AsyncIterator[Bench]:
    async with open_memory() as store:
        realm = Realm(store, RealmId("t"), lambda _head: SessionConfig(EchoModel()))
        realm.recover()
        head = await realm.create(HarnessId("p"), title="a")
        yield Bench(realm, head.session_id, kind)


async def test_each_tool_does_its_work_once(autojump_clock: Clock) -> None:
    async with bench() as on:
        results = [
            (await on.call(*each))[0] for each in (("work", 1), ("note", 2), ("delegate", 3))
        ]
        assert [result and result.text for result in results] == [
            "work did it (1)",
            "note did it (1)",
            "it",
        ]
        assert on.began == [("work", True), ("note", False), ("delegate", True)]
        assert on.returned == ["work did it (1)", "note did it (1)", "it"]
        assert set(on.effects.times.values()) == {1}
        assert on.passed == ["tool.called", "tool.done"] * 3
        await on.call("note", 2)
        assert sorted(on.effects.times.values()) == [1, 1, 2]


CHECKS: dict[FaultKind, Callable[[ToolResult, float], bool]] = {
    FaultKind.TOOL_ERROR: lambda made, _: made.outcome is ToolOutcome.ERROR,
    FaultKind.TOOL_HANG: lambda made, took: "timed out" in made.text and took == 10,
    FaultKind.TOOL_GARBAGE: lambda made, _: made.text != "work did it (1)",
    FaultKind.TOOL_HUGE: lambda made, _: "characters were cut" in made.text,
    FaultKind.TOOL_TRUNCATED: lambda made, _: made.text.startswith("{"),
    FaultKind.TOOL_LATE: lambda _, took: took >= 0.5,
    FaultKind.TOOL_DEAF: lambda made, took: made.text == "work did it (1)" and took >= 0.1,
    FaultKind.TOOL_RAISES: lambda made, _: made.outcome is ToolOutcome.ERROR,
}


@pytest.mark.parametrize("kind", CHECKS, ids=lambda kind: kind.value)
async def test_each_fault_does_what_it_is_called(kind: FaultKind, autojump_clock: Clock) -> None:
    """Whatever a tool does wrong is a result that the model reads."""
    async with bench(kind) as on:
        for number in range(20):
            made, took = await on.call("work", number)
            assert made is not None
            made.text.encode()
            assert CHECKS[kind](made, took), (made, took)


async def test_a_tool_without_a_limit_hangs_until_it_is_cancelled(autojump_clock: Clock) -> None:
    async with bench(FaultKind.TOOL_HANG) as on:
        assert await on.call("note") == (None, 3600)
        assert not on.effects.times


async def test_a_child_that_is_started_twice_is_one_child(autojump_clock: Clock) -> None:
    """CONTRACTS 1.9: one key, one child."""
    async with bench(FaultKind.TOOL_DUPLICATE) as on:
        for number in range(10):
            made, _ = await on.call("delegate", number)
            assert made is not None
            assert "several children" not in made.text
        assert len(on.realm.state.heads) == 11
        heads = list(on.realm.state.heads.values())
        assert all(head.turns <= 1 for head in heads[1:])
        assert sum(head.turns for head in heads) > 0


def test_every_kind_of_a_tool_is_looked_at() -> None:
    kinds: set[Any] = {kind for kind in FaultKind if kind.family == "tool"}
    assert kinds == CHECKS.keys() | {FaultKind.TOOL_DUPLICATE}
