"""Looking for a planted bug with the default workload.

Owns: `Search`, `search` and the seeds known to find. Must not: help any one bug.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import attrs

from mob.simulation import attempt
from mob.simulation.workload import Workload
from tests.simulation.planted.table import BUGS
from tests.simulation.rotation import plan_of

#: Where the seed is written down that finds each bug, for the quick form.
FOUND: Final = Path(__file__).with_name("found.toml")


@attrs.frozen
class Search:
    """What a search came to. `seed` is the one that found it, None if none did."""

    bug: str
    seeds: int
    cpu_s: float
    seed: int | None = None
    invariant: str = ""
    message: str = ""

    @property
    def expected(self) -> bool:
        """Whether it was found, and by what was to catch it."""
        return self.seed is not None and self.invariant in BUGS[self.bug].caught_by


def search(name: str, seeds: Iterable[int]) -> Search:
    """Run `seeds` with the bug called `name` until one of them finds it."""
    began = time.process_time()
    count = 0
    for seed in seeds:
        count += 1
        with BUGS[name].plant():
            run = attempt(Workload(), seed, faults=plan_of(seed))
        if run.failure is not None:
            cpu_s = time.process_time() - began
            return Search(name, count, cpu_s, seed, run.failure.invariant, run.failure.message)
    return Search(name, count, time.process_time() - began)


def known() -> dict[str, int]:
    """The seed that found each bug when it was last looked for."""
    return dict(tomllib.loads(FOUND.read_text()))


def remember(found: Iterable[Search], write: Callable[[str], object] = FOUND.write_text) -> None:
    """Write the seeds down that found something."""
    lines = [f"{each.bug} = {each.seed}\n" for each in found if each.seed is not None]
    head = "# A seed that finds each bug. By `python -m tests.simulation.planted --write`.\n"
    write(head + "".join(lines))
