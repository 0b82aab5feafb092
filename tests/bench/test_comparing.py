"""Whether one set of runs is worse than another: intervals, margins and who decides."""

from __future__ import annotations

import random

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
