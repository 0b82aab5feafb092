"""The turn machine: its table row by row, and what holds for any course of a turn."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.effects import CallModel, Effect, EndTurn, RunTools, SaveProgress
from runtime.messages import (
    CALL_CUT,
    CONTINUED,
    CORRECTED,
    NO_USAGE,
    AssistantMessage,
    Message,
    SystemMessage,
    ToolCall,
    ToolOutcome,
    ToolResult,
    Usage,
    UserMessage,
    check_sequence,
    open_calls,
)
from runtime.models.base import ModelReply, StopReason
from runtime.records import TurnOutcome
from runtime.turn import (
    ALLOWED,
    PLAIN_RULES,
    TRUNCATED,
    Began,
    ContextGiven,
    GaveUp,
    ModelReplied,
    Phase,
    Resumed,
    ToolsCut,
    ToolsFinished,
    TurnInput,
    TurnMisuse,
    TurnRules,
    TurnState,
    step,
)
from tests.runtime.fakes import asking, call

SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
USER = UserMessage("hi")


def results(calls: tuple[ToolCall, ...]) -> tuple[ToolResult, ...]:
    return tuple(ToolResult(made.id, made.name, "done") for made in calls)


def begun(rules: TurnRules = PLAIN_RULES) -> TurnState:
    return step(TurnState(rules), Began((USER,)))[0]


def in_tools() -> TurnState:
    return step(begun(), ModelReplied(asking(call("a"), call("b"))))[0]


def ended() -> TurnState:
    return step(begun(), ModelReplied(ModelReply("bye")))[0]


STATES: dict[Phase, Callable[[], TurnState]] = {
    Phase.READY: TurnState,
    Phase.MODEL: begun,
    Phase.TOOLS: in_tools,
    Phase.ENDED: ended,
}
INPUTS: dict[type, list[TurnInput]] = {
    Began: [Began((USER,)), Began((USER, USER))],
    Resumed: [
        Resumed((USER, AssistantMessage("", (call("a"),))), Usage(1, 1, 1, 1), 1),
        Resumed((USER, AssistantMessage("", (call("a"),)), *results((call("a"),))), NO_USAGE, 1),
        Resumed((USER, AssistantMessage("", (call("a"),)), *results((call("a"),))), NO_USAGE, 24),
    ],
    ContextGiven: [ContextGiven(()), ContextGiven((SystemMessage("now", "clock"),))],
    ModelReplied: [
        ModelReplied(ModelReply("bye")),
        ModelReplied(asking(call("c"))),
    ],
    ToolsFinished: [ToolsFinished(results((call("a"), call("b"))))],
    ToolsCut: [ToolsCut(()), ToolsCut(results((call("b"),)))],
    GaveUp: [GaveUp(TurnOutcome.FAILED, "broke"), GaveUp(TurnOutcome.INTERRUPTED, "stop")],
}
PAIRS = [
    (phase, event) for phase, kind in itertools.product(Phase, INPUTS) for event in INPUTS[kind]
]


def test_the_table_speaks_of_every_phase_and_input_there_is() -> None:
    assert {kind for _, kind in ALLOWED} == set(INPUTS)
    assert {phase for phase, _ in ALLOWED} == set(Phase) - {Phase.ENDED}


@pytest.mark.parametrize(("phase", "event"), PAIRS)
def test_an_input_leads_where_the_table_says_or_is_misuse(phase: Phase, event: TurnInput) -> None:
    state = STATES[phase]()
    assert state.phase is phase
    allowed = ALLOWED.get((phase, type(event)))
    if allowed is None:
        with pytest.raises(TurnMisuse, match=f"{type(event).__name__} in phase {phase.name}"):
            step(state, event)
    else:
        after, _ = step(state, event)
        assert after.phase in allowed


def test_every_row_of_the_table_can_be_reached() -> None:
    reached = {
        (phase, type(event), step(STATES[phase](), event)[0].phase)
        for phase, event in PAIRS
        if (phase, type(event)) in ALLOWED
    }
    strict = TurnRules(SCHEMA, 1)
    reached.add(
        (Phase.MODEL, ModelReplied, step(begun(strict), ModelReplied(ModelReply("x")))[0].phase)
    )
    few = attrs.evolve(in_tools(), rules=TurnRules(max_steps=1))
    reached.add((Phase.TOOLS, ToolsFinished, step(few, INPUTS[ToolsFinished][0])[0].phase))
    rows = {(phase, kind, to) for (phase, kind), tos in ALLOWED.items() for to in tos}
    assert reached == rows


def test_a_handler_that_leaves_the_table_is_misuse() -> None:
    with pytest.raises(TurnMisuse, match="READY to ENDED"):
        step(TurnState(TurnRules(max_steps=0)), Began((USER,)))


# What the shell sees of one turn, played to its end.


@attrs.define
class Course:
    """A shell that carries the effects out on paper, and what the journal would hold."""

    state: TurnState
    replies: list[ModelReply]
    journal: list[Message] = attrs.field(factory=list)
    journal_usage: Usage = NO_USAGE
    journal_step: int = 0
    model_calls: list[CallModel] = attrs.field(factory=list)
    tool_runs: list[tuple[ToolCall, ...]] = attrs.field(factory=list)
    ending: EndTurn | None = None

    def feed(self, event: TurnInput) -> TurnInput | None:
        """Take one step and carry it out; the next input, or None at the end."""
        self.state, effects = step(self.state, event)
        following: TurnInput | None = None
        for effect in effects:
            following = self._carry_out(effect) or following
        return following

    def _carry_out(self, effect: Effect) -> TurnInput | None:
        if isinstance(effect, SaveProgress):
            self.journal.extend(effect.messages)
            self.journal_usage, self.journal_step = effect.usage, effect.step
        elif isinstance(effect, CallModel):
            self.model_calls.append(effect)
            reply = self.replies.pop(0) if self.replies else ModelReply('{"n": 1}')
            return ModelReplied(reply)
        elif isinstance(effect, RunTools):
            assert tuple(effect.calls) == open_calls(self.state.messages)
            self.tool_runs.append(effect.calls)
            return ToolsFinished(results(effect.calls))
        else:
            self.ending = effect
        # Invariant: what is journalled is what the state says is saved.
        assert tuple(self.journal) == self.state.messages[: self.state.saved]
        return None


ids = st.sampled_from(["a", "b", "c", ""])
whole_calls = '{"n": 1, "deep": {"of": "x}"}}'
cut_replies = st.one_of(
    st.sampled_from(["plain", '{"n": 1}', ""]).map(
        lambda text: ModelReply(text, stop=StopReason.LENGTH, usage=Usage(3, 2, 1))
    ),
    st.builds(
        lambda before, at: ModelReply(
            "",
            (*(call(each) for each in before), call("z", arguments=whole_calls[:at])),
            StopReason.LENGTH,
            Usage(5, 1, 1),
        ),
        st.lists(ids, max_size=2),
        st.integers(0, len(whole_calls)),
    ),
)
replies = st.one_of(
    cut_replies,
    st.builds(
        ModelReply,
        st.sampled_from(["plain", '{"n": 1}', '{"n": "x"}', ""]),
        usage=st.just(Usage(3, 2, 1)),
    ),
    st.lists(ids, min_size=1, max_size=3).map(
        lambda made: attrs.evolve(asking(*map(call, made)), usage=Usage(5, 1, 1))
    ),
)
courses = st.lists(replies, max_size=8)
all_rules = st.builds(
    TurnRules,
    st.sampled_from([None, SCHEMA]),
    st.integers(0, 3),
    st.sampled_from([(), ("required",), ("none", "work")]),
    st.integers(1, 6),
    st.integers(0, 2),
)
give_ups = st.none() | st.tuples(
    st.integers(0, 12), st.sampled_from([TurnOutcome.FAILED, TurnOutcome.INTERRUPTED])
)


def play(course: Course, event: TurnInput | None, give_up: tuple[int, TurnOutcome] | None) -> None:
    for number in itertools.count():
        if event is None:
            return
        if give_up is not None and number >= give_up[0] and course.state.phase is not Phase.READY:
            event = GaveUp(give_up[1], "given up")
        event = course.feed(event)


@given(all_rules, courses, give_ups)
@example(TurnRules(), [asking(call("a"), call("a"))], None)
@example(TurnRules(), [asking(call(""), call("")), asking(call(""))], (3, TurnOutcome.FAILED))
def test_any_course_of_a_turn_ends_well(
    rules: TurnRules, script: list[ModelReply], give_up: tuple[int, TurnOutcome] | None
) -> None:
    """CONTRACTS 2.8: whatever happens, the messages are a valid sequence of whole turns."""
    course = Course(TurnState(rules), list(script))
    play(course, Began((USER,)), give_up)
    state, ending = course.state, course.ending
    assert ending is not None
    assert state.phase is Phase.ENDED
    assert check_sequence(state.messages) is None
    completed = ending.error in (None, TRUNCATED)
    assert completed == (ending.outcome is TurnOutcome.COMPLETED)
    # A call that was cut off is never run, and none is kept that could not be.
    for made in (each for run in course.tool_runs for each in run):
        assert made.arguments in ("{}", whole_calls)
    replied = [message for message in state.messages if isinstance(message, AssistantMessage)]
    assert len(course.model_calls) <= rules.max_steps
    assert [made.step for made in course.model_calls] == list(range(1, len(course.model_calls) + 1))
    assert [made.tool_choice for made in course.model_calls] == [
        *rules.tool_choices,
        *["auto"] * rules.max_steps,
    ][: len(course.model_calls)]
    spent = sum((message.usage for message in replied), NO_USAGE)
    asked = sum(len(message.tool_calls) for message in replied)
    assert state.usage == spent + Usage(tool_calls=asked)
    corrections = [m for m in state.messages[1:] if isinstance(m, UserMessage)]
    told = [message.sender for message in corrections]
    assert told.count(CORRECTED) <= rules.output_retries
    assert told.count(CONTINUED) + told.count(CALL_CUT) <= rules.continuations
    assert len(told) == told.count(CORRECTED) + told.count(CONTINUED) + told.count(CALL_CUT)
    every = [made.id for message in replied for made in message.tool_calls]
    assert len(set(every)) == len(every), "call ids are unique within a turn"
    assert "" not in every


@given(all_rules, courses, st.integers(0, 20))
def test_a_resumed_turn_continues_exactly(
    rules: TurnRules, script: list[ModelReply], at: int
) -> None:
    """A turn that is cut off after any journal record and taken up again from what is journalled
    ends as it would have ended: same messages, usage, steps, bounds."""
    whole = Course(TurnState(rules), list(script))
    play(whole, Began((USER,)), None)
    # A cut at record `at`, counted in journal records of the uninterrupted course.
    first = Course(TurnState(rules), list(script))
    event: TurnInput | None = Began((USER,))
    cut = None
    saves = 0
    while event is not None:
        before = len(first.journal)
        event = first.feed(event)
        if len(first.journal) > before:
            saves += 1
            if saves > at % 8:
                used = sum(isinstance(m, AssistantMessage) for m in first.journal)
                cut = Resumed(tuple(first.journal), first.journal_usage, first.journal_step)
                break
    if cut is None:
        return
    second = Course(TurnState(rules), list(script)[used:])
    second.journal.extend(cut.messages)
    play(second, cut, None)
    assert second.state.messages == whole.state.messages
    assert second.state.usage == whole.state.usage
    assert second.ending == whole.ending
    assert second.state.rejected == whole.state.rejected
    assert second.state.continued == whole.state.continued


def test_schema_retries_are_counted_across_a_resume() -> None:
    rejected = (USER, AssistantMessage("no"), UserMessage("That answer …", "schema"))
    cut = (*rejected, AssistantMessage("", (call("a"),)), *results((call("a"),)))
    state, _ = step(TurnState(TurnRules(SCHEMA, 1)), Resumed(cut, NO_USAGE, 2))
    state, (ending,) = step(state, ModelReplied(ModelReply("no again")))
    assert ending == EndTurn(
        TurnOutcome.FAILED,
        error="the answer does not fit its schema after 2 attempts: "
        "The answer is not JSON: Expecting value at line 1 column 1. Answer with JSON only.",
    ) or (isinstance(ending, EndTurn) and "after 2 attempts" in (ending.error or ""))


def test_an_answer_under_a_schema_is_kept_as_json() -> None:
    """CONTRACTS 4.9, output_schema: the answer is validated; prose around it is dropped."""
    state = begun(TurnRules(SCHEMA))
    _, effects = step(state, ModelReplied(ModelReply('Sure: {"n": 3}')))
    assert effects == (EndTurn(TurnOutcome.COMPLETED, output='{"n": 3}'),)


def test_an_invalid_answer_is_sent_back_with_the_reason_at_most_so_often() -> None:
    """CONTRACTS 4.9, structured_output_retries."""
    state = begun(TurnRules(SCHEMA, output_retries=1))
    state, (again,) = step(state, ModelReplied(ModelReply('{"n": "x"}')))
    assert again == CallModel(2, "auto")
    correction = state.messages[-1]
    assert isinstance(correction, UserMessage)
    assert "'x'" in correction.text
    state, (ending,) = step(state, ModelReplied(ModelReply('{"n": "y"}')))
    assert isinstance(ending, EndTurn)
    assert ending.outcome is TurnOutcome.FAILED
    assert "'y'" in (ending.error or "")


def test_a_call_is_durable_before_its_tools_run() -> None:
    _, effects = step(begun(), ModelReplied(asking(call("a"))))
    save, run = effects
    assert isinstance(save, SaveProgress)
    assert save.durable
    assert save.messages[0] == USER
    assert run == RunTools((call("a"),))


def test_giving_up_closes_open_calls_and_keeps_finished_ones() -> None:
    """CONTRACTS 2.8: an interrupted turn closes its open calls with an `interrupted` result."""
    state, (save,) = step(in_tools(), ToolsCut(results((call("b"),))))
    assert save == SaveProgress(results((call("b"),)), state.usage, 1, durable=False)
    state, _ = step(state, GaveUp(TurnOutcome.INTERRUPTED, "stop"))
    assert state.messages[-2:] == (
        *results((call("b"),)),
        ToolResult(call("a").id, "work", "stop", ToolOutcome.INTERRUPTED),
    )


def test_a_resumed_turn_runs_only_the_calls_without_a_result() -> None:
    partial = (USER, AssistantMessage("", (call("a"), call("b"))), *results((call("b"),)))
    state, effects = step(TurnState(), Resumed(partial, Usage(1), 1))
    assert effects == (RunTools((call("a"),)),)
    assert (state.usage, state.step, state.saved) == (Usage(1), 1, 3)


# Replies that reached a length limit.


def cut(text: str = "", *calls: ToolCall) -> ModelReplied:
    return ModelReplied(ModelReply(text, calls, StopReason.LENGTH))


def test_text_that_is_cut_off_is_continued_once_then_stands_and_says_so() -> None:
    state, (again,) = step(begun(), cut("Once upon"))
    assert again == CallModel(2, "auto")
    told = state.messages[-1]
    assert isinstance(told, UserMessage)
    assert told.sender == CONTINUED
    assert "Continue exactly where it stopped" in told.text
    _, effects = step(state, ModelReplied(ModelReply(" a time.")))
    assert effects == (EndTurn(TurnOutcome.COMPLETED),)
    _, effects = step(state, cut(" a ti"))
    assert effects == (EndTurn(TurnOutcome.COMPLETED, error=TRUNCATED),)


@pytest.mark.parametrize("rules", [TurnRules(continuations=0), TurnRules(max_steps=1)])
def test_what_may_not_be_continued_stands_at_once(rules: TurnRules) -> None:
    _, effects = step(begun(rules), cut("Once upon"))
    assert effects == (EndTurn(TurnOutcome.COMPLETED, error=TRUNCATED),)


@pytest.mark.parametrize("arguments", ["", "{", '{"n": 1', '{"n": {}', "1", "[]", "null"])
def test_a_call_that_is_cut_off_never_runs_and_is_asked_for_again(arguments: str) -> None:
    """Partial tool call arguments never run; an empty beginning is none of `{}`."""
    state, (again,) = step(begun(), cut("", call("a", arguments=arguments)))
    assert again == CallModel(2, "auto")
    assert open_calls(state.messages) == ()
    assert state.messages[-1] == UserMessage(
        "Your call of work was cut off at the length limit and was not run. Make it again with"
        " shorter arguments.",
        CALL_CUT,
    )
    _, (ending,) = step(state, cut("", call("a", arguments=arguments)))
    assert isinstance(ending, EndTurn)
    assert ending.outcome is TurnOutcome.FAILED
    assert "the call of 'work' was cut off" in (ending.error or "")


def test_the_whole_calls_of_a_reply_that_was_cut_off_run() -> None:
    state, (save, run) = step(begun(), cut("", call("a"), call("b", arguments='{"n')))
    assert run == RunTools((call("a"),))
    assert isinstance(save, SaveProgress)
    assert state.usage.tool_calls == 1
    _, (_, run) = step(begun(), cut("", call("a"), call("b", arguments='{"n": 1}')))
    assert run == RunTools((call("a"), call("b", arguments='{"n": 1}')))


def test_a_structured_answer_that_was_cut_off_is_invalid_even_if_it_fits() -> None:
    state = begun(TurnRules({"type": "integer"}, 1))
    state, (again,) = step(state, cut("12"))
    assert again == CallModel(2, "auto")
    assert "cut off at the length limit" in state.messages[-1].text
    _, (ending,) = step(state, cut("12"))
    assert isinstance(ending, EndTurn)
    assert ending.outcome is TurnOutcome.FAILED
    assert "does not fit its schema after 2 attempts: it was cut off" in (ending.error or "")
