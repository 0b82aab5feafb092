"""Journals with compactions that no correct mob makes, each wrong in its last record only."""

from __future__ import annotations

from typing import Any

import attrs

from runtime.contexts import ContextCompacted
from runtime.ids import SessionId
from runtime.messages import AssistantMessage, SystemMessage, Usage
from runtime.session import Compaction
from tests.simulation.bad_journals import forked, rewound
from tests.simulation.cases import a_turn, case
from tests.simulation.tape import ONE, Tape, accepted, ended, said


def compacted(head: int, turn: int, turns: int, total: int, **more: Any) -> ContextCompacted:
    given: dict[str, Any] = {"kept": (), "summary": "short", "before": None, **more}
    return ContextCompacted(
        SessionId("s"),
        *(head, turn, turns, total),
        given["kept"],
        given["summary"],
        None,
        ONE,
        given["before"],
        7,
    )


def two_turns(tape: Tape) -> None:
    a_turn(tape)
    a_turn(tape, 2)


@case("compactions_sum_up_what_was_said")
def of_another_history(tape: Tape) -> None:
    two_turns(tape)
    tape.commit(compacted(6, 1, 1, 2))


@case("compactions_sum_up_what_was_said")
def of_more_than_there_is(tape: Tape) -> None:
    two_turns(tape)
    tape.commit(compacted(8, 2, 3, 6))


@case("compactions_sum_up_what_was_said")
def in_the_middle_of_a_turn(tape: Tape) -> None:
    two_turns(tape)
    tape.commit(compacted(8, 2, 1, 3))


@case("compactions_sum_up_what_was_said")
def of_no_more_than_the_one_before(tape: Tape) -> None:
    two_turns(tape)
    tape.commit(compacted(8, 2, 1, 2))
    tape.commit(compacted(8, 2, 1, 2, before=Compaction(9, 2, 1, 2)))


@case("compactions_sum_up_what_was_said")
def without_the_one_before(tape: Tape) -> None:
    two_turns(tape)
    tape.commit(compacted(8, 2, 1, 2))
    tape.commit(compacted(8, 2, 2, 4))


@case("compactions_sum_up_what_was_said")
def without_the_system_messages(tape: Tape) -> None:
    messages = (*said(), SystemMessage("mind the step"), AssistantMessage("ok", usage=ONE))
    tape.commit(accepted())
    tape.commit(ended("i", messages=messages, usage=Usage(2, 2, 2), place=(1, 4, 0, 0)))
    tape.commit(compacted(6, 1, 1, 4))


@case("compactions_sum_up_what_was_said")
def and_says_nothing(tape: Tape) -> None:
    two_turns(tape)
    tape.commit(compacted(8, 2, 1, 2, summary=" "))


@case("histories_keep_their_compactions")
def a_fork_with_one_that_is_none(tape: Tape) -> None:
    two_turns(tape)
    fork = forked(8, 2, 4, (6, 1, 8, 1))
    tape.commit(attrs.evolve(fork, compaction=Compaction(6, 1, 1, 2)))


@case("histories_keep_their_compactions")
def a_fork_with_one_of_another_history(tape: Tape) -> None:
    two_turns(tape)
    tape.commit(compacted(8, 2, 1, 2))
    fork = forked(6, 1, 2, (6, 1))
    tape.commit(attrs.evolve(fork, compaction=Compaction(9, 2, 1, 2)))


@case("histories_keep_their_compactions")
def a_rewind_to_before_it_that_keeps_it(tape: Tape) -> None:
    two_turns(tape)
    tape.commit(compacted(8, 2, 1, 2))
    back = rewound(6, 1, 2, (6, 1))
    tape.commit(attrs.evolve(back, compaction=Compaction(9, 2, 1, 2)))


@case("histories_keep_their_compactions")
def a_restore_that_forgets_it(tape: Tape) -> None:
    two_turns(tape)
    tape.commit(compacted(8, 2, 1, 2))
    tape.commit(rewound(6, 1, 2, (6, 1)))
    tape.commit(rewound(8, 2, 4, (6, 1, 8, 1), restored=0))
