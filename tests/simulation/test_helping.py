"""Helpers under faults: what holds of every mob holds of one in which they come and go."""

from __future__ import annotations

from typing import Any

import pytest

from mob.records import MemberRetired, MemberSpawned
from mob.simulation import simulate
from mob.simulation.workload import Workload
from runtime.contexts import ContextCompacted
from runtime.records import SessionForked
from tests.simulation.helping import HELPERS
from tests.simulation.rotation import plan_of

SEEDS = range(24)


def _all(records: list[Any], kind: type) -> list[Any]:
    return [each for each in records if isinstance(each, kind)]


def test_helpers_come_and_go_under_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    """CONTRACTS 6.2: every invariant holds, and both ways of making one were taken."""
    for module in ("workload", "variants"):
        monkeypatch.setattr(f"mob.simulation.{module}.ADDITIONS", (HELPERS,))
    made = left = forks = cut = 0
    for seed in SEEDS:
        run = simulate(Workload(), seed, faults=plan_of(seed))
        assert run.failure is None, (seed, run.failure)
        records = [event.record for event in run.journal["sim"]]
        made += sum("~" in each.name for each in _all(records, MemberSpawned))
        left += sum("~" in each.name for each in _all(records, MemberRetired))
        forks += sum(
            each.agent_id is not None for each in records if isinstance(each, SessionForked)
        )
        cut += sum(each.model is None for each in _all(records, ContextCompacted))
    assert made > forks > cut > 0
    assert left
