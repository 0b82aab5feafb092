"""`mob run` from the outside: answers, displays, and being ended in every way there is."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from mob.cli.output import answer_text
from tests.cli.commands import ECHO, TEAM, finish_team, mob, run_team


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mob.toml").write_text(ECHO)
    return tmp_path


def shown(folder: Path, *arguments: str) -> Any:
    done = mob(*arguments, "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def turns(folder: Path) -> dict[str, int]:
    """Turns on disk by member, and of all child sessions as ``children``."""
    members = shown(folder, "tree", "team")["members"]
    found = {node["name"]: node["turns"] for node in members}
    return found | {"children": sum(c["turns"] for node in members for c in node["children"])}


ONCE = {"lead": 1, "worker-0": 1, "worker-1": 1, "children": 2}


def test_the_answer_is_all_there_is_on_stdout(folder: Path) -> None:
    done = mob("run", "mob.toml", "--prompt", "hello", cwd=folder)
    assert (done.returncode, done.stdout) == (0, "hello\n")
    assert 'lead           is asked: "hello"' in done.stderr


def test_the_prompt_may_come_from_stdin_and_may_look_like_an_option(folder: Path) -> None:
    piped = mob("run", "mob.toml", "--prompt", "-", cwd=folder, stdin="from a pipe")
    assert piped.stdout == "from a pipe\n"
    assert mob("run", "mob.toml", "--prompt", "--x", cwd=folder).stdout == "--x\n"


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ({"answer": "Yes."}, "Yes."),
        ({"answer": "Yes.", "why": "So."}, '{\n  "answer": "Yes.",\n  "why": "So."\n}'),
        ({"answer": 1}, '{\n  "answer": 1\n}'),
        ({}, "{}"),
        ("Yes.", '"Yes."'),
    ],
)
def test_an_answer_that_is_one_text_under_a_schema_is_shown_as_that(value: Any, read: str) -> None:
    assert answer_text(value) == read


def test_a_finished_run_is_asked_again_by_the_same_command(folder: Path) -> None:
    for _ in range(2):
        assert mob("run", "mob.toml", "--prompt", "hello", cwd=folder).stdout == "hello\n"
    assert shown(folder, "show", "echo/lead")["turns"] == 2
    assert shown(folder, "show", "echo")["runs_reported"] == 2


def test_the_state_may_be_given_by_option_or_environment(folder: Path) -> None:
    mob("run", "mob.toml", "--prompt", "x", "--state", "here", cwd=folder)
    mob("run", "mob.toml", "--prompt", "x", cwd=folder, MOB_STATE="there")
    assert (folder / "here" / "data.mdb").exists()
    assert (folder / "there" / "data.mdb").exists()
    assert not (folder / ".mob").exists()


def test_json_tells_the_whole_run(tmp_path: Path) -> None:
    (tmp_path / "mob.toml").write_text(TEAM % 0.01)
    report = shown(tmp_path, "run", "mob.toml", "--prompt", "hello")
    assert report["outcome"] == "completed"
    assert [part["name"] for part in report["members"]] == ["lead", "worker-0", "worker-1"]
    workers = report["members"][1:]
    assert all(len(part["children"]) == 1 for part in workers)
    assert report["text"] == report["members"][0]["text"]
    spent = [part["usage"] for part in report["members"]]
    spent += [child["usage"] for part in workers for child in part["children"]]
    assert report["usage"]["model_calls"] == sum(usage["model_calls"] for usage in spent) == 8
    assert report["session_id"] == shown(tmp_path, "show", "team/lead")["session_id"]


def test_every_alias_may_be_bound_to_another_model(tmp_path: Path) -> None:
    (tmp_path / "mob.toml").write_text(TEAM % 3600)
    done = mob(
        "run", "mob.toml", "--prompt", "hello", "--model", "all=sim:echo", cwd=tmp_path
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "hello\n")


def test_the_json_display_is_one_object_a_line_and_the_result_last(folder: Path) -> None:
    done = mob("run", "mob.toml", "--prompt", "hello", "--display", "json", cwd=folder)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["type"] for line in lines] == [
        "MobCreated",
        "SessionCreated",
        "MemberSpawned",
        "MobStateChanged",
        "InputAccepted",
        "TurnEnded",
        "result",
    ]
    assert [line["seq"] for line in lines[:-1]] == [1, 2, 3, 4, 5, 6]
    assert lines[-1]["text"] == "hello"


def test_ctrl_c_once_drains_and_saves_and_the_same_command_finishes(tmp_path: Path) -> None:
    with run_team(tmp_path, latency_s=0.3) as running:
        running.wait_for("starts child")
        running.signal(signal.SIGINT)
        code, out, told = running.end()
    assert (code, out) == (130, "")
    assert "saving: letting" in told
    assert "saved: mob 'team' is stopped" in told
    assert "continue with: mob run mob.toml --prompt hello" in told
    again = finish_team(tmp_path)
    assert again.returncode == 0
    assert "was stopped: resuming" in again.stderr
    assert again.stdout.startswith("On hello")
    assert turns(tmp_path) == ONCE


def test_sigterm_is_as_gentle_as_the_first_ctrl_c(tmp_path: Path) -> None:
    with run_team(tmp_path, latency_s=0.1) as running:
        running.wait_for("is asked")
        running.signal(signal.SIGTERM)
        code, _, told = running.end()
    assert code == 130
    assert "saved: mob 'team' is stopped" in told


def test_ctrl_c_twice_cancels_at_once_and_the_same_command_finishes(tmp_path: Path) -> None:
    with run_team(tmp_path, latency_s=3600) as running:
        running.wait_for('lead           is asked: "hello"')
        running.signal(signal.SIGINT)
        running.wait_for("saving")
        running.signal(signal.SIGINT)
        code, out, told = running.end()
    assert (code, out) == (130, "")
    assert "cancelled; what was finished is on disk; continue with: mob run" in told
    assert finish_team(tmp_path).returncode == 0
    assert turns(tmp_path) == ONCE


@pytest.mark.parametrize("moment", ["is asked", "calls ask_worker", "starts child", "turn ended"])
def test_after_kill_9_the_same_command_finishes_the_same_work(tmp_path: Path, moment: str) -> None:
    with run_team(tmp_path, latency_s=0.2) as running:
        running.wait_for(moment)
        running.signal(signal.SIGKILL)
        assert running.end()[0] == -signal.SIGKILL
    done = finish_team(tmp_path)
    assert done.returncode == 0, done.stderr
    assert "joining that run" in done.stderr
    assert done.stdout.startswith("On hello")
    assert turns(tmp_path) == ONCE
    assert mob("doctor", cwd=tmp_path).returncode == 0
    assert finish_team(tmp_path).returncode == 0
    assert turns(tmp_path) == {name: 2 * count for name, count in ONCE.items()}
