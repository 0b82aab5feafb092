"""The frames of a mob that runs: every change, nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from mob import open_mob
from mob.console.model import Model
from mob.console.narrator import Narrator
from mob.console.rows import Row
from mob.console.source import Source, open_source
from mob.console.still import still
from mob.console.transcript import Transcript
from mob.shapes import event_shape, jsonable
from mob.view import live_view, mob_view
from runtime.errors import ModelError
from runtime.ids import ToolCallId
from runtime.messages import ToolCall, Usage
from runtime.models.base import Emit, ModelReply, ModelRequest, StopReason
from runtime.models.redaction import SECRET, remembered
from runtime.models.scripted import ScriptedModel
from runtime.ports import Ports
from runtime.records import TurnEnded
from stores import MemoryDisk, open_memory
from tests.mob.export import planted
from tests.mob.mobs import define
from tests.runtime.fakes import Doing


async def answer(request: ModelRequest) -> ModelReply:
    asked = request.messages[0].text
    used = Usage(10, 2, model_calls=1)
    if asked == "spawn" and type(request.messages[-1]).__name__ == "UserMessage":
        call = ToolCall(ToolCallId("c"), "spawn_agent", '{"name": "kid", "instructions": "Help."}')
        return ModelReply("", (call,), StopReason.TOOL_CALLS, used, "scripted")
    await trio.sleep(5.0)
    return ModelReply("said", (), StopReason.END, used, "scripted")


CHILDREN = {"profile": {"subagents": {"max_depth": 1}}}
MODELS = {"m": ScriptedModel(answer)}


async def test_a_frame_has_what_changed_and_the_rows_are_those_of_the_mob(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with (
        open_memory() as store,
        open_mob(define("a", "b", "c", **CHILDREN), store=store, models=MODELS) as mob,
        trio.open_nursery() as nursery,
    ):
        with Source(mob) as source:
            model = Model()
            first = source.frame()
            model.apply(first)
            assert first.whole
            assert [row.key for row in first.rows] == ["a", "b", "c"]
            assert source.frame().rows == ()
            assert not source.restless

            nursery.start_soon(mob.ask, "a", "spawn")
            await source.stirred()
            await trio.testing.wait_all_tasks_blocked()
            frame = source.frame()
            model.apply(frame)
            assert [row.key for row in frame.rows] == ["a"]
            assert source.restless
            [kid] = model.rows["a"].children
            assert (model.rows["a"].state, model.rows["a"].detail) == ("tool", "spawn_agent")
            assert (kid.name, kid.state) == ("kid", "model")
            assert model.rows["a"].inputs == 1

            nursery.start_soon(mob.ask, "b", "hello")
            nursery.start_soon(mob.ask, "b", "hello again")
            await trio.sleep(0.1)
            model.apply(source.frame())
            assert model.rows["b"].inputs == 2
            assert source.frame().rows == (), "nothing but time has passed"
            assert model.rows["b"].since_s is not None
            for _ in range(60):
                await trio.sleep(0.25)
                model.apply(source.frame())
                for node in live_view(mob).members:
                    row = model.rows[node.name]
                    assert (row.state, row.since_s, row.usage, row.turns) == (
                        node.state,
                        node.since_s,
                        node.total,
                        node.turns,
                    )
            assert model.totals.usage == live_view(mob).usage
            assert model.totals.turns == 4
            assert model.rows["a"].words == "said"
            assert model.rows["a"].inputs == model.rows["b"].inputs == 0
            assert not source.restless


async def test_what_no_record_tells_is_seen(autojump_clock: trio.testing.MockClock) -> None:
    """A call that is made again, and a turn that is cut off and leaves no record before it ends."""
    fails = iter([True])

    async def again(request: ModelRequest) -> ModelReply:
        if next(fails, False):
            raise ModelError("busy", provider="x", retryable=True)
        return await answer(request)

    models = {"m": ScriptedModel(again)}
    async with (
        open_memory() as store,
        open_mob(define("a"), store=store, models=models) as mob,
        trio.open_nursery() as nursery,
    ):
        with Source(mob) as source:
            model = Model()
            model.apply(source.frame())
            nursery.start_soon(mob.ask, "a", "hello")
            states = []
            for _ in range(100):
                await trio.sleep(0.1)
                model.apply(source.frame())
                live = live_view(mob).members[0]
                row = model.rows["a"]
                assert (row.state, row.since_s, row.until_s) == (
                    live.state,
                    live.since_s,
                    live.until_s,
                )
                if row.state not in states[-1:]:
                    states.append(row.state)
            assert states == ["retrying", "model", "idle"]


async def test_members_that_join_leave_and_get_another_session(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with (
        open_memory() as store,
        open_mob(define("a", "b"), store=store, models=MODELS) as mob,
    ):
        await mob.ask("b", "hello")
        with Source(mob) as source:
            model = Model()
            model.apply(source.frame())
            assert model.rows["b"].usage.total_tokens == 12
            await mob.spawn("new", profile="p")
            await mob.respawn("b", reason="anew")
            await mob.ask("new", "hello")
            model.apply(source.frame())
            assert list(model.rows) == ["a", "b", "new"]
            assert model.rows["b"].usage.total_tokens == 0
            assert model.rows["new"].usage.total_tokens == 12
            await mob.retire("new")
            frame = source.frame()
            model.apply(frame)
            assert frame.gone == ("new",)
            assert list(model.rows) == ["a", "b"]


async def test_who_looks_no_more_is_told_of_nothing() -> None:
    async with open_memory() as store, open_mob(define("a"), store=store, models=MODELS) as mob:
        with Source(mob) as source:
            source.frame()
        await mob.spawn("new", profile="p")
        assert source.frame().totals.events == 0


async def test_a_budget_and_a_restart_are_told(autojump_clock: trio.testing.MockClock) -> None:
    crashes = iter([True])

    async def fails(request: ModelRequest) -> ModelReply:
        if next(crashes, False):
            raise RuntimeError("a bug")
        return await answer(request)

    parts = {"profile": {"budget": {"tokens": 100}}}
    models = {"m": ScriptedModel(fails)}
    async with (
        open_memory() as store,
        open_mob(define("a", **parts), store=store, models=models) as mob,
        trio.open_nursery() as nursery,
    ):
        with Source(mob) as source:
            model = Model()
            model.apply(source.frame())
            assert model.rows["a"].left == "100 tok"
            nursery.start_soon(mob.ask, "a", "hello")
            await trio.sleep(0.5)
            model.apply(source.frame())
            row = model.rows["a"]
            assert (row.state, row.restarts) == ("restarting", 1)
            assert row.until_s is not None
            assert 0 < row.until_s - trio.current_time() <= 1.0
            await trio.sleep(9.0)
            model.apply(source.frame())
            assert model.rows["a"].state == "idle"
            assert model.rows["a"].left == "88 tok"


async def test_a_member_seen_between_its_turn_and_its_rest_is_seen_at_rest() -> None:
    async with open_memory() as store, open_mob(define("a"), store=store) as mob:
        with Source(mob) as source:
            model = Model()

            def look(_: int, record: object) -> None:
                if isinstance(record, TurnEnded):
                    model.apply(source.frame())

            mob.realm.journal.listen(look)
            await mob.ask("a", "hello")
            assert model.rows["a"].state != "idle", "its task has not ended"
            await mob.wait_idle()
            model.apply(source.frame())
            assert model.rows["a"].state == "idle"


class _TrioClock:
    """A wall clock that goes with Trio's, begun at another time."""

    def now_ns(self) -> int:
        return 10**18 + int(trio.current_time() * 1e9)


async def test_who_waits_for_a_decision_says_since_when_after_a_restart_too(
    autojump_clock: trio.testing.MockClock,
) -> None:
    disk, ports, rows = MemoryDisk(), Ports(clock=_TrioClock()), []
    asks = ModelReply("", (ToolCall(ToolCallId("c"), "pay", "{}"),), StopReason.TOOL_CALLS)
    definition = define(
        "a",
        tools={"pay": {"function": "x.py:pay", "approve": "ask"}},
        profile={"tools": ["pay"]},
    )
    for began in (True, False):
        models = {"m": ScriptedModel(lambda _: asks)}
        tools = {"pay": Doing(lambda _: "paid", "pay")}
        async with (
            open_memory(disk) as store,
            open_mob(definition, store=store, models=models, tools=tools, ports=ports) as mob,
        ):
            if began:
                await mob.send("a", "hello")
            await mob.wait_blocked()
            await trio.sleep(60.0)
            with Source(mob) as source:
                (row,) = source.frame().rows
                assert not source.restless, "nobody works"
            rows.append((row.state, row.detail, round(trio.current_time() - (row.since_s or 0.0))))
    assert rows == [("waiting", "pay", 60), ("waiting", "pay", 120)]


async def test_no_key_is_in_what_is_watched(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRACTS 6.16: nor in lines, rows and transcripts; these may be seen by whoever passes."""
    planted.plant(monkeypatch)
    async with planted.worked(tmp_path) as mob:
        events = mob.realm.journal.read()
        lines = [Narrator(mob.realm.state).tell(event) for event in events]
        told = "\n".join(" ".join(line) for line in lines if line)
        with Source(mob) as source:
            rows = source.frame().rows
            await mob.ask("a", f"again {planted.EVERYWHERE}")
            said = [row.words for row in source.frame().rows]
        words = f"it is {planted.EVERYWHERE}"
        stopped = mob_view(mob.id, mob.realm.state, mob.roster, words=lambda _: words)
        frame = still(stopped, mob.realm.state, mob.roster)
        transcript = Transcript(mob.session_of("a"), remembered())
        seen = [line for event in events for line in transcript.tell(event_shape(event))]
        before = transcript.before(
            jsonable(
                mob.realm.journal.turn(mob.realm.state.heads[mob.session_of("a")].head).messages
            ),
            *("", [], [{"text": planted.EVERYWHERE, "sender": None}]),
        )
    everything = [told, *(row.words for row in rows), *said, *seen, *before]
    everything += [row.words for row in frame.rows]
    assert planted.leaked("\n".join(map(str, events))) == list(planted.KEYS), "they are there"
    assert planted.leaked("\n".join(everything)) == []
    assert all(SECRET in part for part in (told, said[0], frame.rows[0].words))
    assert sum(SECRET in line for line in seen) >= 4
    assert sum(SECRET in line for line in before) >= 4


class _Streaming:
    """A model whose words come in pieces, and slowly."""

    name = "streaming"
    supports_tools = True

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        for piece in ("one ", "two ", "three"):
            assert emit is not None
            emit(piece)
            await trio.sleep(1.0)
        return ModelReply("one two three")

    async def aclose(self) -> None:
        """Nothing is held."""


async def test_what_is_being_said_grows(autojump_clock: trio.testing.MockClock) -> None:
    async with (
        open_memory() as store,
        open_mob(define("a"), store=store, models={"m": _Streaming()}) as mob,
        trio.open_nursery() as nursery,
    ):
        async with open_source(mob) as source:
            source.frame()
            nursery.start_soon(mob.ask, "a", "hello")
            seen = []
            for _ in range(4):
                await trio.sleep(0.9)
                seen += [row.words for row in source.frame().rows]
            assert [each for each in dict.fromkeys(seen) if each] == [
                *("one", "one two", "one two three")
            ]


async def test_children_are_looked_at_so_deep_and_no_deeper(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spawns(request: ModelRequest) -> ModelReply:
        if type(request.messages[-1]).__name__ == "ToolResult":
            return ModelReply("done")
        arguments = '{"name": "kid", "instructions": "Help."}'
        call = ToolCall(ToolCallId("c"), "spawn_agent", arguments)
        return ModelReply("", (call,), StopReason.TOOL_CALLS)

    def depth(row: Row) -> int:
        return 1 + max(map(depth, row.children), default=0)

    three = {"profile": {"subagents": {"max_depth": 3}}}
    models = {"m": ScriptedModel(spawns)}
    async with (
        open_memory() as store,
        open_mob(define("a", **three), store=store, models=models) as mob,
    ):
        await mob.ask("a", "hello")
        seen = []
        for deep in (0, 1, 2, 9):
            monkeypatch.setattr("mob.console.source._DEEP", deep)
            with Source(mob) as source:
                (row,) = source.frame().rows
            seen.append((depth(row), row.more))
        assert seen == [(1, 1), (2, 0), (3, 0), (4, 0)]
