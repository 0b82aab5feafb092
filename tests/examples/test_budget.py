"""The budget example: a tree of agents that a budget stops, and that goes on once it is raised."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.cli.commands import ROOT, mob

EXAMPLE = ROOT / "examples" / "budget" / "mob.toml"
RUN = ("--prompt", "How do bees find their way home?", "--state", "state")


def test_the_tree_is_stopped_and_goes_on_when_the_budget_is_raised(tmp_path: Path) -> None:
    """CONTRACTS 6.15."""
    done = mob("run", str(EXAMPLE), *RUN, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (5, ""), done.stderr
    assert "the budget of mob 'budget' is used up" in done.stderr
    tree = mob("tree", "budget", "--state", "state", "--json", cwd=tmp_path)
    (lead,) = json.loads(tree.stdout)["members"]
    spent = lead["total"]["input_tokens"] + lead["total"]["output_tokens"]
    assert spent >= 500
    assert all(child["state"] == "archived" for child in lead["children"])
    raised = tmp_path / "mob.toml"
    raised.write_text(re.sub("(?m)^tokens = .*", "tokens = 100000", EXAMPLE.read_text()))
    done = mob("run", str(raised), *RUN, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_a_run_may_be_bounded_tighter(tmp_path: Path) -> None:
    done = mob("run", str(EXAMPLE), *RUN, "--budget", "tool_calls=1", cwd=tmp_path)
    assert done.returncode == 5
    assert "the budget of this run is used up: 2 of 1 tool calls" in done.stderr
