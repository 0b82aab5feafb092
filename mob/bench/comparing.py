"""Whether one set of runs is worse than another, beyond chance and beyond a margin.

Owns: the interval of a difference and the decision. Must not: run anything.

Costs are compared as ratios: the interval is that of the difference of the means of logarithms,
which is Welch's (1947) for two samples of unequal variance. It is a regression if the whole
interval lies on the worse side of the margin: a difference that may be chance is none, and one that
is certain but small is none either.
"""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Final

import attrs

from mob.bench.results import Run

#: Which way each figure is better; others are no costs and are not compared.
HIGHER: Final = 1
LOWER: Final = -1
BETTER: Final = {
    "turns_per_cpu_s": HIGHER,
    "cpu_s": LOWER,
    "opening_cpu_s": LOWER,
    "wall_s": LOWER,
    "latency_p50_s": LOWER,
    "latency_p95_s": LOWER,
    "latency_p99_s": LOWER,
    "tokens": LOWER,
    "bytes_on_disk": LOWER,
    "peak_memory_bytes": LOWER,
}
#: What decides when nobody says: what a machine shared with others does not blur.
DECIDING: Final = ("turns_per_cpu_s", "bytes_on_disk", "peak_memory_bytes")
#: By how much it may be worse. Two runs of the same program differ by some 5 % of CPU.
MARGIN: Final = 0.10

#: Student's t for an interval that holds 95 of 100 times, by degrees of freedom.
_T95: Final = (
    (1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (6, 2.447), (7, 2.365), (8, 2.306),
    (9, 2.262), (10, 2.228), (12, 2.179), (15, 2.131), (20, 2.086), (30, 2.042), (60, 2.000),
    (120, 1.980), (math.inf, 1.960),
)  # fmt: skip


class Verdict(enum.Enum):
    """What became of a figure. `UNCLEAR`: the interval reaches over the margin."""

    SAME = "same"
    BETTER = "better"
    WORSE = "worse"
    UNCLEAR = "unclear"


@attrs.frozen
class Difference:
    """One figure of one scenario in A and B: the means, B to A as a ratio with the interval that
    holds 95 of 100 times, and the verdict. `decides`: a worse one is a regression."""

    scenario: str
    metric: str
    a: float
    b: float
    ratio: float
    low: float
    high: float
    verdict: Verdict
    decides: bool

    @property
    def regressed(self) -> bool:
        return self.decides and self.verdict is Verdict.WORSE


class NotComparable(ValueError):
    """Two sets of runs cannot be compared; the message says why."""


def compare(
    a: Iterable[Run],
    b: Iterable[Run],
    *,
    metrics: Sequence[str] = DECIDING,
    margin: float = MARGIN,
) -> list[Difference]:
    """How each scenario that both have differs, in order of A.

    Raises:
        NotComparable: they share no scenario, one has too few runs of it, or of another size.
    """
    ours, theirs = _grouped(a), _grouped(b)
    shared = [name for name in ours if name in theirs]
    if not shared:
        raise NotComparable(
            f"they share no scenario: A has {', '.join(ours) or 'none'},"
            f" B has {', '.join(theirs) or 'none'}"
        )
    found = []
    for name in shared:
        one, other = ours[name], theirs[name]
        _check(name, one, other)
        for metric in BETTER:
            pair = (
                [each.figures.get(metric, 0.0) for each in one],
                [each.figures.get(metric, 0.0) for each in other],
            )
            if all(value > 0 for values in pair for value in values):
                found.append(_difference(name, metric, *pair, metric in metrics, margin))
    return found


def _grouped(runs: Iterable[Run]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.error is None:
            groups.setdefault(run.scenario, []).append(run)
    return groups


def _check(name: str, one: Sequence[Run], other: Sequence[Run]) -> None:
    for side, runs in (("A", one), ("B", other)):
        if len(runs) < 2:
            raise NotComparable(
                f"{side} has one run of {name}: an interval needs two, give --repeats"
            )
    kinds = {(tuple(sorted(run.size.items())), run.store, run.clock) for run in (*one, *other)}
    if len(kinds) > 1:
        raise NotComparable(f"the runs of {name} differ in size, store or clock")


def _difference(
    name: str, metric: str, a: Sequence[float], b: Sequence[float], decides: bool, margin: float
) -> Difference:
    low, high = interval([math.log(each) for each in a], [math.log(each) for each in b])
    ratio = math.exp(_mean_log(b) - _mean_log(a))
    # As how much worse B is: a figure that had better be high is turned round.
    worst, best = (high, low) if BETTER[metric] == LOWER else (-low, -high)
    edge = math.log1p(margin)
    if best > edge:
        verdict = Verdict.WORSE
    elif worst < -edge:
        verdict = Verdict.BETTER
    elif best >= -edge and worst <= edge:
        verdict = Verdict.SAME
    else:
        verdict = Verdict.UNCLEAR
    means = statistics.fmean(a), statistics.fmean(b)
    return Difference(name, metric, *means, ratio, math.exp(low), math.exp(high), verdict, decides)


def _mean_log(values: Sequence[float]) -> float:
    return statistics.fmean(math.log(each) for each in values)


def interval(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Where the mean of `b` less that of `a` lies, 95 of 100 times (Welch). Two values of each at
    least."""
    difference = statistics.fmean(b) - statistics.fmean(a)
    parts = [statistics.variance(each) / len(each) for each in (a, b)]
    error = math.sqrt(sum(parts))
    if error == 0:
        return difference, difference
    below = sum(part**2 / (len(each) - 1) for part, each in zip(parts, (a, b), strict=True))
    freedom = sum(parts) ** 2 / below
    spread = student(freedom) * error
    return difference - spread, difference + spread


def student(freedom: float) -> float:
    """Student's t for 95 of 100, of the next lower degrees of freedom in the table: an interval
    that is rather too wide."""
    found = _T95[0][1]
    for degrees, value in _T95:
        if degrees <= freedom + 1e-9:
            found = value
    return found
