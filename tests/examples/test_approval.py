"""The approval example: asked in one process, approved in a second, finished in a third."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import ROOT, mob

EXAMPLE = ROOT / "examples" / "approval" / "mob.toml"
RUN = ("run", str(EXAMPLE), "--prompt", "Refund 40 for order 1001.", "--state", "state")


def waiting(cwd: Path) -> list[dict[str, str]]:
    done = mob("approvals", "--state", "state", "--json", cwd=cwd)
    found: list[dict[str, str]] = json.loads(done.stdout)["approvals"]
    return found


@pytest.mark.parametrize(
    ("decision", "paid"),
    [
        (("approve",), ["40"]),
        (("approve", "--arguments", '{"reason": "half", "amount": 20}'), ["20"]),
        (("deny", "--reason", "ask me first"), []),
    ],
)
def test_a_call_is_approved_by_another_process(
    decision: tuple[str, ...], paid: list[str], tmp_path: Path
) -> None:
    """Issue: approval that survives a restart; the command line's exit code 6."""
    ledger = tmp_path / "refunds.log"
    done = mob(*RUN, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (6, ""), done.stderr
    (call,) = waiting(tmp_path)
    verb, *rest = decision
    assert f"mob approve '{call['key']}' --state state" in done.stderr
    assert "continue with: mob run" in done.stderr
    assert mob(*RUN, cwd=tmp_path).returncode == 6, "it waits on"
    assert not ledger.exists()
    shown = mob("tree", "approval", "--state", "state", cwd=tmp_path)
    assert "waits for approval: refund" in shown.stdout
    wrong = mob("approve", call["key"], "--arguments", "[]", "--state", "state", cwd=tmp_path)
    assert (wrong.returncode, len(waiting(tmp_path))) == (7, 1)
    done = mob(verb, call["key"], *rest, "--state", "state", "--by", "ada", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert waiting(tmp_path) == []
    again = mob(verb, call["key"], *rest, "--state", "state", "--by", "ada", cwd=tmp_path)
    assert again.returncode == 0, "the same decision again is answered alike"
    other = mob("deny", call["key"], "--by", "bob", "--state", "state", cwd=tmp_path)
    assert (other.returncode, "ada has" in other.stderr) == (7, True)
    done = mob(*RUN, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (ledger.read_text().split() if ledger.exists() else []) == paid
    assert ("ada denied this call: ask me first" in done.stdout) == (verb == "deny")
    late = mob("approve", call["key"], "--state", "state", cwd=tmp_path)
    assert (late.returncode, "its turn has ended" in late.stderr) == (4, True)
