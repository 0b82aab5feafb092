"""What a turn has found out, in words for models that know neither tools nor JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.ids import ToolCallId
from runtime.messages import (
    AssistantMessage,
    Message,
    ToolCall,
    ToolOutcome,
    ToolResult,
    UserMessage,
)
from runtime.models.retelling import merged, quoting, relayed, words
from runtime.structured import mistakes_in

QUESTION = UserMessage("How high is the tide?")
REPLIES = json.dumps(
    [
        {"member": "ann", "reply": '{"source": "tides", "fact": "It is one metre high."}'},
        {"member": "bob", "error": "gone"},
    ]
)


def result(text: str, outcome: ToolOutcome = ToolOutcome.OK) -> ToolResult:
    return ToolResult(ToolCallId("c"), "ask", text, outcome)


def turn(*results: ToolResult) -> tuple[Message, ...]:
    return (QUESTION, AssistantMessage("", (ToolCall(ToolCallId("c"), "ask", "{}"),)), *results)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("One metre.", "One metre."),
        ({"n": 1, "high": True}, "n: 1\nhigh: true"),
        (
            {"source": "tides", "text": "It is one metre high."},
            "source: tides\nIt is one metre high.",
        ),
        ([{"a": "x"}, {"a": "y"}], "a: x\n\na: y"),
        ({}, ""),
    ],
)
def test_json_in_words(value: Any, said: str) -> None:
    assert words(value) == said


def test_results_stand_below_their_question_without_the_calls() -> None:
    [message] = merged(turn(result(REPLIES)), labels=True)
    assert message == UserMessage(
        "How high is the tide?\n\n"
        "member: ann\nsource: tides\nIt is one metre high.\n\nmember: bob\nerror: gone"
    )


def test_without_labels_sentences_are_left_and_each_is_said_once() -> None:
    [message] = merged(turn(result(REPLIES), result(REPLIES), result("no")), labels=False)
    assert message.text == "How high is the tide?\n\nIt is one metre high."


def test_results_that_are_no_sentences_are_left_if_there_are_no_others() -> None:
    [message] = merged(turn(result('{"n": 1}')), labels=False)
    assert message.text == "How high is the tide?\n\nn: 1"


def test_a_failure_is_said() -> None:
    [message] = merged(turn(result("no such file", ToolOutcome.ERROR)), labels=True)
    assert message.text == "How high is the tide?\n\nask failed: no such file"


def test_below_a_page_of_results_the_question_is_asked_again() -> None:
    [message] = merged(turn(result("It is one metre high. " * 60)), labels=True)
    assert message.text.endswith(f"\n\n{QUESTION.text}")
    assert message.text.startswith(QUESTION.text)


def test_earlier_turns_keep_their_questions_and_answers() -> None:
    before = (*turn(result("One metre.")), AssistantMessage("It is one metre."))
    assert merged((*before, QUESTION), labels=True) == (
        UserMessage("How high is the tide?\n\nOne metre."),
        AssistantMessage("It is one metre."),
        QUESTION,
    )


TOLD = "source: tides\nThe tide is high. It turns at noon.\nBring your boots along!"


@pytest.mark.parametrize(
    ("asked", "choice"),
    [
        ({"format": "quote"}, ["The tide is high.", "Bring your boots along!"]),
        ({"format": "quote", "maxLength": 20}, ["The tide is high."]),
        ({"format": "quote", "enum": ["tides", "moons"]}, ["tides"]),
        (
            {"format": "excerpt"},
            [
                "The tide is high.",
                "Bring your boots along!",
                "The tide is high. Bring your boots along!",
            ],
        ),
        ({"format": "excerpt", "minLength": 30}, ["The tide is high. Bring your boots along!"]),
    ],
)
def test_what_may_be_quoted(asked: dict[str, Any], choice: list[str]) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", **asked}}}
    made = quoting(schema, TOLD)
    assert made["properties"]["x"]["enum"] == choice
    assert all(mistakes_in(schema, {"x": each}) is None for each in choice)


def test_without_anything_to_quote_the_schema_stays() -> None:
    schema = {"type": "array", "items": [{"type": "string", "format": "quote"}], "format": "quote"}
    assert quoting(schema, "") == schema
    assert quoting({"properties": {"format": {"type": "string"}}}, TOLD) == {
        "properties": {"format": {"type": "string"}}
    }


def test_sentences_with_a_pronoun_are_quoted_if_there_are_no_others() -> None:
    made = quoting({"type": "string", "format": "quote"}, "It turns at noon.")
    assert made["enum"] == ["It turns at noon."]


@pytest.mark.parametrize(
    ("name", "part", "passed_on"),
    [
        ("message", {"type": "string"}, True),
        ("instructions", {"type": "string"}, True),
        ("first_question", {"type": "string"}, True),
        ("message_id", {"type": "string"}, False),
        ("query", {"type": "string"}, False),
        ("message", {"type": "integer"}, False),
        ("message", {"type": "string", "enum": ["a"]}, False),
        ("message", {"type": "string", "maxLength": 3}, False),
    ],
)
def test_what_is_passed_on(name: str, part: dict[str, Any], passed_on: bool) -> None:
    schema = {"type": "object", "properties": {name: part}, "required": [name]}
    assert relayed(schema, "How high?") == ({name: "How high?"} if passed_on else {})
    assert relayed({**schema, "required": []}, "How high?") == {}
