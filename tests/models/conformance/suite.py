"""What every model client must do, stated once.

Owns: the promises of `runtime.models.base.Model` as tests. Must not: know a provider.

A client's test module subclasses `ModelConformance` and gives it a fixture `subject`: the model
and a way to make what stands behind it say something. Simulated models say what they like, so the
tests assert only what the port promises. The idea is Hypothesis's ``provider_conformance``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import attrs
import pytest
import trio
import trio.testing

from runtime.ids import ToolCallId
from runtime.messages import AssistantMessage, ToolCall, ToolResult, UserMessage, check_sequence
from runtime.models.base import Model, ModelReply, ModelRequest, StopReason, ToolSpec
from runtime.structured import Parsed, mistakes_in, parse_output

SEARCH = ToolSpec(
    "search_notes",
    "Searches the notes.",
    {
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "what to look for"},
            "limit": {"type": "integer", "minimum": 1, "maximum": 5},
        },
        "required": ["query"],
        "additionalProperties": False,
    },
)
READ = ToolSpec(
    "read_note",
    "Reads one note.",
    {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
)
FINDING = {
    "type": "object",
    "properties": {
        "claim": {"type": "string"},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["claim", "confidence"],
    "additionalProperties": False,
}
QUESTION = UserMessage("What do the notes say about the tides of Venice?")
CALL = ToolCall(ToolCallId("s/1/1#0"), "search_notes", '{"query": "tides Venice"}')
ANSWERED = (QUESTION, AssistantMessage("", (CALL,)), ToolResult(CALL.id, CALL.name, "Twice a day."))


@attrs.frozen
class Wish:
    """What the other side should answer next, where it can be told."""

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()


@attrs.frozen
class Subject:
    """A client under test. `will` is called before each request that expects something."""

    model: Model
    will: Callable[[Wish], None] = lambda wish: None
    #: Whether it heeds tools and schemas (sim:echo does not).
    obeys: bool = True


def one_call(request: ModelRequest, reply: ModelReply) -> None:
    """Every promise about a reply that calls tools."""
    offered = {tool.name: tool for tool in request.tools}
    assert reply.tool_calls
    assert reply.stop is StopReason.TOOL_CALLS
    for call in reply.tool_calls:
        assert mistakes_in(offered[call.name].parameters, json.loads(call.arguments)) is None
    message = AssistantMessage(reply.text, reply.tool_calls)
    results = [ToolResult(call.id, call.name, "ok") for call in reply.tool_calls]
    assert check_sequence([*request.messages, message, *results]) is None
    known = {
        c.id for m in request.messages if isinstance(m, AssistantMessage) for c in m.tool_calls
    }
    assert not known.intersection(call.id for call in reply.tool_calls)


class ModelConformance:
    """The suite. Every test opens its own subject."""

    async def test_its_name_is_a_provider_and_an_id(self, subject: Subject) -> None:
        assert re.fullmatch(r"[a-z0-9_-]+:\S+", subject.model.name)

    async def test_pieces_make_up_the_text(self, subject: Subject) -> None:
        subject.will(Wish("It is twice a day."))
        pieces: list[str] = []
        reply = await subject.model.generate(ModelRequest((QUESTION,), key="s/1/1"), pieces.append)
        assert reply.text
        assert "".join(pieces) == reply.text
        assert all(pieces)
        assert reply.tool_calls == ()
        assert reply.stop is not StopReason.TOOL_CALLS, "a real model may be cut by its length"

    async def test_usage_counts_one_call(self, subject: Subject) -> None:
        subject.will(Wish("It is twice a day, as everywhere on that coast."))
        usage = (await subject.model.generate(ModelRequest((QUESTION,)))).usage
        assert usage.model_calls == 1
        assert usage.tool_calls == 0, "the turn counts those"
        assert usage.output_tokens > 0

    async def test_it_executes_a_checkpoint(self, subject: Subject) -> None:
        subject.will(Wish("Yes."))
        with trio.testing.assert_checkpoints():
            await subject.model.generate(ModelRequest((QUESTION,)))

    async def test_cancelling_ends_the_call_and_leaves_the_model_usable(
        self, subject: Subject
    ) -> None:
        subject.will(Wish("Yes."))
        with trio.CancelScope() as scope:
            scope.cancel()
            await subject.model.generate(ModelRequest((QUESTION,)))
        assert scope.cancelled_caught
        subject.will(Wish("Yes."))
        assert (await subject.model.generate(ModelRequest((QUESTION,)))).text

    async def test_calls_run_side_by_side(self, subject: Subject) -> None:
        subject.will(Wish("Yes."))
        replies = []

        async def call(number: int) -> None:
            request = ModelRequest((QUESTION,), key=f"s/1/{number}")
            replies.append(await subject.model.generate(request))

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(call, number)
        assert all(reply.text for reply in replies)
        assert len(replies) == 4

    async def test_a_named_tool_is_called(self, subject: Subject) -> None:
        if not subject.obeys:
            return
        subject.will(Wish(calls=(("search_notes", '{"query": "tides"}'),)))
        request = ModelRequest(
            ANSWERED, tools=(READ, SEARCH), tool_choice="search_notes", key="s/1/2"
        )
        reply = await subject.model.generate(request)
        one_call(request, reply)
        assert {call.name for call in reply.tool_calls} == {"search_notes"}

    async def test_a_required_tool_is_called(self, subject: Subject) -> None:
        if not subject.obeys:
            return
        subject.will(Wish(calls=(("read_note", '{"name": "tides"}'),)))
        request = ModelRequest(ANSWERED, tools=(READ, SEARCH), tool_choice="required", key="s/1/2")
        one_call(request, await subject.model.generate(request))

    @pytest.mark.parametrize("tools", [(), (SEARCH,)], ids=["without tools", "with tools"])
    async def test_no_tool_is_called_when_none_may_be(
        self, subject: Subject, tools: tuple[ToolSpec, ...]
    ) -> None:
        subject.will(Wish("Twice a day."))
        request = ModelRequest(ANSWERED, tools=tools, tool_choice="none", key="s/1/2")
        reply = await subject.model.generate(request)
        assert reply.tool_calls == ()
        assert reply.text

    async def test_results_of_tools_lead_to_an_answer(self, subject: Subject) -> None:
        subject.will(Wish("Twice a day."))
        request = ModelRequest(ANSWERED, tools=(SEARCH,), key="s/1/2")
        reply = await subject.model.generate(request)
        if reply.tool_calls:
            one_call(request, reply)
        else:
            assert reply.text

    async def test_an_answer_fits_its_schema(self, subject: Subject) -> None:
        if not subject.obeys:
            return
        subject.will(Wish('{"claim": "Twice a day.", "confidence": 0.9}'))
        request = ModelRequest(ANSWERED, output_schema=FINDING, key="s/1/2")
        reply = await subject.model.generate(request)
        assert isinstance(parse_output(FINDING, reply.text), Parsed)

    async def test_closing_twice_is_closing_once(self, subject: Subject) -> None:
        await subject.model.aclose()
        await subject.model.aclose()
