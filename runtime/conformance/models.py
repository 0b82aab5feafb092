"""What every model client must do, stated once.

Owns: the promises of `runtime.models.base.Model` as tests, in two classes: `ModelConformance` for
any model, `ProviderConformance` for a client of a service, which has another side that can be told
what to answer. Must not: know a provider, or a test runner: a test is a method that takes nothing
and runs Trio by itself.

Subclass one, override `open_subject`, and let pytest collect it. Models that say what they like are
held to what the port promises and no more. The idea is Hypothesis's ``provider_conformance``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeAlias

import attrs
import trio
import trio.testing

from runtime.errors import ModelError, ModelRefused, ModelUnavailable
from runtime.ids import ToolCallId
from runtime.messages import (
    AssistantMessage,
    SystemMessage,
    ToolCall,
    ToolOutcome,
    ToolResult,
    Usage,
    UserMessage,
    check_sequence,
)
from runtime.models.base import Emit, Model, ModelReply, ModelRequest, StopReason, ToolSpec
from runtime.models.guard import allow_real_models, forbid_real_models
from runtime.structured import Parsed, mistakes_in, parse_output

SEARCH: Final = ToolSpec(
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
READ: Final = ToolSpec(
    "read_note",
    "Reads one note.",
    {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
)
FINDING: Final = {
    "type": "object",
    "properties": {
        "claim": {"type": "string"},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["claim", "confidence"],
    "additionalProperties": False,
}
QUESTION: Final = UserMessage("What do the notes say about the tides of Venice?")
CALL: Final = ToolCall(ToolCallId("s/1/1#0"), "search_notes", '{"query": "tides Venice"}')
ANSWERED: Final = (
    QUESTION,
    AssistantMessage("", (CALL,)),
    ToolResult(CALL.id, CALL.name, "Twice a day."),
)
#: Everything a history may hold that a provider's form has no place for.
AWKWARD: Final = (
    SystemMessage("Budget: 3."),
    UserMessage("", sender="lead"),
    AssistantMessage("I look.", (ToolCall(ToolCallId("a" * 90), "search_notes", "{not json"),)),
    ToolResult(ToolCallId("a" * 90), "search_notes", "arguments", ToolOutcome.ERROR),
    AssistantMessage(""),
    SystemMessage("Go on."),
    QUESTION,
)
#: Text that goes to pieces where it is cut carelessly.
FRAGILE: Final = "Grüß\u2028 dich: 世界 🎈\n\n data: {} \\ end."
#: The key that the subject's client is opened with, to be found nowhere else.
KEY: Final = "key-of-the-conformance-suite"

#: Seconds that a cancelled call may take to end.
_PROMPT_S: Final = 2.0


@attrs.frozen
class Failure:
    """An HTTP error instead of an answer. `retry_after_s` as this provider says it."""

    status: int
    message: str = "no such luck"
    retry_after_s: int | None = None


@attrs.frozen
class Wish:
    """What the other side should answer next, in its own wire format.

    It says `text` or makes `calls` (name, arguments as JSON), or refuses in the words `refusal`.
    `cut`: at a length limit. `usage`: as it counts. `then`, after the text: ``end`` the answer;
    ``hang``: send nothing more; ``drop`` the connection; ``stop``: end the body as if nothing were
    missing; ``garbage``: send what is not the protocol. `bytes_at_once` splits what is sent, and
    `pause_s` waits between the pieces. `failure` stands instead of everything else.
    """

    text: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    refusal: str = ""
    cut: bool = False
    usage: Usage = Usage(11, 7, 1)
    then: str = "end"
    bytes_at_once: int | None = None
    pause_s: float = 0.0
    failure: Failure | None = None


def _nothing(*_: Wish) -> None:
    """The other side of a model that says what it likes."""


@attrs.frozen
class Subject:
    """A client under test. `will` is called with what the next requests are to be answered with,
    one each; the last answers all that follow."""

    model: Model
    will: Callable[..., None] = _nothing
    #: Whether it heeds tools and schemas (sim:echo does not).
    obeys: bool = True
    #: How many requests the other side was sent.
    asked: Callable[[], int] = lambda: 0
    #: Returns when the client has left an answer that hangs.
    left: Callable[[], Awaitable[Any]] = trio.lowlevel.checkpoint


Scenario: TypeAlias = Callable[[Any, Subject], Awaitable[None]]


def scenario(test: Scenario) -> Callable[[Any], None]:
    """A test method that opens a subject and gives it to `test`."""

    def run(self: Any) -> None:
        async def main() -> None:
            with allow_real_models(), trio.fail_after(self.patience_s):
                async with self.open_subject() as subject:
                    await test(self, subject)

        trio.run(main)

    # Not `functools.wraps`: a runner would take `subject` for something it has to provide.
    run.__name__, run.__qualname__ = test.__name__, test.__qualname__
    run.__doc__, run.__module__ = test.__doc__, test.__module__
    return run


def expect_calls(request: ModelRequest, reply: ModelReply) -> None:
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


async def failing(
    subject: Subject, request: ModelRequest | None = None, emit: Emit | None = None
) -> ModelError:
    """The error that a request ends with; it says which model it was, and never the key."""
    failure: ModelError | None = None
    try:
        await subject.model.generate(request or ModelRequest((QUESTION,), key="s/1/1"), emit)
    except ModelError as error:
        failure = error
    assert failure is not None, "there was to be an error"
    assert failure.provider == subject.model.name.partition(":")[0]
    assert subject.model.name in str(failure)
    assert KEY not in str(failure)
    return failure


class ModelConformance:
    """The promises of the port. Every test opens its own subject."""

    #: Seconds of the real clock that one test may take.
    patience_s: float = 20.0

    def open_subject(self) -> AbstractAsyncContextManager[Subject]:
        """Override: the client under test, and closing it."""
        raise NotImplementedError

    @scenario
    async def test_its_name_is_a_provider_and_an_id(self, subject: Subject) -> None:
        assert re.fullmatch(r"[a-z0-9_-]+:\S+", subject.model.name)

    @scenario
    async def test_pieces_make_up_the_text(self, subject: Subject) -> None:
        subject.will(Wish("It is twice a day."))
        pieces: list[str] = []
        reply = await subject.model.generate(ModelRequest((QUESTION,), key="s/1/1"), pieces.append)
        assert reply.text
        assert "".join(pieces) == reply.text
        assert all(pieces)
        assert reply.tool_calls == ()
        assert reply.stop is not StopReason.TOOL_CALLS, "a real model may be cut by its length"

    @scenario
    async def test_usage_counts_one_call(self, subject: Subject) -> None:
        subject.will(Wish("It is twice a day, as everywhere on that coast."))
        usage = (await subject.model.generate(ModelRequest((QUESTION,)))).usage
        assert usage.model_calls == 1
        assert usage.tool_calls == 0, "the turn counts those"
        assert usage.output_tokens > 0
        assert usage.priced_calls == 0, "whoever knows a price says so"

    @scenario
    async def test_it_executes_a_checkpoint(self, subject: Subject) -> None:
        subject.will(Wish("Yes."))
        with trio.testing.assert_checkpoints():
            await subject.model.generate(ModelRequest((QUESTION,)))

    @scenario
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

    @scenario
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

    @scenario
    async def test_a_named_tool_is_called(self, subject: Subject) -> None:
        if not subject.obeys:
            return
        subject.will(Wish(calls=(("search_notes", '{"query": "tides"}'),)))
        request = ModelRequest(
            ANSWERED, tools=(READ, SEARCH), tool_choice="search_notes", key="s/1/2"
        )
        reply = await subject.model.generate(request)
        expect_calls(request, reply)
        assert {call.name for call in reply.tool_calls} == {"search_notes"}

    @scenario
    async def test_a_required_tool_is_called(self, subject: Subject) -> None:
        if not subject.obeys:
            return
        subject.will(Wish(calls=(("read_note", '{"name": "tides"}'),)))
        request = ModelRequest(ANSWERED, tools=(READ, SEARCH), tool_choice="required", key="s/1/2")
        expect_calls(request, await subject.model.generate(request))

    async def _calls_none(self, subject: Subject, tools: Iterable[ToolSpec]) -> None:
        subject.will(Wish("Twice a day."))
        request = ModelRequest(ANSWERED, tools=tuple(tools), tool_choice="none", key="s/1/2")
        reply = await subject.model.generate(request)
        assert reply.tool_calls == ()
        assert reply.text

    @scenario
    async def test_no_tool_is_called_when_none_may_be(self, subject: Subject) -> None:
        await self._calls_none(subject, (SEARCH,))

    @scenario
    async def test_no_tool_is_called_when_there_is_none(self, subject: Subject) -> None:
        await self._calls_none(subject, ())

    @scenario
    async def test_results_of_tools_lead_to_an_answer(self, subject: Subject) -> None:
        subject.will(Wish("Twice a day."))
        request = ModelRequest(ANSWERED, tools=(SEARCH,), key="s/1/2")
        reply = await subject.model.generate(request)
        if reply.tool_calls:
            expect_calls(request, reply)
        else:
            assert reply.text

    @scenario
    async def test_an_answer_fits_its_schema(self, subject: Subject) -> None:
        if not subject.obeys:
            return
        subject.will(Wish('{"claim": "Twice a day.", "confidence": 0.9}'))
        request = ModelRequest(ANSWERED, output_schema=FINDING, key="s/1/2")
        reply = await subject.model.generate(request)
        assert isinstance(parse_output(FINDING, reply.text), Parsed)

    @scenario
    async def test_closing_twice_is_closing_once(self, subject: Subject) -> None:
        await subject.model.aclose()
        await subject.model.aclose()


class ProviderConformance(ModelConformance):
    """What a client of a service promises besides.

    The subject's client is opened with the key `KEY` and repeats nothing by itself
    (``max_retries=0``); `will`, `asked` and `left` speak for a server on this machine that uses the
    provider's own wire format.
    """

    @scenario
    async def test_text_streams_and_a_stream_can_be_cancelled(self, subject: Subject) -> None:
        subject.will(Wish("It is ", then="hang"))
        heard = trio.Event()
        pieces: list[str] = []

        def emit(piece: str) -> None:
            pieces.append(piece)
            if "".join(pieces) == "It is ":
                heard.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(subject.model.generate, ModelRequest((QUESTION,)), emit)
            await heard.wait()
            began = trio.current_time()
            nursery.cancel_scope.cancel()
        assert trio.current_time() - began < _PROMPT_S
        await subject.left()
        subject.will(Wish("Yes."))
        assert (await subject.model.generate(ModelRequest((QUESTION,)))).text == "Yes."

    @scenario
    async def test_it_matters_not_where_a_stream_is_split(self, subject: Subject) -> None:
        for size in (1, 3, 1000):
            subject.will(Wish(FRAGILE, bytes_at_once=size))
            reply = await subject.model.generate(ModelRequest((QUESTION,)))
            assert reply.text == FRAGILE

    @scenario
    async def test_a_slow_stream_is_waited_for(self, subject: Subject) -> None:
        subject.will(Wish("It is twice a day.", bytes_at_once=200, pause_s=0.02))
        reply = await subject.model.generate(ModelRequest((QUESTION,)))
        assert reply.text == "It is twice a day."

    @scenario
    async def test_tools_called_at_once_come_whole_and_in_order(self, subject: Subject) -> None:
        asked = tuple(("search_notes", json.dumps({"query": f"tides {n}"})) for n in range(3))
        subject.will(Wish(calls=asked, bytes_at_once=7))
        request = ModelRequest((QUESTION,), tools=(SEARCH, READ), key="s/1/1")
        reply = await subject.model.generate(request)
        expect_calls(request, reply)
        told = [(call.name, json.loads(call.arguments)) for call in reply.tool_calls]
        assert told == [(name, json.loads(given)) for name, given in asked]
        results = [ToolResult(call.id, call.name, "ok") for call in reply.tool_calls]
        message = AssistantMessage(reply.text, reply.tool_calls)
        subject.will(Wish("Twice a day."))
        again = attrs.evolve(request, messages=(QUESTION, message, *results), key="s/1/2")
        assert (await subject.model.generate(again)).text == "Twice a day."

    @scenario
    async def test_any_history_can_be_told(self, subject: Subject) -> None:
        subject.will(Wish("Twice a day."))
        for tools in ((), (SEARCH,)):
            request = ModelRequest(AWKWARD, "Be brief.", tools, key="s/1/2")
            assert (await subject.model.generate(request)).text == "Twice a day."

    @scenario
    async def test_usage_is_what_the_provider_counts(self, subject: Subject) -> None:
        counted = Usage(100, 20, 1, cached_input_tokens=60)
        subject.will(Wish("Yes.", usage=counted))
        assert (await subject.model.generate(ModelRequest((QUESTION,)))).usage == counted

    @scenario
    async def test_an_answer_that_was_cut_says_so(self, subject: Subject) -> None:
        subject.will(Wish("It is tw", cut=True))
        reply = await subject.model.generate(ModelRequest((QUESTION,)))
        assert (reply.text, reply.stop) == ("It is tw", StopReason.LENGTH)

    @scenario
    async def test_a_refusal_is_one(self, subject: Subject) -> None:
        subject.will(Wish(refusal="I would rather not."))
        error = await failing(subject)
        assert isinstance(error, ModelRefused)
        assert not error.retryable

    @scenario
    async def test_an_error_says_whether_to_try_again(self, subject: Subject) -> None:
        for status in (408, 429, 500, 502, 503, 504):
            subject.will(Wish(failure=Failure(status)))
            error = await failing(subject)
            assert (error.retryable, error.status) == (True, status)
            assert "no such luck" in str(error)
        for status in (400, 413, 422):
            subject.will(Wish(failure=Failure(status)))
            error = await failing(subject)
            assert (error.retryable, error.status) == (False, status)
            assert not isinstance(error, ModelUnavailable)

    @scenario
    async def test_a_wrong_key_or_model_makes_it_unavailable(self, subject: Subject) -> None:
        for status in (401, 403, 404):
            subject.will(Wish(failure=Failure(status, f"the key {KEY} is none")))
            error = await failing(subject)
            assert isinstance(error, ModelUnavailable)
            assert error.status == status

    @scenario
    async def test_it_passes_on_how_long_to_wait(self, subject: Subject) -> None:
        for status in (429, 503):
            subject.will(Wish(failure=Failure(status, retry_after_s=7)))
            assert (await failing(subject)).retry_after_s == 7
        subject.will(Wish(failure=Failure(429)))
        assert (await failing(subject)).retry_after_s is None

    @scenario
    async def test_a_call_can_be_tried_again(self, subject: Subject) -> None:
        subject.will(Wish(failure=Failure(503)), Wish("Yes."))
        assert (await failing(subject)).retryable
        assert subject.asked() == 1, "it is for the policy above to repeat it"
        assert (await subject.model.generate(ModelRequest((QUESTION,)))).text == "Yes."

    @scenario
    async def test_an_answer_that_breaks_off_can_be_asked_for_again(self, subject: Subject) -> None:
        for then in ("drop", "stop", "garbage"):
            subject.will(Wish("It is tw", then=then), Wish("Yes."))
            pieces: list[str] = []
            assert (await failing(subject, emit=pieces.append)).retryable, then
            assert "".join(pieces) in ("It is tw", ""), then
            assert (await subject.model.generate(ModelRequest((QUESTION,)))).text == "Yes."

    @scenario
    async def test_it_is_not_called_where_real_models_are_forbidden(self, subject: Subject) -> None:
        subject.will(Wish("Yes."))
        with forbid_real_models():
            assert isinstance(await failing(subject), ModelUnavailable)
        assert subject.asked() == 0

    @scenario
    async def test_it_is_unusable_once_closed(self, subject: Subject) -> None:
        subject.will(Wish("Yes."))
        await subject.model.aclose()
        assert isinstance(await failing(subject), ModelUnavailable)
        assert subject.asked() == 0
