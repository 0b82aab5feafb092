"""What a conversation is made of: one tagged union, and its form as tuples.

Owns: the message types, usage, and their tuple codec. Must not: know a provider's wire format.

A session's messages obey three rules (CONTRACTS 2.8): every tool result answers one pending call
of the latest assistant message, exactly once; nothing dangles at the end of a turn; an interrupted
turn closes its open calls with an `INTERRUPTED` result. `check_sequence` states them as code.

The codec is written by hand because one of these is packed for every turn: plain tuples pack 2.5
times faster than a structured converter, and the tag is a small integer that a renamed class
leaves alone.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

import attrs

from runtime.ids import ToolCallId


@attrs.frozen
class Usage:
    """Tokens, calls and money spent. Adds up; the zero is `NO_USAGE`.

    `input_tokens` includes `cached_input_tokens`, which a provider's cache served. The cost is that
    of `priced_calls` model calls, in billionths of a US dollar; what the other calls cost is not
    known, and so is never taken for nothing (`runtime.prices`).
    """

    input_tokens: int = 0
    output_tokens: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    cached_input_tokens: int = 0
    cost_nano_usd: int = 0
    priced_calls: int = 0

    @property
    def total_tokens(self) -> int:
        """Tokens sent and said; those from a cache are among those sent."""
        return self.input_tokens + self.output_tokens

    @property
    def unpriced_calls(self) -> int:
        """The model calls whose cost is not known."""
        return self.model_calls - self.priced_calls

    def __add__(self, other: Usage) -> Usage:
        if self is NO_USAGE:
            return other
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.model_calls + other.model_calls,
            self.tool_calls + other.tool_calls,
            self.cached_input_tokens + other.cached_input_tokens,
            self.cost_nano_usd + other.cost_nano_usd,
            self.priced_calls + other.priced_calls,
        )


NO_USAGE = Usage()


class ToolOutcome(enum.Enum):
    """How a tool call ended. The values are stored: never renumber."""

    OK = 0
    #: The tool raised, timed out, or was refused; the text says why.
    ERROR = 1
    #: The turn was interrupted while the call was open.
    INTERRUPTED = 2
    #: The process ended while the call ran and the tool is not idempotent.
    UNKNOWN = 3
    #: The session may not call the tool, whatever the model thought; nothing was run.
    DENIED = 4


@attrs.frozen
class SystemMessage:
    """Text the application says to the model; `source` names who added it."""

    text: str
    source: str | None = None


@attrs.frozen
class UserMessage:
    """What a turn answers. `sender` is a member's name for a peer's message, None for a caller."""

    text: str
    sender: str | None = None


#: As whom a turn speaks to its own model: to say why an answer does not fit its schema, and to have
#: one continued, or its call made again, that was cut off at a length limit.
CORRECTED: Final = "schema"
CONTINUED: Final = "length"
CALL_CUT: Final = "call"

#: As whom a session is told that its background children have ended. No member can be called so.
TASKS: Final = "background tasks"
#: The sender of system context (`runtime.addenda`), alone or with its source behind it.
CONTEXT: Final = "system context"


@attrs.frozen
class ToolCall:
    """A model's wish to run a tool; `arguments` is the JSON text the model wrote, unparsed."""

    id: ToolCallId
    name: str
    arguments: str


@attrs.frozen
class AssistantMessage:
    """A model's reply: text, tool calls, or both. `model` says which model answered."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    model: str | None = None
    usage: Usage = NO_USAGE


@attrs.frozen
class ToolResult:
    """The answer to one tool call, successful or not: failures are data for the model."""

    call_id: ToolCallId
    name: str
    text: str
    outcome: ToolOutcome = ToolOutcome.OK


Message: TypeAlias = SystemMessage | UserMessage | AssistantMessage | ToolResult

#: Packed forms: nested tuples and lists of str, int and None.
Packed: TypeAlias = Any

_SYSTEM, _USER, _ASSISTANT, _TOOL = 0, 1, 2, 3
_NONE = type(None)
#: The types of the fields behind each tag; what is not listed is an error, not a guess.
_LAYOUTS: dict[int, tuple[tuple[type, ...], ...]] = {
    _SYSTEM: ((int, str, str), (int, str, _NONE)),
    _USER: ((int, str, str), (int, str, _NONE)),
    _ASSISTANT: ((int, str, tuple, str, tuple), (int, str, tuple, _NONE, tuple)),
    _TOOL: ((int, str, str, str, int),),
}
_OUTCOMES = {outcome.value: outcome for outcome in ToolOutcome}


#: The numbers of a usage without and with those about caches and money.
_USAGE_SIZES = (4, 7)


def pack_usage(usage: Usage) -> Packed:
    """Four numbers, and three more only where they say something: most stored usages are short."""
    short = (usage.input_tokens, usage.output_tokens, usage.model_calls, usage.tool_calls)
    if usage.cached_input_tokens or usage.priced_calls or usage.cost_nano_usd:
        return (*short, usage.cached_input_tokens, usage.cost_nano_usd, usage.priced_calls)
    return short


def unpack_usage(packed: Packed) -> Usage:
    """The usage whose tuple form is `packed`. Raises `ValueError` if it is not one."""
    if len(packed) not in _USAGE_SIZES or any(type(number) is not int for number in packed):
        raise ValueError(f"not a usage: {packed!r}")
    return Usage(*packed)


def pack_message(message: Message) -> Packed:
    """The tuple form of `message`: ``(tag, field, ...)``."""
    kind = type(message)
    if kind is UserMessage:
        return (_USER, message.text, message.sender)  # type: ignore[union-attr]
    if isinstance(message, AssistantMessage):
        calls: tuple[Packed, ...] = ()
        if message.tool_calls:
            calls = tuple([(call.id, call.name, call.arguments) for call in message.tool_calls])
        return (_ASSISTANT, message.text, calls, message.model, pack_usage(message.usage))
    if isinstance(message, ToolResult):
        return (_TOOL, message.call_id, message.name, message.text, message.outcome.value)
    assert isinstance(message, SystemMessage)
    return (_SYSTEM, message.text, message.source)


def unpack_message(packed: Packed) -> Message:
    """The message whose tuple form is `packed`.

    Raises:
        ValueError: the tag, an outcome or the layout is unknown (written by a later version, or
            damaged).
    """
    types = tuple(map(type, packed))
    if types not in _LAYOUTS.get(packed[0], ()):
        raise ValueError(f"not a message: {packed!r}")
    tag = packed[0]
    if tag == _USER:
        return UserMessage(packed[1], packed[2])
    if tag == _ASSISTANT:
        calls = tuple([_unpack_call(call) for call in packed[2]])
        return AssistantMessage(packed[1], calls, packed[3], unpack_usage(packed[4]))
    if tag == _TOOL:
        return ToolResult(ToolCallId(packed[1]), packed[2], packed[3], _outcome(packed[4]))
    return SystemMessage(packed[1], packed[2])


def _unpack_call(packed: Packed) -> ToolCall:
    if tuple(map(type, packed)) != (str, str, str):
        raise ValueError(f"not a tool call: {packed!r}")
    return ToolCall(*packed)


def _outcome(value: int) -> ToolOutcome:
    try:
        return _OUTCOMES[value]
    except KeyError:
        raise ValueError(f"unknown tool outcome {value!r}") from None


def open_calls(messages: Iterable[Message]) -> tuple[ToolCall, ...]:
    """The calls that no result has answered yet, in the order the model made them."""
    pending: dict[str, ToolCall] = {}
    for message in messages:
        if isinstance(message, AssistantMessage):
            pending = {call.id: call for call in message.tool_calls}
        elif isinstance(message, ToolResult):
            pending.pop(message.call_id, None)
    return tuple(pending.values())


def check_sequence(messages: Iterable[Message]) -> str | None:
    """Why `messages` is not a valid sequence of whole turns, or None if it is one."""
    pending: set[str] = set()
    for index, message in enumerate(messages):
        if isinstance(message, ToolResult):
            if message.call_id not in pending:
                return f"message {index}: tool result {message.call_id!r} answers no pending call"
            pending.discard(message.call_id)
        elif pending:
            return f"message {index}: {sorted(pending)} not answered before the next message"
        if isinstance(message, AssistantMessage):
            ids = [call.id for call in message.tool_calls]
            if len(set(ids)) != len(ids):
                return f"message {index}: a tool call id appears twice"
            pending = set(ids)
    return f"the last turn leaves {sorted(pending)} unanswered" if pending else None
