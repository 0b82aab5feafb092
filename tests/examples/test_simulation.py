"""The example of simulation: the commands its files and docs/simulation.md give."""

from __future__ import annotations

import subprocess
import sys

from tests.cli.commands import ROOT, environment, mob
from tests.simulation.test_plugin import LOAD

EXAMPLE = ROOT / "examples" / "simulation"


def test_the_mob_and_the_scenario_hold_under_faults() -> None:
    for target in ("mob.toml", "scenario.py:customers"):
        done = mob(
            "sim", "run", f"examples/simulation/{target}", "--seeds", "0..9", "--faults",
            "store,process", cwd=ROOT,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout


def test_the_tests_of_the_example_pass_under_pytest() -> None:
    options = (*LOAD, "-q", "-p", "no:cacheprovider", "--rootdir", str(EXAMPLE))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_desk.py"],
        cwd=EXAMPLE,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
