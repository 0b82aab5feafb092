"""The gate of CI fails when a turn costs more than is allowed; CI itself shows that it passes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def gate(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "benchmarks/gate.py", "--members", "20", "--turns", "3", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_turn_that_costs_more_than_is_allowed_fails() -> None:
    done = gate("--repeats", "1", "--at-most", "0.5", "--json")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["ratio"] > 1, "a framework costs more than none"
    assert report["passed"] is False


def test_ci_runs_it() -> None:
    assert 'stage "gate" gate' in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
