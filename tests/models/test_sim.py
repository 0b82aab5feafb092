"""The simulated models: deterministic, terminating, and obedient to schemas."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import ModelError
from runtime.ids import ToolCallId
from runtime.messages import (
    AssistantMessage,
    Message,
    ToolCall,
    ToolResult,
    Usage,
    UserMessage,
)
from runtime.models.base import ModelReply, ModelRequest, StopReason, ToolSpec
from runtime.models.sim import AgentModel, EchoModel
from runtime.structured import mistakes_in

QUESTION = UserMessage("What do the notes say about the tides of Venice?")


def tool(name: str, /, **properties: Any) -> ToolSpec:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return ToolSpec(name, "", schema)


SEARCH = tool("search_notes", query={"type": "string"})
TOOLS = (SEARCH, tool("read", path={"type": "string"}), tool("now"))


def plan(request: ModelRequest, **config: Any) -> ModelReply:
    return AgentModel(**config).plan(request)[0]


def answered(reply: ModelReply) -> tuple[Message, ...]:
    results = [ToolResult(c.id, c.name, f"{c.name} found tides") for c in reply.tool_calls]
    return (QUESTION, AssistantMessage(reply.text, reply.tool_calls), *results)


async def test_echo_repeats_the_last_message_whatever_it_is() -> None:
    echo = EchoModel()
    assert await echo.generate(ModelRequest([UserMessage("hello world!")])) == ModelReply(
        "hello world!", usage=Usage(3, 3, 1), model="sim:echo"
    )
    assert (await echo.generate(ModelRequest([]))).text == ""


async def test_a_turn_calls_tools_once_and_then_answers_from_them() -> None:
    first = plan(ModelRequest((QUESTION,), tools=TOOLS, key="s/1/1"))
    assert 1 <= len(first.tool_calls) <= 2
    assert first.stop is StopReason.TOOL_CALLS
    second = plan(ModelRequest(answered(first), tools=TOOLS, key="s/1/2"))
    assert second.tool_calls == ()
    assert f"{first.tool_calls[0].name} found tides" in second.text
    # The next turn may look again.
    third = ModelRequest((*answered(first), UserMessage("And Genoa?")), tools=TOOLS, key="s/2/1")
    assert plan(third).tool_calls


@given(seed=st.integers(), key=st.text(max_size=20), tools=st.lists(st.sampled_from(TOOLS)))
def test_every_turn_ends(seed: int, key: str, tools: list[ToolSpec]) -> None:
    messages: tuple[Message, ...] = (QUESTION,)
    for step in range(3):
        reply = plan(ModelRequest(messages, tools=tuple(tools), key=f"{key}/{step}"), seed=seed)
        if not reply.tool_calls:
            return
        messages = answered(reply)
    pytest.fail("still calling tools")


def test_search_arguments_come_from_the_question() -> None:
    reply = plan(ModelRequest((QUESTION,), tools=(SEARCH,), key="s/1/1"))
    assert json.loads(reply.tool_calls[0].arguments) == {"query": "notes tides Venice"}


def test_prompts_for_children_carry_the_whole_text() -> None:
    spawn = tool("spawn_agent", prompt={"type": "string"}, name={"type": "string"})
    reply = plan(ModelRequest((QUESTION,), tools=(spawn,), key="s/1/1"))
    made = json.loads(reply.tool_calls[0].arguments)
    assert made["prompt"] == QUESTION.text
    assert " " not in made["name"]


def test_choices_are_heeded() -> None:
    request = ModelRequest((QUESTION,), tools=TOOLS, tool_choice="now", key="k")
    assert [call.name for call in plan(request).tool_calls] == ["now"]
    assert plan(ModelRequest((QUESTION,), tools=TOOLS, tool_choice="none", key="k")).text
    first = plan(request)
    again = ModelRequest(answered(first), tools=TOOLS, tool_choice="required", key="k2")
    assert plan(again).tool_calls, "forced even after results"


@pytest.mark.parametrize(("tools", "choice"), [(TOOLS, "nothing"), ((), "required")])
def test_a_choice_of_what_is_not_offered_is_an_error(
    tools: tuple[ToolSpec, ...], choice: str
) -> None:
    with pytest.raises(ModelError, match="tool_choice") as caught:
        plan(ModelRequest((QUESTION,), tools=tools, tool_choice=choice))
    assert not caught.value.retryable


def test_key_and_seed_decide_and_nothing_else() -> None:
    def reply(key: str, seed: int | str = 0, /, **options: Any) -> tuple[ModelReply, float]:
        request = ModelRequest((QUESTION,), tools=TOOLS, key=key, options=options)
        return AgentModel(seed=seed).plan(request)

    assert reply("k") == reply("k")
    assert reply("k", 7) == reply("k", 0, seed=7)
    assert len({str(reply("k", seed)) for seed in range(20)}) > 10
    assert len({str(reply(f"k{n}")) for n in range(20)}) > 10


def test_another_process_says_the_same() -> None:
    code = (
        "from runtime.models.sim import *; from runtime.messages import UserMessage;"
        "from runtime.models.base import ModelRequest;"
        f"s = {NOTE!r};"
        "print(AgentModel(seed='x').plan(ModelRequest((UserMessage('Tides?'),), output_schema=s,"
        " key='k'))[0].text)"
    )
    request = ModelRequest((UserMessage("Tides?"),), output_schema=NOTE, key="k")
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert out.stdout.strip() == plan(request, seed="x").text


async def test_latency_is_virtual_and_watching_changes_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    request = ModelRequest((QUESTION,), key="k", options={"latency_s": 100})
    texts: set[str] = set()
    took: list[float] = []
    pieces: list[str] = []
    for emit in (None, pieces.append):
        before_s = trio.current_time()
        texts.add((await AgentModel().generate(request, emit)).text)
        took.append(trio.current_time() - before_s)
    assert took[0] == pytest.approx(took[1])
    assert 50 <= took[0] <= 151
    assert 1 < len(pieces) <= 4
    assert texts == {"".join(pieces)}


def test_max_tokens_cuts_text() -> None:
    reply = plan(ModelRequest((QUESTION,), key="k", options={"max_tokens": 3}))
    assert (len(reply.text), reply.stop) == (12, StopReason.LENGTH)


def test_usage_grows_with_the_history() -> None:
    call = ToolCall("c", "now", "{}")  # type: ignore[arg-type]
    long = (QUESTION, AssistantMessage("", (call,)), ToolResult(call.id, "now", "x" * 400))
    assert plan(ModelRequest(long)).usage.input_tokens >= 100


NOTE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 3, "maxLength": 12},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True},
        "kind": {"enum": ["fact", "guess"]},
        "score": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
        "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
    },
    "required": ["title", "tags", "kind", "score", "next"],
    "additionalProperties": False,
}
_EVENTS = {"oneOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}]}
SCHEMAS: dict[str, Any] = {
    "recursive": NOTE,
    "const": {"const": {"a": [1]}},
    "null": {"type": "null"},
    "empty": {},
    "type list": {"type": ["null", "integer"]},
    "multiples": {"type": "integer", "minimum": 7, "multipleOf": 5},
    "exclusive": {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
    "negative": {"type": "integer", "maximum": -3},
    "narrow": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
    "tuple": {"type": "array", "prefixItems": [{"type": "integer"}, {"const": "x"}],
              "items": False, "minItems": 2},
    "map": {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 2},
    "allOf": {"allOf": [{"$ref": "#/$defs/a"}, {"properties": {"n": {"maximum": 4}}}],
              "$defs": {"a": {"type": "object", "properties": {"n": {"type": "integer",
                        "minimum": 4}}, "required": ["n"]}}},
    "oneOf": {"type": "array", "minItems": 3, "items": _EVENTS, "$defs": {
        "a": {"type": "object", "properties": {"k": {"const": "a"}}, "required": ["k"]},
        "b": {"type": "object", "properties": {"k": {"const": "b"}, "v": {"type": "null"}},
              "required": ["k", "v"]}}},
    "pattern by example": {"type": "string", "pattern": "^[0-9]+$", "examples": ["12", "345"]},
    "required only": {"type": "object", "required": ["what"]},
    "beside a ref": {"$ref": "#/$defs/i", "minimum": 9, "$defs": {"i": {"type": "integer"}}},
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("key", ["a", "b", "c"])
def test_answers_fit_their_schema(name: str, key: str) -> None:
    schema = SCHEMAS[name]
    as_output = plan(ModelRequest((QUESTION,), output_schema=schema, key=key))
    assert mistakes_in(schema, json.loads(as_output.text)) is None
    as_tool = ToolSpec("t", "", schema)
    called = plan(ModelRequest((QUESTION,), tools=(as_tool,), tool_choice="t", key=key))
    assert mistakes_in(schema, json.loads(called.tool_calls[0].arguments)) is None


SCALARS = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(lambda a, n: {"type": "integer", "minimum": a, "maximum": a + n},
              st.integers(-50, 50), st.integers(0, 9)),
    st.builds(lambda a, n: {"type": "number", "minimum": a, "maximum": a + n},
              st.integers(-50, 50), st.integers(0, 9)),
    st.builds(lambda a, n: {"type": "string", "minLength": a, "maxLength": a + n},
              st.integers(0, 30), st.integers(0, 9)),
    st.builds(lambda values: {"enum": values}, st.lists(st.integers(), min_size=1, max_size=3)),
)  # fmt: skip


def _composed(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(["a", "b", "query", "name", "text"])
    objects = st.builds(
        lambda properties, keep, closed: {
            "type": "object",
            "properties": properties,
            "required": [name for name in properties if name in keep],
            "additionalProperties": not closed,
        },
        st.dictionaries(names, parts, max_size=3),
        st.sets(names),
        st.booleans(),
    )
    arrays = st.builds(
        lambda item, least, more: {
            "type": "array", "items": item, "minItems": least, "maxItems": least + more,
        },
        parts, st.integers(0, 3), st.integers(0, 2),
    )  # fmt: skip
    choices = st.builds(lambda ways: {"anyOf": ways}, st.lists(parts, min_size=1, max_size=3))
    return st.one_of(objects, arrays, choices)


@given(schema=st.recursive(SCALARS, _composed, max_leaves=8), key=st.text(max_size=3))
def test_any_schema_of_the_known_keywords_gets_a_fitting_answer(schema: Any, key: str) -> None:
    reply = plan(ModelRequest((QUESTION,), output_schema=schema, key=key))
    assert mistakes_in(schema, json.loads(reply.text)) is None


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "string", "pattern": "^[0-9]{40}$"}, "only partly understands"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "no integer lies within"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "without end"),
        ({"$ref": "https://example.org/x.json"}, "cannot make"),
        ({"$ref": "#/$defs/none"}, "cannot make"),
        ({"type": 7}, "cannot make"),
        ({"enum": []}, "cannot make"),
        ({"type": "array", "items": {"const": 1}, "minItems": 2, "uniqueItems": True}, "different"),
        ({"$ref": "#"}, "cannot make"),
    ],
)
def test_an_impossible_schema_is_a_clear_error(schema: Any, says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        plan(ModelRequest((QUESTION,), output_schema=schema))
    assert not caught.value.retryable


def test_what_is_to_be_quoted_is_quoted_from_the_results() -> None:
    schema = {
        "type": "object",
        "properties": {"fact": {"type": "string", "format": "quote"}},
        "required": ["fact"],
    }
    call = ToolCall(ToolCallId("c"), "search_notes", "{}")
    said = ToolResult(call.id, call.name, '{"text": "The tide is one metre high."}')
    messages = (QUESTION, AssistantMessage("", (call,)), said)
    reply = plan(ModelRequest(messages, output_schema=schema, key="s/1/2"))
    assert json.loads(reply.text) == {"fact": "The tide is one metre high."}
