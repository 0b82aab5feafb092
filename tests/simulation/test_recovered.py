"""What a process recovers, bent by hand: the oracle says what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import pytest
from trio.testing import MockClock

from mob.mob import Mob
from mob.simulation.accounts import budgets_add_up_over_trees
from mob.simulation.families import no_slot_is_leaked
from mob.simulation.ledger import Ledger
from mob.simulation.oracle import Oracle, Violation
from mob.simulation.recovered import (
    Recovered,
    fold,
    loaded,
    nothing_needed_is_erased,
    recovery_follows_the_fence,
    the_fold_agrees_with_the_ledger,
    the_fold_is_recovered_whole,
    usage_adds_up_over_the_tree,
)
from mob.simulation.voyages import keys_of_what_was_left_are_free
from runtime import budget
from runtime.ids import InputId, SessionId
from runtime.keyed import KeyedInput
from runtime.messages import Usage
from runtime.models.scripted import ScriptedModel
from stores import Put
from tests.simulation.tape import Tape, accepted, archived, created, ended, said
from tests.simulation.test_honest import Script, definition
from tests.simulation.watched import Watched

S = SessionId("s")


def bent(tape: Tape, bend: Callable[[Recovered], None]) -> Recovered:
    """What the ledger's records fold to, bent."""
    ledger = tape.oracle.ledger
    recovered = Recovered(*fold(ledger, ledger.last))
    bend(recovered)
    return recovered


@pytest.fixture
def tape() -> Tape:
    made = Tape()
    made.commit(accepted("i", key="k"), accepted("j"), accepted("l"))
    made.commit(ended("i"))
    made.commit(created("kid", None, parent="s", spawn_key="call"))
    return made


def test_an_honest_fold_is_whole_and_agrees(tape: Tape) -> None:
    recovered = bent(tape, lambda _: None)
    for check in (
        recovery_follows_the_fence,
        the_fold_is_recovered_whole,
        the_fold_agrees_with_the_ledger,
        usage_adds_up_over_the_tree,
        nothing_needed_is_erased,
    ):
        assert check(tape.oracle.ledger, recovered) is None


def _other_order(recovered: Recovered) -> None:
    head = recovered.state.heads[S]
    assert head.inputs is not None
    head.inputs = dict(reversed(head.inputs.items()))


BENDS: dict[str, Callable[[Recovered], object]] = {
    "usage": lambda r: setattr(r.state.heads[S], "usage", Usage(9)),
    "head": lambda r: setattr(r.state.heads[S], "head", 0),
    "order of inputs": _other_order,
    "children": lambda r: setattr(r.state.heads[S], "children", None),
    "descendants": lambda r: r.state.descendants.clear(),
    "key k": lambda r: r.state.keyed.clear(),
    "spawn key call": lambda r: r.state.spawned.clear(),
    "member a": lambda r: setattr(r.roster.members["a"], "restarts", 1),
    "session kid": lambda r: r.state.heads.pop(SessionId("kid")),
}


@pytest.mark.parametrize("what", BENDS)
def test_a_fold_that_differs_is_found_twice(tape: Tape, what: str) -> None:
    """CONTRACTS 6.9: by the whole fold, and by the ledger that shares no code with it."""
    recovered = bent(tape, BENDS[what])  # type: ignore[arg-type]
    ledger = tape.oracle.ledger
    complaint = the_fold_is_recovered_whole(ledger, recovered)
    assert complaint is not None
    assert what.split(maxsplit=1)[0] in complaint
    assert the_fold_agrees_with_the_ledger(ledger, recovered) is not None


def test_both_folds_may_be_wrong_and_the_ledger_says_so(tape: Tape) -> None:
    ledger = tape.oracle.ledger
    ledger.sessions["s"].usage = Usage(7)
    recovered = bent(tape, lambda _: None)
    assert the_fold_is_recovered_whole(ledger, recovered) is None
    assert "usage" in (the_fold_agrees_with_the_ledger(ledger, recovered) or "")


def test_a_session_that_spent_more_than_its_turns(tape: Tape) -> None:
    recovered = bent(tape, BENDS["usage"])  # type: ignore[arg-type]
    assert "says it spent" in (usage_adds_up_over_the_tree(tape.oracle.ledger, recovered) or "")


def test_whoever_recovered_before_its_fence_begins_too_early(tape: Tape) -> None:
    ledger = tape.oracle.ledger
    early = Recovered(*fold(ledger, ledger.last - 1), ledger.last)
    assert "begins from record" in (recovery_follows_the_fence(ledger, early) or "")


def test_what_the_disk_stands_for_is_read_without_a_process(tape: Tape) -> None:
    recovered = loaded(tape.oracle.shadow.store, "t")
    assert recovered.state.applied == tape.oracle.ledger.last
    assert list(recovered.roster.members) == ["a"]
    tape.oracle.ended()


async def test_a_row_of_another_day_is_found(autojump_clock: MockClock) -> None:
    """CONTRACTS 6.9: the position says that a row holds what it does not."""
    watched = Watched()
    model = {"m": ScriptedModel(Script())}
    async with watched.open(definition(), model) as mob:
        await mob.ask("a", "plain 1")
        key = b"fold/t/s/" + mob.session_of("a").encode()
    oracle = watched.oracle
    older = oracle.shadow.store.get(key)
    assert older is not None
    async with watched.open(definition(), model) as mob:
        await mob.ask("a", "plain 2")
    oracle.ended()
    oracle.shadow.store.submit([Put(key, older)])
    with pytest.raises(Violation, match="the_fold_is_recovered_whole"):
        oracle.ended()


async def test_a_process_that_recovers_another_state_is_found(autojump_clock: MockClock) -> None:
    watched = Watched()
    async with watched.open(definition(), {"m": ScriptedModel(Script())}) as mob:
        await mob.ask("a", "plain 1")
        mob.realm.state.heads[mob.session_of("a")].turns = 7
        with pytest.raises(Violation, match="turns: 7, and 1"):
            watched.oracle.recovered(1, mob)
        watched.oracle.violation = None


async def test_a_slot_that_nobody_gives_back(autojump_clock: MockClock) -> None:
    """CONTRACTS 1.8."""
    watched = Watched(Oracle())
    async with watched.open(definition(), {"m": ScriptedModel(Script())}) as mob:
        record = attrs.evolve(created("kid", None, parent=mob.session_of("a")))
        assert leaked(mob) is None
        mob.realm.spawning._reserve(record, detached=False, archived=False)
        assert "what is being made is ['kid']" in (leaked(mob) or "")


def leaked(mob: Mob) -> str | None:
    return no_slot_is_leaked(Ledger(), mob)


def test_the_ledger_finds_turns_by_their_place() -> None:
    tape = Tape()
    prev, links = 0, []
    for place in range(1, 40):
        ledger = tape.oracle.ledger
        one = ledger.turns[prev]
        two, three = ledger.turns[one.skip], ledger.turns[ledger.turns[one.skip].skip]
        same = prev and one.place - two.place == two.place - three.place
        skip = two.skip if same else prev
        tape.commit(accepted(f"i{place}"))
        tape.commit(
            ended(
                f"i{place}",
                run=f"r{place}",
                prev=prev,
                messages=said(),
                place=(place, 2 * place, skip, ledger.turns[skip].place),
            )
        )
        prev = tape.oracle.ledger.last
        links.append(prev)
    ledger = tape.oracle.ledger
    assert [ledger.turn_at(prev, place) for place in range(1, 40)] == links
    assert ledger.links(prev) == fold(ledger, ledger.last)[0].heads[S].links
    assert len(ledger.history(prev)) == 78


def test_a_key_of_a_branch_that_was_left_behind_joins_nothing() -> None:
    """CONTRACTS 6.12."""
    ledger = Ledger()
    ledger.voyages.keys.add("once")
    recovered = Recovered(*fold(ledger, 0))
    assert keys_of_what_was_left_are_free(ledger, recovered) is None
    recovered.state.keyed["once"] = KeyedInput(S, InputId("i"))
    assert "of another branch" in (keys_of_what_was_left_are_free(ledger, recovered) or "")


@pytest.mark.parametrize(("asked", "right"), [(True, True), (False, False)])
def test_only_a_turn_that_an_archive_cut_off_may_have_cost_what_no_record_tells(
    asked: bool, right: bool
) -> None:
    """CONTRACTS 6.9: the process that paid for a call counts it; the journal has no turn of it."""
    tape = Tape()
    if asked:
        tape.commit(accepted("i"))
    tape.commit(archived())
    recovered = bent(tape, lambda _: None)
    counted = recovered.state.ledger = budget.Ledger(recovered.state.heads)
    assert budgets_add_up_over_trees(tape.oracle.ledger, recovered) is None
    counted.progressed(S, Usage(1, 1, 1))
    complaint = budgets_add_up_over_trees(tape.oracle.ledger, recovered)
    assert (complaint is None) is right
