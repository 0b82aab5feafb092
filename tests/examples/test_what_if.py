"""The what-if example: one point, two days, and back."""

from __future__ import annotations

import subprocess
import sys

from tests.cli.commands import ROOT


def test_two_days_begin_alike_and_part() -> None:
    """CONTRACTS 6.12."""
    done = subprocess.run(
        [sys.executable, "examples/what-if/what_if.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "shorter: Cut it to three words." in done.stdout
    assert "longer: Add how far away that is." in done.stdout
    assert "~ member editor: turns 2 -> 2, " in done.stdout
    assert "histories part" in done.stdout
    assert "~ task t1: open -> claimed by reader" in done.stdout
    assert done.stdout.endswith("It was brought back, and forward again.\n")
