"""Mob files: what loads, and what is said about one that does not."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mob.definition import (
    MemberDefinition,
    MobDefinition,
    SubagentDefinition,
    changed_parts,
)
from mob.errors import DefinitionInvalid, Mistake
from mob.simulation.strategies import definition_tables
from mob.supervision import RestartPolicy
from tests.mob.mobs import table

FULL: dict[str, Any] = {
    "mob": {"id": "research", "lead": "lead"},
    "models": {
        "big": {
            "model": "sim:agent",
            "base_url": "http://127.0.0.1",
            "api_key_env": "KEY",
            "max_concurrency": 3,
            "options": {"latency_s": 0.5},
            "record": "calls.jsonl",
            "price": {"input": 1.25, "output": 10, "cached_input": 0.125},
            "fallback": ["spare"],
            "retry": {"attempts": 3, "backoff_s": 0.5, "max_backoff_s": 9.0, "within_s": 90.0},
            "timeout_s": 60.0,
            "stall_s": 5.0,
        },
        "spare": {"model": "sim:echo"},
    },
    "profiles": {
        "boss": {
            "model": "big",
            "instructions": "lead",
            "peer_description": "leads",
            "tools": ["look"],
            "tool_choice": ["ask_worker", "auto"],
            "output_schema": {"type": "object"},
            "output_retries": 1,
            "max_steps": 5,
            "subagents": {"profile": "worker", "max_depth": 2, "max_children": 4},
            "restart": {
                "policy": "on-failure",
                "max": 3,
                "within_s": 60.0,
                "backoff_s": 0.5,
                "max_backoff_s": 30.0,
            },
            "options": {"temperature": 0.5},
            "shell": {"cwd": "x", "timeout_s": 5.0, "max_output_bytes": 4096, "env": ["CI"]},
        },
        "worker": {"model": "big", "tools": {"allow": ["mcp.web.*"], "deny": ["spawn_*"]}},
    },
    "members": {
        "lead": {"profile": "boss", "instructions": "you are it"},
        "w": {"profile": "worker", "replicas": 3, "tools": {"allow": ["*"], "deny": ["look"]}},
    },
    "tools": {"look": {"function": "tools.py:look", "idempotent": True, "timeout_s": 3.0}},
    "mcp": {
        "files": {
            "command": "python",
            "args": ["-m", "files"],
            "env": {"TOKEN": "${FILES_TOKEN}"},
            "cwd": ".",
            "timeout_s": 20.0,
            "start_timeout_s": 9.0,
            "idempotent": ["read_*"],
        },
        "web": {"url": "http://127.0.0.1/mcp", "headers": {"Authorization": "Bearer ${WEB}"}},
    },
    "wiring": {"default": "deny", "edges": [["lead", "w"]]},
    "checkpoint": {
        "every_turns": 8,
        "every_messages": 100,
        "every_bytes": 100_000,
        "every_s": 60.0,
        "max_tail": 5000,
    },
    "sim": {
        "seed": 7,
        "latency_s": [0.5, 2.0],
        "faults": "heavy",
        "invariants": "mine.py",
    },
}

#: Where a table's own keys may be anything, because users name them or providers read them.
FREE = {"models", "profiles", "members", "tools", "mcp"}
OPAQUE = {"options", "output_schema", "env", "headers"}


def mistakes(data: dict[str, Any], folder: Path | None = None) -> list[Mistake]:
    with pytest.raises(DefinitionInvalid) as caught:
        MobDefinition.from_table(data, folder=folder)
    return list(caught.value.mistakes)


def mistake(data: dict[str, Any], folder: Path | None = None) -> Mistake:
    (only,) = mistakes(data, folder)
    return only


def with_(path: str, value: Any) -> dict[str, Any]:
    """`FULL` with the value at the dotted `path` replaced or added."""
    data = copy.deepcopy(FULL)
    *outer, last = path.split(".")
    inner = data
    for key in outer:
        inner = inner.setdefault(key, {})
    inner[last] = value
    return data


def paths(data: Any, path: str = "") -> list[str]:
    """The dotted paths of every value that a definition reads."""
    found: list[str] = []
    for key, value in data.items():
        here = f"{path}.{key}" if path else key
        found.append(here)
        if isinstance(value, dict) and key not in OPAQUE:
            found += paths(value, here)
    return found


def tables(data: Any) -> list[str]:
    """The dotted paths of the tables with a fixed set of keys."""
    found = [""]
    for path in paths(data):
        value = data
        for key in path.split("."):
            value = value[key]
        name = path.split(".")[-1]
        named_by_users = name in FREE and path.count(".") == 0
        if isinstance(value, dict) and name not in OPAQUE and not named_by_users:
            found.append(path)
    return found


def test_the_full_definition_loads() -> None:
    assert list(MobDefinition.from_table(FULL).member_names()) == ["lead", "w-0", "w-1", "w-2"]


@pytest.mark.parametrize("path", tables(FULL))
def test_an_unknown_key_is_named_with_the_nearest_known_one(path: str) -> None:
    known = {
        "": "profiles",
        "mob": "lead",
        "models.big": "max_concurrency",
        "models.big.price": "cached_input",
        "models.spare": "model",
        "models.big.retry": "max_backoff_s",
        "profiles.boss": "instructions",
        "profiles.worker": "peer_description",
        "profiles.boss.subagents": "max_children",
        "profiles.boss.restart": "within_s",
        "members.lead": "profile",
        "members.w": "replicas",
        "tools.look": "idempotent",
        "profiles.boss.shell": "max_output_bytes",
        "profiles.worker.tools": "allow",
        "members.w.tools": "allow",
        "mcp.files": "start_timeout_s",
        "mcp.web": "start_timeout_s",
        "wiring": "default",
        "checkpoint": "every_turns",
        "sim": "faults",
    }[path]
    prefix = f"{path}." if path else ""
    found = mistake(with_(f"{prefix}{known}x", 1))
    assert found == Mistake(f"{prefix}{known}x", "unknown key", f"did you mean {known!r}?")


WRONG_TYPES = [path for path in paths(FULL) if not path.endswith(("output_schema", "tool_choice"))]


@pytest.mark.parametrize("path", WRONG_TYPES)
def test_a_value_of_the_wrong_type_is_named_by_its_path(path: str) -> None:
    found = [each.path for each in mistakes(with_(path, object()))]
    assert found.count(path) == 1


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("models.big.max_concurrency", 0, "must be at least 1, found 0"),
        ("models.big.price.input", -1, "0 or more, not -1; it is USD for a million tokens"),
        ("models.big.price.output", 0.1234567, "0.1234567 has more than 6 decimals"),
        ("models.big.price.cached_input", "dear", "'dear' is no amount of USD"),
        ("models.big.replay", "calls.jsonl", "give record or replay, not both"),
        ("models.big.price", {"input": 1}, "is missing; USD for a million tokens is needed here"),
        ("models.big.timeout_s", 0.0, "must be at least 0.001, found 0"),
        ("models.big.stall_s", 0.0, "must be at least 0.001, found 0"),
        ("models.big.retry.attempts", 0, "must be at least 1, found 0"),
        ("models.big.retry.backoff_s", -1.0, "must be at least 0, found -1"),
        ("models.big.retry.max_backoff_s", -1.0, "must be at least 0, found -1"),
        ("models.big.retry.within_s", -1.0, "must be at least 0, found -1"),
        ("models.big.fallback", ["spar"], "there is no model alias 'spar'"),
        ("models.big.fallback", ["big"], "'big' is the model itself"),
        ("models.big.fallback", ["spare", "spare"], "'spare' is listed more than once"),
        ("profiles.boss.output_retries", -1, "must be at least 0, found -1"),
        ("profiles.boss.max_steps", 0, "must be at least 1, found 0"),
        ("profiles.boss.subagents.max_depth", 0, "must be 1 to 16, found 0"),
        ("profiles.boss.subagents.max_depth", 17, "must be 1 to 16, found 17"),
        ("profiles.boss.subagents.max_children", 0, "must be at least 1, found 0"),
        ("profiles.boss.restart.max", -1, "must be at least 0, found -1"),
        ("profiles.boss.restart.within_s", 0.0, "must be at least 0.001, found 0"),
        ("profiles.boss.restart.backoff_s", -0.5, "must be at least 0, found -0.5"),
        ("profiles.boss.restart.max_backoff_s", float("nan"), "must be at least 0, found nan"),
        ("checkpoint.every_turns", 0, "must be at least 1, found 0"),
        ("checkpoint.every_messages", 0, "must be at least 1, found 0"),
        ("checkpoint.every_bytes", -5, "must be at least 1, found -5"),
        ("checkpoint.every_s", 0.0, "must be at least 0.001, found 0"),
        ("checkpoint.max_tail", 0, "must be at least 1, found 0"),
        ("sim.seed", -1, "must be at least 0, found -1"),
        ("sim.latency_s", [2.0, 1.0], "expected seconds, or the least and the most"),
        ("sim.latency_s", [1.0], "expected seconds, or the least and the most"),
        ("tools.look.timeout_s", 0.0, "must be at least 0.001, found 0"),
        ("members.w.replicas", 10_000_000, "must be 1 to 1e+06, found 1e+07"),
        ("wiring.default", "alow", "'alow' is not possible"),
        ("profiles.boss.restart.policy", "allways", "'allways' is not possible"),
        ("tools.look.function", "tools.look", "'tools.look' is not of the form file.py:"),
        ("wiring.edges", [["lead"]], "expected a pair of member names, found ['lead']"),
        ("wiring.edges", [["lead", "wx"]], "there is no member 'wx'"),
        ("mob.lead", "leed", "there is no member 'leed'"),
        ("profiles.boss.model", "bigg", "there is no model alias 'bigg'"),
        ("profiles.boss.tools", ["lok"], "there is no tool 'lok'"),
        ("profiles.boss.tools", ["look", "look"], "'look' is listed more than once"),
        ("profiles.boss.tools", ["loo"], "there is no tool 'loo'"),
        ("profiles.boss.tools", ["x*"], "no tool fits 'x*'"),
        ("profiles.boss.tools", ["shell"], "there is no tool 'shell'"),
        ("profiles.boss.tools", ["mcp.wep.*"], "there is no MCP server 'wep'"),
        ("profiles.boss.tools", ["mcp.web"], "'mcp.web' names no tool"),
        ("profiles.worker.tools.deny", ["shel"], "there is no tool 'shel'"),
        ("members.lead.tools", ["lok"], "there is no tool 'lok'"),
        ("profiles.boss.shell.env", ["A=B"], "'A=B' is not the name"),
        ("profiles.boss.shell.max_output_bytes", 1, "must be at least 100"),
        ("mcp.a__b", {"command": "x"}, "two underscores"),
        ("mcp.none", {}, "give either a command or a url"),
        ("mcp.both", {"command": "x", "url": "http://x"}, "give either"),
        ("mcp.web.args", ["x"], "goes with a command"),
        ("mcp.files.headers", {"A": "b"}, "goes with a url"),
        ("mcp.web.url", "ftp://x", "is not an address"),
        ("mcp.web.headers", {"A b": "c"}, "'A b' is not a name"),
        ("mcp.files.env", {"A": 1}, "expected text"),
        ("mcp.files.timeout_s", 0, "must be at least"),
        ("tools.web__find", {"function": "t.py:f"}, "could be that of a tool of mcp.web"),
        ("tools.shell", {"function": "t.py:f"}, "taken by a built-in tool"),
        ("profiles.boss.tool_choice", ["ask_workr"], "there is no tool 'ask_workr'"),
        ("profiles.boss.subagents.profile", "workr", "there is no profile 'workr'"),
        ("members.lead.profile", "bos", "there is no profile 'bos'"),
        ("profiles.boss.output_schema", {"type": "objekt"}, "not a JSON Schema"),
        ("profiles.boss.output_schema", 3, "expected a JSON Schema table or the path"),
        ("members.w-1", {"profile": "worker"}, "the name 'w-1' is taken by members.w"),
        ("mob.id", "re search", "'re search' is not a name"),
        ("members.no name", {"profile": "worker"}, "'no name' is not a name"),
        ("tools.ask_worker", {"function": "t.py:f"}, "the name is taken by a built-in tool"),
        ("tools.spawn_agent", {"function": "t.py:f"}, "the name is taken by a built-in tool"),
    ],
)
def test_a_value_that_cannot_be_is_named_by_its_path(path: str, value: Any, message: str) -> None:
    found = mistake(with_(path, value))
    assert found.path.startswith(path)
    assert message in found.message


def test_all_mistakes_are_told_at_once() -> None:
    data = with_("profiles.boss.max_steps", "many")
    data["profiles"]["boss"]["modell"] = "big"
    data["members"]["w"]["replicas"] = 0
    data["mobb"] = {}
    data["checkpoint"]["every_turns"] = 0
    with pytest.raises(DefinitionInvalid, match="5 mistakes") as caught:
        MobDefinition.from_table(data, source="my.toml")
    found = {each.path for each in caught.value.mistakes}
    assert found == {
        "profiles.boss.max_steps",
        "profiles.boss.modell",
        "members.w.replicas",
        "mobb",
        "checkpoint.every_turns",
    }
    assert str(caught.value).startswith("my.toml is not a valid mob definition")
    assert "profiles.boss.modell: unknown key (did you mean 'model'?)" in str(caught.value)


@pytest.mark.parametrize(
    "path", ["mob.id", "mob.lead", "models.big.model", "profiles.worker.model", "members.w.profile"]
)
def test_what_is_needed_and_missing_is_named(path: str) -> None:
    data = copy.deepcopy(FULL)
    *outer, last = path.split(".")
    inner: Any = data
    for key in outer:
        inner = inner[key]
    del inner[last]
    assert any(each.path == path and "is missing" in each.message for each in mistakes(data))


def test_a_definition_in_python_goes_through_the_same_checks() -> None:
    good = MobDefinition.from_table(FULL)
    boss = good.profiles["boss"]
    bad = attrs.evolve(
        good,
        profiles={
            **good.profiles,
            "boss": attrs.evolve(
                boss,
                restart=RestartPolicy(max_restarts=-1),
                subagents=SubagentDefinition(max_depth=99),
            ),
        },
        members={**good.members, "x": MemberDefinition("nobody")},
    )
    with pytest.raises(DefinitionInvalid) as caught:
        bad.check()
    assert [each.path for each in caught.value.mistakes] == [
        "profiles.boss.subagents.max_depth",
        "profiles.boss.restart.max",
        "members.x.profile",
    ]


def test_files_beside_the_definition(tmp_path: Path) -> None:
    (tmp_path / "who.md").write_text("you are it", encoding="utf-8")
    (tmp_path / "out.json").write_text('{"type": "string"}')
    data = table(("a",), profile={"instructions_file": "who.md", "output_schema": "out.json"})
    profile = MobDefinition.from_table(data, folder=tmp_path).profiles["p"]
    assert (profile.instructions, profile.output_schema) == ("you are it", {"type": "string"})

    for key, name, content, message in (
        ("instructions_file", "gone.md", None, "No such file"),
        ("instructions_file", "bin.md", b"\xff\xfe", "is not UTF-8 text"),
        ("output_schema", "gone.json", None, "No such file"),
        ("output_schema", "bad.json", b"{", "is not valid JSON"),
        ("instructions_file", ".", None, "Is a directory"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        found = mistake(table(("a",), profile={key: name}), tmp_path)
        assert found.path == f"profiles.p.{key}"
        assert message in found.message
        assert str(tmp_path / name) in found.message
    both = table(("a",), profile={"instructions": "x", "instructions_file": "who.md"})
    assert "not both" in mistake(both, tmp_path).message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "mob.toml"
    with pytest.raises(FileNotFoundError):
        MobDefinition.load(path)
    for content in (b"[mob\n", b"\xff"):
        path.write_bytes(content)
        with pytest.raises(DefinitionInvalid, match="not valid TOML") as caught:
            MobDefinition.load(path)
        assert caught.value.source == str(path)


def test_wiring_names_replicas_one_by_one() -> None:
    definition = MobDefinition.from_table(FULL)
    workers = ("w-0", "w-1", "w-2")
    assert definition.peers() == {"lead": workers} | dict.fromkeys(workers, ("lead",))
    one = with_("wiring.edges", [["lead", "w-1"], ["w-0", "w-2"]])
    assert MobDefinition.from_table(one).peers() == {
        "lead": ("w-1",),
        "w-0": ("w-2",),
        "w-1": ("lead",),
        "w-2": ("w-0",),
    }
    among = with_("wiring.edges", [["w", "w"]])
    assert MobDefinition.from_table(among).peers()["w-1"] == ("w-0", "w-2")
    everyone = with_("wiring", {"default": "allow"})
    assert MobDefinition.from_table(everyone).peers()["w-1"] == ("lead", "w-0", "w-2")


def test_one_replica_is_numbered_and_none_is_not() -> None:
    assert MemberDefinition("p", 1).names("w") == ("w-0",)
    assert MemberDefinition("p").names("w") == ("w",)


def test_the_blueprint_is_everything_but_the_bindings() -> None:
    """DESIGN: editing the file never rewrites a running mob; which model serves it may differ."""
    blueprint = MobDefinition.from_table(FULL).blueprint()
    assert json.loads(blueprint).keys() == FULL.keys() - {"models", "mcp", "mob", "sim"} | {
        "id",
        "lead",
    }
    for path, value in (
        ("models.big.model", "sim:echo"),
        ("models.big.options", {}),
        ("models.small", {"model": "sim:echo"}),
    ):
        assert MobDefinition.from_table(with_(path, value)).blueprint() == blueprint
    elsewhere = MobDefinition.from_table(FULL, folder=Path("elsewhere"), source="x.toml")
    assert elsewhere.blueprint() == blueprint
    turned = {key: FULL[key] for key in reversed(FULL)}
    assert MobDefinition.from_table(turned).blueprint() == blueprint


def test_what_changed_is_named_two_deep() -> None:
    old = MobDefinition.from_table(FULL).blueprint()
    data = with_("profiles.worker.instructions", "hurry")
    data["members"]["x"] = {"profile": "worker"}
    data["checkpoint"]["every_turns"] = 9
    data["mob"]["lead"] = "x"
    new = MobDefinition.from_table(data).blueprint()
    assert changed_parts(old, old) == ()
    assert changed_parts(old, new) == changed_parts(new, old)
    assert changed_parts(old, new) == (
        "checkpoint.every_turns",
        "lead",
        "members.x",
        "profiles.worker",
    )


# -- any definition -------------------------------------------------------------------------


@given(definition_tables())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_valid_definition_loads_and_is_its_own_blueprint(data: dict[str, Any]) -> None:
    definition = MobDefinition.from_table(data)
    definition.check()
    assert definition.lead in definition.member_names()
    assert changed_parts(definition.blueprint(), definition.blueprint()) == ()
    peers = definition.peers()
    assert peers.keys() == definition.member_names().keys()
    for name, others in peers.items():
        assert name not in others
        assert all(name in peers[other] for other in others)


@given(definition_tables(), st.data())
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_misspelt_key_is_reported_where_it_is(
    data: dict[str, Any], more: st.DataObject
) -> None:
    path = more.draw(st.sampled_from(tables(data)), "table")
    inner: Any = data
    for key in path.split(".") if path else []:
        inner = inner[key]
    key = more.draw(st.sampled_from(sorted(inner)), "key")
    inner[f"{key}q"] = inner.pop(key)
    wrong = f"{path}.{key}q" if path else f"{key}q"
    (found,) = [each for each in mistakes(data) if each.path == wrong]
    assert found.message == "unknown key"
    assert repr(key) in found.hint


def test_labels_are_texts_and_part_of_the_blueprint_only_where_they_are_given() -> None:
    labelled = table(("a",))
    labelled["mob"]["labels"] = {"team": "blue"}
    definition = MobDefinition.from_table(labelled)
    assert definition.labels == {"team": "blue"}
    assert '"labels": {"team": "blue"}' in definition.blueprint()
    assert "labels" not in MobDefinition.from_table(table(("a",))).blueprint()
    labelled["mob"]["labels"] = {"team": 3}
    with pytest.raises(DefinitionInvalid, match=r"mob\.labels\.team: expected text"):
        MobDefinition.from_table(labelled)
