"""Every scenario that is shipped, at a small scale: it runs, and what it asserts can fail."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import attrs
import pytest

from mob.bench.plan import Outcome, Plan, judge
from mob.bench.registry import SHAPES
from mob.bench.results import Run
from mob.bench.running import Job, run_here
from mob.bench.scenario import Scenario

FOLDER = Path(__file__).parents[2] / "benchmarks" / "scenarios"

#: How small each is run here: about a second of CPU, most of them less.
SCALES: Final[Mapping[str, float]] = {
    "chaos": 0.05,
    "commons": 0.04,
    "debate": 0.03,
    "deep-research": 0.03,
    "feed": 0.02,
    "marathon": 0.002,
    "million": 0.0002,
    "mixture": 0.03,
    "swarm-resume": 0.01,
    "tool-calls": 0.04,
    "topologies": 0.03,
    "two-thirds": 0.02,
    "village": 0.02,
    "vote": 0.03,
}


@cache
def ran(name: str) -> tuple[Scenario, Plan, Run]:
    """One small run of each, shared by the tests."""
    file = FOLDER / f"{name}.toml"
    scenario = Scenario.load(file)
    run = run_here(Job(str(file), scale=SCALES[name]), scenario)
    return scenario, scenario.plan(scale=SCALES[name]), run


def test_each_file_has_a_scale() -> None:
    files = [file.stem for file in FOLDER.glob("*.toml")]
    assert sorted(files) == sorted(SCALES)


@pytest.mark.parametrize("name", SCALES)
def test_it_holds(name: str) -> None:
    scenario, _, run = ran(name)
    assert [str(each) for each in run.failed] == []
    assert any(each.outcome is Outcome.PASSED for each in run.verdicts)
    assert set(run.figures) >= {*scenario.metrics, *run.oracle}
    assert run.figures["turns"] > 0


@pytest.mark.parametrize("name", SCALES)
def test_the_run_returns_the_figures_that_its_shape_names(name: str) -> None:
    scenario, _, run = ran(name)
    assert set(scenario.shape.figures) <= set(run.figures)
    assert set(run.oracle) == set(scenario.shape.expect(scenario.plan(scale=0)))


@pytest.mark.parametrize("name", SCALES)
def test_each_closed_form_is_asserted_and_another_value_is_noticed(name: str) -> None:
    """Break the oracle: whatever it says by more than its tolerance, an assertion fails."""
    scenario, _, run = ran(name)
    asserted = {each.metric for each in scenario.assertions if each.equals == "oracle"}
    assert asserted == set(run.oracle)
    for metric, expected in run.oracle.items():
        within = next(each.within for each in run.verdicts if each.metric == metric) or 0.0
        wrong = {**run.oracle, metric: attrs.evolve(expected, value=expected.value + 2.1 * within)}
        for_it = [each for each in scenario.assertions if each.metric == metric]
        found = [judge(each, run.figures, wrong, 1.0).outcome for each in for_it]
        assert Outcome.FAILED in found, (metric, found)


def test_every_shape_is_used_and_says_what_it_is() -> None:
    used = {Scenario.load(file).shape_name for file in FOLDER.glob("*.toml")}
    assert used == set(SHAPES)
    assert all(shape.about for shape in SHAPES.values())


@pytest.mark.parametrize("name", SCALES)
def test_the_file_says_what_it_measures_where_it_is_from_and_its_oracle(name: str) -> None:
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    for words in ("# Measures: ", "# Idea: ", "# Oracle: "):
        assert words in text
