"""OpenTelemetry: a running mob's turns, model calls and tools as spans and metrics, as they end.

Owns: `instrument`, what of a span becomes a metric, handing spans to a tracer. Must not: be on the
way of a turn (it is a reader of the mob's events like any other: bounded, and nobody waits for it),
choose an SDK, an exporter or a sampler, which are the application's.

Names are those of the conventions for GenAI (see `mob.export.spans`), which are in development:
they may change with a minor version of this library.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import trio

from mob.export.errors import ExtraMissing
from mob.export.spans import Span, Spans, Value, named
from mob.export.who import Who
from mob.records import MemberRespawned, MemberRetired, MemberSpawned
from runtime.journal import Event
from runtime.models.redaction import remembered
from runtime.session import SessionHead

try:
    from opentelemetry import metrics, trace
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ImportError:
    raise ExtraMissing("telemetry", "opentelemetry-sdk", "otel") from None

if TYPE_CHECKING:
    from mob.mob import Mob

_log: Final = logging.getLogger("mob")

#: The name of the instrumentation.
SCOPE: Final = "trio-mob"

#: Bounds of histograms, as the conventions advise.
_SECONDS: Final = tuple(0.01 * 2**power for power in range(14))
_TOKENS: Final = tuple(4**power for power in range(14))

#: Records behind which sessions are other members'.
_RENAMING: Final = (MemberSpawned, MemberRetired, MemberRespawned)

#: Attributes of spans that are of metrics too: few values each.
_DIMENSIONS: Final = (
    "gen_ai.operation.name",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "gen_ai.tool.name",
)


@asynccontextmanager
async def instrument(
    mob: Mob,
    *,
    tracer_provider: trace.TracerProvider | None = None,
    meter_provider: metrics.MeterProvider | None = None,
    content: bool = False,
) -> AsyncIterator[None]:
    """In this block each turn of `mob` that ends becomes spans, below one span for the block.

    Without providers the application's global ones are used. With `content` answers, and arguments
    and results of tools, are told too, never with a key in them. A turn that ends before the block
    is left is told when it is; what is in flight by then is told as far as it came. Whoever cancels
    the block cancels the telling of what is left, too.
    """
    tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
    meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
    teller = _Teller(mob, tracer, _Measures(meter), content=content)
    async with trio.open_nursery() as nursery:
        after = mob.realm.journal.last
        nursery.start_soon(teller.follow, after, name="telemetry")
        try:
            yield
        finally:
            nursery.cancel_scope.cancel()
            teller.finish()


class _Teller:
    """Follows a mob's events and tells a tracer."""

    def __init__(
        self, mob: Mob, tracer: trace.Tracer, measures: _Measures, *, content: bool
    ) -> None:
        self._mob = mob
        self._tracer = tracer
        self._measures = measures
        self._told = mob.realm.journal.last
        self._who: Who | None = None
        self._spans = Spans(
            mob.id,
            mob.realm.state,
            self._names,
            remembered(),
            self._bound,
            content=content,
        )
        self._began_ns = mob.realm.ports.clock.now_ns()
        self._root = tracer.start_span(
            f"invoke_workflow {mob.id}",
            attributes=root_attributes(mob.id),
            start_time=self._began_ns,
        )

    def _names(self) -> Who:
        """Whose each session is; looked up anew when members have come or gone."""
        if self._who is None:
            self._who = Who(self._mob.realm.state, self._mob.roster, remembered())
        return self._who

    async def follow(self, after: int) -> None:
        """Tell what ends, until cancelled."""
        async with aclosing(self._mob.events(after)) as events:
            async for event in events:
                if event.seq <= self._told:
                    continue  # `finish` was quicker
                self._take(event)

    def finish(self) -> None:
        """Tell what is committed and was not read yet, and what has not ended."""
        journal = self._mob.realm.journal
        while page := journal.read(self._told):
            for event in page:
                self._take(event)
        self._tell(self._spans.rest())
        ended_ns = self._mob.realm.ports.clock.now_ns()
        self._root.end(end_time=ended_ns)
        self._measures.workflow(self._mob.id, (ended_ns - self._began_ns) / 1e9)

    def _take(self, event: Event) -> None:
        self._told = event.seq
        if isinstance(event.record, _RENAMING):
            self._who = None
        self._tell(self._spans.feed(event.seq, event.record))

    def _tell(self, spans: Iterable[Span]) -> None:
        for span in spans:
            try:
                emit(self._tracer, span, self._root)
                self._measures.take(span)
            except Exception:  # noqa: BLE001 what an application's SDK brings about ends no mob
                _log.exception("a turn of mob %r was not told: %s", self._mob.id, span.name)

    def _bound(self, head: SessionHead) -> tuple[str | None, str | None]:
        """The provider and model behind the alias of the session's profile."""
        definition = self._mob.definition
        profile = definition.profiles.get(head.harness_id)
        reference = head.spec.model or (None if profile is None else profile.model)
        if reference is None:
            return None, None
        model = definition.models.get(reference)
        return named(reference if model is None else model.model)


def root_attributes(mob_id: str) -> dict[str, Value]:
    """What the span that is above all others says."""
    return {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": mob_id}


def emit(tracer: trace.Tracer, span: Span, parent: trace.Span) -> None:
    """Hand a span and those below it to a tracer, with the times at which they were."""
    made = tracer.start_span(
        span.name,
        trace.set_span_in_context(parent),
        SpanKind.CLIENT if span.client else SpanKind.INTERNAL,
        span.attributes,
        start_time=span.start_ns,
        record_exception=False,
        set_status_on_exception=False,
    )
    for child in span.children:
        emit(tracer, child, made)
    if span.error is not None:
        kind, why = span.error
        made.set_attribute("error.type", kind)
        made.set_status(Status(StatusCode.ERROR, why))
    made.end(end_time=span.end_ns)


class _Measures:
    """The metrics of the conventions."""

    def __init__(self, meter: metrics.Meter) -> None:
        def seconds(name: str, about: str) -> metrics.Histogram:
            return meter.create_histogram(
                name, "s", about, explicit_bucket_boundaries_advisory=_SECONDS
            )

        self._durations = {
            "chat": seconds("gen_ai.client.operation.duration", "Duration of model calls."),
            "invoke_agent": seconds("gen_ai.invoke_agent.duration", "Duration of turns."),
            "execute_tool": seconds("gen_ai.execute_tool.duration", "Duration of tool calls."),
        }
        self._workflow = seconds("gen_ai.workflow.duration", "Duration of observing a mob.")
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )

    def take(self, span: Span) -> None:
        """Count a span and those below it."""
        for child in span.children:
            self.take(child)
        told = span.attributes
        operation = told.get("gen_ai.operation.name")
        if not isinstance(operation, str) or operation not in self._durations:
            return
        about: dict[str, Any] = {name: told[name] for name in _DIMENSIONS if name in told}
        failed = {} if span.error is None else {"error.type": span.error[0]}
        seconds = (span.end_ns - span.start_ns) / 1e9
        self._durations[operation].record(seconds, {**about, **failed})
        if operation == "chat":
            for kind in ("input", "output"):
                tokens = told.get(f"gen_ai.usage.{kind}_tokens")
                if isinstance(tokens, int):
                    self._tokens.record(tokens, {**about, "gen_ai.token.type": kind})

    def workflow(self, mob_id: str, seconds: float) -> None:
        """The block is left."""
        self._workflow.record(seconds, {"gen_ai.workflow.name": mob_id})
