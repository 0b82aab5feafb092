"""What a reader of one session sees of its mob's records."""

from __future__ import annotations

from mob.console.transcript import Transcript
from mob.shapes import event_shape, jsonable
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


def test_a_turn_in_flight_is_told_from_where_it_stands() -> None:
    transcript = Transcript("s")
    waits = {"text": "and this", "sender": "b"}
    before = transcript.before(jsonable((ASKED, SAID)), "r", jsonable([ASKED, CALLS]), [waits])
    assert before == [
        *("> hello", "Two files.", "That is all."),
        *("> hello", "I look.", '-> shell {"cmd": "ls"}'),
        "> b: and this",
    ]
    progressed = TurnProgressed(S, R, (), (FOUND,), NO_USAGE, 1, 0)
    assert transcript.tell(event_shape(Event(1, progressed))) == ["<- shell a b"]
    over = ended(TurnOutcome.COMPLETED, None, ASKED, CALLS, FOUND, SAID)
    assert transcript.tell(event_shape(Event(2, over))) == ["Two files.", "That is all."]
