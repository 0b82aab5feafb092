"""OpenAI's function schemas, in and out."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.ids import RunId, SessionId
from runtime.messages import ToolOutcome
from runtime.tools.base import Toolbox, ToolContext
from runtime.tools.function import tool
from runtime.tools.openai import from_openai_schema, to_openai_schema
from tests.runtime.fakes import call
from tests.runtime.test_tools_function import NO_RUNNER, search

#: As in the guide: https://platform.openai.com/docs/guides/function-calling
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "Retrieves current weather for the given location.",
    "parameters": {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": "City and country"},
            "units": {"type": ["string", "null"], "enum": ["celsius", "fahrenheit", None]},
        },
        "required": ["location", "units"],
        "additionalProperties": False,
    },
    "strict": True,
}


def get_weather(location: str, units: str | None = None) -> str:
    return f"sunny in {location}, {units}"


async def test_a_schema_and_a_function_make_a_tool() -> None:
    chat = {
        "type": "function",
        "function": {key: value for key, value in WEATHER.items() if key != "type"},
    }
    for schema in (WEATHER, chat):
        made = from_openai_schema(schema, get_weather, idempotent=True, timeout_s=5)
        assert made.spec.name == "get_weather"
        assert made.spec.description.startswith("Retrieves")
        assert (made.idempotent, made.timeout_s) == (True, 5)

        async def ask(arguments: str) -> Any:
            told = call("c", "get_weather", arguments)
            context = ToolContext(SessionId("s"), RunId("r"), told, NO_RUNNER)
            return await Toolbox([made]).run(context)  # noqa: B023 - awaited in the loop

        assert (await ask('{"location": "x", "units": null}')).text == "sunny in x, None"
        assert (await ask('{"location": "x"}')).outcome is ToolOutcome.ERROR


@pytest.mark.parametrize("shape", ["chat", "responses"])
def test_a_tool_is_written_and_read_again(shape: Literal["chat", "responses"]) -> None:
    made = tool(search)
    written = to_openai_schema(made, shape)
    assert written["type"] == "function"
    assert ("function" in written) == (shape == "chat")
    assert from_openai_schema(written, search).spec == made.spec


def test_a_function_without_parameters() -> None:
    def now() -> str:
        """Say the time."""
        return "now"

    made = from_openai_schema({"type": "function", "name": "now"}, now)
    assert made.spec.parameters["properties"] == {}
    assert made.spec.description == "Say the time."


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "web_search"}, "not the schema of a function"),
        ({"type": "function", "function": 3}, "not the schema of a function"),
        ({"type": "function"}, "has no name"),
        ({**WEATHER, "parameters": 3}, "are not a JSON Schema"),
        ({**WEATHER, "parameters": {"type": "objekt"}}, "not a JSON Schema"),
        (
            {**WEATHER, "parameters": {"type": "object", "properties": {"place": {}}}},
            "does not fit its schema",
        ),
        (
            {**WEATHER, "parameters": {"type": "object", "properties": {}}},
            "missing a required argument: 'location'",
        ),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_made(schema: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        from_openai_schema(schema, get_weather)


@given(st.dictionaries(st.text(), st.none() | st.text() | st.dictionaries(st.text(), st.text())))
def test_anything_else_is_a_typed_error(schema: dict[str, Any]) -> None:
    try:
        from_openai_schema(schema, get_weather)
    except TypeError:
        pass
