"""The background swarm example: three researchers at once, and a report of all three."""

from __future__ import annotations

import subprocess
import sys

from tests.cli.commands import ROOT


def test_the_swarm_reports_and_shows_its_children() -> None:
    """CONTRACTS 1.12, end to end."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "swarm" / "swarm.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "navigate: how bees navigate",
        "talk: how bees talk",
        "warm: how bees keep warm",
    ]
    shown = [line for line in done.stderr.splitlines() if "background" in line]
    assert ["done" in line for line in shown] == [True, True, True]
