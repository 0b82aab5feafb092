"""Turns, events, messages and members as tables and files."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import trio

from mob.app import stored_mob
from mob.definition import MobDefinition
from mob.export.columns import TABLES, NoSuchTable
from mob.export.errors import ExportRefused
from mob.export.files import json_lines, otlp_lines, whole_file, write_lines, write_parquet
from mob.export.frame import BATCH
from mob.export.plain import plain
from mob.export.rows import rows_of
from mob.mob import Mob
from runtime.messages import Usage
from runtime.models.redaction import SECRET, Redactor
from stores import MemoryDisk, open_memory
from tests.cli.commands import TEAM
from tests.mob.export.planted import KEYS, leaked, plant, worked
from tests.mob.mobs import define, journal, opened

TEAM_FILE = MobDefinition.from_table(tomllib.loads(TEAM % "0.5"))


def dicts(table: pa.Table) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = table.to_pylist()
    return made


def test_every_column_is_in_the_manual() -> None:
    page = (Path(__file__).parents[3] / "docs" / "export.md").read_text(encoding="utf-8")
    for table, columns in TABLES.items():
        section = page.partition(f"\n### {table}\n")[2].partition("\n### ")[0]
        rows = [f"| `{each.name}` | {each.unit} | {each.about} |" for each in columns]
        assert [row for row in rows if row not in section] == []


async def test_what_a_mob_did_is_there_as_tables(autojump_clock: trio.testing.MockClock) -> None:
    async with opened(TEAM_FILE) as mob:
        await mob.ask("lead", "what?")
        turns, members = dicts(mob.frame("turns")), dicts(mob.frame("members"))
        heads = mob.realm.state.heads.values()
        assert {each["path"] for each in turns} >= {"lead", "worker-0", "worker-1"}
        assert {each["member"] for each in turns} == {"lead", "worker-0", "worker-1"}
        spent = sum((head.usage for head in heads), Usage())
        assert sum(each["input_tokens"] for each in turns) == spent.input_tokens
        assert sum(each["tool_calls"] for each in turns) == spent.tool_calls
        assert [each["member"] for each in members] == ["lead", "worker-0", "worker-1"]
        assert sum(each["total_tokens"] for each in members) == spent.total_tokens
        assert [each["sessions_below"] for each in members] == [0, 1, 1]
        await mob.ask("worker-1", "and?")
        assert [each["sessions_below"] for each in dicts(mob.frame("members"))] == [0, 1, 2]
        assert {each["cost_usd"] for each in turns} == {None}  # no price is not nothing
        messages = dicts(mob.frame("messages"))
        said = [each for each in messages if each["output_tokens"] is not None]
        spoken = sum((head.usage for head in mob.realm.state.heads.values()), Usage())
        assert sum(each["output_tokens"] for each in said) == spoken.output_tokens
        assert sum(each["input_tokens"] for each in said) == spoken.input_tokens
        assert [each["role"] for each in messages if each["path"] == "lead"] == [
            *("user", "assistant", "tool", "assistant")
        ]
        events = mob.frame("events")
        assert events["seq"].to_pylist() == list(range(1, mob.realm.journal.last + 1))
        assert [json.loads(each)["session_id"] for each in events["record"].to_pylist()[2:3]]


async def test_a_stored_mob_gives_the_same_tables_without_being_opened(
    autojump_clock: trio.testing.MockClock,
) -> None:
    disk = MemoryDisk()
    async with open_memory(disk) as store:
        async with opened(define("a", "b"), store=store) as mob:
            await mob.ask("a", "one")
            await mob.retire("b")
            live = {name: mob.frame(name) for name in TABLES}
        stored = stored_mob(store, "t")
        assert {name: stored.frame(name).num_rows for name in TABLES} == {
            "turns": 1,
            "messages": 2,
            "members": 2,
            "events": len(journal(store)),
        }
        assert stored.frame("turns") == live["turns"]
        assert stored.frame("messages") == live["messages"]
        assert dicts(stored.frame("members"))[1]["retired"]
        events = dicts(stored.frame("events"))
        created = [each["member"] for each in events if each["type"] == "SessionCreated"]
        assert created == ["a", "b"], "also of one that has left"


async def test_a_turn_in_flight_has_messages_and_is_no_turn(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with worked(tmp_path) as mob:
        async with trio.open_nursery() as nursery:
            held = trio.Event()

            async def slow(_text: str) -> str:
                held.set()
                await trio.sleep_forever()
                return ""

            from tests.mob.mobs import TOOLS

            TOOLS["log_in"] = slow
            before = mob.frame("turns").num_rows
            nursery.start_soon(mob.ask, "a", "again")
            await held.wait()
            last = dicts(mob.frame("messages"))[-2:]
            ended = mob.frame("turns").filter(pc.field("member") == "a").num_rows
            assert [(each["seq"], each["role"], each["turn"]) for each in last] == [
                (None, "user", ended + 1),
                (None, "assistant", ended + 1),
            ]
            assert mob.frame("turns").num_rows == before
            nursery.cancel_scope.cancel()


async def test_a_table_that_is_none_is_refused_by_name(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened(define("a")) as mob:
        with pytest.raises(NoSuchTable, match="turns, events, messages, members"):
            mob.frame("turn")


async def test_a_table_is_made_in_pieces_and_types_are_as_documented(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mob.export.frame.BATCH", 2)
    assert BATCH > 2
    async with opened(define("a")) as mob:
        for number in range(5):
            await mob.ask("a", f'{{"n": {number}, "half": "\\ud800", "token": "x"}}')
        turns = mob.frame("turns")
        assert [len(chunk) for chunk in turns["seq"].chunks] == [2, 2, 1]
        assert str(turns.schema.field("started_at").type) == "timestamp[us, tz=UTC]"
        assert turns.schema.field("duration_s").metadata[b"unit"] == b"s"
        assert hasattr(turns, "__arrow_c_stream__")  # what pandas and Polars read
        assert turns["text"].to_pylist()[0] == '{"n": 0, "half": "?", "token": "[secret]"}'


async def test_files_hold_what_the_tables_do(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    async with opened(TEAM_FILE) as mob:
        await mob.ask("lead", "what?")
        source = mob.source()
        counts = write_parquet(source, list(TABLES), tmp_path / "out")
        for name in TABLES:
            assert pq.read_table(tmp_path / "out" / f"{name}.parquet") == mob.frame(name)
            assert counts[name] == mob.frame(name).num_rows
        write_parquet(source, ["turns"], tmp_path / "turns.parquet")
        with pytest.raises(ExportRefused, match="one file"):
            write_parquet(source, list(TABLES), tmp_path / "all.parquet")
        count = write_lines(json_lines(source, ["turns", "members"]), tmp_path / "t.jsonl")
        lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
        assert count == len(lines) == counts["turns"] + counts["members"]
        assert lines[0]["table"] == "turns"
        assert "cost_usd" not in lines[0]
        assert lines[0]["started_at"].endswith("Z")
        assert sorted(os.listdir(tmp_path)) == ["out", "t.jsonl", "turns.parquet"]


async def test_lines_of_spans_have_all_of_them_once(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(define("a")) as mob:
        for _ in range(4):
            await mob.ask("a", "go")
        (whole,) = spans_of(otlp_lines(mob.source()))
        assert len(whole) == 9
        monkeypatch.setattr("mob.export.otlp.SPANS", 3)
        pieces = spans_of(otlp_lines(mob.source()))
        assert [len(each) for each in pieces] == [3, 3, 3]
        assert [span for each in pieces for span in each] == whole


def spans_of(lines: Iterable[str]) -> list[list[Any]]:
    """The spans of each line."""
    return [json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"] for line in lines]


def test_bytes_are_told_by_their_number() -> None:
    assert plain({"rows": b"sk-proj-Zm9vYmFyYmF6cXV4"}, Redactor()) == {"rows": {"bytes": 24}}


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def lines() -> Any:
        yield "new"
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_lines(lines(), path)
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"
    with whole_file(path) as file:
        file.write(b"new")
    assert path.read_text() == "new"
    nowhere = tmp_path / "nowhere" / "file"
    with pytest.raises(FileNotFoundError) as caught, whole_file(nowhere):
        pass
    assert caught.value.filename == str(nowhere), "not that of a file that nobody named"


async def everything(mob: Mob, folder: Path) -> str:
    source = mob.source()
    rows = [repr(row) for name in TABLES for row in rows_of(source, name)]
    lines = [*json_lines(source, list(TABLES)), *otlp_lines(source, content=True)]
    write_parquet(source, list(TABLES), folder)
    tables = [pq.read_table(folder / f"{name}.parquet").to_pydict() for name in TABLES]
    return "\n".join([*rows, *lines, repr(tables)])


async def test_no_export_has_a_key_in_it(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRACTS 6.16: what is exported has no secret in it, wherever one turned up."""
    plant(monkeypatch)
    async with worked(tmp_path) as mob:
        raw = repr([event.record for event in journal(mob.realm.store)])
        assert leaked(raw) == list(KEYS)  # they are there to be found
        told = await everything(mob, tmp_path / "out")
        assert leaked(told) == []
        found = [each for each in (SECRET, "logged in with", "is refused") if each in told]
        assert found == [SECRET, "logged in with", "is refused"]


async def test_a_stored_mob_is_cleaned_of_a_variable_that_is_named(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRACTS 6.16: in another process, which has no mob file, by name and by look."""
    from runtime.models import redaction

    monkeypatch.setenv("LOGIN_OF_TEAM", "swordfish and tuna")
    monkeypatch.setenv("SOMETHING", "a9f3c2d4e5b6a7f8091d2e3c")
    async with open_memory() as store:
        async with opened(define("a"), store=store) as mob:
            await mob.ask("a", "swordfish and tuna, a9f3c2d4e5b6a7f8091d2e3c")
        monkeypatch.setattr(redaction, "_KNOWN", set())  # as in another process
        stored = stored_mob(store, "t")
        told = "\n".join(json_lines(stored.source(), ["messages"]))
        assert "a9f3c2d4e5b6a7f8091d2e3c" not in told
        assert "swordfish" in told
        told = "\n".join(json_lines(stored.source(("LOGIN_OF_TEAM",)), ["messages"]))
        assert "swordfish" not in told


async def test_a_title_that_a_model_gave_its_child_is_cleaned(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 6.16: names are texts, too."""
    key = KEYS[0]
    async with opened(TEAM_FILE) as mob:
        await mob.ask("worker-0", "what?")
        (child,) = [head for head in mob.realm.state.heads.values() if head.lineage.parent]
        child.title = f"ask {key}"
        told = repr([*json_lines(mob.source(), list(TABLES)), *otlp_lines(mob.source())])
        assert "worker-0/ask [secret]" in told
        assert leaked(told) == []
