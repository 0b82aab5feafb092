"""The models that benchmarks have closed forms of: right, or failing, as often as told."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import trio
import trio.testing

from runtime.errors import ModelError
from runtime.messages import AssistantMessage, ToolResult, UserMessage
from runtime.models.base import ModelReply, ModelRequest, StopReason, ToolSpec
from runtime.models.flaky import FlakyModel
from runtime.models.solver import SolverModel, Task, majority

TEXT = "Which?\nchoices: A B C\nanswer: B"
SUBMIT = ToolSpec(
    "submit",
    "",
    {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]},
)


def said(text: str = TEXT, key: str = "m/a/0.1", **options: Any) -> ModelReply:
    return SolverModel().plan(ModelRequest((UserMessage(text),), key=key, options=options))[0]


def test_a_message_says_what_is_right_and_how_long_it_takes() -> None:
    assert Task.of(f"{TEXT}\nsaid: A A B\ntakes: 0.5") == Task(
        "B", ("A", "B", "C"), ("A", "A", "B"), 0.5
    )
    assert Task.of("nothing of it") == Task()
    assert said("nothing of it").text == "nothing of it"


@pytest.mark.parametrize("accuracy", [0.0, 0.3, 0.9, 1.0])
def test_it_is_right_as_often_as_it_is_told(accuracy: float) -> None:
    texts = [said(key=f"m/a/{turn}.1", accuracy=accuracy).text for turn in range(2000)]
    right = texts.count("B") / len(texts)
    assert abs(right - accuracy) <= 4 * math.sqrt(accuracy * (1 - accuracy) / len(texts))
    assert set(texts) <= {"A", "B", "C"}


def test_what_others_said_counts_more_than_what_is_right() -> None:
    text = f"{TEXT}\nsaid: A C A"
    assert said(text, accuracy=1.0, follows=1.0).text == "A"
    assert said(text, accuracy=1.0, follows=0.0).text in {"B", "C"}
    assert majority(("B", "A", "A", "B")) == "B", "of several what was said first"


def test_seed_and_turn_choose_and_nothing_else_does() -> None:
    keys = [f"m/a/{turn}.1" for turn in range(50)]
    one = [said(key=key, accuracy=0.5, seed=1).text for key in keys]
    assert one == [said(key=key, accuracy=0.5, seed=1).text for key in keys]
    assert one != [said(key=key, accuracy=0.5, seed=2).text for key in keys]
    assert one == [said(key=f"{key[:-2]}.7", accuracy=0.5, seed=1).text for key in keys]


@pytest.mark.parametrize(("options", "steps"), [({"calls": 3}, 3), ({"calls": 3, "at_once": 1}, 1)])
def test_it_calls_tools_as_often_as_it_is_told_and_then_answers(
    options: dict[str, Any], steps: int
) -> None:
    messages: list[Any] = [UserMessage(TEXT)]
    calls = 0
    for step in range(steps + 1):
        request = ModelRequest(tuple(messages), tools=(SUBMIT,), key=f"k/0.{step}", options=options)
        reply, _ = SolverModel().plan(request)
        if step == steps:
            assert (reply.text, reply.tool_calls) == ("B", ())
            break
        assert reply.stop is StopReason.TOOL_CALLS
        calls += len(reply.tool_calls)
        messages.append(AssistantMessage("", reply.tool_calls))
        for call in reply.tool_calls:
            assert json.loads(call.arguments)["answer"] == "B"
            messages.append(ToolResult(call.id, call.name, "ok"))
    assert calls == 3
    assert len({each.call_id for each in messages if isinstance(each, ToolResult)}) == 3


def test_the_number_of_calls_lies_between_its_bounds() -> None:
    drawn = set()
    for turn in range(60):
        options = {"calls": [3, 5], "at_once": True}
        request = ModelRequest(
            (UserMessage(TEXT),), tools=(SUBMIT,), key=f"k/{turn}.1", options=options
        )
        drawn.add(len(SolverModel().plan(request)[0].tool_calls))
    assert drawn == {3, 4, 5}


@pytest.mark.parametrize("options", [{"accuracy": 1.5}, {"accuracy": "high"}, {"accuracy": True}])
def test_what_is_no_probability_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="accuracy is a probability from 0 to 1"):
        said(**options)


async def test_it_takes_as_long_as_the_message_says(autojump_clock: trio.testing.MockClock) -> None:
    request = ModelRequest((UserMessage(f"{TEXT}\ntakes: 2.5"),), options={"latency_s": 9})
    began_s = trio.current_time()
    await SolverModel().generate(request)
    assert trio.current_time() - began_s == pytest.approx(2.5)


async def test_storms_come_in_runs_of_calls(autojump_clock: trio.testing.MockClock) -> None:
    model = FlakyModel()
    options = {"fails": 0.4, "storm": 10, "retry_after_s": 3, "slow": 0.5, "slow_s": 2, "seed": 4}
    weather: list[bool] = []
    refusals: set[tuple[int | None, bool, float | None]] = set()
    slow = 0
    for _ in range(2000):
        began_s = trio.current_time()
        try:
            reply = await model.generate(ModelRequest((UserMessage("hello"),), options=options))
            assert (reply.text, reply.model) == ("hello", "sim:flaky")
            slow += trio.current_time() - began_s == pytest.approx(2)
            weather.append(False)
        except ModelError as error:
            refusals.add((error.status, error.retryable, error.retry_after_s))
            weather.append(True)
    assert refusals == {(429, True, 3.0)}
    runs = [set(weather[at : at + 10]) for at in range(0, 2000, 10)]
    assert all(len(run) == 1 for run in runs)
    assert abs(sum(weather) / 2000 - 0.4) <= 4 * math.sqrt(0.4 * 0.6 / 200)
    served = weather.count(False)
    assert abs(slow / served - 0.5) <= 4 * math.sqrt(0.25 / served)
