"""The examples of flows: a pipeline that falls back, and a board of which two votes are enough."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.commands import ROOT, mob

PIPELINE = str(ROOT / "examples" / "pipeline" / "mob.toml")
BOARD = str(ROOT / "examples" / "review-board" / "mob.toml")


def ran(cwd: Path, *arguments: str) -> dict[str, Any]:
    done = mob("flow", "run", *arguments, "--json", "--display", "none", cwd=cwd)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_pipeline_falls_back_to_the_second_writer(tmp_path: Path) -> None:
    """Issue: branches where the first success wins, per-step timeout, a loop."""
    run = ran(tmp_path, PIPELINE, "article", "--param", "topic=the tides")
    assert run["steps"]["draft-by-star"]["error"] == "timed out after 1 s"
    assert run["steps"]["draft-by-writer"]["state"] == "succeeded"
    assert len(run["steps"]["research"]["output"]) == len(run["steps"]["plan"]["output"])
    assert run["output"] == run["steps"]["edit"]["output"]


def test_two_votes_of_the_board_are_enough(tmp_path: Path) -> None:
    """Issue: quorum collection."""
    run = ran(tmp_path, BOARD, "review", "--param", "change=Drop the cache.")
    votes = run["steps"]["vote"]["output"]
    assert [set(vote) for vote in votes] == [{"approve", "reason"}] * 2
    heard = run["steps"]["hear"]["state"]
    assert heard == ("skipped" if all(vote["approve"] for vote in votes) else "succeeded")
    tree = mob("tree", "review-board", "--json", cwd=tmp_path)
    members = {each["name"]: each for each in json.loads(tree.stdout)["members"]}
    assert sum(members[f"board-{index}"]["turns"] for index in range(3)) >= 2
