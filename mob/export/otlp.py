"""A mob's journal as OTLP/JSON: lines that collectors and backends for traces read.

Owns: the lines, the names of spans (ids) that are the same in every export. Must not: be imported
without the extra `otel`.

A line is an ExportTraceServiceRequest of at most so many spans, as the file format of OpenTelemetry
has it (https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/); a collector reads the
file with the receiver `otlpjsonfile`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from mob.export.errors import ExtraMissing
from mob.export.rows import at_of
from mob.export.source import Source
from mob.export.spans import Spans

try:
    from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
    from opentelemetry.sdk.trace.export import (
        SimpleSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )
    from opentelemetry.sdk.trace.id_generator import IdGenerator
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON
except ImportError:
    raise ExtraMissing(
        "OTLP", "opentelemetry-exporter-otlp-json-common and its kin", "otel"
    ) from None

from mob.telemetry import SCOPE, emit, root_attributes

#: Spans in one line.
SPANS: Final = 512


class _Ids(IdGenerator):
    """Ids from the mob's name and a count: an export that is made again has the same."""

    def __init__(self, mob_id: str) -> None:
        self._seed = mob_id.encode()
        self._count = 0

    def _next(self, size: int) -> int:
        self._count += 1
        text = self._count.to_bytes(8, "big")
        made = int.from_bytes(hashlib.blake2b(text, key=self._seed[:64], digest_size=size).digest())
        return made or 1

    def generate_span_id(self) -> int:
        return self._next(8)

    def generate_trace_id(self) -> int:
        return self._next(16)


class _Taken(SpanExporter):
    """Holds the spans until they make a line."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


def lines(source: Source, *, content: bool = False) -> Iterator[str]:
    """The mob as lines of JSON, one trace in all; with `content` what was said is in it."""
    taken = _Taken()
    provider = TracerProvider(
        sampler=ALWAYS_ON,
        resource=Resource({"service.name": "mob", "service.instance.id": source.mob_id}),
        id_generator=_Ids(source.mob_id),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(SimpleSpanProcessor(taken))
    tracer = provider.get_tracer(SCOPE)
    spans = Spans(source.mob_id, source.state, lambda: source.who, source.redactor, content=content)
    root: Any = None
    last_ns = 0
    for seq, record in source.events():
        last_ns = max(last_ns, at_of(record) or 0)
        if root is None:
            name = f"invoke_workflow {source.mob_id}"
            told = root_attributes(source.mob_id)
            root = tracer.start_span(name, attributes=told, start_time=last_ns)
        for span in spans.feed(seq, record):
            emit(tracer, span, root)
        yield from _whole(taken, SPANS)
    if root is not None:
        for span in spans.rest():
            emit(tracer, span, root)
            last_ns = max(last_ns, span.end_ns)
        root.end(end_time=last_ns)
    yield from _whole(taken, 1)
    provider.shutdown()


def _whole(taken: _Taken, least: int) -> Iterator[str]:
    while len(taken.spans) >= least:
        line, taken.spans = taken.spans[:SPANS], taken.spans[SPANS:]
        request = encode_spans(line).to_dict()
        yield json.dumps(request, ensure_ascii=False, separators=(",", ":"))
