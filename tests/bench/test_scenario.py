"""Scenario files: what they may say, and every mistake at once."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from mob.bench.scenario import Scenario, ScenarioInvalid
from mob.errors import DefinitionInvalid

MOB = {
    "mob": {"id": "vote", "lead": "voter-0"},
    "models": {"solver": {"model": "sim:solver", "options": {"accuracy": 0.7}}},
    "profiles": {"voter": {"model": "solver"}},
    "members": {"voter": {"profile": "voter", "replicas": 3}},
}
TABLE: dict[str, Any] = {
    "scenario": {"about": "votes", "shape": "vote", "seeds": [5, 9]},
    "size": {"questions": 40},
    "settings": {"voters": 5},
    "replicas": {"voter": "voters"},
    "definition": MOB,
    "assert": [{"metric": "accuracy", "equals": "oracle"}],
}


def changed(**tables: Any) -> dict[str, Any]:
    return {**copy.deepcopy(TABLE), **tables}


def mistakes(table: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ScenarioInvalid) as caught:
        Scenario.from_table(table)
    return {each.path: f"{each.message} ({each.hint})" for each in caught.value.mistakes}


def test_size_is_scaled_and_settings_are_not() -> None:
    scenario = Scenario.from_table(TABLE)
    plan = scenario.plan(scale=0.5)
    assert (plan.size, plan.settings, plan.seed) == ({"questions": 20}, {"voters": 5}, 5)
    assert plan.definition.members["voter"].replicas == 5
    assert plan.definition.models["solver"].options == {"accuracy": 0.7, "seed": 5}
    assert plan.option("accuracy", 1.0) == 0.7
    assert scenario.plan(scale=0.0001).size == {"questions": 1}, "at least what the shape needs"


def test_seeds_go_on_behind_the_last_one() -> None:
    scenario = Scenario.from_table(TABLE)
    assert [scenario.seed(repeat) for repeat in range(4)] == [5, 9, 10, 11]


def test_models_of_the_scenario_stand_over_those_of_the_mob() -> None:
    models = {"solver": {"model": "sim:solver", "options": {"accuracy": 0.2}}}
    assert Scenario.from_table(changed(models=models)).plan().option("accuracy", 1.0) == 0.2


def test_every_mistake_is_said_at_once_with_its_path_and_the_nearest_key() -> None:
    table = changed(
        scenario={"about": 3, "shape": "vote", "seed": [1], "clock": "virtual"},
        size={"question": 4},
        settings={"voters": "many"},
        replicas={"voters": "voters", "voter": "question"},
        extra=1,
    )
    table["definition"] = {**MOB, "profiles": {"voter": {"model": "solver", "instruction": "x"}}}
    table["assert"] = [{"metric": "accuracy", "equal": 1}, {"metric": "turns"}, {}]
    found = mistakes(table)
    expected = {
        "scenario.about": "expected text",
        "scenario.seed": "did you mean 'seeds'?",
        "definition.profiles.voter.instruction": "did you mean 'instructions'?",
        "size.questions": "is missing",
        "size.question": "did you mean 'questions'?",
        "settings.voters": "expected a whole number",
        "assert[0].equal": "did you mean 'equals'?",
        "assert[1]": "says nothing",
        "assert[2].metric": "is missing",
        "extra": "unknown key",
    }
    for path, words in expected.items():
        assert words in found[path], (path, found)


@pytest.mark.parametrize(
    ("tables", "path", "words"),
    [
        ({"scenario": {"about": "a", "shape": "vot"}}, "scenario.shape", "did you mean 'vote'?"),
        ({"scenario": {"about": "a", "shape": "vote", "seeds": []}}, "scenario.seeds", "whole"),
        ({"replicas": {"voters": "voters"}}, "replicas.voters", "did you mean 'voter'?"),
        ({"replicas": {"voter": "votes"}}, "replicas.voter", "did you mean 'voters'?"),
        ({"size": {"questions": 0}}, "size.questions", "must be at least 1"),
        (
            {"scenario": {"about": "a", "shape": "vote", "clock": "virtual"}},
            "scenario.clock",
            'give store = "memory"',
        ),
        (
            {"scenario": {"about": "a", "shape": "vote", "metrics": ["acuracy"]}},
            "scenario.metrics",
            "did you mean 'accuracy'?",
        ),
        (
            {"assert": [{"metric": "acuracy", "at_least": 1}]},
            "assert[0].metric",
            "did you mean 'accuracy'?",
        ),
        (
            {"assert": [{"metric": "cpu_s", "equals": "oracle"}]},
            "assert[0].equals",
            "has no closed form of 'cpu_s'",
        ),
        ({"definition": None}, "definition", "expected a table"),
    ],
)
def test_what_does_not_fit_is_refused(tables: dict[str, Any], path: str, words: str) -> None:
    assert words in mistakes(changed(**tables))[path]


def test_a_probability_that_is_none_is_refused() -> None:
    models = {"solver": {"model": "sim:solver", "options": {"accuracy": 7}}}
    assert "no closed form with these" in mistakes(changed(models=models))["scenario.shape"]


def test_a_scenario_may_name_a_mob_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mob.toml").write_text(
        '[mob]\nid = "v"\nlead = "voter-0"\n[models.solver]\nmodel = "sim:solver"\n'
        '[profiles.voter]\nmodel = "solver"\n[members.voter]\nprofile = "voter"\nreplicas = 1\n'
    )
    text = (
        '[scenario]\nabout = "a"\nshape = "vote"\nmob = "mob.toml"\n[size]\nquestions = 4\n'
        '[replicas]\nvoter = "voters"\n'
    )
    (tmp_path / "vote.toml").write_text(text)
    scenario = Scenario.load(tmp_path / "vote.toml")
    assert (scenario.name, scenario.definition.id) == ("vote", "v")
    (tmp_path / "vote.toml").write_text(text.replace("mob.toml", "mop.toml"))
    with pytest.raises(DefinitionInvalid, match=r"scenario\.mob: cannot read"):
        Scenario.load(tmp_path / "vote.toml")
    (tmp_path / "vote.toml").write_text("[scenario")
    with pytest.raises(ScenarioInvalid, match="not valid TOML"):
        Scenario.load(tmp_path / "vote.toml")
