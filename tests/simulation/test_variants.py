"""What differs from run to run of the default mob."""

from __future__ import annotations

from collections import Counter

from mob.simulation import simulate
from mob.simulation.company import has_company
from mob.simulation.staff import has_staff
from mob.simulation.steps import default_definition, drawn_steps
from mob.simulation.streams import Streams
from mob.simulation.variants import drawn_definition, more_steps, raised
from mob.simulation.workload import Workload
from runtime.records import TurnOutcome
from tests.simulation.rotation import plan_of

STAFF_VERBS = {"respawn", "hire", "ensure", "onward", "complete"}


def test_some_runs_have_budgets_hooks_and_memory_and_some_have_none() -> None:
    drawn = [drawn_definition(Streams(seed)) for seed in range(60)]
    counts = Counter[str]()
    for mob in drawn:
        profiles = mob.profiles.values()
        bounded = mob.budget is not None or any(each.budget for each in profiles)
        remembers = any(each.memory for each in profiles)
        writes = any(each.comms.tools for each in profiles)
        counts["budget"] += bounded
        counts["comms"] += writes
        counts["hooks"] += bool(mob.hooks)
        counts["memory"] += remembers
        counts["flows"] += bool(mob.flows)
        counts["company"] += has_company(mob)
        more = remembers or writes or has_staff(mob) or mob.flows or has_company(mob)
        counts["nothing"] += not (bounded or mob.hooks or more)
        assert mob.blueprint() == default_definition().blueprint() or more
    found = ("budget", "hooks", "memory", "comms", "flows")
    assert all(counts[each] >= 10 for each in found), counts
    assert counts["company"] >= 5, counts
    assert counts["nothing"] >= 4, counts


def test_some_runs_travel_whatever_else_they_have() -> None:
    met = Counter[str]()
    for seed in range(400):
        streams = Streams(seed)
        mob = drawn_definition(streams)
        steps = more_steps(mob, streams, tuple(mob.member_names()), 0)
        if "travel" in {each.verb for each in steps}:
            met["comms"] += any(each.comms.tools for each in mob.profiles.values())
            met["flows"] += bool(mob.flows)
            met["staff"] += has_staff(mob)
            met["company"] += has_company(mob)
            met["all"] += 1
    assert all(met[each] for each in ("comms", "flows", "staff", "company")), met
    assert met["all"] >= 30, met


def test_the_other_steps_are_those_of_a_run_without() -> None:
    for seed in range(20):
        streams = Streams(seed)
        definition = drawn_definition(streams)
        members = tuple(definition.member_names())
        steps = drawn_steps(streams.stream("steps"), members)
        assert steps == drawn_steps(Streams(seed).stream("steps"), members)
        more = more_steps(definition, streams, members, len(steps))
        assert [each.number for each in more] == [*range(len(steps), len(steps) + len(more))]
        assert {each.verb for each in more} <= {
            *("raise", "ask", "search", "travel", "leave"),
            *STAFF_VERBS,
            *("wire", "letter", "shout", "request", "look"),
            *("flow", "inspect", "task"),
            *("help", "newcomer", "pile"),
        }


def test_a_budget_is_raised_or_lifted() -> None:
    seeds = range(60)
    bounded = next(d for seed in seeds if (d := drawn_definition(Streams(seed))).budget is not None)
    before, after = bounded.budget, raised(bounded, 0.9).budget
    assert before is not None
    assert after is not None
    assert after.tokens == (None if before.tokens is None else before.tokens * 7)
    assert raised(bounded, 0.0).budget is None
    assert raised(bounded, 0.9).blueprint() == bounded.blueprint()


def test_budgets_are_used_up_and_left_over() -> None:
    """Both, or half of the invariants would have nothing to say."""
    ended: Counter[TurnOutcome] = Counter()
    spent = 0
    for seed in range(60):
        run = simulate(Workload(), seed, faults=plan_of(seed))
        if not drawn_definition(Streams(seed)).budget:
            continue
        turns = [e.record for e in run.journal["sim"] if type(e.record).__name__ == "TurnEnded"]
        ended.update(turn.outcome for turn in turns)
        spent += any(turn.outcome is TurnOutcome.OVER_BUDGET for turn in turns)
    assert ended[TurnOutcome.OVER_BUDGET] >= 5
    assert ended[TurnOutcome.COMPLETED] >= 5
    assert spent >= 3
