"""A process that is killed: it does a shape's work on the store of a run, and says how far it is.

Owns: starting it, hearing it and killing it (SIGKILL, as a machine that fails does it), and the
process itself: ``python -m mob.bench.victim``. Must not: know a shape.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import attrs
import trio

from mob.bench.stage import Stage

_MODULE: Final = "mob.bench.victim"
#: Between the seeds of two lives: each meets other weather.
_SEEDS: Final = 1_000_000


class Victim:
    """The process, running. Lines that it says are JSON values."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process

    async def said(self) -> AsyncGenerator[Any, None]:
        """What it says, until it has ended."""
        assert self._process.stdout is not None
        rest = b""
        async for chunk in self._process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield json.loads(line)

    def kill(self) -> None:
        """Kill it now; what it had said before is still heard."""
        self._process.kill()

    @property
    def killed(self) -> bool:
        """Whether it was killed, and did not end by itself."""
        return self._process.returncode == -signal.SIGKILL


@asynccontextmanager
async def victim(stage: Stage, life: int, *, ends: bool = False) -> AsyncIterator[Victim]:
    """A process on the store of the stage, which nobody else may have open. It has ended when the
    block has. Unless it `ends`, it waits when its work is done, until it is killed.

    Raises:
        RuntimeError: it failed; what it wrote to stderr says why.
    """
    job = {
        "file": stage.source,
        "scale": stage.plan.scale,
        "seed": stage.plan.seed,
        "life": life,
        "ends": ends,
        "folder": str(stage.folder),
        "store": stage.store,
    }
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", _MODULE, json.dumps(job)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    running = Victim(process)
    try:
        yield running
        await process.wait()
    finally:
        with trio.CancelScope(shield=True):  # a killed process ends at once
            process.kill()
            await process.wait()
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the process of {stage.source} ended with {process.returncode}")


def main() -> None:
    """Do the work of the shape."""
    from mob.bench.scenario import Scenario
    from mob.collector import tuned_gc

    job = json.loads(sys.argv[1])
    scenario = Scenario.load(job["file"])
    plan = scenario.plan(scale=job["scale"], seed=job["seed"] + _SEEDS * job["life"])
    stage = Stage(
        attrs.evolve(plan, seed=job["seed"]), Path(job["folder"]), job["store"], job["file"]
    )
    work = scenario.shape.victim
    assert work is not None, "only shapes that have one start it"

    async def live(say: Callable[[Any], None]) -> None:
        await work(stage, say)
        if not job["ends"]:
            await trio.sleep_forever()

    with os.fdopen(os.dup(1), "wb", buffering=0) as told, tuned_gc():
        os.dup2(2, 1)
        trio.run(live, partial(_say, told))


def _say(told: Any, value: Any) -> None:
    told.write(json.dumps(value).encode() + b"\n")


if __name__ == "__main__":
    main()
