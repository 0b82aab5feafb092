"""The process of one run: ``python -m mob.bench.worker``, a job on its standard input.

Owns: the other end of `mob.bench.running.run_apart`. Must not: write anything but the run to the
pipe that was its standard output; what tools print goes where errors go.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback

from mob.bench.results import Run
from mob.bench.running import job_of, run_here


def main() -> None:
    """Run the job."""
    # Whoever started us says that it was interrupted.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        job = job_of(json.loads(sys.stdin.readline()))
        scenario = job.scenario()
        try:
            run = run_here(job, scenario)
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 the run is told of it
            traceback.print_exception(error)
            run = Run(
                scenario.name,
                scenario.shape_name,
                job.repeat,
                scenario.seed(job.repeat) if job.seed is None else job.seed + job.repeat,
                job.scale,
                scenario.store,
                scenario.clock,
                scenario.size,
                error=f"{type(error).__name__}: {error}",
            )
        answers.write(json.dumps(run.table()))


if __name__ == "__main__":
    main()
