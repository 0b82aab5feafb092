"""Fails when a durable turn costs too many times what the floor of the same run costs.

    python benchmarks/gate.py [--members N] [--turns T] [--repeats R] [--json]

CPU seconds say nothing about another machine, and little about this one tomorrow; the ratio of two
programs that alternate in one run says both. It is `turns.py` at a size that takes half a minute:
floor and swarm in turn, each in a fresh process, and the median of the ratios of neighbours, so
that a minute in which the machine was slow is in both sides of a ratio.
"""

from __future__ import annotations

import json
import statistics
import sys
from functools import partial

from fresh import Figures, in_fresh_process, parser, ran_here, told
from turns import WORKS

#: A durable turn of mob costs at most so many times the floor's CPU. On two shared cores with a
#: load of ten, medians of five pairs were 6.4 to 7.2, and single pairs 4.7 to 9.1: noise alone does
#: not reach the margin, and a turn that costs half as much again does. Lower it when turns have
#: become cheaper for good.
AT_MOST = 10.0


def main() -> int:
    options_of = parser(__doc__, repeats=5)
    options_of.add_argument("--members", type=int, default=500)
    options_of.add_argument("--turns", type=int, default=10, help="turns of each member")
    options_of.add_argument("--at-most", type=float, default=AT_MOST, help="times the floor")
    options = options_of.parse_args()
    if ran_here(options, WORKS):
        return 0
    works = {
        name: partial(in_fresh_process, name, options.members, options.turns)
        for name in ("floor", "swarm")
    }
    runs: list[dict[str, Figures]] = []
    for repeat in range(options.repeats):
        told(f"gate {repeat + 1}/{options.repeats}")
        runs.append({name: work() for name, work in works.items()})
    told("")
    ratios = [run["swarm"]["cpu_s"] / run["floor"]["cpu_s"] for run in runs]
    ratio, total = statistics.median(ratios), options.members * options.turns
    cost_us = {
        name: statistics.median(run[name]["cpu_s"] for run in runs) / total * 1e6 for name in works
    }
    passed = ratio <= options.at_most
    if options.json:
        report = {"ratio": ratio, "ratios": ratios, "at_most": options.at_most, "cost_us": cost_us}
        print(json.dumps({**report, "passed": passed}))
    else:
        print(
            f"a durable turn costs {cost_us['swarm']:.0f} us of CPU, the floor"
            f" {cost_us['floor']:.0f} us: {ratio:.1f} times"
            f" ({min(ratios):.1f} to {max(ratios):.1f}), at most {options.at_most:g} are allowed"
        )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
