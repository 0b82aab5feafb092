"""What is special about Gemini's protocol; what all clients promise is in test_conformance."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import attrs
import pytest
from trio.testing import MockClock

from runtime.conformance.models import AWKWARD, KEY, Failure, Wish
from runtime.errors import ModelError, ModelRefused, ModelUnavailable
from runtime.messages import AssistantMessage, ToolResult, UserMessage
from runtime.models.base import ModelRequest, ToolSpec
from runtime.models.gemini import GeminiModel
from runtime.models.geminiwire import NO_SIGNATURE
from tests.models.services import GENERATE, Service, event, open_service

SEARCH = ToolSpec(
    "search", "Searches.", {"type": "object", "properties": {"n": {"type": "integer"}}}
)
HELLO = ModelRequest((UserMessage("Hello?"),), key="s/1/1")
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}}


@pytest.fixture
async def server() -> AsyncIterator[Service]:
    async with open_service(GENERATE) as server:
        server.will(Wish("ok"))
        yield server


@pytest.fixture
async def model(server: Service) -> AsyncIterator[GeminiModel]:
    model = GeminiModel("gemini-3-pro", base_url=server.origin, api_key=KEY, max_retries=0)
    async with aclosing(model):
        yield model


async def test_the_whole_request_reaches_the_wire(server: Service, model: GeminiModel) -> None:
    options = {"temperature": 0, "max_output_tokens": 50}
    await model.generate(ModelRequest(AWKWARD, "Be brief.", (SEARCH,), "search", None, options))
    [body] = server.requests
    assert server.paths[0].endswith("/models/gemini-3-pro:streamGenerateContent?alt=sse")
    assert server.headers[0]["x-goog-api-key"] == KEY
    assert body["systemInstruction"]["parts"] == [{"text": "Be brief."}]
    assert body["generationConfig"] == {"temperature": 0, "maxOutputTokens": 50}
    [declared] = body["tools"][0]["functionDeclarations"]
    # Gemini reads both spellings, and the package does not change this one.
    assert declared["parameters_json_schema"] == SEARCH.parameters
    assert body["toolConfig"]["functionCallingConfig"] == {
        "mode": "ANY", "allowedFunctionNames": ["search"],
    }  # fmt: skip
    assert [content["role"] for content in body["contents"]] == ["user", "model", "user"]
    asked, called, results = (content["parts"] for content in body["contents"])
    assert [part["text"] for part in asked] == [
        "<system>\nBudget: 3.\n</system>", "Message from lead:\n",
    ]  # fmt: skip
    assert called[0] == {"text": "I look."}
    assert called[1]["functionCall"]["args"] == {"arguments": "{not json"}
    assert results[0]["functionResponse"]["response"] == {"error": "arguments"}


@pytest.mark.parametrize(
    ("choice", "sent"),
    [("auto", {"mode": "AUTO"}), ("required", {"mode": "ANY"}), ("none", {"mode": "NONE"})],
)
async def test_tool_choice(server: Service, model: GeminiModel, choice: str, sent: Any) -> None:
    await model.generate(ModelRequest(HELLO.messages, "", (SEARCH,), choice))
    assert server.requests[0]["toolConfig"]["functionCallingConfig"] == sent


async def test_a_schema_is_told_and_beside_tools_in_words(
    server: Service, model: GeminiModel
) -> None:
    await model.generate(ModelRequest(HELLO.messages, output_schema=SCHEMA))
    await model.generate(ModelRequest(HELLO.messages, "", (SEARCH,), output_schema=SCHEMA))
    alone, beside = server.requests
    assert alone["generationConfig"]["responseJsonSchema"] == SCHEMA
    assert alone["generationConfig"]["responseMimeType"] == "application/json"
    assert not beside.get("generationConfig")
    assert json.dumps(SCHEMA) in beside["systemInstruction"]["parts"][0]["text"]


async def test_the_signature_of_a_call_comes_back_with_it(
    server: Service, model: GeminiModel
) -> None:
    server.will(Wish(calls=(("search", '{"n": 1}'), ("search", '{"n": 2}'))))
    request = ModelRequest(HELLO.messages, "", (SEARCH,), key="s/1/1")
    reply = await model.generate(request)
    results = [ToolResult(call.id, call.name, "found") for call in reply.tool_calls]
    after = (*HELLO.messages, AssistantMessage("", reply.tool_calls), *results)
    server.will(Wish("ok"))
    await model.generate(attrs.evolve(request, messages=after))
    first, second = server.requests[-1]["contents"][1]["parts"]
    assert base64.urlsafe_b64decode(first["thoughtSignature"]) == b"signed"
    assert "thoughtSignature" not in second
    assert len(server.requests[-1]["contents"][2]["parts"]) == 2, "results of one batch together"
    for name, signature in (("gemini-3-pro", NO_SIGNATURE), ("gemini-2.5-flash", None)):
        # In another process it is gone; Gemini 3 has to be told so.
        other = GeminiModel(name, base_url=server.origin, api_key=KEY)
        async with aclosing(other):
            await other.generate(attrs.evolve(request, messages=after))
        sent = server.requests[-1]["contents"][1]["parts"][0].get("thoughtSignature")
        assert (base64.urlsafe_b64decode(sent) if sent else None) == signature


async def test_a_thought_is_no_part_of_the_answer(server: Service, model: GeminiModel) -> None:
    def events(wish: Wish) -> list[bytes]:
        thought = {"content": {"parts": [{"text": "Hm.", "thought": True}, {"text": "Yes."}]}}
        return [event({"candidates": [{**thought, "finishReason": "STOP"}]})]

    server.dialect = attrs.evolve(GENERATE, events=events)
    pieces: list[str] = []
    reply = await model.generate(HELLO, pieces.append)
    assert (reply.text, pieces) == ("Yes.", ["Yes."])


async def test_a_blocked_prompt_is_a_refusal(server: Service, model: GeminiModel) -> None:
    blocked = event({"promptFeedback": {"blockReason": "SAFETY"}})
    server.dialect = attrs.evolve(GENERATE, events=lambda wish: [blocked])
    with pytest.raises(ModelRefused, match=r"the prompt was blocked \(SAFETY\)"):
        await model.generate(HELLO)


async def test_a_call_that_came_to_nothing_may_be_asked_for_again(
    server: Service, model: GeminiModel
) -> None:
    spoiled = event({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL"}]})
    server.dialect = attrs.evolve(GENERATE, events=lambda wish: [spoiled])
    with pytest.raises(ModelError, match="no usable answer") as caught:
        await model.generate(HELLO)
    assert caught.value.retryable


@pytest.mark.parametrize(
    "chunk",
    [
        {"candidates": 5},
        {"candidates": [3]},
        {"candidates": [{"content": {"parts": {"text": "x"}}}]},
        {"candidates": [{"content": {"parts": [{"text": 7}]}}]},
        {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": []}}]}}]},
        {"usageMetadata": {"promptTokenCount": "many"}},
    ],
)
async def test_nonsense_is_found_before_the_package_stumbles_over_it(
    server: Service, model: GeminiModel, chunk: Any
) -> None:
    server.dialect = attrs.evolve(GENERATE, events=lambda wish: [event(chunk)])
    server.will(Wish(then="hang"))
    with pytest.raises(ModelError, match="no answer of the protocol") as caught:
        await model.generate(HELLO)
    assert caught.value.retryable
    await server.left.wait()


async def test_an_error_in_the_stream_is_one(server: Service, model: GeminiModel) -> None:
    told = {"code": 503, "message": "busy", "details": [{"retryDelay": "2.5s"}]}
    server.dialect = attrs.evolve(GENERATE, events=lambda wish: [event({"error": told})])
    server.will(Wish(then="hang"))
    with pytest.raises(ModelError, match="failed while answering: busy") as caught:
        await model.generate(HELLO)
    failure = caught.value
    assert (failure.retryable, failure.status, failure.retry_after_s) == (True, 503, 2.5)


async def test_an_invalid_key_is_told_although_gemini_says_400(
    server: Service, model: GeminiModel
) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    told = {"error": {"code": 400, "message": "not valid", "details": details}}
    server.dialect = attrs.evolve(GENERATE, error=lambda _: told)
    server.will(Wish(failure=Failure(400)))
    with pytest.raises(ModelUnavailable, match="refused the key"):
        await model.generate(HELLO)


async def test_options_that_it_does_not_know_are_refused(model: GeminiModel) -> None:
    for options in ({"max_tokens": 5}, {"tools": []}):
        with pytest.raises(ModelError, match="does not take") as caught:
            await model.generate(ModelRequest(HELLO.messages, options=options))
        assert not caught.value.retryable


async def test_the_package_repeats_a_request_under_trio(
    server: Service, autojump_clock: MockClock
) -> None:
    autojump_clock.autojump_threshold = 0.05
    server.will(Wish(failure=Failure(503)), Wish("Yes."))
    async with aclosing(
        GeminiModel("m", base_url=server.origin, api_key=KEY, max_retries=1)
    ) as model:
        assert (await model.generate(HELLO)).text == "Yes."
    assert len(server.requests) == 2


async def test_nobody_listening() -> None:
    model = GeminiModel("m", base_url="http://127.0.0.1:9", max_retries=0)
    async with aclosing(model):
        with pytest.raises(ModelError, match=r"cannot be reached at http://127\.0\.0\.1:9"):
            await model.generate(HELLO)


async def test_a_silent_server_times_out(server: Service, autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.05
    server.will(Wish("Onc", then="hang"))
    async with aclosing(GeminiModel("m", base_url=server.origin, timeout_s=30)) as model:
        with pytest.raises(ModelError, match="sent nothing for 30 s") as caught:
            await model.generate(HELLO)
    assert caught.value.retryable


async def test_the_environment_chooses_neither_key_nor_service(
    server: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.setenv(name, "sk-secret-key")
    monkeypatch.setenv("GOOGLE_GENAI_USE_VERTEXAI", "true")
    async with aclosing(GeminiModel("m", base_url=server.origin)) as model:
        await model.generate(HELLO)
    assert "sk-secret" not in json.dumps(server.headers)
