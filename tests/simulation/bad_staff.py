"""Members that begin anew, are limited or fail in groups, wrongly in the last step only."""

from __future__ import annotations

from typing import Any

import attrs

from mob.autonomy import SELF
from mob.definition import MobDefinition
from mob.groups import SUPERVISOR
from mob.receipts import EnsureReport, MemberHandle
from mob.records import MemberExited, MemberRespawned, MobStateChanged
from mob.simulation.ports import EPOCH_S
from mob.simulation.tenures import AtWork, Completed, Ensured, Fenced, Hired, Respawned
from runtime.ids import SessionId
from runtime.records import TurnOutcome
from tests.simulation.cases import a_turn, case
from tests.simulation.tape import Tape, accepted, archived, created, ended, exited, spawned


def staffed(tape: Tape, **more: Any) -> Tape:
    """Process 2 runs the mob, with `b` in a profile of its own and more top-level tables."""
    profile = more.pop("profile", {})
    definition = MobDefinition.from_table(
        {
            "mob": {"id": "t", "lead": "a"},
            "models": {"m": {"model": "sim:echo"}},
            "profiles": {"p": {"model": "m", **profile}},
            "members": {"a": {"profile": "p"}, "b": {"profile": "p"}},
            **more,
        }
    )
    tape.oracle.opened(2, 2, tape.at_s, definition)
    tape.process = tape.generation = 2
    return tape


def respawned(session: str = "s2", generation: int = 2) -> MemberRespawned:
    return MemberRespawned("a", "p", SessionId(session), generation, "worn", 3)


def renewed(tape: Tape) -> None:
    """A good respawn."""
    tape.commit(created("s2"), archived(), respawned())


def group(**more: Any) -> dict[str, Any]:
    return {"g": {"members": ["a", "b"], "escalate": "member:b", **more}}


def failed(name: str, session: str, cause: str = "boom", delay: float | None = 1.0) -> MemberExited:
    return MemberExited(name, SessionId(session), cause, delay, 3)


# -- generations -----------------------------------------------------------------------------


@case("generations_rise_by_one")
def a_generation_is_left_out(tape: Tape) -> None:
    tape.commit(created("s2"), archived(), respawned(generation=3))


@case("generations_rise_by_one")
def the_same_session_again(tape: Tape) -> None:
    tape.commit(archived(), respawned("s"))


@case("a_respawn_is_one_commit")
def the_old_session_stays(tape: Tape) -> None:
    tape.commit(created("s2"), respawned())


@case("a_respawn_is_one_commit")
def the_session_was_made_before(tape: Tape) -> None:
    tape.commit(created("s2"))
    tape.commit(archived(), respawned())


@case("a_respawn_is_one_commit")
def what_waited_is_lost(tape: Tape) -> None:
    tape.commit(accepted("i"), accepted("j", "later"))
    renewed(tape)


@case("the_old_generation_rests")
def the_old_session_is_asked(tape: Tape) -> None:
    renewed(tape)
    tape.commit(accepted("i"))


@case("the_old_generation_rests")
def the_old_session_ends_a_turn_well(tape: Tape) -> None:
    tape.commit(accepted("i"))
    renewed(tape)
    tape.commit(ended("i"))


@case("what_staff_was_told_is_on_disk")
def respawned_and_not_on_disk(tape: Tape) -> None:
    tape.oracle.promised(Respawned(MemberHandle("a", 2, "s2"), None))


@case("what_staff_was_told_is_on_disk")
def a_fence_that_has_passed(tape: Tape) -> None:
    renewed(tape)
    tape.oracle.promised(Fenced("kill", MemberHandle("a", 1, "s"), refused=False, stale=True))


@case("what_staff_was_told_is_on_disk")
def hired_one_by_one(tape: Tape) -> None:
    tape.commit(created("x", "x"), spawned("x", "x"))
    tape.commit(created("y", "y"), spawned("y", "y"))
    tape.oracle.promised(Hired((("x", "p"), ("y", "p")), ("x", "y")))


@case("what_staff_was_told_is_on_disk")
def declared_and_not_there(tape: Tape) -> None:
    report = EnsureReport((), (), (), ("a",))
    tape.oracle.promised(Ensured((("a", "p"),), report, 4))
    tape.oracle.promised(Ensured((("a", "p"), ("b", "p")), report, 4))


@case("what_staff_was_told_is_on_disk")
def completed_and_not_on_disk(tape: Tape) -> None:
    tape.oracle.promised(Completed(4))


@case("a_completed_mob_has_nothing_left")
def completed_with_work(tape: Tape) -> None:
    tape.commit(accepted("i"))
    tape.commit(MobStateChanged("completed", "", 3))


# -- limits and autonomy -----------------------------------------------------------------------


@case("limits_are_kept")
def a_member_too_many(tape: Tape) -> None:
    staffed(tape, limits={"members": 2})
    tape.commit(created("b", "b"), spawned("b", "b"))
    tape.commit(created("c", "c"), spawned("c", "c"))


@case("limits_are_kept")
def a_turn_too_many_of_one(tape: Tape) -> None:
    staffed(tape, limits={"turns_per_member": 2})
    a_turn(tape)
    tape.commit(accepted("i"))
    tape.commit(accepted("j"))


@case("limits_are_kept")
def a_turn_too_many_of_all(tape: Tape) -> None:
    staffed(tape, limits={"turns": 1})
    a_turn(tape)
    tape.commit(created("b", "b"), spawned("b", "b"))
    tape.commit(accepted("j", session="b"))


@case("turns_keep_to_their_slots")
def more_at_work_than_slots(tape: Tape) -> None:
    staffed(tape, limits={"concurrent_turns": 1})
    tape.oracle.promised(AtWork(("a",)))
    tape.oracle.promised(AtWork(("a", "b")))


ALONE = {"mode": "autonomous", "max_turns": 1}


@case("a_member_goes_on_as_it_may")
def prompted_for_no_turn(tape: Tape) -> None:
    staffed(tape, profile=ALONE)
    tape.commit(accepted("x+1", "Continue.", sender=SELF))


@case("a_member_goes_on_as_it_may")
def prompted_once_too_often(tape: Tape) -> None:
    staffed(tape, profile=ALONE)
    tape.commit(accepted("i"))
    tape.commit(ended("i"), accepted("x+2", "Continue.", sender=SELF))


@case("a_member_goes_on_as_it_may")
def prompted_after_a_failure(tape: Tape) -> None:
    staffed(tape, profile=ALONE)
    tape.commit(accepted("i"))
    over = ended("i", outcome=TurnOutcome.INTERRUPTED, error="no more")
    tape.commit(over, accepted("x+1", "Continue.", sender=SELF))


# -- groups ------------------------------------------------------------------------------------


def both(tape: Tape, **more: Any) -> None:
    """`a` and `b` in a group."""
    staffed(tape, groups=group(**more))
    tape.commit(created("b", "b"), spawned("b", "b"))


def because(failed: str) -> str:
    return f"group 'g' restarts: {failed!r} has failed: boom"


@case("a_group_cuts_whom_it_may")
def a_sibling_of_one_for_one(tape: Tape) -> None:
    both(tape)
    tape.commit(exited())
    tape.commit(failed("b", "b", because("a")))


@case("a_group_cuts_whom_it_may")
def one_before_the_rest(tape: Tape) -> None:
    both(tape, strategy="rest-for-one")
    tape.commit(exited())
    tape.commit(failed("b", "b", because("a")))
    tape.commit(failed("b", "b", delay=2.0))
    tape.commit(failed("a", "s", because("b"), 2.0))


@case("a_group_cuts_whom_it_may")
def for_one_who_has_not_failed(tape: Tape) -> None:
    both(tape, strategy="one-for-all")
    tape.commit(failed("b", "b", because("a")))


@case("groups_keep_to_their_intensity")
def a_failure_too_many(tape: Tape) -> None:
    both(tape, restart={"max": 1, "within_s": 10.0})
    tape.commit(exited())
    tape.commit(failed("b", "b"))


def a_failure_goes_up(tape: Tape, told: bool) -> None:
    """`a` fails twice; between that `c`, in a group below, and perhaps its group gives up, too."""
    inner = {"members": ["c"], "parent": "g", "restart": {"max": 1, "within_s": 10.0}}
    outer = group(restart={"max": 1, "within_s": 10.0})
    members = {name: {"profile": "p"} for name in "abc"}
    staffed(tape, members=members, groups={**outer, "below": inner})
    tape.commit(created("b", "b"), spawned("b", "b"))
    tape.commit(created("c", "c"), spawned("c", "c"))
    tape.commit(failed("c", "c"))
    tape.commit(failed("a", "s"))
    said = "boom (group 'g' has had 1 failures within 10 s, which is the limit)"
    letter = (accepted("i", said, session="b", sender=SUPERVISOR),) if told else ()
    tape.commit(failed("c", "c", delay=None), *letter)
    tape.commit(failed("a", "s", delay=2.0))


@case("groups_keep_to_their_intensity")
def a_failure_too_many_above_one_that_was_put_up_with(tape: Tape) -> None:
    a_failure_goes_up(tape, told=False)


@case("escalations_are_deserved")
def given_up_for_what_was_long_ago(tape: Tape) -> None:
    both(tape, restart={"max": 1, "within_s": 10.0})
    tape.commit(failed("b", "b"))
    tape.at_s += 20.0
    tape.commit(failed("b", "b"))
    tape.at_s += 20.0
    said = "boom (group 'g' has had 1 failures within 10 s, which is the limit)"
    at_ns = int((EPOCH_S + tape.at_s) * 1e9)
    last = attrs.evolve(failed("a", "s", delay=None), at_ns=at_ns)
    tape.commit(last, accepted("i", said, session="b", sender=SUPERVISOR))


@case("escalations_are_deserved")
def given_up_after_one_failure(tape: Tape) -> None:
    both(tape, restart={"max": 1, "within_s": 10.0})
    said = "(group 'g' has had 1 failures within 10 s, which is the limit)"
    tape.commit(failed("a", "s", delay=None), accepted("i", said, session="b", sender=SUPERVISOR))
