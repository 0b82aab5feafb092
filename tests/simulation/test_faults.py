"""Fault plans and the decisions at their sites."""

from __future__ import annotations

import pytest

from mob.simulation.faults import CrashPoint, Fault, FaultPlan, Faults, PlanInvalid
from mob.simulation.kinds import CRASH_POINTS, FaultKind
from mob.simulation.streams import Streams


def decisions(plan: FaultPlan, seed: int, sites: int = 200) -> list[Fault]:
    faults = Faults(plan, Streams(seed))
    for site in range(sites):
        for kind in FaultKind:
            faults.fires(kind, "site", site)
    return faults.log


def test_the_catalogue_has_at_least_25_kinds_in_eight_families() -> None:
    """Issue demand: at least 25 kinds."""
    assert len(FaultKind) >= 25
    families = {"store", "process", "model", "tool", "hook", "control", "message", "clock"}
    assert {kind.family for kind in FaultKind} == families


@pytest.mark.parametrize("name", FaultPlan.names())
def test_a_named_plan_is_written_as_it_is_read(name: str) -> None:
    plan = FaultPlan.named(name)
    assert FaultPlan.parse(str(plan)) == plan
    assert FaultPlan.parse(name) == plan


def test_light_and_heavy_have_every_kind_and_none_has_none() -> None:
    light, heavy = FaultPlan.named("light"), FaultPlan.named("heavy")
    assert light.rates.keys() == heavy.rates.keys() == set(FaultKind)
    assert all(0 < light.rates[kind] < heavy.rates[kind] <= 1 for kind in FaultKind)
    assert decisions(FaultPlan.named("none"), seed=1) == []
    assert {fault.kind.family for fault in decisions(FaultPlan.named("store"), 1)} == {"store"}


def test_items_add_up_from_the_left() -> None:
    plan = FaultPlan.parse("store, model.error=0.5, tool=0, crash=commit.after:3, crash=opened")
    assert plan.rates[FaultKind.MODEL_ERROR] == 0.5
    assert plan.rates[FaultKind.TOOL_HANG] == 0.0
    assert (
        plan.rates[FaultKind.STORE_ERROR] == FaultPlan.named("store").rates[FaultKind.STORE_ERROR]
    )
    assert plan.crashes == (CrashPoint("commit.after", 3), CrashPoint("opened", 1))


def test_a_toml_file_says_the_same() -> None:
    text = """
    base = "store"
    crashes = ["commit.after:3"]
    only = ["model.error@t/a/1.1#0"]
    [rates]
    "model.error" = 0.5
    [rates.tool]
    hang = 0.25
    """
    plan = FaultPlan.parse(text)
    items = "store,model.error=0.5,tool.hang=0.25,crash=commit.after:3,only=model.error@t/a/1.1#0"
    assert plan == FaultPlan.parse(items)
    assert plan.only == {Fault(FaultKind.MODEL_ERROR, "t/a/1.1#0")}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lite", "no fault plan 'lite'"),
        ("store.eror=0.1", "no kind of fault 'store.eror'"),
        ("store.error=2", "from 0 to 1"),
        ("store.error=often", "from 0 to 1"),
        ("crash=commit.during", "no crash point"),
        ("crash=opened:0", "NTH from 1"),
        ("only=store.error", "KIND@SITE"),
        ("[rate]\nx = 1", "no 'rate'"),
        ("[rates\n", "not valid TOML"),
    ],
)
def test_a_mistake_in_a_plan_is_named(text: str, says: str) -> None:
    with pytest.raises(PlanInvalid, match=says):
        FaultPlan.parse(text)


def test_taking_a_fault_away_moves_no_other() -> None:
    """What a run is shrunk by: the faults that fired, less some, are exactly what fires."""
    log = decisions(FaultPlan.named("heavy"), seed=7)
    assert len(log) > 50
    kept = [fault for index, fault in enumerate(log) if index % 3]
    assert decisions(FaultPlan(only=frozenset(kept)), seed=7) == kept
    other_rates = FaultPlan({**FaultPlan.named("heavy").rates, FaultKind.MODEL_ERROR: 0.0})
    rest = [fault for fault in log if fault.kind is not FaultKind.MODEL_ERROR]
    assert decisions(other_rates, seed=7) == rest


def test_rates_are_drawn_for_each_seed_and_can_be_printed() -> None:
    base = FaultPlan.named("heavy")
    drawn = [base.drawn(Streams(seed)) for seed in range(50)]
    assert drawn[3] == base.drawn(Streams(3))
    assert len({str(plan) for plan in drawn}) == 50
    for plan in drawn:
        assert 0 < len(plan.rates) < len(base.rates)
        assert all(rate <= base.rates[kind] * 2 for kind, rate in plan.rates.items())
        assert FaultPlan.parse(str(plan)) == plan
    assert set().union(*(plan.rates for plan in drawn)) == set(FaultKind)


def test_what_fires_is_counted_logged_and_noted_until_the_world_heals() -> None:
    notes: list[str] = []
    plan = FaultPlan.parse("model.error=1,crash=model.called:2")
    faults = Faults(plan, Streams(1), lambda kind, text: notes.append(f"{kind} {text}"))
    assert faults.fires(FaultKind.MODEL_ERROR, "a", 1)
    assert not faults.fires(FaultKind.MODEL_FATAL, "a", 1)
    assert [faults.crashes_at("model.called") for _ in range(3)] == [False, True, False]
    assert notes == ["fault model.error@a/1", "crash point model.called:2"]
    assert faults.fired == {FaultKind.MODEL_ERROR: 1}
    faults.active = False
    assert not faults.fires(FaultKind.MODEL_ERROR, "a", 2)
    assert len(faults.log) == 1


def test_an_unknown_crash_point_is_our_mistake() -> None:
    with pytest.raises(KeyError):
        Faults(FaultPlan(), Streams(1)).crashes_at("nowhere")
    assert all(CRASH_POINTS.values())
