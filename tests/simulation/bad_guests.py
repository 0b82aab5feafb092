"""Journals with runs and sessions beside the members that no correct mob makes, and promises about
them, each wrong in the last step only."""

from __future__ import annotations

from typing import Any

import attrs

from mob.simulation import receipts, staged
from runtime.ids import HarnessId, InputId, RunId, SessionId
from runtime.ledger import InputsRequeued, RunApplied, RunApplyBoundary
from runtime.messages import CONTEXT, AssistantMessage, SystemMessage, UserMessage
from runtime.records import InputAbandoned, TurnOutcome
from runtime.session import SessionSpec
from tests.simulation.cases import case
from tests.simulation.tape import ONE, Tape, accepted, created, ended

S, G = SessionId("s"), SessionId("g")


def receipt(run: str = "r", **given: Any) -> RunApplied:
    start = RunApplyBoundary.RUN_START
    made = RunApplied(S, RunId(run), start, (InputId("i"),), "digest", 2, 2, 1, 4)
    return attrs.evolve(made, **given)


def requeued(attempt: int = 1, run: str = "r", session: SessionId = S) -> InputsRequeued:
    return InputsRequeued(session, RunId(run), (InputId("i"),), attempt, "boom", 4)


def failed(run: str = "r", session: str = "s", **given: Any) -> Any:
    return ended(
        session=session, run=run, outcome=TurnOutcome.FAILED, error="the call of m failed", **given
    )


def guest(tape: Tape) -> None:
    tape.commit(attrs.evolve(created("g", None), harness_id=HarnessId("plain")))
    tape.commit(accepted(session="g"))


@case("hosted_sessions_are_saved")
def a_hosted_session_without_a_snapshot(tape: Tape) -> None:
    hosted = SessionSpec(host_mode=True)
    tape.commit(attrs.evolve(created("g", None), harness_id=HarnessId("plain"), spec=hosted))
    tape.commit(accepted(session="g"))
    tape.commit(ended("i", session="g"))
    tape.oracle.ended(healed=True)


@case("a_run_is_applied_once")
def applied_twice(tape: Tape) -> None:
    tape.commit(accepted())
    tape.commit(ended("i"), receipt())
    tape.commit(receipt())


@case("a_run_is_applied_once")
def a_receipt_without_its_turn(tape: Tape) -> None:
    tape.commit(accepted())
    tape.commit(ended("i"))
    tape.commit(receipt())


@case("a_run_is_applied_once")
def a_receipt_of_another_run(tape: Tape) -> None:
    tape.commit(accepted())
    tape.commit(ended("i"), receipt("another"))


@case("a_run_is_applied_once")
def a_receipt_of_a_run_that_failed(tape: Tape) -> None:
    tape.commit(accepted())
    tape.commit(failed(), receipt())


@case("a_run_is_applied_once")
def a_receipt_of_other_inputs(tape: Tape) -> None:
    tape.commit(accepted())
    tape.commit(ended("i"), receipt(input_ids=(InputId("j"),)))


@case("a_run_is_applied_once")
def a_receipt_that_counts_wrongly(tape: Tape) -> None:
    tape.commit(accepted())
    tape.commit(ended("i"), receipt(total=3))


@case("attempts_are_bounded")
def an_attempt_that_counts_wrongly(tape: Tape) -> None:
    guest(tape)
    tape.commit(failed(session="g"), requeued(2, session=G))


@case("attempts_are_bounded")
def queued_again_and_no_run_failed(tape: Tape) -> None:
    guest(tape)
    tape.commit(requeued(session=G))


@case("attempts_are_bounded")
def given_up_too_early(tape: Tape) -> None:
    guest(tape)
    tape.commit(failed(session="g"), requeued(session=G))
    tape.commit(InputAbandoned(G, InputId("i"), "failed 2 times, at last: boom", 5))


@case("a_run_that_failed_consumes_nothing")
def a_run_that_failed_and_says_nothing_of_its_inputs(tape: Tape) -> None:
    guest(tape)
    tape.commit(failed(session="g"))


@case("context_is_said_once")
def context_twice(tape: Tape) -> None:
    tape.commit(accepted(), accepted("c", "it rains", sender=CONTEXT))
    said = (
        UserMessage("hi"),
        *(SystemMessage("it rains"),) * 2,
        AssistantMessage("yes", usage=ONE),
    )
    tape.commit(ended("i", "c", messages=said, place=(1, 4, 0, 0)))


@case("context_is_said_once")
def context_that_is_not_consumed(tape: Tape) -> None:
    tape.commit(accepted(), accepted("c", "it rains", sender=CONTEXT))
    said = (UserMessage("hi"), SystemMessage("it rains"), AssistantMessage("yes", usage=ONE))
    tape.commit(ended("i", messages=said, place=(1, 3, 0, 0)))


@case("what_runs_were_told_is_on_disk")
def a_receipt_that_is_not_on_disk(tape: Tape) -> None:
    tape.commit(accepted())
    tape.commit(ended("i"), receipt())
    tape.oracle.promised(receipts.Applied(receipt()))
    tape.oracle.promised(receipts.Applied(receipt(total=3)))


@case("what_runs_were_told_is_on_disk")
def an_input_with_other_words(tape: Tape) -> None:
    tape.commit(accepted(key="k"))
    tape.oracle.promised(receipts.Queued("s", "i", "hi", "k"))
    tape.oracle.promised(receipts.Queued("s", "i", "ho", "k"))


@case("what_runs_were_told_is_on_disk")
def an_input_that_nobody_gave_up(tape: Tape) -> None:
    tape.commit(accepted())
    tape.oracle.promised(receipts.GivenUp("i"))


@case("what_sessions_were_told_is_on_disk")
def staged_and_not_on_disk(tape: Tape) -> None:
    tape.commit(accepted("c", "it rains", sender=CONTEXT, key=f"{CONTEXT}:s:k"))
    tape.oracle.promised(staged.Staged("s", "it rains", "k"))
    tape.oracle.promised(staged.Staged("s", "it rains", None))
    tape.oracle.promised(staged.Staged("s", "it snows", "k"))


@case("what_sessions_were_told_is_on_disk")
def staged_without_a_key_and_not_on_disk(tape: Tape) -> None:
    tape.commit(accepted("c", "it rains", sender=CONTEXT))
    tape.oracle.promised(staged.Staged("s", "it snows", None))


@case("what_sessions_were_told_is_on_disk")
def a_conflict_that_is_none(tape: Tape) -> None:
    tape.commit(accepted("c", "it rains", sender=CONTEXT, key=f"{CONTEXT}:s:k"))
    tape.oracle.promised(staged.Conflicting("s", "it snows", "k"))
    tape.oracle.promised(staged.Conflicting("s", "it rains", "k"))


@case("what_sessions_were_told_is_on_disk")
def a_peers_message_that_is_not_on_disk(tape: Tape) -> None:
    tape.commit(accepted("p", "hello", sender="b", key="s:peer:b:k"))
    tape.oracle.promised(staged.ToldPeer("s", "hello", "b", "k"))
    tape.oracle.promised(staged.ToldPeer("s", "hello", "b", "j"))


@case("what_sessions_were_told_is_on_disk")
def archived_and_not_on_disk(tape: Tape) -> None:
    guest(tape)
    tape.oracle.promised(staged.Archived("g"))
