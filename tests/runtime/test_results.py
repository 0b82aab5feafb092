"""What a caller is told of a turn, read from its record."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.messages import (
    CALL_CUT,
    CONTINUED,
    AssistantMessage,
    Message,
    ToolResult,
    UserMessage,
)
from runtime.models.base import ModelReply, StopReason
from runtime.results import last_text, result_of
from stores import MemoryStore
from tests.runtime.fakes import call, make_realm, new_session

ASK = UserMessage("go")
ON = UserMessage("go on", CONTINUED)
RESULT = ToolResult(call("a").id, "work", "ok")


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([ASK], ""),
        ([ASK, AssistantMessage("hi")], "hi"),
        ([ASK, AssistantMessage("one "), ON, AssistantMessage("two")], "one two"),
        (
            [ASK, AssistantMessage("1 "), ON, AssistantMessage("2 "), ON, AssistantMessage("3")],
            "1 2 3",
        ),
        # Cut off and interrupted before it went on.
        ([ASK, AssistantMessage("one "), ON], "one "),
        ([ASK, AssistantMessage("hm", (call("a"),)), RESULT, AssistantMessage("two")], "two"),
        ([ASK, AssistantMessage("hm", (call("a"),)), RESULT], "hm"),
        (
            [
                ASK,
                AssistantMessage("I look."),
                UserMessage("again", CALL_CUT),
                AssistantMessage("x"),
            ],
            "x",
        ),
        ([ASK, AssistantMessage("{"), UserMessage("no", "schema"), AssistantMessage("{}")], "{}"),
        # A member called "length" asked: nothing was said before that.
        ([ON, AssistantMessage("hi")], "hi"),
    ],
)
def test_the_last_reply(messages: list[Message], text: str) -> None:
    class Record:
        def __init__(self) -> None:
            self.messages = messages

    record: Any = Record()
    assert last_text(record) == text


async def test_an_answer_in_two_parts_is_one_answer_and_one_without_an_end_is_flagged() -> None:
    """Continued once, then the result says `truncated`."""

    def part(text: str) -> ModelReply:
        return ModelReply(text, (), StopReason.LENGTH)

    realm = make_realm(MemoryStore(), [part("one "), "two", part("three "), part("four")])
    session = await new_session(realm)
    result = await realm.runner.send_message(session, "go")
    assert (result.text, result.truncated) == ("one two", False)
    result = await realm.runner.send_message(session, "go")
    assert (result.text, result.truncated) == ("three four", True)
    assert result_of(realm.turn(realm.state.head(session).head)).truncated
