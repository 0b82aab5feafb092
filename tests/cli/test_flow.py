"""`mob flow` from the outside: running, joining after a kill, plans, looking at runs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import ECHO, environment, mob

FLOWS = """
[models.slow]
model = "sim:agent"
options = { latency_s = 30 }
[profiles.slow]
model = "slow"
[members.second]
profile = "lead"
[members.sleeper]
profile = "slow"

[flows.talk]
params = { topic = {}, times = { default = 2 } }
[flows.talk.steps.say]
member = "lead"
message = "{{params.topic}} x{{params.times}}"
[flows.talk.steps.again-later]
member = "second"
message = "{{steps.say.output}}!"
needs = ["say"]
condition = "params.times > 1"

[flows.fails.steps.wait]
member = "sleeper"
message = "zzz"
timeout_s = 0.1

[flows.sleeps.steps.one]
member = "lead"
message = "1"
[flows.sleeps.steps.two]
member = "sleeper"
message = "{{steps.one.output}} 2"
needs = ["one"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mob.toml").write_text(ECHO + FLOWS)
    return tmp_path


def runs(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(mob("flow", "ls", "--json", cwd=folder).stdout)["runs"]
    return found


def test_the_output_is_all_there_is_on_stdout(folder: Path) -> None:
    """CONTRACTS 6.10: and each finished run is followed by another."""
    run = ("flow", "run", "mob.toml", "talk", "--param", "topic=bees")
    done = mob(*run, cwd=folder)
    assert (done.returncode, done.stdout) == (0, "bees x2!\n"), done.stderr
    assert "step asks second" in done.stderr
    less = mob(*run, "--param", "times=1", "--json", cwd=folder)
    shape = json.loads(less.stdout)
    assert (shape["output"], shape["params"]) == (None, {"topic": "bees", "times": 1})
    assert shape["steps"]["again-later"]["error"] == "its condition does not hold"
    assert mob(*run, cwd=folder).returncode == 0
    assert [each["flow"] for each in runs(folder)] == ["talk"] * 3


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nothing",), 4, "no flow 'nothing'; the flows are: talk, fails"),
        (("talk",), 2, "topic is missing"),
        (("talk", "--param", "topic"), 2, "write NAME=VALUE"),
        (("talk", "--param", "topic=x", "--param", "time=1"), 2, "did you mean 'times'?"),
        (("fails",), 1, "step 'wait' failed: timed out after 0.1 s"),
    ],
)
def test_what_goes_wrong_has_an_exit_code_and_a_reason(
    arguments: tuple[str, ...], code: int, words: str, folder: Path
) -> None:
    """CONTRACTS 6.10."""
    done = mob("flow", "run", "mob.toml", *arguments, cwd=folder)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr


def test_the_same_command_goes_on_with_a_run_that_was_killed(folder: Path) -> None:
    """CONTRACTS 6.9, 6.10: after a `kill -9`; what has ended is not done again."""
    command = ["flow", "run", "mob.toml", "sleeps", "--display", "plain"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mob.cli", *command],
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "sleeper" in line and "is asked" in line:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    (run,) = runs(folder)
    assert run["state"] == "running"
    shown = mob("flow", "show", run["run"], cwd=folder)
    assert "is running, or will go on" in shown.stdout
    quick = ("--model", "slow=sim:echo", "--json")
    done = mob(*command, *quick, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "joining that run" in done.stderr
    outcome = json.loads(done.stdout)
    assert (outcome["run"], outcome["output"]) == (run["run"], "1 2")
    transcript = mob("show", "echo/lead", "--json", cwd=folder)
    texts = [message["text"] for message in json.loads(transcript.stdout)["messages"]]
    assert texts == ["1", "1"]


def test_ctrl_c_saves_a_run(folder: Path) -> None:
    """CONTRACTS 6.10, 5.11."""
    command = [sys.executable, "-m", "mob.cli", "flow", "run", "mob.toml", "sleeps"]
    process = subprocess.Popen(
        [*command, "--display", "plain"],
        cwd=folder,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "sleeper" in line and "is asked" in line:
            process.send_signal(signal.SIGINT)
        if "saving" in line:
            process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    process.stderr.close()
    (run,) = runs(folder)
    assert run["state"] == "running"
    tried = mob("flow", "cancel", run["run"][:-4], "--dry-run", cwd=folder)
    assert f"would cancel run {run['run']} of flow echo/sleeps" in tried.stderr
    assert runs(folder) == [run]
    short = ("flow", "cancel", run["run"][:-4], "--reason", "not needed", "--json")
    done = mob(*short, cwd=folder)
    assert done.returncode == 0, done.stderr
    told = {"mob": "echo", "run": run["run"], "cancelled": True}
    assert json.loads(done.stdout) == told
    again = mob(*short, cwd=folder)
    assert (again.returncode, json.loads(again.stdout)) == (7, {**told, "cancelled": False})
    (ended,) = runs(folder)
    assert (ended["state"], ended["error"]) == ("cancelled", "not needed")
    assert mob("flow", "cancel", "nothing", cwd=folder).returncode == 4
    # What it had asked is not worked on any more: the model would take half a minute.
    assert mob("run", "mob.toml", "--prompt", "hello", cwd=folder).stdout == "hello\n"
    shown = json.loads(mob("show", "echo/sleeper", "--json", cwd=folder).stdout)
    assert shown["messages"] == []


def test_a_dry_run_asks_nobody(folder: Path) -> None:
    """CONTRACTS 6.10."""
    plan = mob("flow", "run", "mob.toml", "talk", "--dry-run", cwd=folder)
    assert plan.returncode == 0
    assert "flow talk, given topic, times (or 2)" in plan.stdout
    assert "wave 2\n  again-later asks second (needs say; if params.times > 1)" in plan.stdout
    assert "| again-later |" in plan.stdout
    drawn = mob("flow", "run", "mob.toml", "talk", "--diagram", cwd=folder).stdout
    assert drawn.startswith("flowchart TD")
    assert "n_say --> n_again_hlater" in drawn
    shape = json.loads(
        mob("flow", "run", "mob.toml", "talk", "--dry-run", "--json", cwd=folder).stdout
    )
    assert [(each["name"], each["wave"]) for each in shape["steps"]] == [
        ("say", 1),
        ("again-later", 2),
    ]
    assert not (folder / ".mob").exists()


def test_validate_reports_mistakes_in_flows(folder: Path) -> None:
    """CONTRACTS 6.10."""
    with (folder / "mob.toml").open("a") as file:
        file.write('[flows.bad.steps.x]\nmember = "led"\nmessage = "{{steps.y.output}}"\n')
    done = mob("validate", "mob.toml", "--json", cwd=folder)
    assert done.returncode == 3
    found = {each["path"]: each for each in json.loads(done.stdout)["mistakes"]}
    assert set(found) == {"flows.bad.steps.x.member", "flows.bad.steps.x.message"}


def test_runs_that_are_not_there(folder: Path) -> None:
    """CONTRACTS 6.10."""
    assert mob("flow", "ls", cwd=folder).returncode == 4
    mob("flow", "run", "mob.toml", "talk", "--param", "topic=x", cwd=folder)
    assert mob("flow", "show", "nothing", cwd=folder).returncode == 4
    (run,) = runs(folder)
    line = mob("flow", "ls", "echo", cwd=folder).stdout
    assert line.startswith(f"{run['run']}  echo/talk  succeeded  2 of 2 steps")
