"""Journals with flows and tasks of a board that no correct mob makes, each wrong in its last record
or promise only."""

from __future__ import annotations

import json
from typing import Any

from mob.flows.records import (
    FlowEnded,
    FlowRoundEnded,
    FlowRunId,
    FlowStarted,
    FlowStepEnded,
    FlowStepRetried,
    FlowStepStarted,
    RunState,
    StepState,
    Verdict,
)
from mob.records import (
    BoardTaskAdded,
    BoardTaskBlocked,
    BoardTaskMoved,
    MemberRetired,
    MobStateChanged,
)
from mob.simulation.boards import BoardTold
from mob.simulation.flowing import CancelsFlow, FlowBegun, FlowCancelled, FlowsListed, FlowTold
from runtime.messages import AssistantMessage, Usage, UserMessage
from runtime.records import TurnOutcome
from tests.simulation.cases import case
from tests.simulation.tape import ONE, Tape, accepted, archived, ended, progressed, said

RUN = FlowRunId("f")
NS = 1_000_000_000
KEY = "flow:f:one:1:0:1"

ONE_STEP: dict[str, Any] = {"member": "a", "message": "hi", "retries": 1, "timeout_s": 5.0}


def flow(*more: tuple[str, dict[str, Any]], one: Any = None, **parts: Any) -> FlowStarted:
    table = {"steps": [["one", one or ONE_STEP], *more], **parts}
    return FlowStarted(RUN, "chain", json.dumps(table), "{}", "key", 0)


def after(name: str, **given: Any) -> tuple[str, dict[str, Any]]:
    return name, {"member": "a", "message": "and?", **given}


def begun(step: str = "one", attempt: int = 1, at_s: float = 0.0, **given: Any) -> FlowStepStarted:
    late = int((at_s + 5.0) * NS) if step == "one" else None
    members = given.get("members", ("a",))
    deadline_ns = given.get("deadline_ns", late)
    round_ = given.get("round_", 1)
    return FlowStepStarted(RUN, step, round_, attempt, members, deadline_ns, int(at_s * NS))


def over(
    step: str = "one",
    state: StepState = StepState.FAILED,
    output: Any = None,
    error: str | None = None,
    round_: int = 1,
) -> FlowStepEnded:
    text = None if output is None else json.dumps(output)
    return FlowStepEnded(RUN, step, round_, state, text, error, 0)


def again(attempt: int = 1) -> FlowStepRetried:
    return FlowStepRetried(RUN, "one", 1, attempt, "no", NS, 0)


def run_ended(state: RunState = RunState.FAILED) -> FlowEnded:
    return FlowEnded(RUN, state, None, 0)


def asked(tape: Tape, *more: tuple[str, dict[str, Any]], **parts: Any) -> None:
    tape.commit(flow(*more, **parts))
    tape.commit(begun())
    tape.commit(accepted(key=KEY))


def answered(tape: Tape, *more: tuple[str, dict[str, Any]], **parts: Any) -> None:
    asked(tape, *more, **parts)
    tape.commit(ended("i"))


# -- runs --------------------------------------------------------------------------------------


@case("flows_start_and_end_once")
def a_run_starts_twice(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(flow())


@case("flows_start_and_end_once")
def a_key_starts_two_runs(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(FlowStarted(FlowRunId("g"), "chain", flow().definition, "{}", "key", 0))


@case("flows_start_and_end_once")
def a_run_ends_twice(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(begun())
    tape.commit(over(), run_ended())
    tape.commit(run_ended())


@case("flows_start_and_end_once")
def a_run_ends_before_its_steps(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(begun())
    tape.commit(run_ended())


@case("flows_start_and_end_once")
def a_run_succeeds_although_a_step_failed(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(begun())
    tape.commit(over(), run_ended(RunState.SUCCEEDED))


@case("flows_start_and_end_once")
def cancelled_by_nobody(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(run_ended(RunState.CANCELLED))


@case("a_stopped_mob_does_nothing")
def a_step_of_a_mob_that_is_stopped(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(MobStateChanged("stopped", "asked", 2))
    tape.commit(begun())


@case("a_stopped_mob_does_nothing")
def a_run_that_ends_by_itself_in_one(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(begun())
    tape.commit(over())
    tape.commit(MobStateChanged("stopped", "asked", 2))
    tape.commit(run_ended())


@case("healed_flows_have_ended")
def a_run_that_never_ends(tape: Tape) -> None:
    tape.commit(flow())
    tape.oracle.ended(healed=True)


# -- steps -------------------------------------------------------------------------------------


@case("steps_wait_for_what_they_need")
def before_what_it_needs(tape: Tape) -> None:
    tape.commit(flow(after("two", needs=["one"])))
    tape.commit(begun())
    tape.commit(begun("two"))


@case("steps_wait_for_what_they_need")
def before_what_it_comes_after(tape: Tape) -> None:
    tape.commit(flow(after("two", after=["one"])))
    tape.commit(begun())
    tape.commit(begun("two"))


@case("steps_wait_for_what_they_need")
def before_its_turn_in_a_branch(tape: Tape) -> None:
    tape.commit(flow(after("two", branch="b"), one={**ONE_STEP, "branch": "b"}))
    tape.commit(begun())
    tape.commit(begun("two"))


@case("steps_wait_for_what_they_need")
def a_step_that_has_ended_begins(tape: Tape) -> None:
    tape.commit(flow(after("two")))
    tape.commit(begun())
    tape.commit(over())
    tape.commit(begun(attempt=2))


@case("steps_wait_for_what_they_need")
def a_step_that_runs_begins(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(begun())
    tape.commit(begun(attempt=2))


@case("steps_wait_for_what_they_need")
def an_attempt_is_left_out(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(begun(attempt=2))


@case("steps_wait_for_what_they_need")
def tried_too_early(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(begun())
    tape.commit(again())
    tape.commit(begun(attempt=2, at_s=0.9))


@case("steps_wait_for_what_they_need")
def another_member_is_to_be_asked(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(begun(members=("b",)))


@case("steps_wait_for_what_they_need")
def a_deadline_that_is_not_its_own(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(begun(deadline_ns=7 * NS))


@case("steps_end_once_and_as_they_may")
def a_step_ends_twice(tape: Tape) -> None:
    tape.commit(flow(after("two")))
    tape.commit(begun())
    tape.commit(over())
    tape.commit(over())


@case("steps_end_once_and_as_they_may")
def it_succeeds_and_nobody_was_asked(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(over(state=StepState.SUCCEEDED, output="yes"))


@case("steps_end_once_and_as_they_may")
def tried_too_often(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(begun())
    tape.commit(again())
    tape.at_s = 1.0
    tape.commit(begun(attempt=2, at_s=1.0))
    tape.commit(again(2))


@case("steps_end_once_and_as_they_may")
def skipped_for_no_reason(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(over(state=StepState.SKIPPED))


@case("steps_end_once_and_as_they_may")
def timed_out_too_early(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(begun())
    tape.commit(over(error="timed out after 5 s"))


def going_round(tape: Tape) -> None:
    loop = {"steps": ["one"], "until": "round == 9", "max_rounds": 2}
    tape.commit(flow(repeats={"z": loop}))
    tape.commit(begun())


@case("rounds_are_bounded")
def a_round_ends_before_its_steps(tape: Tape) -> None:
    going_round(tape)
    tape.commit(FlowRoundEnded(RUN, "z", 1, Verdict.FAILED, None, 0))


@case("rounds_are_bounded")
def a_loop_goes_on_too_long(tape: Tape) -> None:
    going_round(tape)
    tape.commit(accepted(key=KEY))
    tape.commit(ended("i"))
    tape.commit(over(state=StepState.SUCCEEDED, output="yes"))
    tape.commit(FlowRoundEnded(RUN, "z", 1, Verdict.AGAIN, None, 0))
    tape.commit(begun(round_=2))
    tape.commit(accepted("j", key="flow:f:one:2:0:1"))
    tape.commit(ended("j", run="r2", prev=8, place=(2, 4, 8, 1)))
    tape.commit(over(state=StepState.SUCCEEDED, output="yes", round_=2))
    tape.commit(FlowRoundEnded(RUN, "z", 2, Verdict.AGAIN, None, 0))


@case("rounds_are_bounded")
def a_loop_succeeds_although_a_step_failed(tape: Tape) -> None:
    going_round(tape)
    tape.commit(over())
    tape.commit(FlowRoundEnded(RUN, "z", 1, Verdict.SUCCEEDED, None, 0))


# -- questions ---------------------------------------------------------------------------------


@case("steps_ask_once")
def asked_before_it_begins(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(accepted(key=KEY))


@case("steps_ask_once")
def asked_after_it_ended(tape: Tape) -> None:
    tape.commit(flow(after("two")))
    tape.commit(begun())
    tape.commit(over())
    tape.commit(accepted(key=KEY))


@case("steps_ask_once")
def asked_in_another_place(tape: Tape) -> None:
    tape.commit(flow())
    tape.commit(begun())
    tape.commit(accepted(key="flow:f:one:1:1:1"))


@case("outputs_are_what_members_answered")
def an_output_that_nobody_said(tape: Tape) -> None:
    answered(tape)
    tape.commit(over(state=StepState.SUCCEEDED, output="no"))


@case("outputs_are_what_members_answered")
def an_answer_of_a_turn_that_did_not_complete(tape: Tape) -> None:
    asked(tape)
    tape.commit(ended("i", outcome=TurnOutcome.INTERRUPTED, error="because"))
    tape.commit(over(state=StepState.SUCCEEDED, output="yes"))


@case("outputs_are_what_members_answered")
def fewer_answers_than_a_quorum(tape: Tape) -> None:
    voting = {"profile": "p", "message": "hi", "collect": "quorum", "quorum": 2}
    tape.commit(flow(one=voting))
    tape.commit(begun(members=("a", "b", "c"), deadline_ns=None))
    tape.commit(accepted(key=KEY))
    tape.commit(ended("i"))
    tape.commit(over(state=StepState.SUCCEEDED, output=["yes"]))


@case("withdrawn_questions_rest")
def a_turn_goes_on_that_nobody_waits_for(tape: Tape) -> None:
    asked(tape, after("two"))
    tape.commit(over())
    for _ in range(2):
        tape.operations()
    tape.commit(progressed(UserMessage("hi"), AssistantMessage("", usage=ONE), usage=ONE))


@case("withdrawn_questions_rest")
def a_later_process_answers_it(tape: Tape) -> None:
    asked(tape)
    tape.commit(over(), run_ended())
    tape.open(2, 2)
    tape.commit(ended("i", messages=said(), usage=Usage(1, 1, 1, 0)))


# -- what people are told ------------------------------------------------------------------------


@case("what_flows_told_is_on_disk")
def told_of_a_run_that_is_not_there(tape: Tape) -> None:
    tape.oracle.promised(FlowBegun("f", "chain", "key"))


@case("what_flows_told_is_on_disk")
def told_of_a_run_with_another_key(tape: Tape) -> None:
    tape.commit(flow())
    tape.oracle.promised(FlowBegun("f", "chain", "key"))
    tape.oracle.promised(FlowBegun("f", "chain", "another"))


@case("what_flows_told_is_on_disk")
def told_that_it_is_cancelled(tape: Tape) -> None:
    tape.commit(flow())
    tape.oracle.promised(CancelsFlow("f"))
    tape.oracle.promised(FlowCancelled("f", True))


@case("what_flows_told_is_on_disk")
def told_of_another_output(tape: Tape) -> None:
    answered(tape)
    tape.commit(over(state=StepState.SUCCEEDED, output="yes"), run_ended(RunState.SUCCEEDED))
    last = tape.oracle.ledger.last
    tape.oracle.promised(FlowTold("f", last, "succeeded", {"one": ("succeeded", 1, "yes")}))
    tape.oracle.promised(FlowTold("f", last, "succeeded", {"one": ("succeeded", 1, "no")}))


@case("what_flows_told_is_on_disk")
def a_run_is_not_listed(tape: Tape) -> None:
    tape.commit(flow())
    tape.oracle.promised(FlowsListed(("f",), 5))
    tape.oracle.promised(FlowsListed((), 5))


# -- the board -----------------------------------------------------------------------------------


def task(task_id: str = "t1", *blocked_by: str, key: str | None = None) -> BoardTaskAdded:
    return BoardTaskAdded(task_id, "dig", "", blocked_by, key, 1)


def moved(
    verb: str, state: str, owner: str | None = None, task_id: str = "t1", key: str | None = None
) -> BoardTaskMoved:
    return BoardTaskMoved(task_id, verb, state, owner, "", key, 2)


@case("board_tasks_follow_their_table")
def claimed_twice(tape: Tape) -> None:
    tape.commit(task())
    tape.commit(moved("claim", "claimed", "a"))
    tape.commit(moved("claim", "claimed", "a"))


@case("board_tasks_follow_their_table")
def claimed_before_its_blocker_is_done(tape: Tape) -> None:
    tape.commit(task(), task("t2", "t1"))
    tape.commit(moved("claim", "claimed", "a", "t2"))


@case("board_tasks_follow_their_table")
def done_and_claimed_again(tape: Tape) -> None:
    tape.commit(task())
    tape.commit(moved("claim", "claimed", "a"))
    tape.commit(moved("finish", "done", "a"))
    tape.commit(moved("release", "open"))


@case("board_tasks_follow_their_table")
def claimed_by_nobody_that_is_there(tape: Tape) -> None:
    tape.commit(task())
    tape.commit(moved("claim", "claimed", "b"))


@case("board_tasks_follow_their_table")
def added_twice(tape: Tape) -> None:
    tape.commit(task())
    tape.commit(task())


@case("board_tasks_follow_their_table")
def a_key_adds_two(tape: Tape) -> None:
    tape.commit(task(key="k"))
    tape.commit(task("t2", key="k"))


@case("board_tasks_follow_their_table")
def it_waits_for_itself(tape: Tape) -> None:
    tape.commit(task(), task("t2", "t1"))
    tape.commit(BoardTaskBlocked("t1", ("t2",), None, 2))


@case("board_tasks_follow_their_table")
def finished_by_another(tape: Tape) -> None:
    tape.commit(task())
    tape.commit(moved("claim", "claimed", "a"))
    tape.commit(moved("finish", "done", "b"))


@case("what_the_board_told_is_on_disk")
def told_of_a_task_that_is_not_there(tape: Tape) -> None:
    tape.oracle.promised(BoardTold((("t1", "open", None, "", ()),), 4))


@case("what_the_board_told_is_on_disk")
def told_that_somebody_who_left_has_it(tape: Tape) -> None:
    tape.commit(task())
    tape.commit(moved("claim", "claimed", "a"))
    tape.commit(archived(), MemberRetired("a", "enough", 3))
    tape.oracle.promised(BoardTold((("t1", "claimed", "a", "", ()),), 6))
    tape.oracle.promised(BoardTold((("t1", "open", None, "", ()),), 8))
    tape.oracle.promised(BoardTold((("t1", "claimed", "a", "", ()),), 8))


@case("what_the_board_told_is_on_disk")
def a_task_is_not_listed(tape: Tape) -> None:
    tape.commit(task(), task("t2"))
    tape.oracle.promised(BoardTold((("t1", "open", None, "", ()),), 6, whole=True))
