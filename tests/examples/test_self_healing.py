"""The examples of members that crash, and of members that come, begin anew and go."""

from __future__ import annotations

import subprocess
import sys

from tests.cli.commands import ROOT


def _run(name: str) -> tuple[list[str], str]:
    file = ROOT / "examples" / name / f"{name.replace('-', '_')}.py"
    done = subprocess.run(
        [sys.executable, str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


def test_everybody_answers_and_the_cockpit_restarts_together() -> None:
    """CONTRACTS 6.8, end to end."""
    answers, said = _run("self-healing")
    assert len(answers) == 10
    assert all(answer.endswith("report - done") for answer in answers)
    restarts = [line.split()[0] for line in said.splitlines() if " restarted in " in line]
    assert sorted(restarts) == [
        "navigator",
        "pilot",
        "scout-1",
        "scout-3",
        "scout-3",
        "scout-5",
    ]
    assert "group 'cockpit' restarts: 'pilot' has failed" in said


def test_a_lead_hires_and_the_roster_becomes_what_is_declared() -> None:
    """CONTRACTS 6.2 to 6.4, end to end."""
    report, said = _run("dynamic")
    assert report == [f"{topic}: What of the {topic}?" for topic in ("tides", "moon", "harbours")]
    assert "refused: the fence of 'moon' is that of generation 1" in said
    assert "retired: moon, harbours\nmembers: lead, tides" in said
