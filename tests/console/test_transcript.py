"""What a reader of one session sees of its mob's records."""

from __future__ import annotations

from mob.console.transcript import Transcript
from mob.shapes import event_shape
from runtime.ids import InputId, RunId, SessionId, ToolCallId
from runtime.journal import Event
from runtime.messages import NO_USAGE, AssistantMessage, Message, ToolCall, ToolResult, UserMessage
from runtime.records import InputAccepted, TurnEnded, TurnOutcome, TurnProgressed

S, R, INPUT = SessionId("s"), RunId("r"), InputId("i")
ASKED = UserMessage("hello")
CALLS = AssistantMessage("I look.", (ToolCall(ToolCallId("c"), "shell", '{"cmd": "ls"}'),))
FOUND = ToolResult(ToolCallId("c"), "shell", "a b")
SAID = AssistantMessage("Two files.\nThat is all.")


def ended(outcome: TurnOutcome, error: str | None, *messages: Message) -> TurnEnded:
    return TurnEnded(S, R, 0, outcome, messages, NO_USAGE, (INPUT,), None, error, 0, 0)


def test_each_message_is_told_once() -> None:
    transcript = Transcript("s")
    told = [
        transcript.tell(event_shape(Event(seq, record)))
        for seq, record in enumerate(
            (
                InputAccepted(S, INPUT, "hello", None, None, 0),
                InputAccepted(SessionId("other"), INPUT, "not this", None, None, 0),
                TurnProgressed(S, R, (INPUT,), (ASKED, CALLS), NO_USAGE, 1, 0),
                TurnProgressed(S, R, (), (FOUND,), NO_USAGE, 1, 0),
                ended(TurnOutcome.COMPLETED, None, ASKED, CALLS, FOUND, SAID),
                InputAccepted(S, INPUT, "hm", "b", None, 0),
                ended(TurnOutcome.INTERRUPTED, "by hand", ASKED),
            )
        )
    ]
    assert told == [
        ["> hello"],
        [],
        ["I look.", '-> shell {"cmd": "ls"}'],
        ["<- shell a b"],
        ["Two files.", "That is all."],
        ["> b: hm"],
        ["-- turn interrupted: by hand"],
    ]
