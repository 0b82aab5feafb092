"""Tools that are handed in when a mob is opened."""

from __future__ import annotations

import pytest
import trio

from mob import open_mob
from mob.errors import DefinitionInvalid
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
