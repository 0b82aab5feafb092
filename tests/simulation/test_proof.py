"""The long proof of CI in a small form, and that it can fail; every seed that failed once."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import pytest

from mob.simulation import FaultKind, simulate
from mob.simulation.chronicle import Chronicle
from mob.simulation.facts import Written
from mob.simulation.seeds import Outcome
from mob.simulation.workload import Workload
from tests.simulation.bad_flows import begun, flow, over, run_ended
from tests.simulation.bad_voyages import rewind
from tests.simulation.everything import BRANCHES, count_flows
from tests.simulation.planted import BUGS
from tests.simulation.proof import differing, figures, missing, outcomes
from tests.simulation.tape import Tape

REGRESSIONS = tomllib.loads(Path(__file__).with_name("regressions.toml").read_text())["seeds"]


@pytest.mark.parametrize("kept", REGRESSIONS, ids=lambda kept: f"{kept['plan']}-{kept['seeds'][0]}")
def test_a_seed_that_failed_once_holds(kept: dict[str, object]) -> None:
    for seed in kept["seeds"]:  # type: ignore[attr-defined]
        simulate(Workload(), seed, faults=str(kept["plan"]))


def test_a_mended_bug_is_kept_as_a_planted_one() -> None:
    for kept in REGRESSIONS:
        if "bug" in kept:
            assert BUGS[kept["bug"]].mended, kept


def test_some_seeds_in_two_interpreters_with_other_hash_seeds_come_to_one_digest() -> None:
    found = outcomes(range(4), 1, "1")
    again = outcomes(range(2), 1, "2")
    assert not [each for each in found.values() if each.failure]
    assert not differing(found, again)
    assert figures(found, 1.0).startswith("4 seeds, all healed")
    met = sum(each.recoveries.get(branch, 0) > 0 for each in found.values() for branch in BRANCHES)
    assert met > len(BRANCHES)


def test_what_never_happened_is_named() -> None:
    everything = {kind.value: 1 for kind in FaultKind}
    branches = dict.fromkeys(BRANCHES, 1)
    assert missing({0: Outcome(0, fired=everything, recoveries=branches)}) == []
    del everything["store.slow"], branches["spawn.replayed"]
    assert missing({0: Outcome(0, fired=everything, recoveries=branches)}) == [
        "the fault store.slow never struck",
        "nothing went by spawn.replayed",
    ]


def test_a_run_of_a_flow_that_a_rewind_took_away_is_counted() -> None:
    tape = Tape()
    tape.commit(flow())
    tape.commit(begun())
    tape.commit(over(), run_ended())
    old = tape.oracle.ledger
    back = Written(old.last + 1, rewind(4), old.written[-1].commit)
    ledger = Chronicle(old).rewind(back)
    gone: Counter[str] = Counter()
    count_flows(gone, ledger)
    assert old.flows.runs
    assert not ledger.flows.runs
    assert (gone["flow.failed"], gone["flow.ended_elsewhere"]) == (1, 0)


def test_digests_that_differ_are_told() -> None:
    found, again = {7: Outcome(7, digest="a")}, {7: Outcome(7, digest="b")}
    assert differing(found, again) == ["seed 7 has digest a, and then b"]
