"""The OpenAI client against a real server on the loopback."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import MockClock

from runtime.errors import ModelError, ModelRefused, ModelUnavailable
from runtime.ids import ToolCallId
from runtime.messages import (
    AssistantMessage,
    SystemMessage,
    ToolCall,
    ToolResult,
    Usage,
    UserMessage,
)
from runtime.models.base import ModelRequest, StopReason, ToolSpec
from runtime.models.guard import forbid_real_models
from runtime.models.openai import OpenAIModel
from tests.models.chat_server import (
    ChatServer,
    Events,
    Plain,
    calling,
    chunk,
    error,
    open_chat_server,
    saying,
)

SEARCH = ToolSpec(
    "search", "Searches.", {"type": "object", "properties": {"query": {"type": "string"}}}
)
HELLO = ModelRequest((UserMessage("Hello?"),), key="s/1/1")


@pytest.fixture
async def server() -> AsyncIterator[ChatServer]:
    async with open_chat_server() as server:
        yield server


@pytest.fixture
async def model(server: ChatServer) -> AsyncIterator[OpenAIModel]:
    model = OpenAIModel("fake-1", base_url=server.base_url, api_key="k", max_retries=0)
    yield model
    await model.aclose()


async def test_text_arrives_in_pieces_and_is_counted(
    server: ChatServer, model: OpenAIModel
) -> None:
    server.will(saying("Grüß", " dich,\u2028", "Welt"))
    pieces: list[str] = []
    reply = await model.generate(HELLO, pieces.append)
    assert pieces == ["Grüß", " dich,\u2028", "Welt"]
    assert reply.text == "".join(pieces)
    assert (reply.stop, reply.usage, reply.model) == (StopReason.END, Usage(11, 7, 1), "fake-1")
    assert server.headers[0]["authorization"] == "Bearer k"


async def test_the_whole_request_reaches_the_wire(server: ChatServer, model: OpenAIModel) -> None:
    server.will(saying("{}"))
    long_id = "realm/" + "x" * 60
    call = ToolCall(ToolCallId(long_id), "search", '{"query": "a"}')
    request = ModelRequest(
        (
            SystemMessage("Budget: 3."),
            UserMessage("Find a.", sender="lead"),
            AssistantMessage("", (call,)),
            ToolResult(call.id, "search", "found"),
        ),
        instructions="Be brief.",
        tools=(SEARCH,),
        tool_choice="search",
        output_schema={"type": "object"},
        options={"temperature": 0, "top_k": 5},
    )
    await model.generate(request)
    [body] = server.requests
    system, budget, user, assistant, tool = body["messages"]
    assert system == {"role": "system", "content": "Be brief."}
    assert budget == {"role": "system", "content": "Budget: 3."}
    assert user == {"role": "user", "content": "Message from lead:\nFind a."}
    sent_id = assistant["tool_calls"][0]["id"]
    assert len(sent_id) <= 40
    assert assistant["content"] is None
    assert tool == {"role": "tool", "tool_call_id": sent_id, "content": "found"}
    assert body["tools"][0]["function"]["parameters"] == SEARCH.parameters
    assert body["tool_choice"] == {"type": "function", "function": {"name": "search"}}
    assert body["stream_options"] == {"include_usage": True}
    assert (body["temperature"], body["top_k"]) == (0, 5)
    assert body["response_format"]["json_schema"]["strict"] is False


@pytest.mark.parametrize(
    ("choice", "sent"), [("auto", None), ("required", "required"), ("none",) * 2]
)
async def test_tool_choice(
    server: ChatServer, model: OpenAIModel, choice: str, sent: str | None
) -> None:
    server.will(saying("ok"))
    await model.generate(ModelRequest(HELLO.messages, tools=(SEARCH,), tool_choice=choice))
    assert server.requests[0].get("tool_choice") == sent


async def test_a_schema_that_strict_mode_takes_is_sent_strict(
    server: ChatServer, model: OpenAIModel
) -> None:
    closed = {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"type": "string"}}},
        "required": ["a"],
        "additionalProperties": False,
    }
    server.will(saying("{}"))
    await model.generate(ModelRequest(HELLO.messages, output_schema=closed))
    assert server.requests[0]["response_format"]["json_schema"] == {
        "name": "answer", "schema": closed, "strict": True,
    }  # fmt: skip


async def test_parallel_tool_calls_are_put_together(server: ChatServer, model: OpenAIModel) -> None:
    server.will(calling(("call_a", "search", '{"query": "one"}'), ("call_b", "search", "{bad")))
    reply = await model.generate(HELLO)
    assert reply.stop is StopReason.TOOL_CALLS
    assert reply.tool_calls == (
        ToolCall(ToolCallId("call_a"), "search", '{"query": "one"}'),
        # Malformed arguments are the dispatcher's to refuse, in words the model sees.
        ToolCall(ToolCallId("call_b"), "search", "{bad"),
    )


async def test_call_ids_of_careless_servers_are_made_unique(
    server: ChatServer, model: OpenAIModel
) -> None:
    unnumbered = Events(
        [
            chunk({"tool_calls": [{"id": "", "function": {"name": "a", "arguments": '{"x"'}}]}),
            chunk({"tool_calls": [{"function": {"arguments": ": 1}"}}]}),
            chunk({"tool_calls": [{"id": "call_0", "function": {"name": "b"}}]}),
            chunk({}, "stop"),
        ]
    )
    server.will(unnumbered)
    before = AssistantMessage("", (ToolCall(ToolCallId("call_0"), "a", "{}"),))
    messages = (UserMessage("?"), before, ToolResult(ToolCallId("call_0"), "a", "r"))
    reply = await model.generate(ModelRequest(messages, key="s/1/2"))
    assert reply.tool_calls == (
        ToolCall(ToolCallId("s/1/2#0"), "a", '{"x": 1}'),
        ToolCall(ToolCallId("s/1/2#1"), "b", "{}"),
    )
    assert reply.usage.total_tokens > 0, "an estimate stands in for usage the server left out"


async def test_a_reply_cut_by_length_says_so(server: ChatServer, model: OpenAIModel) -> None:
    server.will(saying("half a sen", finish="length"))
    assert (await model.generate(HELLO)).stop is StopReason.LENGTH


async def test_cancelling_in_mid_stream_closes_the_connection(
    server: ChatServer, model: OpenAIModel
) -> None:
    server.will(Events([chunk({"content": "Once"})], hang=True), saying("again"))
    with trio.CancelScope() as scope:
        await model.generate(HELLO, lambda _: scope.cancel())
    assert scope.cancelled_caught
    await server.left.wait()
    assert (await model.generate(HELLO)).text == "again"


async def test_the_package_retries_what_it_can_and_waits_as_told(
    server: ChatServer, autojump_clock: MockClock
) -> None:
    # Real sockets under a virtual clock: let the loop idle before time jumps.
    autojump_clock.autojump_threshold = 0.05
    model = OpenAIModel("fake-1", base_url=server.base_url, max_retries=2)
    server.will(error(429, "slow down", retry_after="7"), error(503, "busy"), saying("done"))
    before_s = trio.current_time()
    assert (await model.generate(HELLO)).text == "done"
    assert 7 < trio.current_time() - before_s < 10
    assert len(server.requests) == 3
    await model.aclose()


@pytest.mark.parametrize(
    ("answer", "retryable", "status", "says"),
    [
        (error(429, "slow down", retry_after="7"), True, 429, "slow down"),
        (error(429, "no money", "insufficient_quota"), False, 429, "no money"),
        (error(500, "oops"), True, 500, "oops"),
        (error(409, "conflict"), True, 409, "conflict"),
        (error(400, "bad schema"), False, 400, "bad schema"),
        (Plain(502, b"<html>bad gateway"), True, 502, "bad gateway"),
        (Plain(200, {"hello": 1}), False, None, "application/json; is base_url right?"),
        (Events(["{not json"]), True, None, "no chat completion chunk"),
        (Events(["7", chunk({}, "stop")]), True, None, "no chat completion chunk"),
        (Events([{"choices": [{"delta": "x"}]}]), True, None, "no chat completion chunk"),
        (Events([chunk({"content": ["x"]})]), True, None, "content is list"),
        (Events([b"\xff\xfe\n\n", b"data\n\n"]), False, None, "event-stream"),
        (Events([chunk({"content": "Onc"})]), True, None, "ended its stream"),
        (Events([chunk({"content": "Onc"})], complete=False), True, None, "broke off"),
        (Events([{"error": {"message": "died"}}]), True, None, "failed while answering: died"),
        (Events([{"error": {"message": "no", "code": 400}}]), False, 400, "no"),
        (calling(("c", "", "{}")), True, None, "no name"),
    ],
)  # fmt: skip
async def test_failures_say_what_failed_and_whether_to_retry(
    server: ChatServer,
    model: OpenAIModel,
    answer: Events | Plain,
    retryable: bool,
    status: int | None,
    says: str,
) -> None:
    server.will(answer)
    with pytest.raises(ModelError) as caught:
        await model.generate(HELLO)
    assert caught.value.provider == "openai"
    assert says in str(caught.value)
    assert "openai:fake-1" in str(caught.value)
    assert (caught.value.retryable, caught.value.status) == (retryable, status)
    assert caught.value.retry_after_s == (7 if "slow" in says else None)


async def test_a_failed_stream_is_left_even_if_it_goes_on(
    server: ChatServer, model: OpenAIModel
) -> None:
    server.will(Events(["{not json"], hang=True))
    with pytest.raises(ModelError, match="no chat completion chunk"):
        await model.generate(HELLO)
    await server.left.wait()


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_wrong_key_or_model_is_no_passing_trouble(
    server: ChatServer, model: OpenAIModel, status: int
) -> None:
    server.will(error(status, "no such thing"))
    with pytest.raises(ModelUnavailable, match="no such thing") as caught:
        await model.generate(HELLO)
    assert caught.value.status == status


@pytest.mark.parametrize(
    "answer",
    [
        Events([chunk({"refusal": "I can"}), chunk({"refusal": "not."}), chunk({}, "stop")]),
        Events([chunk({"content": "Well"}), chunk({}, "content_filter")]),
        error(400, "filtered", "content_filter"),
    ],
)
async def test_refusals(server: ChatServer, model: OpenAIModel, answer: Events | Plain) -> None:
    server.will(answer)
    with pytest.raises(ModelRefused, match=r"I cannot|content filter|filtered"):
        await model.generate(HELLO)


async def test_nobody_listening() -> None:
    model = OpenAIModel("fake-1", base_url="http://127.0.0.1:9/v1", max_retries=0)
    with pytest.raises(
        ModelError, match=r"cannot be reached at http://127\.0\.0\.1:9/v1"
    ) as caught:
        await model.generate(HELLO)
    assert caught.value.retryable
    await model.aclose()


async def test_a_silent_server_times_out(server: ChatServer, autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.05
    model = OpenAIModel("fake-1", base_url=server.base_url, timeout_s=30)
    server.will(Events([chunk({"content": "Onc"})], hang=True))
    with pytest.raises(ModelError, match="sent nothing for 30 s") as caught:
        await model.generate(HELLO)
    assert caught.value.retryable
    await model.aclose()


async def test_calls_share_a_connection_and_run_side_by_side(
    server: ChatServer, model: OpenAIModel
) -> None:
    server.will(saying("ok"))
    await model.generate(HELLO)
    await model.generate(HELLO)
    assert server.connections == 1
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(model.generate, HELLO)
    assert len(server.requests) == 7


async def test_options_of_the_client_itself_are_refused(model: OpenAIModel) -> None:
    with pytest.raises(ModelError, match=r"does not take \['stream'\]"):
        await model.generate(ModelRequest(HELLO.messages, options={"stream": False}))


async def test_a_closed_model_is_unusable(model: OpenAIModel) -> None:
    await model.aclose()
    await model.aclose()
    with pytest.raises(ModelUnavailable, match="is closed"):
        await model.generate(HELLO)


async def test_a_forbidden_model_is_not_called(server: ChatServer, model: OpenAIModel) -> None:
    with forbid_real_models(), pytest.raises(ModelUnavailable, match="forbidden here"):
        await model.generate(HELLO)
    assert server.requests == []


def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelUnavailable, match="variable OPENAI_API_KEY, which is not set: export"):
        OpenAIModel("gpt-x")
    with pytest.raises(ModelUnavailable, match="GROQ_KEY"):
        OpenAIModel("x", base_url="https://api.groq.com/v1", api_key_env="GROQ_KEY")


async def test_the_key_of_openai_stays_at_openai(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    server.will(saying("ok"))
    model = OpenAIModel("fake-1", base_url=server.base_url)
    await model.generate(HELLO)
    assert "sk-secret" not in json.dumps(server.headers)
    await model.aclose()


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ModelUnavailable, match=r"pip install 'trio-mob\[openai\]'"):
        OpenAIModel("gpt-x", api_key="k")


def test_a_wrong_base_url_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match="starts with http"):
        OpenAIModel("x", base_url="localhost:8000")
