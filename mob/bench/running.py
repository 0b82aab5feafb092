"""Running a scenario: here, or in a process of its own.

Owns: one run from plan to verdicts, and the process that keeps what one run leaves behind (garbage,
caches, a grown heap) from being the next one's cost. Must not: print.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import attrs
import trio
import trio.testing

from mob.bench.plan import judge
from mob.bench.results import Run
from mob.bench.scenario import VIRTUAL, Scenario
from mob.bench.stage import Stage
from mob.collector import tuned_gc

#: The module of the process.
WORKER: Final = "mob.bench.worker"


class WorkerFailed(RuntimeError):
    """The process of a run ended without a result; the message says how."""


@attrs.frozen
class Job:
    """What one run is asked for: a file, and what the command line said. None: as the file says."""

    file: str
    repeat: int = 0
    scale: float = 1.0
    seed: int | None = None
    store: str | None = None

    def scenario(self) -> Scenario:
        """The scenario to run. Raises as `Scenario.load`."""
        scenario = Scenario.load(self.file)
        return scenario if self.store is None else attrs.evolve(scenario, store=self.store)


def run_here(job: Job, scenario: Scenario | None = None) -> Run:
    """Run it in this process, as an application would: with the collector set for a swarm.

    What a shape or the mob raises comes out as it is.
    """
    scenario = scenario or job.scenario()
    seed = scenario.seed(job.repeat) if job.seed is None else job.seed + job.repeat
    plan = scenario.plan(scale=job.scale, seed=seed)
    clock = trio.testing.MockClock(autojump_threshold=0) if scenario.clock == VIRTUAL else None
    with tempfile.TemporaryDirectory(prefix="mob-bench-") as folder:
        stage = Stage(plan, Path(folder), scenario.store, scenario.source)
        with tuned_gc():
            own = trio.run(scenario.shape.run, stage, clock=clock)
        figures = {**stage.figures(), **own}
    oracle = scenario.shape.expect(plan)
    verdicts = tuple(judge(each, figures, oracle, job.scale) for each in scenario.assertions)
    return Run(
        scenario.name,
        scenario.shape_name,
        job.repeat,
        seed,
        job.scale,
        scenario.store,
        scenario.clock,
        plan.size,
        figures,
        oracle,
        verdicts,
    )


def run_apart(job: Job) -> Run:
    """Run it in a fresh process. A run that raised is one with its `error`.

    Raises:
        WorkerFailed: the process ended without a word.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            out, _ = process.communicate(json.dumps(attrs.asdict(job)))
        finally:
            if process.poll() is None:  # we are interrupted
                process.kill()
    if not out:
        raise WorkerFailed(f"the process of {job.file} ended with {process.returncode}")
    return Run.of(json.loads(out))


def job_of(table: dict[str, Any]) -> Job:
    """The job that `run_apart` has sent."""
    return Job(**table)
