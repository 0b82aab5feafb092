"""Journals with approvals that no correct mob makes, each wrong in its last record only."""

from __future__ import annotations

import json

from mob.records import BlueprintAdopted
from mob.simulation import promises
from mob.simulation.facts import ToolRan
from runtime.approvals import ApprovalAsked, ApprovalDecided, ApprovalUsed, Verdict
from runtime.ids import RunId, SessionId, ToolCallId
from runtime.messages import AssistantMessage, ToolOutcome, Usage
from tests.simulation.cases import called, case, result
from tests.simulation.tape import ONE, PROFILE, Tape, accepted, ended, progressed

S, R, C = SessionId("s"), RunId("r"), ToolCallId("c")


def asked(call: str = "c", run: str = "r") -> ApprovalAsked:
    return ApprovalAsked(S, RunId(run), ToolCallId(call), "look", "{}", "a", "{}", 7)


def decided(
    verdict: Verdict = Verdict.APPROVED, arguments: str | None = None, call: str = "c"
) -> ApprovalDecided:
    return ApprovalDecided(S, R, ToolCallId(call), verdict, "ada", "", arguments, 8)


def runs(arguments: str | None = "{}", call: str = "c") -> ToolRan:
    return ToolRan("s", "r", call, "look", True, arguments)


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
def begun_although_denied(tape: Tape) -> None:
    waiting(tape)
    tape.commit(decided(Verdict.DENIED))
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


@case("the_first_decision_counts")
def decided_twice(tape: Tape) -> None:
    waiting(tape)
    tape.commit(decided())
    tape.commit(decided(Verdict.DENIED))


@case("the_first_decision_counts")
def decided_and_never_asked(tape: Tape) -> None:
    waiting(tape)
    tape.commit(decided(call="other"))


@case("the_first_decision_counts")
def denied_with_other_arguments(tape: Tape) -> None:
    waiting(tape)
    tape.commit(decided(Verdict.DENIED, "{}"))


@case("a_turn_that_waits_is_not_over")
def answered_while_a_call_waits(tape: Tape) -> None:
    waiting(tape)
    cut = result("c", outcome=ToolOutcome.INTERRUPTED)
    messages = (*called("c"), cut, AssistantMessage("done", usage=ONE))
    tape.commit(ended("i", messages=messages, usage=Usage(2, 2, 2, 1), place=(1, 4, 0, 0)))


@case("what_needs_approval_runs_as_decided")
def runs_while_it_waits(tape: Tape) -> None:
    waiting(tape)
    tape.oracle.promised(runs())


@case("what_needs_approval_runs_as_decided")
def runs_although_denied(tape: Tape) -> None:
    waiting(tape)
    tape.commit(decided(Verdict.DENIED))
    tape.oracle.promised(runs())


@case("what_needs_approval_runs_as_decided")
def runs_before_that_is_on_disk(tape: Tape) -> None:
    waiting(tape)
    tape.commit(decided())
    tape.oracle.promised(runs())


@case("what_needs_approval_runs_as_decided")
def runs_with_the_models_arguments(tape: Tape) -> None:
    waiting(tape)
    tape.commit(decided(arguments='{"what": "less"}'))
    tape.commit(used())
    tape.oracle.promised(runs('{"what": "less"}'))
    tape.oracle.promised(runs())


@case("what_needs_approval_runs_as_decided")
def runs_and_nobody_was_asked(tape: Tape) -> None:
    asks = json.dumps({"profiles": {"p": {**PROFILE, "approve": ["lo*"]}}})
    tape.commit(BlueprintAdopted(asks, 2))
    tape.commit(accepted())
    tape.commit(progressed(*called("c"), usage=Usage(1, 1, 1, 1)))
    tape.oracle.promised(runs())


@case("what_needs_approval_runs_as_decided")
def told_of_another_decision(tape: Tape) -> None:
    waiting(tape)
    tape.commit(decided())
    tape.oracle.promised(promises.Decided("s:r:c", "approved", "ada"))
    tape.oracle.promised(promises.Decided("s:r:c", "denied", "ada"))


@case("what_needs_approval_runs_as_decided")
def told_of_a_decision_that_is_not_on_disk(tape: Tape) -> None:
    waiting(tape)
    tape.oracle.promised(promises.Decided("s:r:c", "approved", "ada"))


@case("what_needs_approval_runs_as_decided")
def told_that_it_does_not_wait(tape: Tape) -> None:
    waiting(tape)
    tape.oracle.promised(promises.NotWaiting("s:r:c", tape.oracle.ledger.last))
