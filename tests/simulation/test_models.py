"""The simulated model: what it says without faults, and that each fault does what it is called."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import trio

from mob.simulation.faults import FaultPlan, Faults
from mob.simulation.kinds import FaultKind
from mob.simulation.models import DEAF_S, SimModel
from mob.simulation.streams import Streams
from runtime.errors import ModelError
from runtime.messages import Usage, UserMessage
from runtime.models.base import ModelReply, ModelRequest, StopReason, ToolSpec
from runtime.prices import Price

Clock = trio.testing.MockClock

TOOL = ToolSpec("work", "Works.", {"type": "object", "required": ["what"], "properties": {}})
REQUEST = ModelRequest([UserMessage("hello")], tools=(TOOL,), key="t/a/0.1")


def model(kind: FaultKind | None = None, seed: int = 1, **parts: Any) -> SimModel:
    plan = FaultPlan({} if kind is None else {kind: 1.0})
    streams = Streams(seed)
    return SimModel(Faults(plan, streams), streams, **parts)


def keyed(number: int, **parts: Any) -> ModelRequest:
    return attrs.evolve(REQUEST, key=f"t/a/{number}.1", **parts)


async def outcome(
    kind: FaultKind, request: ModelRequest, seed: int = 1
) -> tuple[ModelReply | Exception | None, float]:
    """What a call comes to within an hour, and how long that took."""
    began = trio.current_time()
    made: ModelReply | Exception | None = None
    with trio.move_on_after(3600):
        try:
            made = await model(kind, seed).generate(request)
        except Exception as error:  # noqa: BLE001 whatever it is
            made = error
    return made, trio.current_time() - began


async def test_the_same_request_has_the_same_reply_whenever_it_is_made(
    autojump_clock: Clock,
) -> None:
    one, other = model(), model()
    replies = [await one.generate(keyed(number)) for number in range(30)]
    backwards = [await other.generate(keyed(number)) for number in reversed(range(30))]
    assert replies == backwards[::-1]
    assert replies != [await model(seed=2).generate(keyed(number)) for number in range(30)]
    kinds = {reply.stop for reply in replies}
    assert kinds == {StopReason.END, StopReason.TOOL_CALLS}
    assert all(json.loads(call.arguments) for reply in replies for call in reply.tool_calls)


async def test_an_answer_fits_a_schema_that_asks_for_answer_and_calls(
    autojump_clock: Clock,
) -> None:
    request = attrs.evolve(REQUEST, tools=(), output_schema={"type": "object"})
    reply = await model().generate(request)
    assert json.loads(reply.text) == {"answer": "hello", "calls": 0}


async def test_it_passes_its_crash_points(autojump_clock: Clock) -> None:
    passed: list[str] = []
    await model(passing=passed.append).generate(REQUEST)
    assert passed == ["model.called", "model.replied"]


async def test_a_retry_is_another_site(autojump_clock: Clock) -> None:
    """A call that failed once need not fail for ever."""
    streams = Streams(1)
    faults = Faults(FaultPlan.parse("only=model.error@faulty/t/a/0.1#1"), streams)
    faulty = SimModel(faults, streams)
    with pytest.raises(ModelError):
        await faulty.generate(REQUEST)
    await faulty.generate(REQUEST)
    assert faults.fired == {FaultKind.MODEL_ERROR: 1}


CHECKS: dict[FaultKind, Callable[[Any, float], bool]] = {
    FaultKind.MODEL_ERROR: lambda made, _: isinstance(made, ModelError) and made.retryable,
    FaultKind.MODEL_FATAL: lambda made, _: isinstance(made, ModelError) and not made.retryable,
    FaultKind.MODEL_HANG: lambda made, took: made is None and took == 3600,
    FaultKind.MODEL_RAISES: lambda made, _: not isinstance(made, ModelError | ModelReply),
    FaultKind.MODEL_HUGE: lambda made, _: len(made.text) >= 300_000,
    FaultKind.MODEL_TRUNCATED: lambda made, _: made.stop is StopReason.LENGTH,
    FaultKind.MODEL_DUPLICATE: lambda made, _: made.tool_calls[0] == made.tool_calls[1],
    FaultKind.MODEL_LATE: lambda _, took: took >= 1.0,
    FaultKind.MODEL_DEAF: lambda _, took: 0.1 <= took < 10,
}


@pytest.mark.parametrize("kind", CHECKS, ids=lambda kind: kind.value)
async def test_each_fault_does_what_it_is_called(kind: FaultKind, autojump_clock: Clock) -> None:
    for number in range(10):
        made, took = await outcome(kind, keyed(number))
        assert CHECKS[kind](made, took), (made, took)


async def test_garbage_comes_in_every_form(autojump_clock: Clock) -> None:
    forms = set()
    for number in range(200):
        made, _ = await outcome(FaultKind.MODEL_GARBAGE, keyed(number))
        shown = repr(made).replace(f"t/a/{number}.", "")
        forms.add(shown)
    assert len(forms) >= 10


def test_every_kind_of_a_model_is_looked_at() -> None:
    kinds = {kind for kind in FaultKind if kind.family == "model"}
    apart = {FaultKind.MODEL_GARBAGE, FaultKind.MODEL_USAGE, FaultKind.MODEL_EXACT}
    assert kinds == CHECKS.keys() | apart


async def test_usage_is_odd_in_every_form(autojump_clock: Clock) -> None:
    made = [(await outcome(FaultKind.MODEL_USAGE, keyed(number)))[0] for number in range(60)]
    used = {reply.usage for reply in made if isinstance(reply, ModelReply)}
    assert len(used) >= 6
    assert Usage() in used


async def test_what_is_left_is_spent_exactly_and_only_if_anything_bounds_it(
    autojump_clock: Clock,
) -> None:
    bounded = model(FaultKind.MODEL_EXACT, calling=lambda _request: 17)
    assert (await bounded.generate(REQUEST)).usage.total_tokens == 17
    free = await model(FaultKind.MODEL_EXACT).generate(REQUEST)
    assert free.usage == (await model().generate(REQUEST)).usage


async def test_a_price_is_on_every_reply_that_says_what_it_used(autojump_clock: Clock) -> None:
    dear = model(price=Price("3", "4"))
    usage = (await dear.generate(REQUEST)).usage
    assert usage.cost_nano_usd == usage.input_tokens * 3000 + usage.output_tokens * 4000
    garbage = model(FaultKind.MODEL_GARBAGE, price=Price("3", "4"))
    for number in range(60):
        await garbage.generate(keyed(number))


async def test_a_slow_peer_is_slow_for_peers_only(autojump_clock: Clock) -> None:
    _, took = await outcome(FaultKind.SLOW_PEER, REQUEST)
    assert took < 1
    asked = keyed(1, messages=[UserMessage("hello", "b")])
    _, took = await outcome(FaultKind.SLOW_PEER, asked)
    assert 60 <= took <= 301


async def test_a_deaf_one_swallows_one_cancellation_and_ends(autojump_clock: Clock) -> None:
    replies = []
    with trio.move_on_after(0.01) as scope:
        replies.append(await model(FaultKind.MODEL_DEAF).generate(REQUEST))
    assert trio.current_time() - scope.deadline <= DEAF_S
    assert scope.cancel_called
    assert len(replies) == 0 or isinstance(replies[0], ModelReply)
