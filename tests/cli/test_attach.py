"""Sitting down at a member of a mob that another process runs, in a real terminal."""

from __future__ import annotations

import shutil
import signal
from getpass import getuser
from pathlib import Path

import pytest

from tests.cli.commands import ECHO, ROOT, Running, refused
from tests.cli.commands import mob as command
from tests.cli.tmux import Tmux

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")

APPROVAL = str(ROOT / "examples" / "approval" / "mob.toml")


def test_a_call_is_decided_and_a_message_answered(tmp_path: Path) -> None:
    run = ("run", APPROVAL, "--prompt", "Refund 40 for order 1001.", "--stay", "--display", "plain")
    with Running(*run, cwd=tmp_path) as running:
        running.wait_for("waits for approval")
        with Tmux(tmp_path, "attach", "approval", columns=100, lines=30) as screen:
            screen.until("clerk waits for approval of refund")
            screen.until("[y]es, [n]o, [e]dit")
            screen.type("y")
            running.wait_for("call approved by")
            running.wait_for("turn ended")
            screen.until("<- refund")
            screen.type("and you?")
            screen.until("> and you?")
            screen.keys("Enter")
            running.wait_for('is asked: "and you?"')
            screen.keys("C-c")
            screen.until("Ctrl-C again detaches")
            screen.keys("C-d")
            screen.until("detached; 'approval' goes on")
            assert screen.code() == 0
        assert running.process.poll() is None
        running.signal(signal.SIGINT)
        assert running.end()[0] == 0
    assert len((tmp_path / "refunds.log").read_text().split()) == 1


def test_calls_are_denied_put_off_and_edited_in_place(tmp_path: Path) -> None:
    run = ("run", APPROVAL, "--prompt", "Refund 40 for order 1001.", "--stay", "--display", "plain")
    with Running(*run, cwd=tmp_path) as running:
        running.wait_for("waits for approval")
        with Tmux(tmp_path, "attach", "approval", columns=60, lines=15) as screen:
            shown = screen.until("[y]es, [n]o, [e]dit")
            assert "> Refund 40 for order 1001." in shown, "what the call is about"
            assert "<- find_order order 1001" in shown
            assert "clerk  approve refund? 0:0" in shown
            screen.type("n")
            screen.until("why (the model reads it):")
            screen.type("never bought")
            screen.keys("Enter")
            screen.until("refund denied by")
            running.wait_for("never bought")
            shown = screen.until("clerk  idle")
            assert shown.count("-> refund") == 1, "each message is told once"
            screen.type("Refund 10, please.")
            screen.keys("Enter")
            screen.until("[y]es, [n]o, [e]dit")
            screen.type("l")
            screen.until("(1 call waits: Enter) >")
            screen.keys("Enter")
            screen.until("[y]es, [n]o, [e]dit")
            screen.type("e")
            screen.until('arguments: {"reason"')
            screen.keys("C-u")
            screen.type('{"amount": 7')
            screen.keys("Enter")
            screen.until("not decided: the arguments are not valid JSON")
            screen.until("[y]es, [n]o, [e]dit")
            screen.type("e")
            screen.until_that(lambda text: 'arguments: {"amount": 7\n' in text)
            screen.type(', "reason": "half"}')
            screen.keys("Enter")
            screen.until(f'refund approved by {getuser()}, with {{"amount": 7')
            screen.until('"half"}] refunded 7')
            screen.keys("C-d")
            assert screen.code() == 0
        running.signal(signal.SIGINT)
        assert running.end()[0] == 0
    assert (tmp_path / "refunds.log").read_text() == "7\n"


def test_escape_interrupts_and_ctrl_c_twice_detaches(tmp_path: Path) -> None:
    model = 'model = "sim:agent"\noptions = { latency_s = 3600 }'
    (tmp_path / "mob.toml").write_text(ECHO.replace('model = "sim:echo"', model))
    with Running("run", "mob.toml", "--stay", "--display", "plain", cwd=tmp_path) as running:
        running.wait_for("is up")
        with Tmux(tmp_path, "attach", "echo/lead") as screen:
            screen.until("Enter sends")
            screen.keys("Escape")
            screen.until("no turn is in flight")
            screen.type("hello")
            screen.keys("Enter")
            screen.until("model 0:0")
            screen.keys("Escape")
            screen.until("turn interrupted")
            screen.keys("C-c")
            screen.until("Ctrl-C again")
            screen.keys("C-c")
            screen.until("detached")
            assert screen.code() == 130
        running.signal(signal.SIGINT)
        assert running.end()[0] == 0


def test_without_a_terminal_it_says_what_else_there_is(tmp_path: Path) -> None:
    (tmp_path / "mob.toml").write_text(ECHO)
    assert command("run", "mob.toml", "--prompt", "x", cwd=tmp_path).returncode == 0
    refused(2, "mob send echo/lead", done=command("attach", "echo", cwd=tmp_path))
