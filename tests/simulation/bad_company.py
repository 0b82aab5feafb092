"""Helpers, newcomers and members that depend on others, wrongly in the last step only."""

from __future__ import annotations

from mob.groups import SUPERVISOR
from mob.records import MemberExited, MemberSpawned
from mob.simulation.attendance import ComesByMessage
from runtime.ids import SessionId
from runtime.messages import CONTEXT
from runtime.records import TurnOutcome
from tests.simulation.bad_staff import staffed
from tests.simulation.cases import case
from tests.simulation.tape import (
    Tape,
    accepted,
    created,
    ended,
    exited,
    progressed,
    said,
    spawned,
)

TOLD_BY = f"{CONTEXT}: {SUPERVISOR}"
ABOUT_A = "Member 'a', on which you depend, has given up its work: boom"
DEPENDS = {"members": {"a": {"profile": "p"}, "b": {"profile": "p", "depends_on": ["a"]}}}


def helped(
    tape: Tape, name: str = "a~1", session: str = "h", key: str | None = None, question: str = "q"
) -> None:
    """A helper joins with its question."""
    asked = accepted(question, "why", session=session, key=key)
    tape.commit(created(session, name), spawned(name, session), asked)


def depending(tape: Tape, process: int = 2) -> Tape:
    """`b`, with the session `b`, depends on `a`, with the session `s`."""
    if process == 2:
        tape.commit(created("b", "b"), spawned("b", "b"))
        return staffed(tape, **DEPENDS)
    tape.oracle.opened(process, process, tape.at_s, tape.oracle.ledger.attendance.definition)
    tape.process = tape.generation = process
    return tape


@case("helpers_come_with_their_question")
def a_helper_comes_before_its_question(tape: Tape) -> None:
    tape.commit(created("h", "a~1"), spawned("a~1", "h"))


@case("helpers_come_with_their_question")
def a_helper_is_nobodys(tape: Tape) -> None:
    helped(tape, "z~1")


@case("helpers_come_with_their_question")
def a_helper_has_a_helper(tape: Tape) -> None:
    helped(tape)
    helped(tape, "a~1~1", "h2", question="q2")


@case("helpers_keep_to_themselves")
def a_helper_is_asked_more(tape: Tape) -> None:
    helped(tape)
    tape.commit(accepted("i", "and this?", session="h"))


@case("messages_go_along_edges")
def a_helper_writes(tape: Tape) -> None:
    helped(tape)
    tape.commit(accepted("i", "psst", sender="a~1"))


@case("what_nobody_can_fetch_rests")
def a_helper_outlives_its_process(tape: Tape) -> None:
    helped(tape, "a~2", "h2", "helper:k")
    tape.commit(progressed(*said("why"), inputs=("q",), run="r2", session="h2"))
    tape.commit(created("h", "a~1"), spawned("a~1", "h"), accepted("q1", "why", session="h"))
    tape.commit(progressed(*said("why"), inputs=("q1",), session="h"))
    tape.open(2, 2)
    tape.commit(
        ended("q", session="h2", run="r2", messages=said("why"), place=(1, 2, 0, 0)),
    )
    tape.commit(ended("q1", session="h", messages=said("why")))


@case("helpers_leave")
def a_helper_stays(tape: Tape) -> None:
    helped(tape)
    tape.commit(ended("q", session="h", messages=said("why")))
    tape.oracle.ended(healed=True)


@case("newcomers_come_with_a_message")
def a_newcomer_comes_before_its_message(tape: Tape) -> None:
    staffed(tape, spawn={"on_unknown": "p"})
    tape.oracle.promised(ComesByMessage("n"), "t")
    tape.commit(created("n", "n"), spawned("n", "n"))


@case("newcomers_come_with_a_message")
def a_newcomer_is_of_another_profile(tape: Tape) -> None:
    staffed(tape, spawn={"rules": {"m-*": "p"}})
    for name in ("m-1", "n-1"):
        tape.oracle.promised(ComesByMessage(name), "t")
        come = accepted(f"i-{name}", session=name)
        tape.commit(created(name, name), spawned(name, name), come)


@case("newcomers_are_as_the_file_says")
def a_newcomer_is_there_on_another_profile(tape: Tape) -> None:
    staffed(tape, spawn={"rules": {"n-*": "refuse"}, "on_unknown": "p"})
    tape.commit(created("n", "n-1"), MemberSpawned("n-1", "p", SessionId("n"), 1, 1))
    tape.oracle.promised(ComesByMessage("n-1"), "t")


@case("dependents_go_on_after")
def a_dependent_goes_first(tape: Tape) -> None:
    depending(tape)
    tape.commit(accepted("i"), accepted("j", session="b"))
    for process in (3, 4):  # one turn each: what is left of the other goes first again
        depending(tape, process)
        if process == 3:
            tape.commit(progressed(*said(), run="ra"))
            tape.commit(ended("i", run="ra"))
            tape.commit(progressed(*said(), inputs=("j",), session="b", run="rb"))
            tape.commit(accepted("i2"))
    tape.commit(ended("j", session="b", run="rb"))


@case("dependents_are_told")
def one_is_told_who_depends_on_nobody(tape: Tape) -> None:
    depending(tape)
    tape.commit(accepted("i"))
    tape.commit(exited(None), accepted("c", ABOUT_A, session="b", sender=TOLD_BY))
    tape.commit(ended("i", outcome=TurnOutcome.FAILED, error="boom"))
    tape.commit(accepted("d", ABOUT_A, session="b", sender=TOLD_BY))


@case("who_was_at_work_was_told")
def one_at_work_is_not_told(tape: Tape) -> None:
    depending(tape)
    tape.commit(accepted("i"), accepted("j", session="b"))
    tape.commit(progressed(*said(), inputs=("j",), session="b", run="rb"))
    tape.commit(MemberExited("a", SessionId("s"), "boom", None, 3))
    tape.commit(ended("j", session="b", run="rb"))
