"""Profiles that extend others: the base, what is laid over it, and what can be wrong with that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from mob import open_mob
from mob.definition import MobDefinition
from mob.errors import DefinitionInvalid
from runtime.models.base import ModelReply, ModelRequest
from runtime.tools.function import tool
from tests.mob.mobs import define, models
from tests.mob.test_tools import asking_for, look

TOOLS = {name: {"function": f"nowhere.py:{name}"} for name in ("look", "hear")}


def extended(base: dict[str, Any], own: dict[str, Any], **parts: Any) -> MobDefinition:
    """A mob whose member `a` has a profile `own` that extends `base`."""
    profiles = {
        "own": {"extends": "base", **own},  # before its base: the order in the file is free
        "base": {"model": "m", **base},
    }
    members = {"a": {"profile": "own"}}
    return define("a", profiles=profiles, members=members, tools=TOOLS, **parts)


def test_a_key_that_is_given_counts_and_tables_are_laid_over_key_by_key() -> None:
    """CONTRACTS 1.11: the parent harness."""
    schema = {"type": "object", "properties": {"x": {"type": "string"}}}
    base = {
        "output_schema": schema,
        "output_retries": 5,
        "max_steps": 7,
        "options": {"temperature": 1, "seed": 3},
        "restart": {"max": 9, "within_s": 5.0},
        "subagents": {"max_depth": 4, "background": True},
        "budget": {"tokens": 100, "tool_calls": 3},
        "shell": {"timeout_s": 5.0},
    }
    own = {
        "output_schema": {"type": "object"},
        "max_steps": 3,
        "options": {"temperature": 0},
        "restart": {"max": 2},
        "subagents": {"max_children": 3},
        "budget": {"tokens": 50},
    }
    profile = extended(base, own).profiles["own"]
    assert profile.model == "m"
    assert (profile.output_schema, profile.output_retries) == ({"type": "object"}, 5)
    assert profile.max_steps == 3
    assert profile.options == {"temperature": 0, "seed": 3}
    assert (profile.restart.max_restarts, profile.restart.within_s) == (2, 5.0)
    subagents = profile.subagents
    assert subagents is not None
    assert (subagents.max_depth, subagents.max_children, subagents.background) == (4, 3, True)
    assert profile.budget is not None
    assert (profile.budget.tokens, profile.budget.tool_calls) == (50, 3)
    assert profile.shell is not None
    assert profile.shell.timeout_s == 5


def test_instructions_are_added_from_the_base_up(tmp_path: Path) -> None:
    """CONTRACTS 1.11."""
    (tmp_path / "own.md").write_text("From a file.")
    definition = define(
        "a",
        folder=tmp_path,
        profiles={
            "one": {"model": "m", "instructions": "Be brief."},
            "two": {"extends": "one", "instructions_file": "own.md"},
            "three": {"extends": "two"},
            "four": {"extends": "three", "instructions": "Be kind."},
        },
    )
    told = {name: profile.instructions for name, profile in definition.profiles.items()}
    assert told["two"] == told["three"] == "Be brief.\nFrom a file."
    assert told["four"] == "Be brief.\nFrom a file.\nBe kind."


async def test_agent_overlays_harness_overlays_parent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 1.11: each adds its instructions, the base first."""
    seen: list[str] = []

    def answer(request: ModelRequest) -> str:
        seen.append(request.instructions)
        return "ok"

    definition = define(
        "a",
        profiles={
            "base": {"model": "m", "instructions": "One."},
            "own": {"extends": "base", "instructions": "Two."},
        },
        members={"a": {"profile": "own", "instructions": "Three."}},
    )
    async with open_mob(definition, models=models(answer)) as mob:
        await mob.ask("a", "x")
    assert seen == ["One.\nTwo.\nThree."]


@pytest.mark.parametrize(
    ("base", "own", "may"),
    [
        (["look"], None, True),
        (None, ["look"], True),
        (["look"], ["look", "hear"], True),
        (["hear"], ["look", "hear"], False),
        (["*"], ["hear"], False),
        ([], ["look"], False),
        (None, None, False),
        ({"deny": ["look"]}, ["look"], False),
        (["look"], {"deny": ["look"]}, False),
        ({"allow": ["look"], "deny": ["hear"]}, {"deny": []}, True),
    ],
)
async def test_deny_lists_unite_and_allow_lists_intersect(
    base: Any, own: Any, may: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """CONTRACTS 1.11: a profile that extends another can only take away; and so it is checked."""
    lists = [{} if each is None else {"tools": each} for each in (base, own)]
    given = {"look": look, "hear": tool(look.function, name="hear")}
    clients = models(asking_for("look", what="x"))
    async with open_mob(extended(*lists), models=clients, tools=given) as mob:
        assert ("seen x" if may else "may not call") in (await mob.ask("a", "go")).text
    if base != {"deny": ["look"]} and own != {"deny": ["look"]}:
        lists[1]["tool_choice"] = ["look"]
        if may:
            extended(*lists)
        else:
            with pytest.raises(DefinitionInvalid, match="tool_choice"):
                extended(*lists)


async def test_what_the_base_turns_on_is_had_without_being_listed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 1.11: and a deny list takes it away."""
    offered: list[tuple[str, ...]] = []

    def answer(request: ModelRequest) -> ModelReply | str:
        offered.append(tuple(spec.name for spec in request.tools))
        return "ok"

    base = {"subagents": {}, "tools": ["look"]}
    for own in ({}, {"tools": ["look"]}, {"tools": {"deny": ["spawn_agent"]}}):
        definition = extended(base, own)
        async with open_mob(definition, models=models(answer), tools=_both()) as mob:
            await mob.ask("a", "x")
    assert [sorted(each) for each in offered] == [
        ["look", "spawn_agent"],
        ["look", "spawn_agent"],
        ["look"],
    ]


def _both() -> dict[str, Any]:
    return {"look": look, "hear": tool(look.function, name="hear")}


@pytest.mark.parametrize(
    ("extends", "told"),
    [
        ({"x": "x"}, {"profiles.x.extends": "x -> x"}),
        ({"x": "y", "y": "z", "z": "x"}, {"profiles.x.extends": "x -> y -> z -> x"}),
        ({"x": "y", "y": "z", "z": "y"}, {"profiles.y.extends": "y -> z -> y"}),
        (
            {"x": "y", "y": "x", "z": "z"},
            {"profiles.x.extends": "x -> y -> x", "profiles.z.extends": "z -> z"},
        ),
    ],
)
def test_a_circle_of_profiles_is_named(extends: dict[str, str], told: dict[str, str]) -> None:
    """CONTRACTS 1.11: once, and it keeps no other mistake from being told."""
    profiles = {name: {"model": "m", "extends": extends[name]} for name in extends}
    profiles.setdefault("z", {"model": "m"})["max_steps"] = 0
    with pytest.raises(DefinitionInvalid) as caught:
        define("a", profiles=profiles)
    found = {each.path: each.message for each in caught.value.mistakes}
    assert found.pop("profiles.z.max_steps") == "must be at least 1, found 0"
    assert found == {
        path: f"profiles extend each other in a circle: {w}" for path, w in told.items()
    }


def test_a_base_that_is_not_there_is_named_with_the_nearest() -> None:
    with pytest.raises(DefinitionInvalid) as caught:
        define("a", profiles={"x": {"model": "m", "extends": "bse"}, "base": {"model": "m"}})
    (mistake,) = caught.value.mistakes
    assert (mistake.path, mistake.hint) == ("profiles.x.extends", "did you mean 'base'?")
    with pytest.raises(DefinitionInvalid, match="expected text"):
        define("a", profiles={"x": {"model": "m", "extends": 1}})


def test_a_mistake_of_the_base_is_told_once_and_each_of_its_own() -> None:
    base = {"max_steps": 0, "restart": {"max": -1}, "tols": [], "tools": ["loook"], "model": "mm"}
    own = {"restart": {"max": -2}, "tools": ["heer"], "output_retries": -1}
    with pytest.raises(DefinitionInvalid) as caught:
        extended(base, own)
    assert sorted(each.path for each in caught.value.mistakes) == [
        "profiles.base.max_steps",
        "profiles.base.model",
        "profiles.base.restart.max",
        "profiles.base.tols",
        "profiles.base.tools",
        "profiles.own.output_retries",
        "profiles.own.restart.max",
        "profiles.own.tools",
    ]


def test_the_blueprint_has_what_came_of_it() -> None:
    """A base is a way of writing: what it makes of the profiles is what a stored mob remembers."""
    profile = {"model": "m", "max_steps": 3, "instructions": "Go.", "tools": ["look"]}
    parts = {"members": {"a": {"profile": "own"}}, "tools": TOOLS}
    flat = define("a", profiles={"own": profile, "base": profile}, **parts)
    long = define("a", profiles={"own": {"extends": "base"}, "base": profile}, **parts)
    assert json.loads(long.blueprint()) == json.loads(flat.blueprint())
    assert "tools_within" not in flat.blueprint()
