"""The model port: what a turn asks of a language model, and what it gets back.

Owns: the request and reply types, the `Model` protocol. Must not: know a provider.

A model is one async method. Streaming is a callback rather than an iterator: the turn wants the
whole reply, watchers want the pieces, and a callback costs nothing when nobody watches. A client
keeps no conversation; whatever it needs to be deterministic (simulated models) is in the request.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import attrs

from runtime.messages import NO_USAGE, Message, ToolCall, Usage
from stores.values import value

#: A JSON Schema as parsed JSON.
Schema: TypeAlias = Mapping[str, Any]
#: Receives each piece of text as it arrives, in order. Must not block or raise.
Emit: TypeAlias = Callable[[str], None]


@attrs.frozen
class ToolSpec:
    """A tool as advertised to the model; `parameters` is the JSON Schema of its one object."""

    name: str
    description: str
    parameters: Schema


class StopReason(enum.Enum):
    """Why the model stopped."""

    END = "end"
    TOOL_CALLS = "tool_calls"
    #: The reply was cut at a length limit: its text, or the last call's arguments, may be partial.
    LENGTH = "length"


#: ``auto``: the model decides; ``required``: some tool; ``none``: no tool; otherwise a tool's name.
ToolChoice: TypeAlias = str


@value
class ModelRequest:
    """One model call.

    `messages` is a view of the session's history with this turn's messages at its end, oldest
    first; a client reads it during the call and must not keep it. `instructions` is the system
    prompt. `output_schema` asks for a final answer that is one JSON document fitting the schema
    (it binds text replies, not tool calls). `options` are passed to the provider as they are
    (temperature, max_tokens, seed, ...). `key` names this call stably across processes and
    restarts (session path, turn, step): simulated models draw their randomness from it.
    """

    messages: Sequence[Message]
    instructions: str = ""
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: ToolChoice = "auto"
    output_schema: Schema | None = None
    options: Mapping[str, Any] = attrs.field(factory=dict)
    key: str = ""


@value
class ModelReply:
    """What the model said. `model` is the id the provider reports; usage counts one model call."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    stop: StopReason = StopReason.END
    usage: Usage = NO_USAGE
    model: str | None = None


class Model(Protocol):
    """A language model. Implementations are stateless between calls and safe for many tasks."""

    @property
    def name(self) -> str:
        """``provider:id``, as written in a mob file."""
        ...

    @property
    def supports_tools(self) -> bool:
        """Whether tool calls are native; otherwise `runtime.models.jsontools` stands in front."""
        ...

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        """Run one call to its end.

        Executes at least one checkpoint; cancellation ends the call promptly (also in the middle
        of a stream) and releases whatever it held. `emit`, if given, sees the text pieces whose
        concatenation is the reply's text.

        Raises:
            ModelError: the call failed; `retryable` and `retry_after_s` guide the policy.
            ModelUnavailable: the client cannot work as configured.
            ModelRefused: the provider declined the content.
        """
        ...

    async def aclose(self) -> None:
        """Release connections, threads and memory. Idempotent; the model is unusable after."""
        ...
