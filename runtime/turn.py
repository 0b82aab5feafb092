"""One turn as a pure state machine: data in, effects out, transitions in a literal table.

Owns: what happens between an input and an answer. Must not: import Trio, a clock, randomness or
anything that performs an effect; `runtime.driver` is the shell.

    READY --Began--------------> MODEL     ask the model
    READY --Resumed------------> MODEL     continue a journalled turn after the last tool batch
    READY --Resumed------------> TOOLS     continue it after a reply whose tools have not answered
    READY --Resumed------------> ENDED     it had used up its model calls
    MODEL --ContextGiven-------> MODEL     the application says something before the call
    MODEL --ModelReplied-------> TOOLS     the reply has tool calls: journal it, run them
    MODEL --ModelReplied-------> MODEL     the answer does not fit its schema: say why, ask again
    MODEL --ModelReplied-------> MODEL     the reply was cut off at a length limit: let it go on
    MODEL --ModelReplied-------> ENDED     the answer stands
    TOOLS --ToolsFinished------> MODEL     journal the results, ask the model again
    TOOLS --ToolsCut-----------> TOOLS     the batch is cut off: journal what had finished of it
    MODEL, TOOLS --GaveUp------> ENDED     failed, interrupted or over budget; open calls are closed

A reply that was cut off. A tool call that is cut in the middle of its arguments is dropped and
never runs (no beginning of a JSON object is one itself, so it is known by its arguments); the model
is told if nothing else was left of the reply. Text is continued `continuations` times, then it
stands as it is and its turn says so. A structured answer that was cut is one that does not fit.

What `ALLOWED` does not list is an error in the shell and raises. The shape (one table, everything
through one `step`) follows h11's `_state.py`.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import attrs

from runtime.effects import CallModel, Effect, EndTurn, RunTools, SaveProgress
from runtime.errors import encodable
from runtime.ids import ToolCallId
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
    open_calls,
)
from runtime.models.base import ModelReply, Schema, StopReason, ToolChoice
from runtime.records import TurnOutcome
from runtime.structured import Invalid, parse_output
from stores.values import value

#: Model calls in one turn before it is given up: a loop of tool calls must end somewhere. The
#: agents of the deep-research scenario need 10 to 15; peers default to 10 to 25.
MAX_STEPS: Final = 24


#: What the record of a completed turn says whose answer never came to its own end.
TRUNCATED: Final = "the answer was cut off at the length limit"


class Phase(enum.IntEnum):
    """Where a turn stands. Integers because they are hashed several times a turn."""

    READY = 0
    MODEL = 1
    TOOLS = 2
    ENDED = 3


@attrs.frozen
class TurnRules:
    """What bends a turn.

    `tool_choices` are for the first steps, one each (see `ToolChoice`); later steps are ``auto``.
    An answer that does not fit `output_schema` is sent back with the reason at most
    `output_retries` times. A reply that was cut off at a length limit is continued at most
    `continuations` times. A turn of more than `max_steps` model calls fails.
    """

    output_schema: Schema | None = None
    output_retries: int = 2
    tool_choices: tuple[ToolChoice, ...] = ()
    max_steps: int = MAX_STEPS
    continuations: int = 1


PLAIN_RULES: Final = TurnRules()


@value
class TurnState:
    """A turn as far as it has come. `saved` of its `messages` are journalled as progress."""

    rules: TurnRules = PLAIN_RULES
    phase: Phase = Phase.READY
    messages: tuple[Message, ...] = ()
    usage: Usage = NO_USAGE
    step: int = 0
    rejected: int = 0
    saved: int = 0
    continued: int = 0


@value
class Began:
    """A fresh turn on these inputs."""

    messages: tuple[UserMessage, ...]


@value
class Resumed:
    """A turn that was in flight when its process or its activation ended."""

    messages: tuple[Message, ...]
    usage: Usage
    step: int


@value
class ModelReplied:
    """The model call ended with a reply."""

    reply: ModelReply


@value
class ToolsFinished:
    """Every open call has its result, in the order of the calls."""

    results: tuple[ToolResult, ...]


@value
class ToolsCut:
    """The batch ends early; these of its calls had finished. A resumed turn runs the rest."""

    results: tuple[ToolResult, ...]


@value
class ContextGiven:
    """This is said to the model before the call that is about to be made: by the application, or by
    whoever steers the turn."""

    messages: tuple[SystemMessage | UserMessage, ...]


@value
class GaveUp:
    """The turn will not be answered: `outcome` is not COMPLETED, `reason` says why in words and
    `detail`, where the outcome has one, as JSON."""

    outcome: TurnOutcome
    reason: str
    detail: str | None = None


TurnInput: TypeAlias = (
    Began | Resumed | ContextGiven | ModelReplied | ToolsFinished | ToolsCut | GaveUp
)
Step: TypeAlias = tuple[TurnState, tuple[Effect, ...]]

#: Which phases an input may lead to from a phase. Anything else is the shell's bug.
ALLOWED: Final[dict[tuple[Phase, type], frozenset[Phase]]] = {
    (Phase.READY, Began): frozenset({Phase.MODEL}),
    (Phase.READY, Resumed): frozenset({Phase.MODEL, Phase.TOOLS, Phase.ENDED}),
    (Phase.MODEL, ContextGiven): frozenset({Phase.MODEL}),
    (Phase.MODEL, ModelReplied): frozenset({Phase.TOOLS, Phase.MODEL, Phase.ENDED}),
    (Phase.TOOLS, ToolsFinished): frozenset({Phase.MODEL, Phase.ENDED}),
    (Phase.TOOLS, ToolsCut): frozenset({Phase.TOOLS}),
    (Phase.MODEL, GaveUp): frozenset({Phase.ENDED}),
    (Phase.TOOLS, GaveUp): frozenset({Phase.ENDED}),
}


#: Looking a member up in its enumeration takes 0.1 us, and every turn comes through here.
_MODEL: Final = Phase.MODEL
_TOOLS: Final = Phase.TOOLS
_ENDED: Final = Phase.ENDED
_COMPLETED: Final = TurnOutcome.COMPLETED
_LENGTH: Final = StopReason.LENGTH


class TurnMisuse(Exception):
    """The shell fed the machine an input its phase does not allow."""


def step(state: TurnState, event: TurnInput) -> Step:
    """The next state and what to do now, in order.

    Raises:
        TurnMisuse: `ALLOWED` does not list this input in this phase.
    """
    allowed = ALLOWED.get((state.phase, type(event)))
    if allowed is None:
        raise TurnMisuse(f"{type(event).__name__} in phase {state.phase.name}")
    after, effects = _HANDLERS[type(event)](state, event)
    if after.phase not in allowed:
        raise TurnMisuse(f"{type(event).__name__}: {state.phase.name} to {after.phase.name}")
    return after, effects


def _began(state: TurnState, event: Began) -> Step:
    return _ask(state.rules, event.messages, NO_USAGE, step=0, rejected=0, saved=0)


def _resumed(state: TurnState, event: Resumed) -> Step:
    messages = event.messages
    saved = len(messages)
    calls = open_calls(messages)
    if calls:
        after = TurnState(
            state.rules,
            _TOOLS,
            messages,
            event.usage,
            event.step,
            rejected=_told(messages, CORRECTED),
            saved=saved,
            continued=_told(messages, CONTINUED, CALL_CUT),
        )
        return after, (RunTools(calls),)
    return _ask(
        state.rules,
        messages,
        event.usage,
        step=event.step,
        rejected=_told(messages, CORRECTED),
        saved=saved,
        continued=_told(messages, CONTINUED, CALL_CUT),
    )


def _told(messages: tuple[Message, ...], *senders: str) -> int:
    """How often the turn itself told its model something as one of `senders`: after its first reply
    nobody else speaks, so no member of that name can be meant."""
    count = 0
    replied = False
    for message in messages:
        replied = replied or isinstance(message, AssistantMessage)
        count += replied and isinstance(message, UserMessage) and message.sender in senders
    return count


def _context_given(state: TurnState, event: ContextGiven) -> Step:
    return attrs.evolve(state, messages=state.messages + event.messages), ()


def _replied(state: TurnState, event: ModelReplied) -> Step:
    reply = event.reply
    usage = state.usage + reply.usage
    calls = reply.tool_calls
    cut = reply.stop is _LENGTH
    dropped: str | None = None
    if calls:
        if cut and not _is_whole(calls[-1]):
            dropped = calls[-1].name
            calls = calls[:-1]
        calls = _distinct(calls, state.messages)
    message = AssistantMessage(reply.text, calls, reply.model, reply.usage)
    messages = (*state.messages, message)
    if calls:
        return _run_tools(state, messages, usage)
    schema = state.rules.output_schema
    output: str | None = None
    if cut:
        return _cut_off(state, messages, usage, dropped)
    if schema is not None:
        parsed = parse_output(schema, reply.text)
        if isinstance(parsed, Invalid):
            return _reject(state, messages, usage, parsed.reason)
        output = _as_json(parsed.value)
    # Written out: `attrs.evolve` costs three times as much, and every turn comes through here.
    after = TurnState(state.rules, _ENDED, messages, usage, state.step, state.rejected, state.saved)
    return after, (EndTurn(_COMPLETED, output=output),)


def _is_whole(call: ToolCall) -> bool:
    """Whether the arguments are all there."""
    try:
        return isinstance(json.loads(call.arguments), dict)
    except (ValueError, RecursionError):
        return False


def _cut_off(
    state: TurnState, messages: tuple[Message, ...], usage: Usage, dropped: str | None
) -> Step:
    """A reply that reached a length limit and left no call that could run."""
    rules = state.rules
    if rules.output_schema is not None and dropped is None:
        return _reject(state, messages, usage, "it was cut off at the length limit: be shorter")
    if state.continued >= rules.continuations or state.step >= rules.max_steps:
        state = attrs.evolve(state, messages=messages, usage=usage)
        if dropped is not None:
            reason = f"the call of {dropped!r} was cut off at the length limit and could not be run"
            return _end(state, TurnOutcome.FAILED, reason)
        after = attrs.evolve(state, phase=_ENDED)
        return after, (EndTurn(_COMPLETED, error=TRUNCATED),)
    if dropped is not None:
        told = (
            f"Your call of {dropped} was cut off at the length limit and was not run. Make it again"
            " with shorter arguments."
        )
    else:
        told = (
            "Your answer was cut off at the length limit. Continue exactly where it stopped and"
            " repeat nothing of it."
        )
    return _ask(
        rules,
        (*messages, UserMessage(told, CONTINUED if dropped is None else CALL_CUT)),
        usage,
        step=state.step,
        rejected=state.rejected,
        saved=state.saved,
        continued=state.continued + 1,
    )


def _as_json(value: Any) -> str:
    """JSON to keep: readable, and escaped where it spells half of a surrogate pair."""
    text = json.dumps(value, ensure_ascii=False)
    return text if encodable(text) == text else json.dumps(value)


def _distinct(calls: tuple[ToolCall, ...], earlier: tuple[Message, ...]) -> tuple[ToolCall, ...]:
    """`calls` with ids that no other call of the turn has: some models number from 0 each time."""
    taken = {
        call.id
        for message in earlier
        if isinstance(message, AssistantMessage)
        for call in message.tool_calls
    }
    made = []
    for call in calls:
        fresh, number = call.id, 1
        while not fresh or fresh in taken:
            number += 1
            fresh = ToolCallId(f"{call.id or 'call'}~{number}")
        taken.add(fresh)
        made.append(call if fresh == call.id else attrs.evolve(call, id=fresh))
    return tuple(made)


def _run_tools(state: TurnState, messages: tuple[Message, ...], usage: Usage) -> Step:
    message = messages[-1]
    assert isinstance(message, AssistantMessage)
    usage = usage + Usage(tool_calls=len(message.tool_calls))
    after = attrs.evolve(state, phase=_TOOLS, messages=messages, usage=usage, saved=len(messages))
    fresh = messages[state.saved :]
    return after, (
        SaveProgress(fresh, usage, state.step, durable=True),
        RunTools(message.tool_calls),
    )


def _reject(state: TurnState, messages: tuple[Message, ...], usage: Usage, reason: str) -> Step:
    state = attrs.evolve(state, messages=messages, usage=usage)
    if state.rejected >= state.rules.output_retries:
        return _end(
            state,
            TurnOutcome.FAILED,
            f"the answer does not fit its schema after {state.rejected + 1} attempts: {reason}",
        )
    correction = UserMessage(
        f"That answer cannot be used: {reason.rstrip('.')}. Reply again with one JSON document that"
        " fits the schema, and nothing else.",
        CORRECTED,
    )
    return _ask(
        state.rules,
        (*messages, correction),
        usage,
        step=state.step,
        rejected=state.rejected + 1,
        saved=state.saved,
        continued=state.continued,
    )


def _finished(state: TurnState, event: ToolsFinished) -> Step:
    messages = state.messages + event.results
    save = SaveProgress(messages[state.saved :], state.usage, state.step, durable=False)
    after, effects = _ask(
        state.rules,
        messages,
        state.usage,
        step=state.step,
        rejected=state.rejected,
        saved=len(messages),
        continued=state.continued,
    )
    return after, (save, *effects)


def _cut(state: TurnState, event: ToolsCut) -> Step:
    messages = state.messages + event.results
    after = attrs.evolve(state, messages=messages, saved=len(messages))
    return after, (SaveProgress(event.results, state.usage, state.step, durable=False),)


def _gave_up(state: TurnState, event: GaveUp) -> Step:
    return _end(state, event.outcome, event.reason, event.detail)


def _ask(
    rules: TurnRules,
    messages: tuple[Message, ...],
    usage: Usage,
    *,
    step: int,
    rejected: int,
    saved: int,
    continued: int = 0,
) -> Step:
    """Ask the model, or end the turn if it has asked too often."""
    state = TurnState(rules, _MODEL, messages, usage, step + 1, rejected, saved, continued)
    if step >= rules.max_steps:
        reason = f"the turn made {step} model calls without an answer (max_steps)"
        return _end(state, TurnOutcome.FAILED, reason)
    choices = rules.tool_choices
    return state, (CallModel(step + 1, choices[step] if step < len(choices) else "auto"),)


def _end(state: TurnState, outcome: TurnOutcome, reason: str, detail: str | None = None) -> Step:
    """End without an answer: every open call gets a result that says it was cut off."""
    closed = tuple(
        ToolResult(call.id, call.name, reason, ToolOutcome.INTERRUPTED)
        for call in open_calls(state.messages)
    )
    after = attrs.evolve(state, phase=_ENDED, messages=state.messages + closed)
    return after, (EndTurn(outcome, output=detail, error=reason),)


_HANDLERS: Final[dict[type, Callable[[TurnState, Any], Step]]] = {
    Began: _began,
    Resumed: _resumed,
    ContextGiven: _context_given,
    ModelReplied: _replied,
    ToolsFinished: _finished,
    ToolsCut: _cut,
    GaveUp: _gave_up,
}
