"""Sums that are moved row by row are those that one would count."""

from __future__ import annotations

import random
from collections import Counter

import attrs

from mob.console.model import RANKS, Model, rank_of
from mob.console.rows import Frame, Row, Totals
from tests.console.mobs import NOW_S, model_of, small, spent

TOTALS = Totals("t", "running")


def test_whatever_comes_the_sums_are_those_of_the_rows() -> None:
    chance = random.Random(7)
    model = Model()
    rows: dict[str, Row] = {}
    for _ in range(300):
        changed = []
        for _ in range(chance.randrange(4)):
            key = f"m{chance.randrange(12)}"
            state = chance.choice([*RANKS, "new"])
            profile = chance.choice("pq")
            usage = spent(chance.randrange(9), chance.choice([None, 2]))
            changed.append(Row(key, key, profile, state, usage=usage, inputs=chance.randrange(3)))
        gone = [f"m{chance.randrange(12)}"] if chance.random() < 0.3 else []
        for key in gone:
            rows.pop(key, None)
        rows.update({row.key: row for row in changed})
        model.apply(Frame(NOW_S, TOTALS, tuple(changed), tuple(gone)))
        assert model.rows == rows
        assert set(model.groups) == {row.profile for row in rows.values()}
        assert model.states == Counter(row.state for row in rows.values())
        assert model.busy == sum(rank_of(row.state) < RANKS["idle"] for row in rows.values())
        for profile, group in model.groups.items():
            inside = [row for row in rows.values() if row.profile == profile]
            assert set(group.members()) == {row.key for row in inside}
            assert group.size == len(inside)
            assert group.rank == min(rank_of(row.state) for row in inside)
            assert group.usage.cost_nano_usd == sum(row.usage.cost_nano_usd for row in inside)
            assert group.inputs == sum(row.inputs for row in inside)


def test_whoever_goes_on_keeps_their_place_and_who_comes_stands_at_the_end() -> None:
    rows = [Row(name, name, "p", "model") for name in "abc"]
    model = model_of(Frame(NOW_S, TOTALS, tuple(rows), whole=True))
    model.apply(Frame(NOW_S, TOTALS, (attrs.evolve(rows[0], state="tool"),)))
    assert list(model.groups["p"].members()) == ["a", "b", "c"]
    model.apply(Frame(NOW_S, TOTALS, (attrs.evolve(rows[0], state="waiting"),)))
    model.apply(Frame(NOW_S, TOTALS, (rows[0],)))
    assert list(model.groups["p"].members()) == ["b", "c", "a"]


def test_a_whole_frame_leaves_nothing_of_what_was() -> None:
    model = model_of(small(), Frame(NOW_S, TOTALS, (Row("x", "x", "p", "idle"),), whole=True))
    assert list(model.rows) == ["x"]
    assert list(model.groups) == ["p"]


def test_events_a_second_rise_and_fade() -> None:
    model = Model()
    for second in range(10):
        model.apply(Frame(NOW_S + second, attrs.evolve(TOTALS, events=100 * second)))
    assert model.rate(NOW_S + 9) == 100
    assert 0 < model.rate(NOW_S + 10) < 110
    assert model.rate(NOW_S + 20) == 0


def test_a_profile_that_nobody_has_any_more_is_gone() -> None:
    model = model_of(Frame(NOW_S, TOTALS, (Row("a", "a", "p", "idle", restarts=2),), whole=True))
    model.apply(Frame(NOW_S, TOTALS, (Row("a", "a", "q", "idle", restarts=2),)))
    assert {name: group.restarts for name, group in model.groups.items()} == {"q": 2}
    model.apply(Frame(NOW_S, TOTALS, (Row("a", "a", "q", "model", restarts=3),)))
    assert model.groups["q"].restarts == 3
    model.apply(Frame(NOW_S, TOTALS, gone=("a",)))
    assert model.groups == {}


def test_what_is_too_old_for_the_speed_is_not_kept() -> None:
    model = Model()
    for number in range(1000):
        model.apply(Frame(NOW_S + number / 4, attrs.evolve(TOTALS, events=number)))
    assert len(model._marks) < 20
