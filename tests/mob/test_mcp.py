"""MCP servers in a mob: shared by its members, ended with it, doubled in a simulation."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from mob import open_mob
from mob.definition import MobDefinition
from mob.errors import DefinitionInvalid
from mob.simulation import simulate
from mob.simulation.workload import Workload
from runtime.messages import ToolResult
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.tools.fixed import FixedSource
from runtime.tools.function import tool
from runtime.tools.names import wire_name
from tests.architecture.repository import ROOT
from tests.mob.mobs import define, models
from tests.runtime.test_mcp import MODULE
from tests.runtime.test_shell import gone, number_in

GIVEN = {"command": "not-there"}


def adding(request: ModelRequest) -> ModelReply | str:
    last = request.messages[-1]
    if isinstance(last, ToolResult):
        return last.text
    return calling((last.text, {"a": 2, "b": 3}))


async def add(a: int, b: int) -> int:
    """Add."""
    return a + b


async def test_members_share_a_server_that_ends_with_the_mob(tmp_path: Path) -> None:
    server = {
        "command": sys.executable,
        "args": list(MODULE),
        "cwd": str(ROOT),
        "env": {"NOTES": str(tmp_path)},
    }
    profile = {"tools": {"allow": ["mcp.calc.*"], "deny": ["mcp.calc.fail"]}}
    definition = define("a", "b", mcp={"calc": server}, profile=profile)
    async with open_mob(definition, models=models(adding)) as mob:
        assert not (tmp_path / "server").exists(), "nobody needed it yet"
        assert (await mob.ask("a", "calc__add")).text == "5"
        first = await number_in(tmp_path / "server")
        assert (await mob.ask("b", "calc__add")).text == "5"
        assert await number_in(tmp_path / "server") == first
        assert "may not call 'calc__fail'" in (await mob.ask("b", "calc__fail")).text
    assert await gone(first)


async def test_a_server_that_no_profile_may_use_is_never_started(tmp_path: Path) -> None:
    server = {"command": sys.executable, "args": list(MODULE), "env": {"NOTES": str(tmp_path)}}
    async with open_mob(define("a", mcp={"calc": server}), models=models(adding)) as mob:
        assert "no tool named 'calc__add'" in (await mob.ask("a", "calc__add")).text
    assert not (tmp_path / "server").exists()


async def test_a_source_that_is_given_stands_in_for_a_server() -> None:
    source = FixedSource("calc", {"add": tool(add), "add.up": tool(add, idempotent=True)})
    definition = define("a", mcp={"calc": GIVEN}, profile={"tools": ["mcp.calc.*"]})
    async with open_mob(definition, models=models(adding), mcp={"calc": source}) as mob:
        assert (await mob.ask("a", "calc__add")).text == "5"
        assert (await mob.ask("a", wire_name("calc", "add.up"))).text == "5"
        assert "any more" in (await mob.ask("a", "calc__other")).text
    assert source.idempotent(wire_name("calc", "add.up"))
    assert not source.idempotent("calc__add")
    with pytest.raises(DefinitionInvalid, match=r"mcp\.other"):
        async with open_mob(definition, models=models(adding), mcp={"other": source}):
            pass


async def test_a_choice_of_a_servers_tool_is_forced_by_the_name_models_know() -> None:
    seen: list[str] = []

    def model(request: ModelRequest) -> str:
        seen.append(request.tool_choice)
        return "done"

    for choice in ("mcp.calc.add", "mcp.calc.gone"):
        profile: dict[str, Any] = {"tools": ["mcp.calc.*"], "tool_choice": [choice]}
        definition = define("a", mcp={"calc": GIVEN}, profile=profile)
        source = FixedSource("calc", {"add": tool(add)})
        async with open_mob(definition, models=models(model), mcp={"calc": source}) as mob:
            await mob.ask("a", "go")
    assert seen == ["calc__add", "auto"], "what is not offered cannot be forced"


async def test_without_the_package_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = importlib.util.find_spec

    def without(name: str, *more: Any) -> Any:
        return None if name == "mcp" else real(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(DefinitionInvalid, match=r"pip install 'trio-mob\[mcp\]'"):
        async with open_mob(define("a", mcp={"calc": GIVEN}), models=models(adding)):
            pass


def test_in_a_simulation_a_server_is_doubled_and_nothing_is_started() -> None:
    """The simulation refuses processes; the guard would name the one that tried."""
    table = {
        "mob": {"id": "s", "lead": "a"},
        "models": {"m": {"model": "sim:agent"}},
        "mcp": {"calc": GIVEN},
        "profiles": {"p": {"model": "m", "tools": ["mcp.calc.*"]}},
        "members": {"a": {"profile": "p"}, "b": {"profile": "p"}},
    }
    definition = MobDefinition.from_table(table)
    called = 0
    for seed in range(8):
        run = simulate(Workload(definition), seed, faults="heavy")
        called += sum("calc__work" in line.text for line in run.trace.lines)
    assert called
