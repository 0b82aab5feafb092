"""A process that runs the seeds it is given: ``python -m mob.simulation.worker``.

Owns: the other end of `mob.simulation.seeds`. Must not: write anything but answers to the pipe that
was its standard output; what scenarios print goes where errors go.

First line in: the job. Each further one: a seed. For each seed one line out. It ends with its
standard input.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import sys
from typing import TextIO

from mob.errors import DefinitionInvalid
from mob.simulation.seeds import Job, Outcome
from mob.simulation.target import TargetInvalid, load_target


def main() -> None:
    """Serve until standard input ends."""
    faulthandler.enable()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        _serve(answers)


def _serve(answers: TextIO) -> None:
    job = Job.from_json(sys.stdin.readline())
    try:
        target = load_target(job.target)
    except (TargetInvalid, DefinitionInvalid, OSError) as error:
        _answer(answers, json.dumps({"cannot": str(error)}))
        return
    # `attempt` collects before each run. At its end, with all of it still there to be gone through,
    # that would cost twice as much.
    gc.disable()
    for line in sys.stdin:
        _answer(answers, Outcome.of(job.attempt(target, int(line))).to_json())


def _answer(answers: TextIO, text: str) -> None:
    answers.write(text + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
