"""ScriptedModel says its lines and nothing else."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from runtime.errors import ModelError
from runtime.messages import ToolCall, Usage, UserMessage
from runtime.models.base import ModelReply, ModelRequest, StopReason
from runtime.models.scripted import ScriptedModel, ScriptExhausted, calling


def asking(text: str, key: str = "s/1/1") -> ModelRequest:
    return ModelRequest([UserMessage(text)], key=key)


async def test_lines_are_said_in_order_and_requests_kept() -> None:
    history = [UserMessage("a")]
    model = ScriptedModel(["one", ModelReply("two", usage=Usage(1, 2, 1))])
    first = await model.generate(ModelRequest(history))
    history.append(UserMessage("later"))
    second = await model.generate(asking("b"))
    assert (first.text, second) == ("one", ModelReply("two", usage=Usage(1, 2, 1)))
    assert [request.messages[-1].text for request in model.requests] == ["a", "b"]
    assert model.remaining == 0


async def test_running_out_fails_the_test_rather_than_the_model() -> None:
    model = ScriptedModel(["only"])
    await model.generate(asking("a"))
    with pytest.raises(ScriptExhausted, match=r"all 1 lines.*key 's/9/1'.*'what\?'"):
        await model.generate(asking("what?", key="s/9/1"))


async def test_an_exception_is_raised() -> None:
    model = ScriptedModel([ModelError("busy", provider="x", retryable=True), "then"])
    with pytest.raises(ModelError, match="busy"):
        await model.generate(asking("a"))
    assert (await model.generate(asking("a"))).text == "then"


async def test_functions_answer_for_ever_and_may_wait() -> None:
    gate = trio.Event()

    async def answer(request: ModelRequest) -> str:
        await gate.wait()
        return request.messages[-1].text.upper()

    model = ScriptedModel(answer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(model.generate, asking("a"))
        await trio.testing.wait_all_tasks_blocked()
        gate.set()
    assert (await model.generate(asking("b"))).text == "B"


async def test_a_line_may_be_a_function() -> None:
    model = ScriptedModel([lambda request: calling(("t", {"n": len(request.messages)}))])
    reply = await model.generate(asking("a"))
    assert reply.tool_calls == (ToolCall("s/1/1#0", "t", '{"n": 1}'),)  # type: ignore[arg-type]


async def test_calls_get_ids_from_the_key_and_may_be_malformed() -> None:
    model = ScriptedModel([calling(("a", {}), ("b", "{bad"), text="Looking.")])
    pieces: list[str] = []
    reply = await model.generate(asking("x", key="s/2/3"), pieces.append)
    assert [(c.id, c.name, c.arguments) for c in reply.tool_calls] == [
        ("s/2/3#0", "a", "{}"),
        ("s/2/3#1", "b", "{bad"),
    ]
    assert (pieces, reply.stop) == (["Looking."], StopReason.TOOL_CALLS)
