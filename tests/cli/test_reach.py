"""The verbs on a mob that a process of its own runs, and on one that nobody runs."""

from __future__ import annotations

import json
import json as json_module
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import ECHO, Running, mob, refused
from tests.cli.inside import Mob, mob_inside


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mob.toml").write_text(ECHO)
    return tmp_path


@pytest.fixture
def inside(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Mob:
    return mob_inside(folder, capsys, monkeypatch)


def test_a_detached_mob_is_up_is_worked_with_and_stops(folder: Path, inside: Mob) -> None:
    launched = mob("run", "mob.toml", "--prompt", "-", "--detach", "--json", cwd=folder, stdin="hi")
    assert launched.returncode == 0, launched.stderr
    launch = json.loads(launched.stdout)
    try:
        assert (launch["mob"], launch["state"]) == ("echo", str(folder / ".mob"))
        assert os.path.exists(launch["socket"])
        os.kill(launch["pid"], 0)
        answer = inside("ask", "echo", "and you?")
        assert (answer.returncode, answer.stdout) == (0, "and you?\n"), answer.stderr
        sent = inside("send", "ec/le", "--key", "k", "-", stdin="again")
        again = inside("send", "last/lead", "other words", "--key", "k")
        assert sent.returncode == 0, sent.stderr
        assert sent.stdout == again.stdout
        idle = inside("interrupt", "echo/lead", "--json")
        assert (idle.returncode, json.loads(idle.stdout)["interrupted"]) == (7, False)
        with Running("events", "echo", "--follow", "--type", "MobStateChanged", cwd=folder) as on:
            stopped = inside("stop", "echo", "--json")
            assert stopped.returncode == 0, stopped.stderr
            code, out, err = on.end()
        assert code == 0, err
        assert [json.loads(line)["state"] for line in out.splitlines()] == ["running", "stopped"]
    finally:
        try:
            os.kill(launch["pid"], signal.SIGKILL)
        except ProcessLookupError:
            pass
    log = Path(launch["log"]).read_text()
    assert '"text": "hi"' in log
    assert "is stopped: not by this command" in log
    lines = [json.loads(each) for each in inside("events", "echo").stdout.splitlines()]
    assert [each["seq"] for each in lines] == list(range(1, len(lines) + 1))
    assert inside("events", "echo", "--after", str(len(lines) - 1)).stdout.count("\n") == 1


def test_a_mob_that_nobody_runs_takes_messages_and_answers_with_its_file(
    folder: Path, inside: Mob
) -> None:
    assert inside("run", "mob.toml", "--prompt", "one").returncode == 0
    sent = inside("send", "echo/lead", "two")
    assert "works on this when it is next run" in sent.stderr
    waited = inside("wait", "echo", "--for", "state=idle")
    refused(75, "no process runs it, and it stays queued", done=waited)
    refused(75, "no process runs it", "--detach", done=inside("ask", "echo", "x"))
    answer = inside("ask", "echo", "three", "--file", "mob.toml", "--json")
    assert json.loads(answer.stdout)["text"] == "three", answer.stderr
    followed = inside("events", "echo", "--follow", "--type", "TurnEnded")
    assert followed.stdout.count("\n") == 3
    assert "no process runs 'echo'" in followed.stderr
    assert "would stop 'echo' in the store" in inside("stop", "echo", "--dry-run").stderr
    assert inside("stop", "echo").stdout == "echo: stopped\n"
    refused(7, "stopped does not allow 'send'", done=inside("send", "echo/lead", "x"))
    for more in ((), ("--dry-run",)):
        refused(7, "the mob is stopped already; `mob resume`", done=inside("stop", "echo", *more))


def test_what_was_typed_must_mean_one_thing(folder: Path, inside: Mob) -> None:
    for name in ("echo-1", "echo-2"):
        (folder / "other.toml").write_text(ECHO.replace('"echo"', f'"{name}"'))
        assert inside("run", "other.toml", "--prompt", "x").returncode == 0
    refused(2, "echo-1, echo-2", done=inside("stop", "ec"))
    refused(4, "there are: echo-1, echo-2", done=inside("send", "x/lead", "x"))
    refused(4, "there are: lead", done=inside("send", "echo-1/x", "x"))
    refused(2, "write MOB/MEMBER", done=inside("send", "echo-1", "x"))
    for verb in ("events", "watch", "stop", "report"):
        refused(2, "a mob as a whole", done=inside(verb, "echo-1/lead"))
        refused(2, "a mob as a whole", done=inside(verb, "echo-1@3"))
    refused(2, "the text is empty", done=inside("send", "echo-1/lead", " "))
    refused(4, "no store", done=inside("stop", "x", "--state", "nowhere"))


def test_what_is_taken_or_cannot_be_has_the_code_for_it(folder: Path, inside: Mob) -> None:
    assert inside("run", "mob.toml", "--prompt", "x").returncode == 0
    assert inside("tag", "echo", "start").returncode == 0
    for verb in ("tag", "snapshot"):
        taken = inside(verb, "echo", "start")
        refused(7, "a point 'start' already", "take another label", done=taken)
        refused(2, "cannot be the label of a point", done=inside(verb, "echo", "12"))
    refused(2, "1 to 64 characters", done=inside("tag", "echo/lead", "y" * 65))
    refused(7, "take another id", done=inside("fork", "echo", "echo"))
    nobody = inside("spawn", "echo/r", "--profile", "nope")
    refused(4, "no profile 'nope'; the profiles are: lead", done=nobody)
    refused(4, "no profile 'nope'", done=inside("respawn", "echo/lead", "--profile", "nope"))
    refused(2, "is not a name", done=inside("spawn", "echo/r x", "--profile", "lead"))
    refused(7, "'lead'", done=inside("spawn", "echo/lead", "--profile", "lead"))
    refused(2, "1 to 200 characters", done=inside("rename", "echo/lead", ""))
    refused(2, "wired to itself", done=inside("wire", "echo/lead", "lead"))


def test_a_mob_that_does_not_come_up_says_why(folder: Path) -> None:
    assert mob("run", "mob.toml", "--prompt", "x", cwd=folder).returncode == 0
    (folder / "mob.toml").write_text(ECHO + '[wiring]\ndefault = "allow"\n')
    failed = mob("run", "mob.toml", "--detach", cwd=folder)
    assert failed.returncode == 7
    assert failed.stdout == ""
    assert "--adopt" in failed.stderr
    assert "'echo' did not come up; its log is" in failed.stderr


def test_another_terminal_ends_a_run_that_waits_for_its_answer(tmp_path: Path) -> None:
    (tmp_path / "mob.toml").write_text(
        ECHO.replace('model = "sim:echo"', 'model = "sim:agent"\noptions = { latency_s = 30 }')
    )
    with Running("run", "mob.toml", "--prompt", "x", "--display", "plain", cwd=tmp_path) as run:
        run.wait_for("is asked")
        stopped = mob("stop", "echo", "--deadline", "0", cwd=tmp_path)
        assert "cut off and to be continued: lead" in stopped.stdout, stopped.stderr
        code, _, told = run.end()
    assert code == 130
    assert "is stopped: not by this command" in told
    assert "continue with: mob run mob.toml" in told


def test_every_verb_works_on_a_mob_that_nobody_runs(folder: Path, inside: Mob) -> None:
    labelled = ECHO.replace('lead = "lead"', 'lead = "lead"\nlabels = { team = "blue" }')
    (folder / "mob.toml").write_text(labelled)

    def done(*arguments: str, json: bool = True) -> Any:
        found = inside(*arguments, *(["--json"] if json else []))
        assert found.returncode == 0, (arguments, found.stderr)
        return json_module.loads(found.stdout) if json else found.stdout

    for text in ("one", "two"):
        done("run", "mob.toml", "--prompt", text)
    assert done("spawn", "echo/r", "--profile", "lead")["name"] == "r"
    assert done("unwire", "echo/lead", "r")["changed"] is False
    assert done("wire", "echo/lead", "r", "--directed")["changed"] is True
    assert done("respawn", "echo/r", "--reason", "x")["generation"] == 2
    assert done("wait", "last", "--for", "state=idle")["held"] is True
    refused(75, "it stays idle", done=inside("wait", "echo", "--for", "state=stopped"))
    assert done("tag", "echo", "start")["label"] == "start"
    done("tag", "echo/lead", "good")
    done("rename", "echo/lead", "first try")
    assert done("fork", "echo@start", "other")["new"] == "other"
    assert done("ls", "-l", "team=blue")[0]["labels"] == {"team": "blue"}
    refused(2, "echo, other", done=inside("stop", "-l", "team=blue"))
    refused(4, "team=red", done=inside("stop", "-l", "team=red"))
    done("retire", "echo/r")
    assert [each["status"] for each in done("show", "echo")["members"]] == ["idle"]
    left = done("rewind", "echo", "start")["left"]["label"]
    assert len(done("show", "echo")["members"]) == 2
    assert done("restore", "echo") == {"mob": "echo", "restored": left, "left": "before-rewind-2"}
    assert done("show", "echo/le", "--messages", "1")["turns"] == 2
    done("stop", "echo")
    refused(7, "`mob resume` lets it run again", done=inside("send", "echo/lead", "x"))
    done("resume", "echo")
    refused(2, "give --yes", done=inside("delete", "echo"))
    assert "would delete mob 'echo'" in inside("delete", "echo", "--dry-run").stderr
    for verb in ("stop", "retire", "respawn", "unwire", "restore", "rewind", "delete"):
        more = {"unwire": ["echo/lead", "lead"], "rewind": ["echo", "1"]}
        who = "echo/lead" if verb in ("retire", "respawn") else "echo@1"
        typed = more.get(verb, [who if verb == "restore" or "/" in who else "echo"])
        assert done(verb, *typed, "--dry-run")["dry_run"] is True
    assert done("delete", "echo", "--yes")["sessions"] == 3
    assert inside("doctor").returncode == 0
    assert done("show", "other/lead")["turns"] == 2


def test_a_deleted_mob_makes_no_beginning_ambiguous_and_is_not_the_last(
    folder: Path, inside: Mob
) -> None:
    assert inside("run", str(folder / "mob.toml"), "--prompt", "hi").returncode == 0
    assert inside("fork", "echo", "echo-2").returncode == 0
    refused(2, "echo, echo-2", done=inside("show", "ec"))
    assert inside("delete", "echo-2", "--yes").returncode == 0
    assert inside("show", "ec").stdout.startswith("mob echo: ")
    assert inside("show", "last").stdout.startswith("mob echo: ")
    assert inside("show", "echo-2").stdout.startswith("mob echo-2: destroyed")
    refused(4, "mob 'echo-2' was deleted", done=inside("send", "echo-2/lead", "x"))


def test_sockets_of_killed_processes_go_when_mobs_are_listed(
    folder: Path, inside: Mob, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any
) -> None:
    runtime = tmp_path_factory.mktemp("run")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert inside("run", "mob.toml", "--prompt", "x").returncode == 0
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(runtime / "mob" / "dead.sock"))
    assert inside("ls").returncode == 0
    assert os.listdir(runtime / "mob") == []
    (runtime / "mob").chmod(0o750)
    assert inside("ls").returncode == 0  # whoever needs the folder is told
    refused(1, "its mode is 0750", done=inside("send", "echo/lead", "x"))


def test_ctrl_c_ends_a_wait_and_not_the_turn(tmp_path: Path) -> None:
    """What was asked goes on, and where its answer will be is said."""
    (tmp_path / "mob.toml").write_text(
        ECHO.replace('model = "sim:echo"', 'model = "sim:agent"\noptions = { latency_s = 30 }')
    )
    with Running("run", "mob.toml", "--stay", "--display", "plain", cwd=tmp_path) as run:
        run.wait_for("is up")
        with Running("ask", "echo", "x", cwd=tmp_path) as asking:
            run.wait_for("is asked")
            asking.signal(signal.SIGINT)
            code, out, told = asking.end()
        assert (code, out) == (130, "")
        assert "the turn goes on: `mob show echo/lead` has its answer" in told
        assert mob("interrupt", "ech", cwd=tmp_path).stdout == "echo/lead\n"
        run.wait_for("interrupted")
