"""Journals with approvals that no correct mob makes, each wrong in its last record only."""

from __future__ import annotations

from runtime.approvals import ApprovalAsked, ApprovalDecided, ApprovalUsed, Verdict
from runtime.ids import RunId, SessionId, ToolCallId
from runtime.messages import Usage
from tests.simulation.cases import called, case, result
from tests.simulation.tape import Tape, accepted, progressed

S, R, C = SessionId("s"), RunId("r"), ToolCallId("c")


def asked(call: str = "c", run: str = "r") -> ApprovalAsked:
    return ApprovalAsked(S, RunId(run), ToolCallId(call), "look", "{}", "a", "{}", 7)


def decided(verdict: Verdict = Verdict.APPROVED) -> ApprovalDecided:
    return ApprovalDecided(S, R, C, verdict, "ada", "", None, 8)


def used() -> ApprovalUsed:
    return ApprovalUsed(S, R, (C,), 9)


def waiting(tape: Tape) -> None:
    tape.commit(accepted())
    tape.commit(progressed(*called("c"), usage=Usage(1, 1, 1, 1)), asked())


@case("questions_are_about_open_calls")
def asked_twice(tape: Tape) -> None:
    waiting(tape)
    tape.commit(asked())


@case("questions_are_about_open_calls")
def about_no_call(tape: Tape) -> None:
    waiting(tape)
    tape.commit(asked("other"))


@case("questions_are_about_open_calls")
def of_another_run(tape: Tape) -> None:
    waiting(tape)
    tape.commit(asked(run="another"))


@case("a_call_is_begun_once_and_only_when_approved")
def begun_while_it_waits(tape: Tape) -> None:
    waiting(tape)
    tape.commit(used())


@case("a_call_is_begun_once_and_only_when_approved")
def begun_although_denied_first(tape: Tape) -> None:
    waiting(tape)
    tape.commit(decided(Verdict.DENIED))
    tape.commit(decided())
    tape.commit(used())


@case("a_call_is_begun_once_and_only_when_approved")
def approved_and_run_twice(tape: Tape) -> None:
    waiting(tape)
    tape.commit(decided())
    tape.commit(used())
    tape.commit(used())


@case("what_waits_has_no_result")
def a_result_of_a_call_that_waits(tape: Tape) -> None:
    waiting(tape)
    tape.commit(progressed(result("c"), usage=Usage(1, 1, 1, 1)))


@case("what_waits_has_no_result")
def a_result_of_a_call_that_was_denied(tape: Tape) -> None:
    waiting(tape)
    tape.commit(decided(Verdict.DENIED))
    tape.commit(progressed(result("c"), usage=Usage(1, 1, 1, 1)))
