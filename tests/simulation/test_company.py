"""Helpers, newcomers and members that depend on others, in the default workload."""

from __future__ import annotations

from collections import Counter

from mob.simulation import simulate
from tests.simulation.everything import everything
from tests.simulation.rotation import plan_of

#: Seeds whose mobs have company.
SEEDS = (1, 2)

WAYS = (
    "helper.spawned", "helper.forked", "helper.left", "newcomer.joined",
    "dependent.went_on_after", "dependent.told",
)  # fmt: skip


def test_company_comes_and_goes_under_faults() -> None:
    """CONTRACTS 6.2, 6.8: every invariant holds, and what they are about occurs."""
    gone: Counter[str] = Counter()
    for seed in SEEDS:
        gone += simulate(everything, seed, faults=plan_of(seed)).recoveries
    assert all(gone[way] for way in WAYS), gone
