"""Bugs planted in compaction: the simulation finds each, and by the invariant that is about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from mob.simulation.run import attempt
from mob.simulation.workload import Workload
from runtime import compaction, contexts, manager

Patch = Callable[[pytest.MonkeyPatch], None]


def uncounted(patch: pytest.MonkeyPatch) -> None:
    """What a summary costs is forgotten. Breaks CONTRACTS 4.8, 6.15."""
    patch.setattr(contexts, "_charge", lambda _state, _record: None)


def a_rewind_that_undoes_nothing(patch: pytest.MonkeyPatch) -> None:
    """A summary of turns that were rewound stays in the context. Breaks CONTRACTS 3.5."""
    patch.setattr(manager, "in_force", lambda _journal, now, _turns: now)


def a_cut_in_a_turn(patch: pytest.MonkeyPatch) -> None:
    """The last message of what is summed up stays in the context. Breaks CONTRACTS 2.8."""
    record = compaction.ContextCompacted

    def one_less(*given: Any) -> Any:
        made = record(*given)
        return attrs.evolve(made, total=made.total - 1)

    patch.setattr(compaction, "ContextCompacted", one_less)


@pytest.mark.parametrize(
    ("plant", "names", "seeds"),
    [
        (uncounted, {"the_fold_agrees_with_the_ledger", "usage_adds_up_over_the_tree"}, range(20)),
        (a_rewind_that_undoes_nothing, {"histories_keep_their_compactions"}, range(10, 60)),
        (a_cut_in_a_turn, {"compactions_sum_up_what_was_said"}, range(20)),
    ],
)
def test_a_planted_bug_is_found(
    plant: Patch, names: set[str], seeds: range, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    runs = (attempt(Workload(), seed, faults="light") for seed in seeds)
    found = next(run.failure for run in runs if run.failure is not None)
    assert str(found).partition(" ")[0] in names, found
