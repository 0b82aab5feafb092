"""Journals that no correct mob writes, each wrong in its last record only."""

from __future__ import annotations

from typing import Any

import msgpack

from mob.records import MemberRetired, MobCreated, MobStateChanged
from mob.simulation import promises
from mob.simulation.recovered import fold
from runtime.heads import pack_head
from runtime.ids import InputId, RunId, SessionId
from runtime.messages import (
    AssistantMessage,
    Usage,
    UserMessage,
)
from runtime.records import (
    InputAbandoned,
    ModelRetried,
    SessionForked,
    SessionMended,
    SessionRewound,
    TaskEnded,
    TaskStarted,
    TurnOutcome,
)
from runtime.session import Lifetime, TaskState
from stores import Append, Expect, Put
from tests.simulation.cases import a_turn, called, case, result
from tests.simulation.tape import (
    ONE,
    Tape,
    accepted,
    archived,
    blueprint,
    created,
    deleted,
    ended,
    exited,
    progressed,
    said,
    spawned,
)

FAILED = TurnOutcome.FAILED
LINKED = Lifetime.LINKED

# -- the disk --------------------------------------------------------------------------------


@case("generations_only_rise")
def same_generation(tape: Tape) -> None:
    tape.open(2, 1)


@case("no_stale_write_lands")
def write_of_an_older_generation(tape: Tape) -> None:
    tape.open(2, 2)
    tape.process, tape.generation = 1, 1
    tape.commit(accepted())


@case("no_stale_write_lands")
def write_of_another_process_without_a_fence(tape: Tape) -> None:
    tape.process = 2
    tape.commit(accepted())


@case("no_stale_write_lands")
def write_after_the_end(tape: Tape) -> None:
    tape.oracle.closed(1)
    tape.commit(accepted())


@case("sequences_are_gap_free")
def a_gap(tape: Tape) -> None:
    tape.operations(Append(b"other", 1, b"", 1), sequences=(1,))
    tape.operations(Append(b"other", 1, b"", 1), sequences=(3,))


@case("expectations_hold")
def applied_in_spite_of_it(tape: Tape) -> None:
    tape.operations(Expect(b"key", b"value"))


# -- the mob ---------------------------------------------------------------------------------


@case("the_mob_is_made_once")
def made_again(tape: Tape) -> None:
    tape.commit(MobCreated("t", blueprint(), 1))


@case("states_follow_the_table")
def running_twice(tape: Tape) -> None:
    tape.commit(MobStateChanged("running", "again", 1))


@case("names_are_members_names")
def joins_twice(tape: Tape) -> None:
    tape.commit(created("s2"), spawned("a", "s2"))


@case("names_are_members_names")
def leaves_and_was_none(tape: Tape) -> None:
    tape.commit(MemberRetired("nobody", "", 1))


@case("members_and_sessions_come_and_go_together")
def joins_without_a_session_of_its_own(tape: Tape) -> None:
    tape.commit(created("s2", "b"))
    tape.commit(spawned("b", "s2"))


@case("members_and_sessions_come_and_go_together")
def leaves_and_its_session_stays(tape: Tape) -> None:
    tape.commit(MemberRetired("a", "", 1))


@case("a_stopped_mob_does_nothing")
def takes_an_input(tape: Tape) -> None:
    tape.commit(MobStateChanged("stopped", "", 1))
    tape.commit(accepted())


TOLD: Any = {"session": "q", "sender": "system context: peers"}


def tells_of_an_archive(tape: Tape) -> None:
    """A session is archived while the mob is stopped, and its peer is told in that commit."""
    tape.commit(created("p", None), created("q", None))
    tape.commit(MobStateChanged("stopped", "", 1))
    tape.commit(archived("p"), accepted("left", **TOLD))


@case("a_stopped_mob_does_nothing")
def is_told_of_peers_for_nothing(tape: Tape) -> None:
    tells_of_an_archive(tape)
    tape.commit(accepted("again", **TOLD))


@case("a_stopped_mob_does_nothing")
def writes_a_snapshot(tape: Tape) -> None:
    tape.commit(MobStateChanged("stopped", "", 1))
    tape.operations(Put(b"snapshot/t/s", msgpack.packb({})))


# -- sessions --------------------------------------------------------------------------------


@case("records_speak_of_sessions_that_are_there")
def of_one_that_never_was(tape: Tape) -> None:
    tape.commit(accepted(session="nobody"))


@case("records_speak_of_sessions_that_are_there")
def of_one_that_was_deleted(tape: Tape) -> None:
    tape.commit(created("s2", None))
    tape.commit(deleted("s2"))
    tape.commit(accepted(session="s2"))


@case("records_speak_of_sessions_that_are_there")
def child_of_nobody(tape: Tape) -> None:
    tape.commit(created("kid", None, parent="nobody"))


@case("nothing_is_damaged")
def it_is_mended(tape: Tape) -> None:
    ledger = tape.oracle.ledger
    head = fold(ledger, ledger.last)[0].heads[SessionId("s")]
    tape.commit(SessionMended(SessionId("s"), pack_head(head), 3))


@case("ids_never_repeat")
def two_inputs(tape: Tape) -> None:
    tape.commit(accepted("i"))
    tape.commit(accepted("i", "other"))


@case("ids_never_repeat")
def a_session_and_an_input(tape: Tape) -> None:
    tape.commit(accepted("s"))


@case("a_spawn_key_makes_one_session")
def two_children_of_one_call(tape: Tape) -> None:
    tape.commit(created("kid", None, parent="s", spawn_key="call"))
    tape.commit(created("kit", None, parent="s", spawn_key="call"))


@case("lineage_is_true")
def charged_to_somebody_else(tape: Tape) -> None:
    tape.commit(created("kid", None, parent="s", root="other"))


@case("children_keep_to_their_slots")
def one_too_many(tape: Tape) -> None:
    for name in ("one", "two", "three"):
        tape.commit(created(name, None, parent="s"))


@case("children_keep_to_their_slots")
def too_deep(tape: Tape) -> None:
    tape.commit(created("one", None, parent="s"))
    tape.commit(archived("one"), created("two", None, parent="s"))
    tape.commit(created("below", None, parent="two", root="s", depth=2))
    tape.commit(created("lowest", None, parent="below", root="s", depth=3))


@case("no_orphans")
def the_parent_ends_alone(tape: Tape) -> None:
    tape.commit(created("kid", None, parent="s"))
    tape.commit(archived())


@case("no_orphans")
def the_parents_turn_fails_alone(tape: Tape) -> None:
    tape.commit(created("kid", None, parent="s"), accepted())
    tape.commit(ended("i", outcome=FAILED, error="the turn made too many calls"))


@case("no_orphans")
def the_parent_is_deleted_alone(tape: Tape) -> None:
    tape.commit(created("s2", None))
    tape.commit(created("kid", None, parent="s2"))
    tape.commit(deleted("s2"))


@case("tasks_begin_with_their_sessions")
def a_child_without_its_work(tape: Tape) -> None:
    tape.commit(created("kid", None, parent="s"), TaskStarted(SessionId("kid"), LINKED, 3))


@case("tasks_end_with_their_last_turn")
def it_has_not_begun(tape: Tape) -> None:
    started = TaskStarted(SessionId("kid"), LINKED, 3)
    tape.commit(created("kid", None, parent="s"), started, accepted(session="kid"))
    tape.commit(TaskEnded(SessionId("kid"), TaskState.COMPLETED, 0, None, 4))


@case("tasks_end_with_their_last_turn")
def it_is_no_such_child(tape: Tape) -> None:
    tape.commit(TaskEnded(SessionId("s"), TaskState.COMPLETED, 0, None, 4))


# -- inputs ----------------------------------------------------------------------------------


@case("a_key_means_one_input")
def the_key_again(tape: Tape) -> None:
    tape.commit(accepted("i", key="k"))
    tape.commit(accepted("j", key="k"))


@case("an_input_has_one_fate")
def consumed_twice(tape: Tape) -> None:
    a_turn(tape)
    tape.commit(ended("i1", run="r2", prev=6, place=(2, 4, 6, 1)))


@case("an_input_has_one_fate")
def abandoned_and_consumed(tape: Tape) -> None:
    tape.commit(accepted())
    tape.commit(InputAbandoned(SessionId("s"), InputId("i"), "why not", 3))
    tape.commit(ended("i"))


@case("an_input_has_one_fate")
def never_accepted(tape: Tape) -> None:
    tape.commit(ended("i"))


@case("inputs_are_consumed_in_order")
def the_second_first(tape: Tape) -> None:
    tape.commit(accepted("i"), accepted("j"))
    tape.commit(ended("j"))


@case("turns_say_what_was_sent")
def other_words(tape: Tape) -> None:
    tape.commit(accepted())
    tape.commit(ended("i", messages=said("ho")))


@case("turns_say_what_was_sent")
def another_sender(tape: Tape) -> None:
    tape.commit(accepted(sender="b"))
    tape.commit(progressed(*called("c")))


@case("an_interrupt_is_not_lost")
def it_completes(tape: Tape) -> None:
    tape.commit(accepted())
    tape.oracle.promised(promises.Interrupted("a", "s", 1))
    tape.commit(ended("i"))


@case("nothing_is_left_behind")
def an_input(tape: Tape) -> None:
    tape.commit(accepted())
    tape.oracle.ended(healed=True)


# -- failures --------------------------------------------------------------------------------


@case("a_failure_surfaces_once")
def given_up_and_then_answered(tape: Tape) -> None:
    tape.commit(accepted(), exited(None))
    tape.commit(ended("i"))


@case("a_failure_surfaces_once")
def given_up_twice(tape: Tape) -> None:
    tape.commit(accepted(), exited(None))
    tape.commit(exited(None))


@case("a_failure_surfaces_once")
def failed_without_a_crash(tape: Tape) -> None:
    tape.commit(accepted())
    tape.commit(ended("i", outcome=FAILED, error="nobody knows"))


@case("restart_intensity_holds")
def a_third_restart(tape: Tape) -> None:
    tape.commit(accepted(), exited(1.0))
    tape.commit(exited(2.0))
    tape.at_s = 9.0
    tape.commit(exited(2.0))


@case("restarts_back_off")
def too_soon(tape: Tape) -> None:
    tape.commit(accepted(), exited(0.5))


@case("giving_up_is_deserved")
def the_counter_forgets_nothing(tape: Tape) -> None:
    tape.commit(accepted(), exited(1.0))
    tape.commit(exited(2.0))
    tape.at_s = 100.0
    tape.commit(exited(1.0))
    tape.commit(exited(None))
    error = "boom (restarted 2 times within 10 s, which is the limit)"
    tape.commit(ended("i", outcome=FAILED, error=error))


# -- turns -----------------------------------------------------------------------------------


@case("one_turn_is_in_flight")
def another_run_begins(tape: Tape) -> None:
    tape.commit(accepted(), progressed(*called("c"), usage=Usage(1, 1, 1, 1)))
    tape.commit(progressed(*called("c"), run="r2", usage=Usage(2, 2, 2, 2)))


@case("retries_are_of_a_turn_that_goes_on")
def it_has_ended(tape: Tape) -> None:
    a_turn(tape)
    retried = ModelRetried(SessionId("s"), RunId("r1"), 1, 1, "m", "why", 1, "m", 3)
    tape.commit(retried)


@case("one_turn_is_in_flight")
def a_run_ends_twice(tape: Tape) -> None:
    a_turn(tape)
    tape.commit(accepted("i2"))
    tape.commit(ended("i2", run="r1", prev=6, place=(2, 4, 6, 1)))


@case("progress_stays")
def the_beginning_is_another(tape: Tape) -> None:
    tape.commit(accepted(), progressed(*called("c"), usage=Usage(1, 1, 1, 1)))
    messages = (*called("d"), result("d"), AssistantMessage("yes", usage=ONE))
    tape.commit(ended("i", messages=messages, usage=Usage(2, 2, 2, 1), place=(1, 4, 0, 0)))


@case("messages_are_whole_turns")
def a_call_dangles(tape: Tape) -> None:
    tape.commit(accepted())
    messages = (*called("c"), AssistantMessage("yes", usage=ONE))
    tape.commit(ended("i", messages=messages, usage=Usage(2, 2, 2, 1), place=(1, 3, 0, 0)))


@case("messages_are_whole_turns")
def answered_twice(tape: Tape) -> None:
    tape.commit(accepted())
    messages = (*called("c"), result("c"), result("c"), AssistantMessage("yes", usage=ONE))
    tape.commit(ended("i", messages=messages, usage=Usage(2, 2, 2, 1), place=(1, 5, 0, 0)))


@case("messages_are_whole_turns")
def no_reply_at_the_end(tape: Tape) -> None:
    tape.commit(accepted())
    tape.commit(ended("i", messages=(UserMessage("hi"),), usage=Usage(), place=(1, 1, 0, 0)))


@case("usage_adds_up")
def counted_twice(tape: Tape) -> None:
    tape.commit(accepted())
    tape.commit(ended("i", usage=ONE + ONE))


@case("usage_adds_up")
def progress_forgets_a_call(tape: Tape) -> None:
    tape.commit(accepted())
    tape.commit(progressed(*called("c"), usage=ONE))


@case("turns_form_a_chain")
def a_turn_is_skipped(tape: Tape) -> None:
    a_turn(tape)
    a_turn(tape, 2)
    tape.commit(accepted("i3"))
    tape.commit(ended("i3", run="r3", prev=6, place=(2, 4, 6, 1)))


@case("turns_form_a_chain")
def the_skip_link_is_wrong(tape: Tape) -> None:
    a_turn(tape)
    a_turn(tape, 2)
    tape.commit(accepted("i3"))
    tape.commit(ended("i3", run="r3", prev=8, place=(3, 6, 8, 2)))


@case("turns_form_a_chain")
def messages_are_miscounted(tape: Tape) -> None:
    tape.commit(accepted())
    tape.commit(ended("i", place=(1, 3, 0, 0)))


# -- histories -------------------------------------------------------------------------------


def forked(head: int, turns: int, total: int, links: tuple[int, ...]) -> SessionForked:
    return SessionForked(SessionId("f"), SessionId("s"), None, head, turns, total, links, 6)


@case("forks_share_what_was_there")
def where_the_source_never_was(tape: Tape) -> None:
    a_turn(tape)
    tape.commit(forked(5, 1, 2, (5, 1)))


@case("forks_share_what_was_there")
def with_wrong_links(tape: Tape) -> None:
    a_turn(tape)
    tape.commit(forked(6, 1, 2, (6, 2)))


def rewound(head: int, turns: int, total: int, links: Any, **more: Any) -> SessionRewound:
    return SessionRewound(SessionId("s"), head, turns, total, links, more.get("restored"), 6)


@case("rewinds_keep_the_tail")
def to_another_place(tape: Tape) -> None:
    a_turn(tape)
    a_turn(tape, 2)
    tape.commit(rewound(6, 2, 2, (6, 1)))


@case("rewinds_keep_the_tail")
def a_branch_that_is_not_there(tape: Tape) -> None:
    a_turn(tape)
    a_turn(tape, 2)
    tape.commit(rewound(6, 1, 2, (6, 1)))
    tape.commit(rewound(8, 2, 4, (6, 1, 8, 1), restored=1))


@case("rewinds_keep_the_tail")
def under_a_turn_in_flight(tape: Tape) -> None:
    a_turn(tape)
    a_turn(tape, 2)
    tape.commit(accepted("i"), progressed(*called("c"), usage=Usage(1, 1, 1, 1)))
    tape.commit(rewound(6, 1, 2, (6, 1)))
