"""What the suite for managers believes of a session, and the turns it makes.

Owns: the model of one session, turns that are like no other, the names of copies. Must not: know an
implementation.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias

import attrs

from runtime.ids import HarnessId, SessionId, ToolCallId
from runtime.messages import (
    NO_USAGE,
    AssistantMessage,
    Message,
    ToolCall,
    ToolResult,
    Usage,
    UserMessage,
)
from runtime.session import NO_LINEAGE, Lineage, Session, SessionSpec, SessionStatus

Turn: TypeAlias = tuple[Message, ...]


@attrs.define
class Expected:
    """What a session must be. `branches` are what rewinds put aside, oldest first."""

    turns: list[Turn]
    name: str | None
    lineage: Lineage = NO_LINEAGE
    tags: list[str] = attrs.Factory(list)
    branches: list[list[Turn]] = attrs.Factory(list)
    usage: Usage = NO_USAGE

    @property
    def messages(self) -> Turn:
        return tuple(message for turn in self.turns for message in turn)

    def put_aside(self) -> None:
        """The history becomes a branch; an empty one is none."""
        if self.turns:
            self.branches.append(self.turns)


def a_session(session_id: SessionId, model: Expected) -> Session:
    """The value to save where nothing is yet."""
    return Session(
        session_id,
        HarnessId("plain"),
        None,
        model.name,
        "en",
        model.lineage,
        SessionSpec(),
        0,
        0,
        SessionStatus.IDLE,
        0,
        len(model.turns),
        NO_USAGE,
        model.messages,
        tuple(model.tags),
    )


def a_turn(number: int, kind: int) -> Turn:
    """A turn like no other; some call tools, and two messages may be asked in one."""
    told: list[Message] = [UserMessage(f"t{number}")]
    if kind % 2:
        calls = tuple(ToolCall(ToolCallId(f"{number}.{i}"), "work", "{}") for i in range(2))
        told.append(AssistantMessage("", calls))
        told += [ToolResult(call.id, "work", "done") for call in calls]
    if kind == 2:
        told.append(UserMessage(f"and t{number}"))
    told.append(AssistantMessage("saved", (), None, Usage(1, 1, 1)))
    return tuple(told)


def copy_name(name: str | None, taken: Collection[str | None]) -> str | None:
    """What the unnamed copy of a session of this name is called (CONTRACTS 3.4)."""
    if name is None:
        return None
    copy, number = f"{name} (fork)", 2
    while copy in taken:
        copy, number = f"{name} (fork {number})", number + 1
    return copy


def flat(turns: list[Turn]) -> Turn:
    """The messages of these turns."""
    return tuple(message for turn in turns for message in turn)
