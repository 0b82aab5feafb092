"""The live view in a real terminal: `tmux` where it is installed holds it as a person sees it."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from tests.cli.commands import TEAM, Running, mob
from tests.cli.tmux import Tmux

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


def folder_with(tmp_path: Path, latency_s: float) -> Path:
    (tmp_path / "mob.toml").write_text(TEAM % latency_s)
    return tmp_path


def test_a_run_is_drawn_resized_and_drained_by_ctrl_c(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 0.7)
    with Tmux(folder, "run", "mob.toml", "--prompt", "hello", columns=90, lines=24) as screen:
        shown = screen.until("tool ask_worker 0:0")
        assert "worker-0 worker" in shown
        assert "tokens  mail       cost  restarts" in shown
        screen.resize(40, 20)
        shown = screen.until_that(lambda text: "mail" not in text and "worker-0   " in text)
        assert max(map(len, shown.splitlines())) <= 40
        assert shown.count("worker-0 ") == 1, "the old picture was taken away"
        screen.keys("C-c")
        shown = screen.until("continue with")
        assert "saving: letting" in shown
        assert "saved: mob 'team' is stopped" in shown.replace("\n", "")
        assert screen.code() == 130


def test_a_second_ctrl_c_cancels(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 3600)
    with Tmux(folder, "run", "mob.toml", "--prompt", "hello", columns=80, lines=24) as screen:
        screen.until("model 0:0")
        screen.keys("C-c")
        screen.until("saving: letting")
        screen.keys("C-c")
        screen.until("cancelled; what was finished is on disk")
        assert screen.code() == 130


def test_colours_are_left_out_where_they_are_not_wanted(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 3600)
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        with Tmux(folder, "run", "mob.toml", "--prompt", "x", **env) as screen:
            screen.until("model 0:0")
            assert ("\x1b[36m" in screen.captured(escapes=True)) is coloured


def test_a_mob_is_watched_from_another_terminal_until_it_ends(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, 3600)
    run = ("run", "mob.toml", "--prompt", "hello", "--display", "plain")
    with Running(*run, cwd=folder) as running:
        running.wait_for("is asked")
        with (
            Tmux(folder, "watch", "team", columns=90, lines=16) as screen,
            Tmux(folder, "watch", "team", columns=60, lines=12) as other,
            Running("watch", "te", cwd=folder) as lines,
        ):
            shown = screen.until("model 0:0")
            assert "worker-0 worker" in shown
            assert "q quit" in shown
            screen.type("/worker-1")
            shown = screen.until_that(lambda text: "find: worker-1" in text)
            shown = screen.until_that(lambda text: "worker-0" not in text)
            assert "worker-1 worker" in shown
            screen.keys("Escape")
            screen.until("worker-0 worker")
            other.until("q quit")
            other.keys("q")
            assert other.code() == 0
            lines.wait_for("watching 'team'")
            assert "q quit" not in other.captured(), "the last picture stands by itself"
            running.signal(signal.SIGINT)
            running.wait_for("saving")
            running.signal(signal.SIGINT)
            shown = screen.until("the process that ran 'team' has ended")
            assert "lead" in shown
            assert screen.code() == 0
            code, _, err = lines.end()
            assert code == 0, err
            assert "has ended" in err
    still = mob("watch", "team", cwd=folder)
    assert still.returncode == 0, still.stderr
    assert "team running  3 members" in still.stdout
    assert "1 unfinished" in still.stdout or "1 queued" in still.stdout
    assert "no process runs 'team'" in still.stderr
    told = json.loads(mob("watch", "team", "--json", cwd=folder).stdout)
    assert [each["name"] for each in told["members"]] == ["lead", "worker-0", "worker-1"]
