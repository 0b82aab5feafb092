"""Whether one set of runs is worse than another: intervals, margins and who decides."""

from __future__ import annotations

import math
import random

import attrs
import pytest

from mob.bench.comparing import Difference, NotComparable, Verdict, compare, interval, student
from mob.bench.results import Run


def runs(*rates: float, name: str = "s", size: int = 10) -> list[Run]:
    return [
        Run(
            name,
            "vote",
            at,
            at,
            1.0,
            "lmdb",
            "real",
            {"n": size},
            {"turns_per_cpu_s": rate, "wall_s": 1 / rate},
        )
        for at, rate in enumerate(rates)
    ]


def only(a: list[Run], b: list[Run], margin: float = 0.1) -> Difference:
    found = {each.metric: each for each in compare(a, b, margin=margin)}
    return found["turns_per_cpu_s"]


@pytest.mark.parametrize(
    ("b", "verdict"),
    [
        ((100, 101, 99), Verdict.SAME),
        ((80, 81, 79), Verdict.WORSE),
        ((130, 131, 129), Verdict.BETTER),
        ((95, 70, 99), Verdict.UNCLEAR),
        ((94, 95, 96), Verdict.SAME),
        ((104, 150, 101), Verdict.UNCLEAR),
        ((92, 85, 88), Verdict.UNCLEAR),  # from no worse than it may be to worse
        ((108, 118, 112), Verdict.UNCLEAR),
        ((100, 100, 100), Verdict.SAME),
    ],
)
def test_the_whole_interval_must_lie_beyond_the_margin(
    b: tuple[float, ...], verdict: Verdict
) -> None:
    found = only(runs(100, 101, 99), runs(*b))
    assert found.verdict is verdict
    assert found.low <= found.ratio <= found.high
    assert found.regressed is (verdict is Verdict.WORSE)


def test_what_is_certain_but_small_is_no_regression_and_the_margin_says_what_is_small() -> None:
    assert not only(runs(100, 100.1), runs(94, 94.1)).regressed
    assert only(runs(100, 100.1), runs(94, 94.1), margin=0.02).regressed


def test_a_figure_that_does_not_decide_is_shown_and_no_regression() -> None:
    found = {each.metric: each for each in compare(runs(100, 101), runs(50, 51))}
    assert found["wall_s"].verdict is Verdict.WORSE
    assert not found["wall_s"].regressed
    decided = compare(runs(100, 101), runs(50, 51), metrics=("wall_s",))
    assert [each.metric for each in decided if each.regressed] == ["wall_s"]


def test_the_interval_holds_what_is_true_95_of_100_times() -> None:
    draws = random.Random(1)
    held = 0
    for _ in range(2000):
        a = [draws.gauss(0, 1) for _ in range(5)]
        b = [draws.gauss(0.5, 2) for _ in range(4)]
        low, high = interval(a, b)
        held += low <= 0.5 <= high
    assert 0.935 <= held / 2000 <= 0.985


def test_student_is_that_of_the_next_lower_row() -> None:
    assert (student(1), student(3.9), student(11), student(1e9)) == (12.706, 3.182, 2.228, 1.980)


@pytest.mark.parametrize("degrees", [*range(1, 11), 12, 15, 20, 30, 60, 120])
def test_the_table_is_student_s(degrees: int) -> None:
    """By its definition: the density, integrated (Simpson) to what the table says, is 0.475. What
    the substitution makes of it has no long tail: x is the square root of the degrees times tan."""
    steps = 2000
    end = math.atan(student(degrees) / math.sqrt(degrees))
    size = end / steps
    heights = [math.cos(at * size) ** (degrees - 1) for at in range(steps + 1)]
    area = (
        size / 3 * (heights[0] + heights[-1] + 4 * sum(heights[1:-1:2]) + 2 * sum(heights[2:-1:2]))
    )
    scale = math.gamma((degrees + 1) / 2) / (math.sqrt(math.pi) * math.gamma(degrees / 2))
    assert area * scale == pytest.approx(0.475, abs=5e-5)
    assert student(degrees + 0.9) == student(degrees) >= student(degrees + 1)


def test_runs_that_are_all_the_same_have_an_interval_of_no_width() -> None:
    assert interval([2.0, 2.0], [3.0, 3.0]) == (1.0, 1.0)
    assert interval([2.0, 2.0], [2.0, 2.0]) == (0.0, 0.0)
    # Welch (1947) by hand: means 2 and 4, variances 1 and 4, thirds of them, 2.94 degrees: of two.
    low, high = interval([1.0, 2.0, 3.0], [2.0, 4.0, 6.0])
    assert (low, high) == pytest.approx((2 - 4.303 * (5 / 3) ** 0.5, 2 + 4.303 * (5 / 3) ** 0.5))


def test_a_run_that_came_to_no_end_and_a_figure_that_is_missing_count_for_nothing() -> None:
    broken = [attrs.evolve(each, error="killed") for each in runs(1, 2, 3)]
    assert only(runs(100, 101), [*runs(100, 101), *broken]).verdict is Verdict.SAME
    with pytest.raises(NotComparable, match="share no scenario: A has none"):
        compare(broken, runs(1, 2))
    blind = [attrs.evolve(each, figures={"wall_s": 1.0}) for each in runs(1, 2)]
    assert {each.metric for each in compare(blind, runs(1, 2))} == {"wall_s"}
    assert {each.metric for each in compare(runs(1, 2), blind)} == {"wall_s"}


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (runs(1, 2), runs(1, 2, name="t"), "share no scenario: A has s, B has t"),
        (runs(1, 2), runs(1), "B has one run of s"),
        (runs(1, 2), runs(1, 2, size=11), "differ in size"),
    ],
)
def test_what_cannot_be_compared_is_refused(a: list[Run], b: list[Run], words: str) -> None:
    with pytest.raises(NotComparable, match=words):
        compare(a, b)
