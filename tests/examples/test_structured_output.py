"""The example of structured output: an answer at once, one sent back, one that never fits."""

from __future__ import annotations

import subprocess
import sys

from tests.cli.commands import ROOT


def test_answers_fit_the_schema_or_are_an_error_that_says_why() -> None:
    """CONTRACTS 4.9, end to end."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "structured-output" / "structured_output.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first == "question, urgency 2"
    assert second == "bug, urgency 5"
    assert third.startswith("no ticket: the answer does not fit its schema after 2 attempts")
    assert third.endswith("the model said 'Really!'")
    assert "at urgency: 9 is greater than the maximum of 5. Reply again" in done.stderr
