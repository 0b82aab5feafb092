"""The debate example: rounds of requests and replies, along the edges that there are."""

from __future__ import annotations

import subprocess
import sys

from tests.cli.commands import ROOT


def test_the_debate_goes_over_its_rounds() -> None:
    """CONTRACTS 6.5, 6.6, end to end."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "debate" / "debate.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line.partition(": ")[0] for line in done.stdout.splitlines()] == [
        "pro",
        "con",
        "pro",
        "con",
    ]
    assert "A sensor never sleeps." in done.stdout
    assert done.stderr.splitlines() == [
        "moderator may send to pro, con",
        "pro may send to nobody",
        "con may send to nobody",
    ]
