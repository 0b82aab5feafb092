"""`mob demo` tells and shows that a killed member comes back; the live tree draws it."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import PATIENCE_S, TEAM, environment, mob


def in_order(text: str, *words: str) -> None:
    at = 0
    for word in words:
        found = text.find(word, at)
        assert found >= 0, f"{word!r} is missing, or comes too early in:\n{text}"
        at = found


def test_the_demo_tells_of_the_crash_the_restart_and_the_answer(tmp_path: Path) -> None:
    done = mob("demo", "--state", "kept", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    in_order(
        done.stderr,
        "scout-1 was just killed in the middle of its turn",
        "crashed (killed on purpose by the demo) and will restart in 1.2 s",
        "restarted: continues its turn from what is on disk",
        "What happened:",
        "scout-1 crashed (killed on purpose by the demo) and was restarted by its supervisor",
        "1 helper in all, none twice",
        "7 questions accepted, 7 turns ended",
    )
    assert json.loads(done.stdout)["scouts_heard"] == 3
    tree = json.loads(mob("tree", "demo", "--state", "kept", "--json", cwd=tmp_path).stdout)
    assert {node["name"]: node["restarts"] for node in tree["members"]} == {
        "queen": 0,
        "scout-0": 0,
        "scout-1": 1,
        "scout-2": 0,
    }
    assert [len(node["children"]) for node in tree["members"]] == [0, 1, 1, 1]


class Terminal:
    """A tmux window of its own server, in which a command runs."""

    def __init__(self, socket: Path) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]

    def call(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._tmux, *arguments], capture_output=True, text=True, check=True, env=environment()
        )
        return done.stdout

    def start(self, command: str, cwd: Path, width: int, height: int) -> None:
        """Run `command` in a window that stays when it has ended."""
        size = ("-x", str(width), "-y", str(height))
        self.call("new-session", "-d", *size, "-c", str(cwd), f"{command}; echo ended $?; cat")

    def wait_for(self, *words: str) -> str:
        """The screen, once it has all of `words`. A screen tells nobody when it changes."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            screen = self.call("capture-pane", "-p")
            if all(word in screen for word in words):
                return screen
            assert time.monotonic() < deadline, f"never saw {words}; last:\n{screen}"
            time.sleep(0.05)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux, which stands for a user's terminal")
    made = Terminal(tmp_path / "tmux")
    yield made
    made.call("kill-server")


def test_on_a_terminal_the_tree_lives(terminal: Terminal, tmp_path: Path) -> None:
    command = f"env TERM=screen {shlex.quote(sys.executable)} -m mob.cli demo"
    terminal.start(command, tmp_path, width=100, height=30)
    working = terminal.wait_for("└─ settle-swarm", "tool spawn_agent", "model 0:0")
    assert working.count("demo running") == 1
    terminal.wait_for("scout-1 was just killed", "restart in 0:0")
    screen = terminal.wait_for("ended 0")
    assert screen.count("demo running") == 1, screen  # drawn in place, nothing left behind
    (scout,) = [line for line in screen.splitlines() if line.startswith("scout-1 scout")]
    assert scout.split()[2:6] == ["idle", "137", "unpriced", "1"]
    assert '"scouts_heard": 3' in screen


def test_ctrl_c_on_a_terminal_leaves_one_tree_and_says_how_to_go_on(
    terminal: Terminal, tmp_path: Path
) -> None:
    (tmp_path / "mob.toml").write_text(TEAM % 0.4)
    command = f"env TERM=screen NO_COLOR=1 {shlex.quote(sys.executable)} -m mob.cli"
    command += " run mob.toml --prompt hello"
    terminal.start(f"trap : INT; {command}", tmp_path, width=50, height=14)
    terminal.wait_for("worker-0", "model 0:0")
    terminal.call("send-keys", "C-c")
    screen = terminal.wait_for("ended 130")
    assert screen.count("team stopped") == 1, screen
    assert "team running" not in screen
    assert "saved: mob 'team' is stopped" in screen.replace("\n", "")
