"""What is special about Anthropic's protocol; what all clients promise is in test_conformance."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import attrs
import pytest

from runtime.conformance.models import AWKWARD, KEY, Failure, Wish
from runtime.errors import ModelError
from runtime.ids import ToolCallId
from runtime.messages import AssistantMessage, ToolCall, ToolOutcome, ToolResult, UserMessage
from runtime.models.anthropic import AnthropicModel
from runtime.models.base import ModelRequest, ToolSpec
from runtime.models.claudewire import told_schema
from runtime.structured import mistakes_in
from tests.models.services import MESSAGES, Service, event, open_service

SEARCH = ToolSpec("search", "Searches.", {"type": "object", "properties": {}})
HELLO = ModelRequest((UserMessage("Hello?"),), key="s/1/1")
TEXT = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}


@pytest.fixture
async def server() -> AsyncIterator[Service]:
    async with open_service(MESSAGES) as server:
        server.will(Wish("ok"))
        yield server


@pytest.fixture
async def model(server: Service) -> AsyncIterator[AnthropicModel]:
    model = AnthropicModel("claude-x", base_url=server.origin, api_key=KEY, max_retries=0)
    async with aclosing(model):
        yield model


async def test_the_whole_request_reaches_the_wire(server: Service, model: AnthropicModel) -> None:
    options = {"temperature": 0, "max_tokens": 50, "output_config": {"effort": "low"}}
    request = ModelRequest(AWKWARD, "Be brief.", (SEARCH,), "search", TEXT, options)
    await model.generate(request)
    [body] = server.requests
    assert (body["model"], body["system"], body["stream"]) == ("claude-x", "Be brief.", True)
    assert (body["max_tokens"], body["temperature"]) == (50, 0)
    assert body["tool_choice"] == {"type": "tool", "name": "search"}
    assert body["tools"][0]["input_schema"] == SEARCH.parameters
    assert body["output_config"]["effort"] == "low"
    assert body["output_config"]["format"]["schema"] == {**TEXT, "required": []}
    roles = [message["role"] for message in body["messages"]]
    assert roles == ["user", "assistant", "user"], "roles alternate, whoever spoke"
    asked, called, results = (message["content"] for message in body["messages"])
    assert [block["text"] for block in asked] == [
        "<system>\nBudget: 3.\n</system>", "Message from lead:\n",
    ]  # fmt: skip
    assert called[0] == {"type": "text", "text": "I look."}
    assert called[1]["input"] == {"arguments": "{not json"}
    assert results[0]["tool_use_id"] == called[1]["id"]
    assert len(called[1]["id"]) <= 64
    assert results[0]["is_error"] is True
    assert server.headers[0]["authorization"] == f"Bearer {KEY}" or (
        server.headers[0]["x-api-key"] == KEY
    )


@pytest.mark.parametrize(
    ("choice", "sent"), [("auto", None), ("required", {"type": "any"}), ("none", {"type": "none"})]
)
async def test_tool_choice(server: Service, model: AnthropicModel, choice: str, sent: Any) -> None:
    await model.generate(ModelRequest(HELLO.messages, "", (SEARCH,), choice))
    assert server.requests[0].get("tool_choice") == sent
    assert "system" not in server.requests[0]


async def test_a_history_with_calls_has_tools_even_where_none_are_offered(
    server: Service, model: AnthropicModel
) -> None:
    await model.generate(ModelRequest(AWKWARD))
    [body] = server.requests
    assert body["tools"] == [{"name": "search_notes", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}


async def test_a_schema_that_cannot_be_told_is_told_in_words(
    server: Service, model: AnthropicModel
) -> None:
    free = {"type": "object", "additionalProperties": {"type": "integer"}}
    await model.generate(ModelRequest(HELLO.messages, "Count.", output_schema=free))
    [body] = server.requests
    assert "output_config" not in body
    assert body["system"].startswith("Count.\n\nGive the final answer as one JSON document")
    assert json.dumps(free) in body["system"]


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "integer", "minimum": 1}, {"type": "integer", "description": "(minimum: 1)"}),
        ({"enum": ["a", 1, None]}, {"enum": ["a", 1, None]}),
        ({"type": ["string", "null"]}, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "array", "items": {"type": "null"}, "minItems": 1},
         {"type": "array", "items": {"type": "null"}, "minItems": 1}),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"type": "null"}}},
         {"$ref": "#/$defs/x", "$defs": {"x": {"type": "null"}}}),
        ({"type": "array"}, None),
        ({"type": "object"}, None),
        ({"type": "object", "properties": {"a": True}}, None),
        ({"type": "object", "properties": {"a": TEXT}, "required": ["b"]}, None),
        ({"not": {"type": "null"}}, None),
        ({}, None),
        ({"$ref": "#"}, None),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"anyOf": [{"$ref": "#/$defs/x"}]}}}, None),
    ],
)  # fmt: skip
def test_what_can_be_told_of_a_schema(schema: dict[str, Any], told: dict[str, Any] | None) -> None:
    assert told_schema(schema) == told


def test_what_is_told_of_a_schema_refuses_nothing_that_fits_it() -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "maximum": 3}, "s": {"type": "string"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    told = told_schema(schema)
    assert told is not None
    for value in ({"n": 3}, {"n": 0, "s": ""}):
        assert mistakes_in(schema, value) is None
        assert mistakes_in(told, value) is None


THINKING = [
    event({"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 1}}}),
    event({"type": "content_block_start", "index": 0,
           "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
    event({"type": "content_block_delta", "index": 0,
           "delta": {"type": "thinking_delta", "thinking": "I should "}}),
    event({"type": "content_block_delta", "index": 0,
           "delta": {"type": "thinking_delta", "thinking": "search."}}),
    event({"type": "content_block_delta", "index": 0,
           "delta": {"type": "signature_delta", "signature": "c2ln"}}),
    event({"type": "content_block_start", "index": 1,
           "content_block": {"type": "redacted_thinking", "data": "xyz"}}),
    event({"type": "content_block_start", "index": 2,
           "content_block": {"type": "tool_use", "id": "toolu_1", "name": "search", "input": {}}}),
    event({"type": "message_delta", "delta": {"stop_reason": "tool_use"},
           "usage": {"output_tokens": 9}}),
]  # fmt: skip
OPTIONS = {"thinking": {"type": "enabled", "budget_tokens": 1024}}


async def test_thoughts_come_back_with_the_results_of_the_calls_they_led_to(
    server: Service, model: AnthropicModel
) -> None:
    server.dialect = attrs.evolve(MESSAGES, events=lambda wish: THINKING)
    request = ModelRequest(HELLO.messages, "", (SEARCH,), options=OPTIONS, key="s/1/1")
    pieces: list[str] = []
    reply = await model.generate(request, pieces.append)
    assert (reply.text, pieces) == ("", []), "a thought is no part of the answer"
    assert reply.tool_calls == (ToolCall(ToolCallId("toolu_1"), "search", "{}"),)
    result = ToolResult(reply.tool_calls[0].id, "search", "found", ToolOutcome.OK)
    after = (*HELLO.messages, AssistantMessage("", reply.tool_calls), result)
    server.dialect = MESSAGES
    await model.generate(attrs.evolve(request, messages=after))
    body = server.requests[-1]
    assert body["thinking"] == OPTIONS["thinking"]
    assert body["messages"][1]["content"][:2] == [
        {"type": "thinking", "thinking": "I should search.", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "xyz"},
    ]
    # In another process they are gone, and the model goes on without thinking.
    other = AnthropicModel("claude-x", base_url=server.origin, api_key=KEY)
    async with aclosing(other):
        await other.generate(attrs.evolve(request, messages=after))
        assert "thinking" not in server.requests[-1]
        await other.generate(attrs.evolve(request, messages=(*after, UserMessage("So?"))))
        assert "thinking" in server.requests[-1], "the next question is thought about again"


@pytest.mark.parametrize(
    ("kind", "retryable", "status"),
    [("overloaded_error", True, 529), ("invalid_request_error", False, 400), ("new", True, None)],
)
async def test_an_error_in_the_stream_is_one(
    server: Service, model: AnthropicModel, kind: str, retryable: bool, status: int | None
) -> None:
    failed = event({"type": "error", "error": {"type": kind, "message": "Overloaded"}}, "error")
    server.dialect = attrs.evolve(MESSAGES, events=lambda wish: [THINKING[0], failed])
    with pytest.raises(ModelError, match="failed while answering: Overloaded") as caught:
        await model.generate(HELLO)
    assert (caught.value.retryable, caught.value.status) == (retryable, status)


async def test_an_empty_account_is_not_waited_for(server: Service, model: AnthropicModel) -> None:
    inner = {"type": "billing_error", "message": "no credit"}
    server.dialect = attrs.evolve(MESSAGES, error=lambda _: {"type": "error", "error": inner})
    server.will(Wish(failure=Failure(429)))
    with pytest.raises(ModelError, match="no credit") as caught:
        await model.generate(HELLO)
    assert not caught.value.retryable


async def test_the_environment_chooses_neither_key_nor_server(
    server: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret-key")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "sk-secret-token")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    async with aclosing(AnthropicModel("m", base_url=server.origin)) as model:
        await model.generate(HELLO)
    assert "sk-secret" not in json.dumps(server.headers)
