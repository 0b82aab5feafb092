"""Proof: the default workload finds every planted bug, each within a stated number of seeds.

    python -m tests.simulation.planted [--only NAME ...] [--workers N] [--first SEED] [--write]

Prints a table in Markdown: the bug, the invariant that caught it, after how many seeds, within how
many it must be, and what the search cost. The exit code is 1 if a bug was not found within its
number of seeds, or was caught by another invariant than those it names.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.planted.search import Search, remember, search
from tests.simulation.planted.table import BUGS
from tests.simulation.rotation import say


def main() -> int:
    """Search for each bug, and say what came of it."""
    parser = argparse.ArgumentParser(description="find the planted bugs")
    parser.add_argument("--only", nargs="+", choices=tuple(BUGS), default=tuple(BUGS))
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--write", action="store_true", help="remember the seeds that found one")
    options = parser.parse_args()
    names: list[str] = list(options.only)
    seeds = [range(options.first, options.first + BUGS[name].within) for name in names]
    # Spawned: what is forked begins with whatever this process holds.
    context = multiprocessing.get_context("spawn")
    say("| bug | caught by | seeds | within | CPU s |\n|---|---|---|---|---|")
    done: list[Search] = []
    with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
        for each in pool.map(search, names, seeds):
            done.append(each)
            say(_row(each))
    if options.write:
        remember(done)
    bad = [each for each in done if not each.expected]
    for each in bad:
        say(_complaint(each))
    seeds_run, cpu_s = sum(each.seeds for each in done), sum(each.cpu_s for each in done)
    say(f"\n{len(done) - len(bad)} of {len(done)} found; {seeds_run} seeds in {cpu_s:.0f} CPU s")
    return 1 if bad else 0


def _row(found: Search) -> str:
    within = BUGS[found.bug].within
    return (
        f"| {found.bug} | {found.invariant or 'NOT FOUND'} | {found.seeds} | {within} |"
        f" {found.cpu_s:.1f} |"
    )


def _complaint(found: Search) -> str:
    bug = BUGS[found.bug]
    if found.seed is None:
        return f"{found.bug}: not found within {found.seeds} seeds. {bug.about}"
    return (
        f"{found.bug}: seed {found.seed} fails by {found.invariant!r}, which is none of"
        f" {sorted(bug.caught_by)}: {found.message:.300}"
    )


if __name__ == "__main__":
    sys.exit(main())
