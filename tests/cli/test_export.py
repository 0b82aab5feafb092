"""`mob export` and `mob report`, as users type them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
import pytest

from tests.cli.commands import finish_team, mob, refused


@pytest.fixture(scope="module")
def done_team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the team has answered once."""
    folder = tmp_path_factory.mktemp("team")
    assert finish_team(folder).returncode == 0
    return folder


def test_lines_go_to_stdout_and_tables_to_a_folder(done_team: Path) -> None:
    done = mob("export", "team", "--table", "turns", "--table", "members", cwd=done_team)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {each["table"] for each in rows} == {"turns", "members"}
    told = mob("export", "team", "--format", "parquet", "-o", "out", "--json", cwd=done_team)
    counts = json.loads(told.stdout)["counts"]
    assert counts["turns"] == sum(each["table"] == "turns" for each in rows)
    assert pq.read_table(done_team / "out" / "messages.parquet").num_rows == counts["messages"]


def test_otlp_is_one_trace_that_hangs_together(done_team: Path) -> None:
    done = mob("export", "team", "--format", "otlp", "-o", "t.otlp.jsonl", cwd=done_team)
    assert done.stdout == "t.otlp.jsonl\n"
    text = (done_team / "t.otlp.jsonl").read_text()
    again = mob("export", "team", "--format", "otlp", cwd=done_team)
    assert again.stdout == text
    spans = [
        span
        for line in text.splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]
    ids = {span["spanId"] for span in spans}
    assert len(ids) == len(spans)
    assert len({span["traceId"] for span in spans}) == 1
    roots = [span["name"] for span in spans if span.get("parentSpanId") not in ids]
    assert roots == ["invoke_workflow team"]
    for span in spans:
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
        assert (len(bytes.fromhex(span["traceId"])), len(bytes.fromhex(span["spanId"]))) == (16, 8)
        assert span["kind"] in (1, 3)
        assert isinstance(span["startTimeUnixNano"], str), "as JSON has 64 bits"
    for line in text.splitlines():
        assert unknown("ExportTraceServiceRequest", json.loads(line)) == []


#: What opentelemetry/proto/trace/v1/trace.proto and its kin have: fields in JSON, and their types.
PROTO: Final = {
    "ExportTraceServiceRequest": {"resourceSpans": "ResourceSpans"},
    "ResourceSpans": {"resource": "Resource", "scopeSpans": "ScopeSpans", "schemaUrl": ""},
    "Resource": {"attributes": "KeyValue", "droppedAttributesCount": ""},
    "ScopeSpans": {"scope": "Scope", "spans": "Span", "schemaUrl": ""},
    "Scope": {"name": "", "version": "", "attributes": "KeyValue"},
    "Span": {
        **dict.fromkeys(("traceId", "spanId", "traceState", "parentSpanId", "flags", "name"), ""),
        **dict.fromkeys(("kind", "startTimeUnixNano", "endTimeUnixNano"), ""),
        "attributes": "KeyValue",
        "events": "Event",
        "status": "Status",
    },
    "Event": {"timeUnixNano": "", "name": "", "attributes": "KeyValue"},
    "Status": {"message": "", "code": ""},
    "KeyValue": {"key": "", "value": "AnyValue"},
    "AnyValue": {
        **dict.fromkeys(("stringValue", "boolValue", "intValue", "doubleValue"), ""),
        "arrayValue": "ArrayValue",
    },
    "ArrayValue": {"values": "AnyValue"},
}


def unknown(kind: str, value: Any) -> list[str]:
    """The fields in `value` that the message has not."""
    if isinstance(value, list):
        return [found for each in value for found in unknown(kind, each)]
    if not isinstance(value, dict) or not kind:
        return [] if not isinstance(value, dict) else [f"a message for {kind!r}"]
    fields = PROTO[kind]
    strange = [f"{kind}.{name}" for name in value if name not in fields]
    known = {name: each for name, each in value.items() if name in fields}
    return [*strange, *(f for name, each in known.items() for f in unknown(fields[name], each))]


def test_what_cannot_be_is_said(done_team: Path) -> None:
    refused(2, "turn", "turns", done=mob("export", "team", "--table", "turn", cwd=done_team))
    refused(2, "-o", done=mob("export", "team", "--format", "parquet", cwd=done_team))
    spans = ("export", "team", "--format", "otlp", "--table", "turns")
    refused(2, "no tables", done=mob(*spans, cwd=done_team))
    refused(4, "nobody", done=mob("export", "nobody", cwd=done_team))


def test_a_report_is_one_file(done_team: Path) -> None:
    done = mob("report", "team", cwd=done_team)
    assert done.stdout == "team.html\n"
    text = (done_team / "team.html").read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert "worker-1" in text
    told = json.loads(mob("report", "team", "-o", "x.html", "--json", cwd=done_team).stdout)
    assert (done_team / "x.html").read_text() == text
    assert told["summary"]["members"] == 3
    assert told["bytes"] == len(text.encode())
    refused(4, "nobody", done=mob("report", "nobody", cwd=done_team))


@pytest.mark.parametrize(
    "verb",
    [("export",), ("report", "-o", "again.html"), ("gc", "--dry-run"), ("flow", "ls")],
    ids=lambda each: each[0],
)
def test_a_beginning_or_last_is_enough(done_team: Path, verb: tuple[str, ...]) -> None:
    for typed in ("te", "last"):
        done = mob(*verb, typed, cwd=done_team)
        assert done.returncode == 0, done.stderr
