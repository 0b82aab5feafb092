"""Messages: their tuple form, and what a valid sequence of them is (CONTRACTS 2.8)."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given

from runtime.messages import (
    NO_USAGE,
    AssistantMessage,
    Message,
    SystemMessage,
    ToolOutcome,
    ToolResult,
    Usage,
    UserMessage,
    check_sequence,
    open_calls,
    pack_message,
    unpack_message,
)
from tests.runtime import strategies
from tests.runtime.fakes import call


@given(strategies.messages)
def test_every_message_comes_back_equal_through_bytes(message: Message) -> None:
    packed = msgpack.unpackb(msgpack.packb(pack_message(message)), use_list=False)
    assert unpack_message(packed) == message


#: The tuple form of version 1: a change here is a change of the journal, which needs a migration.
FORMS: list[tuple[Message, Any]] = [
    (SystemMessage("be brief", "host"), (0, "be brief", "host")),
    (UserMessage("hi", None), (1, "hi", None)),
    (
        AssistantMessage("", (call("c1", "add", "[1]"),), "sim:x", Usage(1, 2, 3, 4)),
        (2, "", (("c1", "add", "[1]"),), "sim:x", (1, 2, 3, 4)),
    ),
    *[
        (ToolResult(call("c1").id, "add", "3", outcome), (3, "c1", "add", "3", number))
        for number, outcome in enumerate(
            [ToolOutcome.OK, ToolOutcome.ERROR, ToolOutcome.INTERRUPTED, ToolOutcome.UNKNOWN]
        )
    ],
]


@pytest.mark.parametrize(("message", "form"), FORMS)
def test_the_stored_form_never_changes(message: Message, form: Any) -> None:
    assert pack_message(message) == form
    assert unpack_message(form) == message


@pytest.mark.parametrize(
    "form",
    [
        (4, "an unknown tag"),
        ("1", "hi", None),
        (1, "hi"),
        (1, "hi", None, "a field too many"),
        (1, 7, None),
        (1, "hi", 7),
        (0, None, None),
        (2, "", (), None),
        (2, "", (), None, (1, 2, 3)),
        (2, "", (), None, (1, 2, 3, "4")),
        (2, "", (), None, (1, 2, 3, 4, 5)),
        (2, "", (("c1", "add"),), None, (0, 0, 0, 0)),
        (2, "", (("c1", "add", 1),), None, (0, 0, 0, 0)),
        (3, "c1", "add", "3", 5),
        (3, "c1", "add", "3", None),
        (3, "c1", "add", 3, 0),
        (True, "hi", None),
    ],
)
def test_what_is_not_a_message_is_an_error_and_not_a_guess(form: Any) -> None:
    with pytest.raises(ValueError, match=r"not a|unknown"):
        unpack_message(form)


def test_usage_adds_up_by_field() -> None:
    assert Usage(1, 2, 3, 4) + Usage(10, 20, 30, 40) == Usage(11, 22, 33, 44)
    assert NO_USAGE + Usage(1, 2, 3, 4) == Usage(1, 2, 3, 4) == Usage(1, 2, 3, 4) + NO_USAGE
    assert Usage(1, 2, 3, 4).total_tokens == 3


def result(call_id: str) -> ToolResult:
    return ToolResult(call(call_id).id, "work", "")


def asked(*ids: str) -> AssistantMessage:
    return AssistantMessage("", tuple(call(call_id) for call_id in ids))


USER = UserMessage("hi")
SAID = AssistantMessage("hello")


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([], None),
        ([USER, SAID], None),
        ([USER, asked("a", "b"), result("b"), result("a"), SAID], None),
        ([USER, asked("a"), result("a"), asked("a"), result("a")], None),
        ([USER, result("a")], "answers no pending call"),
        ([USER, asked("a"), result("a"), result("a")], "answers no pending call"),
        ([USER, asked("a"), SAID], "not answered before"),
        ([USER, asked("a", "b"), result("a"), USER], "not answered before"),
        ([USER, asked("a", "a"), result("a")], "twice"),
        ([USER, asked("a")], "unanswered"),
    ],
)
def test_a_sequence_is_valid_if_every_result_answers_one_pending_call(
    messages: list[Message], why: str | None
) -> None:
    """CONTRACTS 2.8."""
    found = check_sequence(messages)
    assert found is None if why is None else found is not None and why in found


def test_open_calls_are_those_of_the_last_reply_without_a_result() -> None:
    assert open_calls([USER, asked("a"), result("a")]) == ()
    assert open_calls([USER, asked("a", "b", "c"), result("b")]) == (call("a"), call("c"))
