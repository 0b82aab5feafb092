"""Every invariant, each with a small bad journal or promise that violates it and no other."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from mob.simulation import promises
from mob.simulation.boards import BoardTold
from mob.simulation.invariants import INVARIANTS, Moment, invariant
from mob.simulation.ledger import Ledger
from mob.simulation.oracle import Oracle, Violation
from mob.simulation.recovered import fold
from mob.simulation.voyages import _rows as rows_at
from runtime.points import LEFT, StateRows
from tests.simulation import (  # noqa: F401 they register their cases
    bad_bounds,
    bad_company,
    bad_contexts,
    bad_decisions,
    bad_flows,
    bad_guests,
    bad_journals,
    bad_mailing,
    bad_promises,
    bad_staff,
    bad_voyages,
)
from tests.simulation.cases import CASES
from tests.simulation.tape import Tape, accepted


@pytest.mark.parametrize(("name", "play"), CASES)
def test_the_oracle_names_what_is_wrong(name: str, play: Callable[[Tape], None]) -> None:
    """Each case violates one invariant with its last step, and none before that."""
    tape = Tape()
    with pytest.raises(Violation) as caught:
        play(tape)
    assert caught.value.name == name, str(caught.value)
    assert tape.oracle.violation in (None, caught.value)


def test_a_search_may_show_what_its_process_has_not_heard_is_left_behind() -> None:
    """Sound journals and promises, as the first steps of cases are, but asserted to be."""
    tape = bad_bounds.with_a_turn_left_behind()
    tape.oracle.promised(bad_bounds.shows(bad_bounds.LEFT_BEHIND, known=6))


def test_who_has_not_heard_of_a_rewind_tells_what_it_left_behind() -> None:
    """Its records are on disk before anybody hears of them; whoever has heard tells what is."""
    tape, board = Tape(), (("t1", "open", None, "", ()),)
    tape.commit(bad_flows.task())
    left = bad_voyages.point("left", 5, LEFT)
    rows = what_was(tape, 4)
    tape.commit(left, bad_voyages.rewind(4, rows=len(rows)), *rows, bad_voyages.running())
    tape.oracle.promised(BoardTold(board, 5, whole=True))
    tape.oracle.promised(BoardTold((), tape.oracle.ledger.last, whole=True))
    with pytest.raises(Violation, match="t1 was told of and is not on disk"):
        tape.oracle.promised(BoardTold(board, tape.oracle.ledger.last, whole=True))


def what_was(tape: Tape, at: int) -> list[StateRows]:
    """What a rewind to record `at` brings back."""
    state, _ = fold(tape.oracle.ledger, at)
    heads = tuple((each.encode(), b"") for each in state.heads)
    return [
        StateRows("s/", heads),
        *(
            StateRows(p.decode(), ((name, row),))
            for p, name, row in rows_at(tape.oracle.ledger, at)
        ),
    ]


def test_a_session_that_is_archived_at_rest_is_told_of() -> None:
    tape = Tape()
    bad_journals.tells_of_an_archive(tape)
    assert tape.oracle.ledger.state == "stopped"


def test_a_group_begins_afresh_also_when_one_below_it_has_failed_too_often() -> None:
    bad_staff.a_failure_goes_up(Tape(), told=True)


def test_every_invariant_is_violated_by_some_case() -> None:
    """Those of what a process recovers are in test_recovered.py."""
    shown = {param.values[0] for param in CASES}
    missing = {
        name
        for name, each in INVARIANTS.items()
        if name not in shown and each.when is not Moment.RECOVERED
    }
    assert missing == {"no_slot_is_leaked"}


def test_every_invariant_names_its_contract() -> None:
    for name, each in INVARIANTS.items():
        assert each.check.__name__ == name
        assert (each.check.__doc__ or "").startswith("CONTRACTS "), name


def test_invariants_are_asked_of_every_promise_they_know() -> None:
    """A promise that one looks at and the table does not give it would never be looked at. Those
    that look it up in a table of their own are given that table."""
    kinds = set(get_args(promises.Promise))
    by_table = {"acknowledged_means_durable", "what_staff_was_told_is_on_disk"}
    for name, each in INVARIANTS.items():
        if each.when is not Moment.PROMISE or name in by_table:
            continue
        code, known = each.check.__code__, each.check.__globals__
        told = [known.get(word) for word in code.co_names]
        assert {kind for kind in told if kind in kinds} == set(each.kinds), name


def test_the_first_violation_is_kept_and_what_follows_is_not_judged() -> None:
    tape = Tape()
    with pytest.raises(Violation) as caught:
        tape.commit(accepted(session="nobody"))
    tape.commit(accepted(session="nobody"))
    tape.oracle.promised(promises.Retired("nobody"))
    for ask in (tape.oracle.check, tape.oracle.ended):
        with pytest.raises(Violation) as again:
            ask()
        assert again.value is caught.value


def test_users_add_invariants_of_their_own() -> None:
    @invariant
    def few_inputs(ledger: Ledger) -> None:
        assert len(ledger.inputs) < 2, "there are two"

    @invariant(at="end")
    def some_inputs(ledger: Ledger) -> None:
        assert ledger.inputs

    tape = Tape(Oracle([few_inputs, some_inputs]))
    with pytest.raises(Violation, match="some_inputs"):
        tape.oracle.ended()
    tape = Tape(Oracle([few_inputs, some_inputs]))
    tape.commit(accepted("i"))
    with pytest.raises(Violation, match="few_inputs: there are two") as caught:
        tape.commit(accepted("j"))
    assert caught.value.commit == 3


def test_a_mistake_in_a_users_invariant_is_told_as_that() -> None:
    @invariant
    def mistaken(ledger: Ledger) -> None:
        len(3)  # type: ignore[arg-type]

    with pytest.raises(Violation, match="mistaken: it raised TypeError"):
        Tape(Oracle([mistaken]))


def test_every_invariant_is_in_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "invariants.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| CONTRACTS ", text, re.MULTILINE)
    assert rows == [(name, each.when.value) for name, each in INVARIANTS.items()]
