"""Turns cut into pieces by what the journal says, and the spans made of them."""

from __future__ import annotations

from typing import Any

import attrs
import trio

from mob.export.pieces import Doing, Pieces, TurnPieces
from mob.export.spans import Span, Spans
from mob.export.who import Who
from mob.mob import Mob
from mob.records import MemberExited
from runtime.approvals import ApprovalAsked, ApprovalDecided, Verdict
from runtime.errors import ModelError
from runtime.ids import InputId, RunId, SessionId, ToolCallId
from runtime.messages import AssistantMessage, Message, ToolCall, ToolResult, Usage, UserMessage
from runtime.models.base import ModelRequest
from runtime.models.redaction import Redactor
from runtime.records import (
    InputAbandoned,
    InputAccepted,
    ModelRetried,
    TurnEnded,
    TurnOutcome,
    TurnProgressed,
)
from tests.mob.export.test_tables import TEAM_FILE
from tests.mob.mobs import define, journal, opened

S, R, IN = SessionId("s"), RunId("r"), InputId("i")
CALL = ToolCall(ToolCallId("c"), "look", "{}")
ASKED, ANSWER = UserMessage("go"), AssistantMessage("done", usage=Usage(3, 2, 1))
CALLING = AssistantMessage("", (CALL,), "p:m")
RESULT = ToolResult(CALL.id, "look", "seen")
WHOLE: tuple[Message, ...] = (ASKED, CALLING, RESULT, ANSWER)


def accepted(at: int) -> InputAccepted:
    return InputAccepted(S, IN, "go", None, None, at)


def progress(at: int, *messages: Message) -> TurnProgressed:
    return TurnProgressed(S, R, (IN,), messages, Usage(), 1, at)


def ended(start: int, at: int, *messages: Message, error: str | None = None) -> TurnEnded:
    outcome = TurnOutcome.COMPLETED if error is None else TurnOutcome.FAILED
    return TurnEnded(S, R, 0, outcome, messages, Usage(3, 2, 1), (IN,), None, error, start, at)


def cut(*records: Any) -> list[tuple[Doing, int, int]]:
    turn = turn_of(*records)
    return [(each.doing, each.start_ns, each.end_ns) for each in turn.pieces]


def turn_of(*records: Any) -> TurnPieces:
    pieces = Pieces()
    found = [pieces.feed(number, record) for number, record in enumerate(records, 1)]
    turns = [each for each in found if each is not None] or list(pieces.in_flight())
    return turns[0]


def test_a_turn_without_tools_is_one_model_call_behind_its_wait() -> None:
    turn = turn_of(accepted(1), ended(5, 9, ASKED, ANSWER))
    assert (turn.queued_ns, turn.start_ns, turn.end_ns) == (1, 5, 9)
    assert [(each.doing, each.replies) for each in turn.pieces] == [(Doing.MODEL, (ANSWER,))]


def test_model_and_tools_take_turns() -> None:
    assert cut(
        accepted(1), progress(20, ASKED, CALLING), progress(50, RESULT), ended(10, 60, *WHOLE)
    ) == [(Doing.MODEL, 10, 20), (Doing.TOOL, 20, 50), (Doing.MODEL, 50, 60)]


def test_failed_attempts_and_the_waits_behind_them_are_pieces() -> None:
    retried = ModelRetried(S, R, 1, 1, "p:m", "503", 2, "p:m", 1_000_000)
    assert cut(accepted(1), retried, ended(500_000, 4_000_000, ASKED, ANSWER)) == [
        (Doing.MODEL, 500_000, 1_000_000),
        (Doing.RETRY, 1_000_000, 3_000_000),
        (Doing.MODEL, 3_000_000, 4_000_000),
    ]


def test_waiting_for_approval_is_a_piece() -> None:
    asked = ApprovalAsked(S, R, CALL.id, "look", "{}", "a", "{}", 20)
    decided = ApprovalDecided(S, R, CALL.id, Verdict.APPROVED, "me", "", None, 70)
    assert cut(
        progress(20, ASKED, CALLING), asked, decided, progress(80, RESULT), ended(10, 90, *WHOLE)
    ) == [
        (Doing.MODEL, 10, 20),
        (Doing.APPROVAL, 20, 70),
        (Doing.TOOL, 70, 80),
        (Doing.MODEL, 80, 90),
    ]


def test_a_crash_ends_what_ran_and_the_turn_goes_on_behind_the_restart() -> None:
    exited = MemberExited("a", S, "boom", 1e-9 * 30, 40)
    turn = turn_of(
        accepted(5),
        progress(20, ASKED, CALLING),
        exited,
        progress(80, RESULT),
        ended(60, 90, *WHOLE),
    )
    assert [(each.doing, each.start_ns, each.end_ns, each.error) for each in turn.pieces] == [
        (Doing.MODEL, 5, 20, None),
        (Doing.TOOL, 20, 40, "boom"),
        (Doing.RESTART, 40, 70, "boom"),
        (Doing.TOOL, 70, 80, None),
        (Doing.MODEL, 80, 90, None),
    ]


def test_a_member_that_is_given_up_does_nothing_behind_its_crash() -> None:
    given_up = MemberExited("a", S, "boom", None, 40)
    assert cut(accepted(5), given_up, ended(39, 41, ASKED, error="boom")) == [
        (Doing.MODEL, 39, 40),
        (Doing.RESTART, 40, 40),
    ]


def test_a_wait_that_was_to_be_longer_ends_with_its_turn() -> None:
    retried = ModelRetried(S, R, 1, 1, "p:m", "503", 9000, "p:m", 20)
    assert cut(accepted(1), retried, ended(10, 60, ASKED, error="interrupted")) == [
        (Doing.MODEL, 10, 20),
        (Doing.RETRY, 20, 60),
    ]


def test_a_clock_that_was_set_back_makes_no_piece_that_ends_before_it_begins() -> None:
    assert cut(progress(20, ASKED, CALLING), progress(15, RESULT), ended(10, 12, *WHOLE)) == [
        (Doing.MODEL, 10, 12),
        (Doing.TOOL, 12, 12),
        (Doing.MODEL, 12, 12),
    ]
    later = cut(progress(20, ASKED, CALLING), progress(15, RESULT), ended(10, 40, *WHOLE))
    assert later == [(Doing.MODEL, 10, 20), (Doing.TOOL, 20, 20), (Doing.MODEL, 20, 40)]


def test_an_input_that_was_given_up_makes_no_turn_longer() -> None:
    given_up = InputAbandoned(S, InputId("old"), "late", 3)
    old = attrs.evolve(accepted(2), input_id=InputId("old"))
    turn = turn_of(old, given_up, accepted(8), progress(20, ASKED, CALLING))
    assert (turn.queued_ns, turn.start_ns) == (8, 8)


def test_where_the_progress_is_erased_the_turn_is_one_piece() -> None:
    assert cut(accepted(1), ended(10, 60, *WHOLE)) == [(Doing.WORK, 10, 60)]


def test_a_turn_in_flight_has_the_pieces_that_it_has() -> None:
    turn = turn_of(accepted(3), progress(20, ASKED, CALLING))
    assert turn.record is None
    assert (turn.start_ns, turn.end_ns) == (3, 20)


def test_what_a_rewind_left_of_another_turn_is_no_part_of_this_one() -> None:
    other = TurnProgressed(S, RunId("other"), (), (ASKED, CALLING), Usage(), 1, 12)
    assert cut(accepted(1), other, ended(10, 60, ASKED, ANSWER))[-1][0] is Doing.MODEL
    assert len(cut(accepted(1), other, ended(10, 60, ASKED, ANSWER))) == 1


def spans_of(mob: Mob, **how: Any) -> list[Span]:
    spans = Spans(
        mob.id,
        mob.realm.state,
        lambda: Who(mob.realm.state, mob.roster, Redactor()),
        Redactor(),
        **how,
    )
    made: list[Span] = []
    for event in journal(mob.realm.store, mob.id):
        made += spans.feed(event.seq, event.record)
    return [*made, *spans.rest()]


def names(span: Span) -> Any:
    return (span.name, [names(each) for each in span.children]) if span.children else span.name


async def test_a_childs_turn_is_below_the_call_that_waited_for_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened(TEAM_FILE) as mob:
        await mob.ask("lead", "what?")
        tops = sorted(spans_of(mob), key=lambda span: span.name[-1] + span.name)
        assert [each.name for each in tops] == [
            "invoke_agent worker-0",
            "invoke_agent worker-1",
            "invoke_agent lead",
        ]
        _, (chat, (tool, (child,)), again) = names(tops[0])
        assert (chat, tool, again) == ("chat agent", "execute_tool spawn_agent", "chat agent")
        assert child[0].startswith("invoke_agent worker-0/")
        inner = tops[0].children[1]
        assert inner.start_ns <= inner.children[0].start_ns <= inner.children[0].end_ns
        assert inner.children[0].end_ns <= inner.end_ns


async def test_a_span_says_what_it_was_and_nothing_that_was_said(
    autojump_clock: trio.testing.MockClock,
) -> None:
    def answer(request: ModelRequest) -> str | Exception:
        if len(request.messages) > 1:
            return ModelError("no such thing", provider="p", retryable=False)
        return "the words"

    async with opened(define("a", restart={"policy": "never"}), answer) as mob:
        await mob.ask("a", "one")
        await mob.send("a", "two")
        await mob.wait_idle()
        good, bad = spans_of(mob)
        assert good.error is None
        assert good.attributes["gen_ai.agent.name"] == "a"
        (chat,) = good.children
        assert chat.client
        assert chat.attributes["gen_ai.usage.output_tokens"] > 0  # type: ignore[operator]
        assert "the words" not in repr(good)
        assert "the words" in repr(spans_of(mob, content=True)[0])
        assert bad.error is not None
        assert bad.error[0] == "failed"
        assert [(each.name, each.error and each.error[0]) for each in bad.children] == [
            ("chat", "model_error"),
            ("restart a", "crash"),
        ]
