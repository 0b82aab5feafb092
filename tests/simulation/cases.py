"""Cases of bad journals and promises: what they are called by, and the records they share.

Owns: the registry of cases. Must not: hold one (`bad_journals` and `bad_promises` do).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runtime.ids import ToolCallId
from runtime.messages import AssistantMessage, ToolCall, ToolOutcome, ToolResult, UserMessage
from tests.simulation.tape import ONE, Tape, accepted, ended

CASES: list[Any] = []


def case(name: str) -> Callable[[Callable[[Tape], None]], Callable[[Tape], None]]:
    """Register a test case that violates the invariant `name` with its last step."""

    def made(function: Callable[[Tape], None]) -> Callable[[Tape], None]:
        CASES.append(pytest.param(name, function, id=f"{name}-{function.__name__}"))
        return function

    return made


def a_turn(tape: Tape, number: int = 1, **given: Any) -> None:
    """A good turn on an input of its own; `number` counts from 1, and no other records between."""
    first = 5 + 2 * (number - 1)
    tape.commit(accepted(f"i{number}"))
    skips = {1: (0, 0), 2: (6, 1), 3: (0, 0), 4: (10, 3)}
    skip, skip_turn = skips[number]
    prev = first - 1 if number > 1 else 0
    place = (number, 2 * number, skip, skip_turn)
    tape.commit(ended(f"i{number}", run=f"r{number}", prev=prev, place=place, **given))


def called(*ids: str) -> tuple[UserMessage, AssistantMessage]:
    calls = tuple(ToolCall(ToolCallId(each), "look", "{}") for each in ids)
    return UserMessage("hi"), AssistantMessage("", calls, usage=ONE)


def result(call: str, text: str = "seen", outcome: ToolOutcome = ToolOutcome.OK) -> ToolResult:
    return ToolResult(ToolCallId(call), "look", text, outcome)
