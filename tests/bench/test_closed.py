"""Closed forms against counting, and the decisions that stand on them."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import pytest

from mob.bench import closed
from mob.bench.plan import Assertion, Expected, Outcome, judge


@pytest.mark.parametrize("voters", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("accuracy", [0.0, 0.3, 0.7, 1.0])
def test_a_majority_is_right_as_often_as_counting_every_vote_says(
    voters: int, accuracy: float
) -> None:
    counted = 0.0
    for votes in itertools.product((True, False), repeat=voters):
        weight = math.prod(accuracy if vote else 1 - accuracy for vote in votes)
        counted += (
            weight
            * {1: 1.0, 0: 0.5, -1: 0.0}[(2 * sum(votes) > voters) - (2 * sum(votes) < voters)]
        )
    assert closed.majority_right(voters, accuracy) == pytest.approx(counted)


def test_a_share_lies_where_drawing_says() -> None:
    draws = random.Random(4)
    shares = [sum(draws.random() < 0.3 for _ in range(50)) / 50 for _ in range(4000)]
    expected = closed.share(0.3, 50)
    assert statistics.fmean(shares) == pytest.approx(expected.value, rel=0.01)
    assert statistics.stdev(shares) == pytest.approx(expected.stderr, rel=0.05)


def test_layers_repeat_what_most_said_or_turn_it_round() -> None:
    assert closed.layers_right(0.8, [3, 3], 1.0) == pytest.approx(0.8)
    assert closed.layers_right(0.8, [3], 0.0) == pytest.approx(0.2)
    assert closed.layers_right(0.8, [1], 0.9) == pytest.approx(0.8 * 0.9 + 0.2 * 0.1)


def test_a_mean_of_uniform_draws_lies_where_drawing_says() -> None:
    draws = random.Random(1)
    means = [statistics.fmean(draws.randint(3, 10) for _ in range(40)) for _ in range(2000)]
    expected = closed.mean_of_uniform(3, 10, 40)
    assert statistics.fmean(means) == pytest.approx(expected.value, rel=0.01)
    assert statistics.stdev(means) == pytest.approx(expected.stderr, rel=0.08)
    faces = [*range(3, 11)]
    assert closed.mean_of_uniform(3, 10, 1).stderr == pytest.approx(statistics.pstdev(faces))


def test_a_commons_shrinks_as_playing_it_says() -> None:
    draws = random.Random(2)
    left = []
    for _ in range(4000):
        stock = 1.0
        for _ in range(6):
            greedy = sum(draws.random() > 0.9 for _ in range(5))
            stock = min(1.0, 2 * (stock - stock * (5 + greedy) / 10))
        left.append(stock)
    expected = closed.commons_left(5, 0.9, 6, 1)
    assert statistics.fmean(left) == pytest.approx(expected.value, rel=0.02)
    assert statistics.stdev(left) == pytest.approx(expected.stderr, rel=0.05)
    assert closed.commons_left(5, 1.0, 6, 1) == Expected(1.0, 0.0)
    assert closed.commons_left(5, 0.9, 6, 16).stderr == pytest.approx(expected.stderr / 4)


def test_a_power_law_is_one_whole_and_falls() -> None:
    chances = closed.power_law(100, 1.2)
    assert sum(chances) == pytest.approx(1)
    assert chances == sorted(chances, reverse=True)
    assert chances[0] / chances[9] == pytest.approx(10**1.2)


def test_as_many_different_ones_act_as_drawing_says() -> None:
    chances = closed.power_law(50, 1.0)
    draws = random.Random(3)
    seen = [len(set(draws.choices(range(50), chances, k=60))) for _ in range(2000)]
    expected = closed.distinct(chances, 60)
    assert statistics.fmean(seen) == pytest.approx(expected.value, rel=0.01)
    assert statistics.stdev(seen) <= expected.stderr


def test_a_flood_is_as_many_messages_as_sending_them_says() -> None:
    edges = {"a": "bc", "b": "acd", "c": "abd", "d": "bc"}
    links = {frozenset((one, other)) for one, others in edges.items() for other in others}
    sent, front, heard = 0, [("a", "")], {"a"}
    while front:
        after = []
        for node, sender in front:
            for neighbour in edges[node]:
                if neighbour != sender:
                    sent += 1
                    if neighbour not in heard:
                        heard.add(neighbour)
                        after.append((neighbour, node))
        front = after
    assert closed.flood_messages(len(edges), len(links)) == sent
    assert closed.hops(edges, "a") == {"a": 0, "b": 1, "c": 1, "d": 2}


def test_pairs_that_wait_for_nobody_end_sooner() -> None:
    talks = [[(0, 1, 3.0), (2, 3, 1.0)], [(2, 3, 3.0), (0, 1, 1.0)]]
    assert closed.pairs_makespans(talks) == (6.0, 4.0)
    assert closed.pairs_makespans([[(0, 1, 3.0)], [(1, 2, 2.0)]]) == (5.0, 5.0), "a chain"


@pytest.mark.parametrize(
    ("assertion", "found", "outcome"),
    [
        (Assertion("m", equals=2.0), 2.0, Outcome.PASSED),
        (Assertion("m", equals=2.0), 2.001, Outcome.FAILED),
        (Assertion("m", equals=2.0, tolerance=0.1), 2.05, Outcome.PASSED),
        (Assertion("m", equals="oracle"), 5.39, Outcome.PASSED),
        (Assertion("m", equals="oracle"), 5.41, Outcome.FAILED),
        (Assertion("m", equals="oracle", sigmas=5.0), 5.41, Outcome.PASSED),
        (Assertion("m", at_least=1.0, at_most=2.0), 1.5, Outcome.PASSED),
        (Assertion("m", at_least=1.0, at_most=2.0), 0.9, Outcome.FAILED),
        (Assertion("m", at_least=1.0, at_most=2.0), 2.1, Outcome.FAILED),
        (Assertion("m", at_least=1.0), math.nan, Outcome.FAILED),
        (Assertion("m", at_least=1.0, from_scale=0.5), 0.0, Outcome.SKIPPED),
    ],
)
def test_an_assertion_is_judged_by_its_tolerance(
    assertion: Assertion, found: float, outcome: Outcome
) -> None:
    verdict = judge(assertion, {"m": found}, {"m": Expected(5.0, 0.1)}, 0.1)
    assert verdict.outcome is outcome, str(verdict)


def test_a_limit_itself_is_met_and_an_assertion_counts_from_its_scale_on() -> None:
    for bound in (Assertion("m", at_least=1.5), Assertion("m", at_most=1.5)):
        assert judge(bound, {"m": 1.5}, {}, 1.0).outcome is Outcome.PASSED
    exact = Assertion("m", equals=2.0, tolerance=0.5)
    assert judge(exact, {"m": 2.5}, {}, 1.0).outcome is Outcome.PASSED
    late = Assertion("m", at_least=9.0, from_scale=0.5)
    assert judge(late, {"m": 1.0}, {}, 0.5).outcome is Outcome.FAILED


def test_sums_of_many_are_held_to_as_many_figures_as_floats_have() -> None:
    many = Assertion("m", equals=1e9)
    assert judge(many, {"m": 1e9 + 0.9}, {}, 1.0).outcome is Outcome.PASSED
    assert judge(many, {"m": 1e9 + 1.1}, {}, 1.0).outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("assertion", "text"),
    [
        (Assertion("m", equals=2.0), "m = 2.0: found 3, expected 2 within 2e-09"),
        (Assertion("m", equals=2.0, tolerance=0.0), "m = 2.0: found 3, expected 2"),
        (Assertion("m", at_least=1.0, at_most=2.0), "m >= 1 and <= 2: found 3"),
    ],
)
def test_a_verdict_says_what_was_found_and_what_was_expected(
    assertion: Assertion, text: str
) -> None:
    assert str(judge(assertion, {"m": 3.0}, {}, 1.0)) == text


def test_a_figure_that_is_missing_meets_nothing() -> None:
    assert judge(Assertion("m", at_most=1.0), {}, {}, 1.0).outcome is Outcome.FAILED
