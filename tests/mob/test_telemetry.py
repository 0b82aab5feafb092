"""Spans and metrics of a mob while it runs, taken from the SDK's own exporters in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trio
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from mob.telemetry import instrument
from runtime.records import TurnEnded
from tests.mob.export.planted import leaked, plant, worked
from tests.mob.export.test_tables import TEAM_FILE
from tests.mob.mobs import Stuck, define, opened


class Told:
    """What an application's SDK was told."""

    def __init__(self) -> None:
        self._spans, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.how: dict[str, Any] = {
            "tracer_provider": self.tracer_provider,
            "meter_provider": self.meter_provider,
        }

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def below(self, span: ReadableSpan) -> list[str]:
        assert span.context is not None
        ids = span.context.span_id
        return [each.name for each in self.spans if each.parent and each.parent.span_id == ids]

    def points(self) -> Iterator[tuple[str, Any]]:
        data = self._reader.get_metrics_data()
        assert data is not None
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    for point in metric.data.data_points:
                        yield metric.name, point

    def close(self) -> None:
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()


@pytest.fixture
def told() -> Iterator[Told]:
    made = Told()
    yield made
    made.close()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_turn_is_told_when_it_has_ended_with_what_it_called(
    autojump_clock: trio.testing.MockClock, told: Told
) -> None:
    async with opened(TEAM_FILE) as mob, instrument(mob, **told.how):
        await mob.ask("worker-0", "what?")
        await trio.testing.wait_all_tasks_blocked()
        assert told.named("invoke_agent worker-0")  # also before the block is left
        (turn,) = told.named("invoke_agent worker-0")
        assert told.below(turn) == ["chat agent", "execute_tool spawn_agent", "chat agent"]
        (tool,) = told.named("execute_tool spawn_agent")
        assert [name.partition("/")[0] for name in told.below(tool)] == ["invoke_agent worker-0"]
        assert attributes(turn)["gen_ai.operation.name"] == "invoke_agent"
        assert attributes(turn)["gen_ai.request.model"] == "agent"
        assert attributes(turn)["gen_ai.provider.name"] == "sim"
        assert turn.end_time is not None
        assert turn.start_time is not None
        assert turn.end_time > turn.start_time
        chat = told.named("chat agent")[0]
        assert chat.kind is SpanKind.CLIENT
        assert attributes(chat)["gen_ai.usage.input_tokens"] > 0
        assert told.named("invoke_workflow team") == []
    (root,) = told.named("invoke_workflow team")
    assert told.below(root) == ["invoke_agent worker-0"]
    assert {span.context.trace_id for span in told.spans if span.context} == {
        root.context.trace_id if root.context else 0
    }


async def test_what_was_before_the_block_is_not_told_and_what_is_in_flight_is(
    autojump_clock: trio.testing.MockClock, told: Told
) -> None:
    stuck = Stuck()
    async with opened(define("a"), stuck) as mob, trio.open_nursery() as nursery:
        stuck.gate.set()
        await mob.ask("a", "before")
        stuck.gate = trio.Event()
        async with instrument(mob, **told.how):
            nursery.start_soon(mob.ask, "a", "within")
            await trio.testing.wait_all_tasks_blocked()
        assert [span.name for span in told.spans] == ["invoke_workflow t"]
        async with instrument(mob, **told.how):
            stuck.gate.set()
            await mob.wait_idle()
        assert len(told.named("invoke_agent a")) == 1  # not read before the block was left


async def test_metrics_have_the_names_and_units_of_the_conventions(
    autojump_clock: trio.testing.MockClock, told: Told
) -> None:
    async with opened(TEAM_FILE) as mob:
        async with instrument(mob, **told.how):
            await mob.ask("worker-0", "what?")
        usage = mob.frame("turns")
    points = list(told.points())
    tokens = {
        point.attributes["gen_ai.token.type"]: point.sum
        for name, point in points
        if name == "gen_ai.client.token.usage"
    }
    assert tokens["input"] == sum(usage["input_tokens"].to_pylist())
    assert tokens["output"] == sum(usage["output_tokens"].to_pylist())
    counts = {name: 0 for name, _ in points}
    for name, point in points:
        counts[name] += point.count
    assert counts == {
        "gen_ai.client.token.usage": 6,
        "gen_ai.client.operation.duration": 3,
        "gen_ai.invoke_agent.duration": 2,
        "gen_ai.execute_tool.duration": 1,
        "gen_ai.workflow.duration": 1,
    }
    bounds = {point.explicit_bounds[:2] for name, point in points if name.endswith("duration")}
    assert bounds == {(0.01, 0.02)}


async def test_a_failure_is_a_spans_status_and_no_key_is_in_any(
    autojump_clock: trio.testing.MockClock,
    told: Told,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CONTRACTS 6.16: spans are exports too."""
    plant(monkeypatch)
    async with worked(tmp_path) as mob, instrument(mob, content=True, **told.how):
        await mob.send("a", "again")
        await mob.send("b", "again")
        await mob.wait_idle()
    (good,), (bad,) = told.named("invoke_agent a"), told.named("invoke_agent b")
    assert good.status.status_code is StatusCode.UNSET
    assert bad.status.status_code is StatusCode.ERROR
    assert attributes(bad)["error.type"] == "failed"
    said = "\n".join(span.to_json() for span in told.spans)
    assert "is refused" in said
    assert "logged in with" in said
    assert leaked(said) == []


class Broken(SpanProcessor):
    """A processor of the application's that fails at turns."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if span.name.startswith("invoke_agent"):
            raise OSError("the collector is gone")


async def test_nobody_is_held_up_by_a_processor_that_fails(
    autojump_clock: trio.testing.MockClock, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    told.tracer_provider.add_span_processor(Broken())
    async with opened(define("a")) as mob, instrument(mob, **told.how):
        assert (await mob.ask("a", "one")).text == "one"
        assert (await mob.ask("a", "two")).text == "two"
    assert [record.message for record in caplog.records] == [
        "a turn of mob 't' was not told: invoke_agent a"
    ] * 2


async def test_a_member_that_joins_in_the_block_has_its_name(
    autojump_clock: trio.testing.MockClock, told: Told
) -> None:
    async with opened(define("a")) as mob, instrument(mob, **told.how):
        await mob.ask("a", "one")
        await mob.spawn("late", profile="p")
        await mob.ask("late", "two")
    assert [
        attributes(span)["mob.member"] for span in told.spans if "invoke_agent" in span.name
    ] == [*("a", "late")]


async def test_a_turn_that_ends_as_the_block_is_left_is_told_once(
    autojump_clock: trio.testing.MockClock, told: Told
) -> None:
    """Who of the two comes first, the reader or the end of the block, is Trio's dice."""
    async with opened(define("a")) as mob:
        for number in range(1, 25):
            async with instrument(mob, **told.how):
                after = mob.realm.journal.last
                await mob.send("a", "once")
                async with aclosing(mob.events(after)) as events:
                    async for event in events:
                        if isinstance(event.record, TurnEnded):
                            break
            assert len(told.named("invoke_agent a")) == number
