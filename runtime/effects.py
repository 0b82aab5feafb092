"""What the turn machine wants done: its effects, imperative and frozen.

Owns: the effect types. Must not: do anything. `runtime.driver` carries them out.
"""

from __future__ import annotations

from typing import TypeAlias

from runtime.messages import Message, ToolCall, Usage
from runtime.models.base import ToolChoice
from runtime.records import TurnOutcome
from stores.values import value


@value
class CallModel:
    """Call the model with the history and the turn's messages. `step` counts from 1."""

    step: int
    tool_choice: ToolChoice


@value
class RunTools:
    """Run these calls at the same time; answer with one result each, in the same order."""

    calls: tuple[ToolCall, ...]


@value
class SaveProgress:
    """Journal these messages, the turn's newest, as part of the turn in flight.

    With `durable` the next effect must not begin before the record is on disk: a tool that has an
    effect on the world must not run before the call that asked for it is known to have been made.
    """

    messages: tuple[Message, ...]
    usage: Usage
    step: int
    durable: bool


@value
class EndTurn:
    """Commit the whole turn: all of its messages, its usage and its outcome, in one record."""

    outcome: TurnOutcome
    output: str | None = None
    error: str | None = None


Effect: TypeAlias = CallModel | RunTools | SaveProgress | EndTurn
