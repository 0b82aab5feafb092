"""Tools for models without tools: what the model is asked, and how its reply is read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.errors import ModelError
from runtime.ids import ToolCallId
from runtime.messages import (
    AssistantMessage,
    Message,
    SystemMessage,
    ToolCall,
    ToolOutcome,
    ToolResult,
    Usage,
    UserMessage,
)
from runtime.models.base import ModelReply, ModelRequest, StopReason, ToolSpec
from runtime.models.jsontools import JsonTools
from runtime.models.scripted import Line, ScriptedModel
from runtime.structured import check_schema, mistakes_in

SEARCH = ToolSpec(
    "search",
    "Searches the notes.",
    {
        "type": "object",
        "title": "SearchArgs",
        "properties": {
            "query": {"type": "string", "description": "what to look for"},
            "limit": {"type": "integer"},
            "order": {"enum": ["new", "old"]},
        },
        "required": ["query"],
    },
)
TREE = ToolSpec(
    "grow",
    "Grows a tree.",
    {
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/node"}, "$ref": {"type": "string"}},
        "required": ["root"],
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
                "additionalProperties": False,
            }
        },
    },
)
FINDING = {"type": "object", "properties": {"claim": {"type": "string"}}, "required": ["claim"]}
BOUNDED = {**FINDING, "properties": {"claim": {"type": "string", "maxLength": 200}}}
QUESTION = UserMessage("How high is the tide?")
CALL = ToolCall(ToolCallId("s/1/1#0"), "search", '{"query": "tide"}')
ANSWERED = (QUESTION, AssistantMessage("", (CALL,)), ToolResult(CALL.id, "search", "One metre."))


async def ask(
    *lines: Line, messages: tuple[Message, ...] = (QUESTION,), **asked: Any
) -> tuple[ModelReply, list[ModelRequest]]:
    model = ScriptedModel(lines, name="script:small", supports_tools=False)
    asked.setdefault("tools", (SEARCH,))
    reply = await JsonTools(model, example=False).generate(
        ModelRequest(messages, key="s/1/2", **asked)
    )
    return reply, model.requests


async def test_without_tools_and_schema_the_request_goes_through_untouched() -> None:
    model = ScriptedModel(["Hi."], supports_tools=False)
    request = ModelRequest((QUESTION, AssistantMessage("Hm.")), options={"temperature": 0})
    pieces: list[str] = []
    reply = await JsonTools(model).generate(request, pieces.append)
    assert (reply.text, pieces) == ("Hi.", ["Hi."])
    assert model.requests == [request]


async def test_a_forced_tool_asks_for_its_arguments_only() -> None:
    reply, [asked] = await ask('{"query": "tide"}', tool_choice="search", instructions="Be brief.")
    assert reply.tool_calls == (ToolCall(ToolCallId("s/1/2#0"), "search", '{"query": "tide"}'),)
    assert (reply.text, reply.stop) == ("", StopReason.TOOL_CALLS)
    assert asked.instructions == (
        "Be brief.\n\nCall the tool search: Searches the notes.\n"
        "Reply with its arguments as JSON:\n- query: what to look for\n- limit (optional) (integer)"
        "\n- order (optional), one of new, old"
    )
    assert asked.output_schema == {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "what to look for", "maxLength": 200},
            "limit": {"type": "integer"},
            "order": {"enum": ["new", "old"]},
        },
        "required": ["query"],
    }
    assert (asked.tools, asked.tool_choice) == ((), "auto")


async def test_the_only_tool_required_is_forced() -> None:
    _, [asked] = await ask('{"query": "tide"}', tool_choice="required")
    assert asked.output_schema is not None
    assert "anyOf" not in asked.output_schema


async def test_a_choice_of_tools_names_one() -> None:
    said = '{"tool": "search", "arguments": {"query": "tide"}}'
    reply, [asked] = await ask(said, tools=(SEARCH, TREE), tool_choice="required")
    assert [(c.name, c.arguments) for c in reply.tool_calls] == [("search", '{"query": "tide"}')]
    assert asked.output_schema is not None
    assert len(asked.output_schema["anyOf"]) == 2, "no answer instead"


async def test_references_keep_their_meaning_inside_the_choice() -> None:
    kids = {"tool": "grow", "arguments": {"root": {"kids": [{"kids": []}]}}}
    _, [asked] = await ask(json.dumps(kids), tools=(SEARCH, TREE))
    schema = asked.output_schema
    assert schema is not None
    assert check_schema(schema) is None
    assert mistakes_in(schema, kids) is None
    kids["arguments"]["root"]["kids"].append({"leaf": 1})  # type: ignore[index]
    assert mistakes_in(schema, kids) is not None


@pytest.mark.parametrize(
    "said", ['{"answer": "One metre."}', "One metre.", '```json\n{"answer": "One metre."}\n```']
)
async def test_an_answer_instead_of_a_call(said: str) -> None:
    reply, requests = await ask(said)
    assert (reply.text, reply.tool_calls, reply.stop) == ("One metre.", (), StopReason.END)
    assert len(requests) == 1


@pytest.mark.parametrize("said", ['{"answer": {"claim": "1 m"}}', '{"claim": "1 m"}'])
async def test_an_answer_under_a_schema(said: str) -> None:
    reply, [asked] = await ask(said, output_schema=FINDING)
    assert json.loads(reply.text) == {"claim": "1 m"}
    assert "The answer:\n- claim" in asked.instructions


async def test_an_answer_whose_schema_has_an_answer() -> None:
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string"}},
        "required": ["answer"],
    }
    for said in ('{"answer": {"answer": "1 m"}}', '{"answer": "1 m"}'):
        reply, _ = await ask(said, output_schema=schema)
        assert json.loads(reply.text) == {"answer": "1 m"}


async def test_the_history_becomes_plain_messages() -> None:
    failed = ToolResult(ToolCallId("b"), "read", "no such file", ToolOutcome.ERROR)
    messages = (
        SystemMessage("Today is Monday."),
        QUESTION,
        AssistantMessage("Let me see.", (CALL, ToolCall(ToolCallId("b"), "read", "{}"))),
        ToolResult(CALL.id, "search", "One metre."),
        failed,
    )
    _, [asked] = await ask('{"answer": "x"}', messages=messages)
    assert asked.messages == (
        SystemMessage("Today is Monday."),
        QUESTION,
        AssistantMessage(
            'Let me see.\n{"tool": "search", "arguments": {"query": "tide"}}\n'
            '{"tool": "read", "arguments": {}}'
        ),
        UserMessage(
            "Result of search: One metre.\n\nread failed: no such file"
            "\n\nUse this to answer: How high is the tide?"
        ),
    )


async def test_a_history_with_tools_is_plain_even_when_none_is_offered() -> None:
    _, [asked] = await ask("One metre.", messages=ANSWERED, tools=(), output_schema=FINDING)
    assert asked.messages == (UserMessage("How high is the tide?\n\nOne metre."),)
    assert asked.output_schema == BOUNDED
    _, [asked] = await ask("One metre.", messages=ANSWERED, tool_choice="none")
    assert (asked.tools, asked.tool_choice, asked.output_schema) == ((), "auto", None)


CUT = ModelReply('{"query": "tide tide ti', stop=StopReason.LENGTH, usage=Usage(5, 9, 1))


async def test_a_broken_call_is_repaired_once_and_paid_for_twice() -> None:
    good = ModelReply('{"query": "tide"}', usage=Usage(7, 3, 1))
    reply, [first, second] = await ask(CUT, good, tool_choice="search")
    assert reply.tool_calls[0].arguments == '{"query": "tide"}'
    assert reply.usage == Usage(12, 12, 2)
    assert second.messages[:-2] == first.messages
    assert second.messages[-2:] == (
        AssistantMessage(CUT.text),
        UserMessage(
            "The answer was cut off: it was too long. Reply again, shorter, with the JSON only."
        ),
    )
    assert first.key != second.key


async def test_a_forced_call_that_stays_broken_is_a_retryable_error() -> None:
    with pytest.raises(ModelError, match=r"script:small.*two attempts.*cut off") as caught:
        await ask(CUT, CUT, tool_choice="search")
    assert (caught.value.retryable, caught.value.provider) == (True, "script")


async def test_an_answer_that_stays_broken_is_text() -> None:
    reply, requests = await ask("{oops", "{still", output_schema=FINDING)
    assert (reply.text, reply.tool_calls, len(requests)) == ("{still", (), 2)


async def test_arguments_that_stay_wrong_go_to_the_dispatcher() -> None:
    wrong = '{"tool": "search", "arguments": {"query": 3}}'
    reply, [_, second] = await ask(wrong, wrong)
    assert reply.tool_calls[0].arguments == '{"query": 3}'
    assert "at query: 3 is not of type 'string'" in second.messages[-1].text


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ('{"tool": "dance", "arguments": {}}', "no tool 'dance'. The tools are: search."),
        ('{"what": 1}', 'must be {"answer": ...} or name a tool'),
        ('{"tool": "search", "arguments": [1]}', "must be a JSON object"),
    ],
)
async def test_what_is_wrong_is_said(said: str, says: str) -> None:
    _, [_, second] = await ask(said, '{"answer": "x"}')
    assert says in second.messages[-1].text


async def test_an_answer_where_a_call_is_required_is_sent_back() -> None:
    call = '{"tool": "grow", "arguments": {"root": {}}}'
    reply, requests = await ask("I would rather not.", call, tools=(SEARCH, TREE),
                                tool_choice="required")  # fmt: skip
    assert (reply.tool_calls[0].name, len(requests)) == ("grow", 2)


async def test_a_choice_of_what_is_not_offered_is_an_error() -> None:
    with pytest.raises(ModelError, match="'dance', and no such tool is offered"):
        await ask("x", tool_choice="dance")


async def test_a_worked_example_comes_before_the_history() -> None:
    model = ScriptedModel(['{"query": "x"}', '{"answer": {"claim": "1 m"}}'], supports_tools=False)
    tools = JsonTools(model)
    forced = ModelRequest((QUESTION,), tools=(SEARCH,), tool_choice="search")
    await tools.generate(forced)
    assert model.requests[0].messages == (
        UserMessage("What colour is the bridge of Genoa?"),
        AssistantMessage('{"query": "colour bridge Genoa"}'),
        QUESTION,
    )
    await tools.generate(ModelRequest((QUESTION,), tools=(SEARCH,), output_schema=FINDING))
    question, call, result, answer, asked = model.requests[1].messages
    assert call.text == '{"tool": "search", "arguments": {"query": "colour bridge Genoa"}}'
    assert result.text.endswith(f"Use this to answer: {question.text}")
    assert answer.text == '{"answer": {"claim": "The bridge of Genoa is grey."}}'
    assert asked == QUESTION


async def test_a_schema_without_tools_gets_an_example_too() -> None:
    model = ScriptedModel(['{"claim": "1 m"}'], supports_tools=False)
    await JsonTools(model).generate(ModelRequest((QUESTION,), output_schema=FINDING))
    [asked] = model.requests
    assert asked.output_schema == BOUNDED
    assert [message.text for message in asked.messages] == [
        "What colour is the bridge of Genoa?\n\nThe bridge of Genoa is grey.",
        '{"claim": "The bridge of Genoa is grey."}',
        "How old is the oak of Ely?\n\nThe oak of Ely has stood for nine hundred years.",
        '{"claim": "The oak of Ely has stood for nine hundred years."}',
        QUESTION.text,
    ]


async def test_a_tool_without_a_possible_example_goes_without() -> None:
    code = {"type": "object", "properties": {"c": {"pattern": "^[0-9]{9}$"}}, "required": ["c"]}
    model = ScriptedModel(['{"c": "123456789"}'], supports_tools=False)
    request = ModelRequest((QUESTION,), tools=(ToolSpec("t", "", code),), tool_choice="t")
    assert (await JsonTools(model).generate(request)).tool_calls
    assert model.requests[0].messages == (QUESTION,)


RUN_ON = ModelReply('{"tool": "search", "arg', stop=StopReason.LENGTH, usage=Usage(5, 9, 1))


@pytest.mark.parametrize("lost", ['{"tool": "search", "arguments": {"query":"tide"}}', RUN_ON])
async def test_a_model_that_loses_itself_is_asked_for_its_answer(lost: Line) -> None:
    reply, [_, second] = await ask(lost, "One metre.", messages=ANSWERED)
    assert (reply.text, reply.tool_calls) == ("One metre.", ())
    assert reply.usage.model_calls == 2
    assert second.output_schema is None
    assert second.messages == (UserMessage("How high is the tide?\n\nOne metre."),)


async def test_a_model_that_has_called_often_has_to_answer() -> None:
    rounds: list[Message] = [QUESTION]
    for n in range(4):
        call = ToolCall(ToolCallId(f"c{n}"), "search", f'{{"query": "{n}"}}')
        rounds += [AssistantMessage("", (call,)), ToolResult(call.id, "search", "Nothing.")]
    reply, [asked] = await ask("I do not know.", messages=tuple(rounds))
    assert (reply.text, asked.output_schema) == ("I do not know.", None)
    again, _ = await ask('{"query": "y"}', messages=tuple(rounds), tool_choice="search")
    assert again.tool_calls, "forced all the same"
    fresh, _ = await ask(
        '{"tool": "search", "arguments": {"query": "z"}}',
        messages=(*rounds, AssistantMessage("No."), UserMessage("And now?")),
    )
    assert fresh.tool_calls, "another turn"


async def test_emit_sees_answers_only() -> None:
    model = ScriptedModel(['{"query": "x"}', '{"answer": "One metre."}'], supports_tools=False)
    tools = JsonTools(model)
    pieces: list[str] = []
    request = ModelRequest((QUESTION,), tools=(SEARCH,), tool_choice="search")
    await tools.generate(request, pieces.append)
    assert pieces == []
    await tools.generate(ModelRequest((QUESTION,), tools=(SEARCH,)), pieces.append)
    assert pieces == ["One metre."]
    await tools.aclose()
    assert model.closed


ASK = ToolSpec(
    "ask",
    "Asks a colleague.",
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "message": {"type": "string", "minLength": 1}},
        "required": ["name", "message"],
    },
)
TELL = ToolSpec(
    "tell",
    "Tells a colleague.",
    {"type": "object", "properties": {"message": {"type": "string"}}, "required": ["message"]},
)


async def test_a_message_that_a_forced_call_passes_on_is_filled_in_word_for_word() -> None:
    reply, [asked] = await ask(
        '{"name": "bob"}', tools=(ASK,), tool_choice="ask", messages=ANSWERED
    )
    [call] = reply.tool_calls
    assert json.loads(call.arguments) == {
        "name": "bob",
        "message": "How high is the tide?\n\nOne metre.",
    }
    assert asked.output_schema is not None
    assert asked.output_schema["required"] == ["name"]
    assert "message" not in asked.instructions


async def test_a_call_that_only_passes_a_message_on_costs_no_model_call() -> None:
    reply, requests = await ask(tools=(TELL,), tool_choice="tell")
    [call] = reply.tool_calls
    assert json.loads(call.arguments) == {"message": "How high is the tide?"}
    assert (requests, reply.usage, reply.stop) == ([], Usage(), StopReason.TOOL_CALLS)


async def test_passing_on_can_be_left_to_the_model() -> None:
    model = ScriptedModel(['{"message": "Tide?"}'], supports_tools=False)
    request = ModelRequest((QUESTION,), tools=(TELL,), tool_choice="tell")
    reply = await JsonTools(model, relay=False).generate(request)
    assert reply.tool_calls[0].arguments == '{"message": "Tide?"}'


async def test_a_quotation_is_chosen_from_what_the_tools_said() -> None:
    schema = {
        "type": "object",
        "properties": {
            "source": {"enum": ["tides", "moons"], "type": "string", "format": "quote"},
            "fact": {"type": "string", "format": "quote"},
        },
    }
    said = '[{"source": "tides", "text": "The tide is one metre high. It turns at noon."}]'
    messages = (*ANSWERED[:2], ToolResult(CALL.id, "search", said))
    _, [asked] = await ask("{}", messages=messages, tools=(), output_schema=schema)
    assert asked.output_schema is not None
    properties = asked.output_schema["properties"]
    assert properties["source"]["enum"] == ["tides"]
    assert properties["fact"]["enum"] == ["The tide is one metre high."]
    _, [asked] = await ask("{}", tools=(), output_schema=schema)
    assert asked.output_schema is not None
    assert "enum" not in asked.output_schema["properties"]["fact"], "nothing was said yet"
