"""The verbs that look: help, models, validate, init, ls, show, tree, doctor."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mob.cli import owner
from stores import open_lmdb
from tests.cli.commands import ECHO, TEAM, finish_team, mob, refused

VERBS = (
    *("init", "validate", "run", "demo", "ls", "show", "tree", "models", "doctor"),
    *("backup", "restore-backup", "gc"),
    *("snapshot", "fork", "rewind", "diff", "export", "report", "schema"),
)


@pytest.fixture(scope="module")
def done_team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the team has answered once."""
    folder = tmp_path_factory.mktemp("team")
    assert finish_team(folder).returncode == 0
    return folder


def shown(folder: Path, *arguments: str) -> Any:
    done = mob(*arguments, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_names_every_verb_quickly(tmp_path: Path) -> None:
    before = os.times()
    done = mob("--help", cwd=tmp_path)
    after = os.times()
    assert [verb for verb in VERBS if verb not in done.stdout] == []
    assert "Exit codes: 0 done" in done.stdout
    spent = after.children_user + after.children_system
    assert spent - before.children_user - before.children_system < 0.8  # 0.25 on an idle machine
    assert mob(cwd=tmp_path).stdout == done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(tmp_path: Path, verb: str) -> None:
    text = mob(verb, "--help", cwd=tmp_path).stdout
    assert f"Usage: mob {verb}" in text
    assert f"Examples:\n    mob {verb}" in text


def test_the_version_is_told(tmp_path: Path) -> None:
    assert mob("--version", cwd=tmp_path).stdout.startswith("mob ")


def test_models_say_what_they_need(tmp_path: Path) -> None:
    by_name = {row["name"]: row for row in shown(tmp_path, "models")}
    assert by_name["sim"]["usable"] is True
    assert by_name["openai"]["usable"] is False
    assert "OPENAI_API_KEY" in by_name["openai"]["missing"]
    text = mob("models", cwd=tmp_path, OPENAI_API_KEY="made-up").stdout
    assert "made-up" not in text
    assert "openai:gpt-5-mini      usable" in text


def test_a_valid_file_is_summed_up(tmp_path: Path) -> None:
    (tmp_path / "mob.toml").write_text(TEAM % 1)
    text = mob("validate", "mob.toml", cwd=tmp_path).stdout
    assert "a valid definition of mob 'team'" in text
    assert "3, led by lead: lead, worker-0, worker-1" in text
    report = shown(tmp_path, "validate", "mob.toml")
    assert report["valid"] is True
    assert report["wiring"]["lead"] == ["worker-0", "worker-1"]


def test_validate_says_once_what_a_profile_may_call(tmp_path: Path) -> None:
    tools = 'tools = { allow = ["mcp.web.*"], deny = ["mcp.web.x"] }\nshell = { cwd = "desk" }\n'
    server = '[mcp.web]\nurl = "http://127.0.0.1/mcp"\n'
    text = ECHO.replace('model = "main"\n', f'model = "main"\n{tools}') + server
    (tmp_path / "mob.toml").write_text(text)
    said = mob("validate", "mob.toml", cwd=tmp_path).stdout
    assert said.count("tools mcp.web.*; never mcp.web.x; a shell in desk") == 1
    assert said.count("tools ") == 1
    assert "server    web = http://127.0.0.1/mcp" in said


def test_a_tool_that_cannot_be_loaded_is_a_mistake(tmp_path: Path) -> None:
    table = '[tools.look]\nfunction = "tools.py:look"\n'
    (tmp_path / "mob.toml").write_text(ECHO + table)
    refused(3, "tools.look.function", done=mob("validate", "mob.toml", cwd=tmp_path))


def test_what_init_writes_runs_as_it_is(tmp_path: Path) -> None:
    done = mob("init", "team", cwd=tmp_path)
    assert done.returncode == 0
    assert "next: cd team && mob run mob.toml" in done.stderr
    folder = tmp_path / "team"
    assert mob("validate", "mob.toml", cwd=folder).returncode == 0
    ran = mob("run", "mob.toml", "--prompt", "What about ants?", cwd=folder)
    assert ran.returncode == 0, ran.stderr
    assert "swarms.txt:1" in ran.stdout


def test_init_replaces_nothing(tmp_path: Path) -> None:
    (tmp_path / "mob.toml").write_text("mine")
    refused(7, "mob.toml", "not replaced", done=mob("init", cwd=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mob.toml"]


def test_ls_lists_the_mobs_of_a_store(done_team: Path) -> None:
    (row,) = shown(done_team, "ls")
    assert row["id"] == "team"
    assert (row["members"], row["sessions"], row["turns"], row["unfinished"]) == (3, 5, 5, 0)
    assert row["owner_pid"] is None
    assert "no process has this store open" in mob("ls", cwd=done_team).stderr


def test_tree_shows_members_and_children_with_their_usage(done_team: Path) -> None:
    lines = mob("tree", "team", cwd=done_team).stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "team", "lead", "worker-0", "└─", "worker-1", "└─",
    ]  # fmt: skip
    worker = shown(done_team, "tree", "team")["members"][1]
    (child,) = worker["children"]
    assert worker["total"]["model_calls"] == 3
    assert worker["usage"]["model_calls"] + child["usage"]["model_calls"] == 3


def test_show_tells_a_member_with_its_transcript(done_team: Path) -> None:
    report = shown(done_team, "show", "team/worker-0")
    assert [message["role"] for message in report["messages"]] == [
        "user", "assistant", "tool", "assistant",
    ]  # fmt: skip
    text = mob("show", "team/worker-0", "--messages", "1", cwd=done_team).stdout
    assert "... 3 earlier messages; --messages 4" in text
    assert "[assistant]\nOn " in text
    assert "[tool " not in text
    assert "lead (lead): idle, 1 turn" in mob("show", "team", cwd=done_team).stdout


def test_doctor_reads_every_record(done_team: Path) -> None:
    report = shown(done_team, "doctor")
    assert report["ok"] is True
    checks = {check["check"]: check for check in report["checks"]}
    assert "every checksum and chain right" in checks["store"]["text"]
    assert checks["mob team"]["ok"] is True
    assert checks["owner"]["text"] == "no process has it open"


def test_doctor_names_a_damaged_record(done_team: Path, tmp_path: Path) -> None:
    data = (done_team / ".mob" / "data.mdb").read_bytes()
    data = data.replace(b"hello", b"HELLO")  # LMDB itself has no checksums to notice
    (tmp_path / ".mob").mkdir()
    (tmp_path / ".mob" / "data.mdb").write_bytes(data)
    done = mob("doctor", cwd=tmp_path)
    assert done.returncode == 1
    assert "DAMAGED  store record" in done.stdout, done.stdout
    saved = mob("doctor", "--repair", "saved", cwd=tmp_path)
    assert "ok       saved:" in saved.stdout
    assert "note     lost:" in saved.stdout
    assert (tmp_path / "saved" / "data.mdb").exists()
    assert "Traceback" not in done.stderr


def test_doctor_survives_a_file_that_ends_its_reader(done_team: Path, tmp_path: Path) -> None:
    data = (done_team / ".mob" / "data.mdb").read_bytes()
    (tmp_path / ".mob").mkdir()
    (tmp_path / ".mob" / "data.mdb").write_bytes(data[: 2 * 4096])
    done = mob("doctor", cwd=tmp_path)
    assert done.returncode == 1
    assert "DAMAGED  store" in done.stdout
    assert "Traceback" not in done.stderr


def test_doctor_without_a_store_checks_the_installation(tmp_path: Path) -> None:
    done = mob("doctor", cwd=tmp_path)
    assert done.returncode == 0
    assert "note     store: none at" in done.stdout


async def test_the_owner_is_told_also_where_the_table_of_locks_does_not_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a container, and where there is no such table."""
    async with open_lmdb(tmp_path / "store"):
        inode = (tmp_path / "store" / "owner.lock").stat().st_ino
        (tmp_path / "locks").write_text(f"1: FLOCK  ADVISORY  WRITE 0 08:01:{inode} 0 EOF\n")
        for table in ("locks", "absent"):
            monkeypatch.setattr(owner, "_LOCKS", tmp_path / table)
            assert owner.owner_of(tmp_path / "store") == os.getpid()
    (tmp_path / "locks").write_text("")
    monkeypatch.setattr(owner, "_LOCKS", tmp_path / "locks")
    assert owner.owner_of(tmp_path / "store") is None
