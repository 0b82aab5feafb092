"""The live view in a real terminal: `tmux` where it is installed holds it as a person sees it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.commands import TEAM
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
