"""Journals with points and rewinds that no correct mob makes, each wrong in its last step only."""

from __future__ import annotations

from typing import Any

from mob.records import MobStateChanged
from mob.simulation import voyages
from runtime.points import ASKED, LEFT, Point, PointMade, RealmRewound, StateRows
from tests.simulation.cases import case
from tests.simulation.tape import Tape, accepted


def point(label: str, at: int, why: str = ASKED, rows: int = 0) -> PointMade:
    return PointMade(label, at, rows, why, 0, (), 9)


def rewind(at: int, label: str | None = None, left: str = "left", rows: int = 0) -> RealmRewound:
    return RealmRewound(at, label, left, rows, (), 9)


def running() -> MobStateChanged:
    return MobStateChanged("running", "as it was", 9)


@case("points_are_of_what_is_on_disk")
def of_a_later_record(tape: Tape) -> None:
    tape.commit(point("here", 5))


@case("points_are_of_what_is_on_disk")
def one_name_for_two(tape: Tape) -> None:
    tape.commit(point("here", 4))
    tape.commit(point("here", 4))


@case("points_are_of_what_is_on_disk")
def what_was_accepted_is_not_in_what_is_left(tape: Tape) -> None:
    tape.commit(accepted())
    tape.commit(point("left", 4, LEFT), rewind(4), running())


@case("rewinds_leave_a_point")
def left_for_ever(tape: Tape) -> None:
    tape.commit(rewind(4), running())


@case("rewinds_leave_a_point")
def to_another_record_than_that_of_the_point(tape: Tape) -> None:
    tape.commit(accepted())
    tape.commit(point("here", 5))
    tape.commit(point("left", 6, LEFT), rewind(4, "here"), running())


@case("what_comes_back_is_all_that_was")
def members_are_forgotten(tape: Tape) -> None:
    tape.commit(accepted())
    tape.commit(point("left", 5, LEFT), rewind(4, rows=1), StateRows("s/", ()), running())


@case("states_follow_the_table")
def stopped_by_a_rewind(tape: Tape) -> None:
    stopped: Any = MobStateChanged("stopped", "as it was not", 9)
    tape.commit(point("left", 4, LEFT), rewind(4), stopped)


def told(label: str = "here", at: int = 4) -> Point:
    return Point(label, at, 5, 0, False, 0, (), 9)


@case("travellers_were_told_the_truth")
def no_such_point(tape: Tape) -> None:
    tape.commit(point("here", 4))
    tape.oracle.promised(voyages.Snapped(told()))
    tape.oracle.promised(voyages.Snapped(told(at=3)))


@case("travellers_were_told_the_truth")
def it_never_went_back(tape: Tape) -> None:
    tape.commit(point("here", 4))
    tape.oracle.promised(voyages.WentBack("here", told()))
