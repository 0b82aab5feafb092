"""The approval prompt on a real terminal, and processes killed while a call waits for a decision.

The clerk of examples/approval looks an order up and refunds; a refund, which is no idempotent tool,
is noted in a file each time that it runs.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import PATIENCE_S, ROOT, environment, mob, refused
from tests.cli.terminal import Terminal

EXAMPLE = ROOT / "examples" / "approval" / "mob.toml"
PROMPT = "Refund 40 for order 1001."
RUN = ("run", str(EXAMPLE), "--prompt", PROMPT, "--state", "state")
QUESTION = "[y]es, [n]o, [e]dit the arguments, [l]ater? "


def waiting(cwd: Path) -> list[dict[str, Any]]:
    """What `mob approvals` shows."""
    done = mob("approvals", "--state", "state", "--json", cwd=cwd)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["approvals"]
    return found


def paid(cwd: Path) -> list[str]:
    """What was refunded, a line each time."""
    ledger = cwd / "refunds.log"
    return ledger.read_text().split() if ledger.exists() else []


def finish(cwd: Path) -> str:
    """The same command once more, to its end; what it answers."""
    done = mob(*RUN, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("term", ["dumb", "xterm"])
def test_a_call_is_approved_at_the_terminal(term: str, tmp_path: Path) -> None:
    """Also under the live tree, which draws on the same terminal."""
    with Terminal(*RUN, cwd=tmp_path, term=term) as terminal:
        terminal.wait_for(QUESTION)
        assert (paid(tmp_path), len(waiting(tmp_path))) == ([], 1), "others see that it waits"
        terminal.type("what?\n")
        terminal.wait_for(QUESTION)
        terminal.type("y\n")
        code, out = terminal.end()
    assert (code, paid(tmp_path), waiting(tmp_path)) == (0, ["40"], [])
    assert "refunded 40" in out


def test_a_call_is_denied_at_the_terminal(tmp_path: Path) -> None:
    with Terminal(*RUN, cwd=tmp_path) as terminal:
        terminal.wait_for(QUESTION)
        terminal.type("n\n")
        terminal.wait_for("why (the model reads it): ")
        terminal.type("ask me first\n")
        code, out = terminal.end()
    assert (code, paid(tmp_path)) == (0, [])
    assert "denied this call: ask me first" in out


def test_arguments_are_edited_at_the_terminal_and_must_fit(tmp_path: Path) -> None:
    with Terminal(*RUN, cwd=tmp_path) as terminal:
        terminal.wait_for(QUESTION)
        terminal.type("e\n")
        terminal.wait_for("arguments as JSON: ")
        terminal.type('{"amount": "all"}\n')
        terminal.wait_for(QUESTION)
        assert "reason" in terminal.shown, "what is wrong with them is said"
        terminal.type("e\n")
        terminal.wait_for("arguments as JSON: ")
        terminal.type('{"reason": "half", "amount": 20}\n')
        assert terminal.end()[0] == 0
    assert paid(tmp_path) == ["20"]


@pytest.mark.parametrize("keys", ["l\n", "\x04"])
def test_what_is_put_off_at_the_terminal_waits_on(keys: str, tmp_path: Path) -> None:
    """Later, or the end of the input: exit code 6, and how to decide."""
    with Terminal(*RUN, cwd=tmp_path) as terminal:
        terminal.wait_for(QUESTION)
        terminal.type(keys)
        code, out = terminal.end()
        (call,) = waiting(tmp_path)
        assert (code, out) == (6, "")
        assert f"mob approve '{call['key']}' --state state" in terminal.shown
    assert mob("approve", call["key"], "--state", "state", cwd=tmp_path).returncode == 0
    assert "refunded 40" in finish(tmp_path)
    assert paid(tmp_path) == ["40"]


@pytest.mark.parametrize("where", ["question", "reason"])
def test_ctrl_c_at_the_question_saves_and_loses_nothing(where: str, tmp_path: Path) -> None:
    """Exit code 130: what was typed half decides nothing, and the call waits on."""
    with Terminal(*RUN, cwd=tmp_path) as terminal:
        terminal.wait_for(QUESTION)
        if where == "reason":
            terminal.type("n\n")
            terminal.wait_for("why (the model reads it): ")
        terminal.type("ye\x03")
        terminal.wait_for("saved: mob 'approval' is stopped")
        code, out = terminal.end()
        assert (code, out) == (130, "")
        assert "continue with: mob run" in terminal.shown
        assert "Traceback" not in terminal.shown
    (call,) = waiting(tmp_path)
    assert paid(tmp_path) == []
    assert mob("approve", call["key"], "--state", "state", cwd=tmp_path).returncode == 0
    assert "refunded 40" in finish(tmp_path)
    assert paid(tmp_path) == ["40"]


def test_what_waits_survives_kill_9_and_runs_once(tmp_path: Path) -> None:
    """CONTRACTS 6.9: killed while it waits, killed again in the next process."""
    known: list[dict[str, Any]] = []
    for _ in range(2):
        with Terminal(*RUN, cwd=tmp_path) as terminal:
            terminal.wait_for(QUESTION)
            terminal.kill()
            assert terminal.process.returncode == -signal.SIGKILL
        (call,) = waiting(tmp_path)
        known.append(call)
        assert (call["tool"], call["mob"], paid(tmp_path)) == ("refund", "approval", [])
    assert known[0] == known[1], "the same call waits, since the same moment"
    refused(4, "no call 'x' waits", done=mob("approve", "x", "--state", "state", cwd=tmp_path))
    assert mob("fork", "approval", "twin", "--state", "state", cwd=tmp_path).returncode == 0
    short = (call["key"][:12], "--state", "state")
    listed = mob("approvals", "--state", "state", cwd=tmp_path).stdout
    assert f"mob approve '{call['key']}' --mob twin --state state" in listed
    several = mob("approve", *short, cwd=tmp_path)
    refused(2, f"--mob approval {call['key']}, --mob twin {call['key']}", done=several)
    assert mob("deny", *short, "--mob", "tw", cwd=tmp_path).returncode == 0
    told = mob("approve", call["key"][:12], "--state", "state", "--json", cwd=tmp_path)
    done = json.loads(told.stdout)
    assert (done["mob"], done["key"], done["verdict"]) == ("approval", call["key"], "approved")
    assert waiting(tmp_path) == []
    assert "refunded 40" in finish(tmp_path)
    assert paid(tmp_path) == ["40"]
    assert mob("doctor", "--state", "state", cwd=tmp_path).returncode == 0


#: Decides about the call that waits, and is dead in the instant in which it is told that the
#: decision is on disk.
_DECIDED_AND_KILLED = """
import os, signal, sys
import trio
from mob import MobDefinition, open_mob
from stores import open_lmdb

async def main(file):
    async with open_lmdb("state") as store, open_mob(MobDefinition.load(file), store=store) as mob:
        await mob.wait_blocked()
        (call,) = mob.approvals()
        if sys.argv[2] == "approve":
            await mob.approve(call.key, by="ada")
        else:
            await mob.deny(call.key, by="ada", reason="no")
        os.kill(os.getpid(), signal.SIGKILL)

trio.run(main, sys.argv[1])
"""


@pytest.mark.parametrize(("verdict", "runs"), [("approve", ["40"]), ("deny", [])])
def test_a_decision_survives_kill_9_and_what_was_approved_runs_once(
    verdict: str, runs: list[str], tmp_path: Path
) -> None:
    """CONTRACTS 6.9: killed right after the decision, which is on disk by then."""
    with Terminal(*RUN, cwd=tmp_path) as terminal:
        terminal.wait_for(QUESTION)
        terminal.kill()
    done = subprocess.run(
        [sys.executable, "-c", _DECIDED_AND_KILLED, str(EXAMPLE), verdict],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (waiting(tmp_path), paid(tmp_path)) == ([], [])
    answer = finish(tmp_path)
    assert ("refunded 40" in answer, "ada denied this call" in answer) == (
        verdict == "approve",
        verdict == "deny",
    )
    assert paid(tmp_path) == runs
