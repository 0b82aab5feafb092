"""Which tools members have, and tools that are handed in when a mob is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from mob import open_mob
from mob.errors import DefinitionInvalid
from runtime.messages import ToolResult
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.tools.function import tool
from tests.mob.mobs import define, models


async def test_a_tool_that_is_given_stands_in_for_the_file_of_its_table(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As `models` does for an alias: no file is read, and what does not fit is a mistake."""

    async def look(what: str) -> str:
        return f"seen {what}"

    def answer(request: ModelRequest) -> ModelReply | str:
        last = request.messages[-1].text
        return f"it {last}" if last.startswith("seen") else calling(("look", {"what": "x"}))

    tools = {"look": {"function": "nowhere.py:look"}}
    definition = define("a", tools=tools, profile={"tools": ["look"]})
    clients = models(answer)
    async with open_mob(definition, models=clients, tools={"look": tool(look)}) as mob:
        assert (await mob.ask("a", "go")).text == "it seen x"
    for wrong in ({"lok": tool(look, name="lok")}, {"look": tool(look, name="see")}):
        with pytest.raises(DefinitionInvalid, match="tools"):
            async with open_mob(definition, models=clients, tools=wrong):
                pass


def asking_for(name: str, **arguments: object) -> Callable[[ModelRequest], ModelReply | str]:
    """A model that calls one tool, then says what came back."""

    def answer(request: ModelRequest) -> ModelReply | str:
        last = request.messages[-1]
        return last.text if isinstance(last, ToolResult) else calling((name, arguments))

    return answer


@tool
async def look(what: str) -> str:
    """Look at something."""
    return f"seen {what}"


@pytest.mark.parametrize(
    ("profile", "member", "told"),
    [
        (["look"], None, "seen x"),
        (["lo*"], None, "seen x"),
        ([], None, "may not call"),
        ({"allow": ["*"], "deny": ["look"]}, None, "may not call"),
        (["look"], {"deny": ["look"]}, "may not call"),
        (["look"], ["hear"], "may not call"),
        (["look", "hear"], ["look"], "seen x"),
    ],
)
async def test_a_member_calls_what_every_list_over_it_permits(
    profile: Any, member: Any, told: str, autojump_clock: trio.testing.MockClock
) -> None:
    """CONTRACTS 1.11: harness and agent; enforced at the call, for a model knows any name."""
    tables = {name: {"function": f"nowhere.py:{name}"} for name in ("look", "hear")}
    members = {"a": {"profile": "p"} | ({} if member is None else {"tools": member})}
    definition = define("a", tools=tables, profile={"tools": profile}, members=members)
    given = {"look": look, "hear": tool(look.function, name="hear")}
    clients = models(asking_for("look", what="x"))
    async with open_mob(definition, models=clients, tools=given) as mob:
        assert told in (await mob.ask("a", "go")).text


async def test_a_child_may_not_call_what_its_member_may_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """CONTRACTS 1.11: a deny list of the agent holds for the sessions below it too."""

    def answer(request: ModelRequest) -> ModelReply | str:
        last = request.messages[-1]
        if isinstance(last, ToolResult):
            return last.text
        if last.text == "child":
            return calling(("look", {"what": "x"}))
        return calling(("spawn_agent", {"name": "c", "instructions": "child"}))

    definition = define(
        "a",
        tools={"look": {"function": "nowhere.py:look"}},
        profile={"tools": ["look"], "subagents": {}},
        members={"a": {"profile": "p", "tools": {"deny": ["look"]}}},
    )
    async with open_mob(definition, models=models(answer), tools={"look": look}) as mob:
        assert "may not call 'look'" in (await mob.ask("a", "go")).text


async def test_a_shell_is_had_by_the_profile_that_asks_for_one(tmp_path: Path) -> None:
    """Off by default; in its folder, which is relative to the mob file."""
    (tmp_path / "desk").mkdir()
    script = {"command": "pwd; echo $MOB_TEST_KEY"}
    for profile, told in (({}, "no tool named"), ({"shell": {"cwd": "desk"}}, "/desk\n\n")):
        definition = define("a", folder=tmp_path, profile=profile)
        async with open_mob(definition, models=models(asking_for("shell", **script))) as mob:
            assert told in (await mob.ask("a", "go")).text


async def test_a_shell_that_is_given_stands_in_for_the_real_one() -> None:
    """In a simulation there are no processes: the shell is a port there."""

    async def pretend(command: str) -> str:
        return f"pretended {command}"

    clients = models(asking_for("shell", command="rm -rf /"))
    fake = {"shell": tool(pretend, name="shell")}
    async with open_mob(define("a", profile={"shell": {}}), models=clients, tools=fake) as mob:
        assert (await mob.ask("a", "go")).text == "pretended rm -rf /"
    with pytest.raises(DefinitionInvalid):
        async with open_mob(define("a"), models=clients, tools=fake):
            pass
