"""What differs from run to run of the default mob: budgets, hooks and memory, each in some runs.

Owns: drawing them from the seed, and the steps that only such a run has. Must not: draw from the
stream of the other steps, or change a run that has none of them.

Not every run has a budget: one that is used up ends all work, and what work meets would be met less
often. The same holds of hooks, which deny.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

import attrs

from mob.budgets import KEYS
from mob.definition import MobDefinition
from mob.simulation.added import ADDITIONS
from mob.simulation.steps import SPAN_S, Step, default_table
from mob.simulation.streams import Streams
from runtime.budget import Budget

#: Where the default mob is from.
OWN: Final = "the simulation's own definition"

#: Chance of each in a run.
_BUDGETS: Final = 0.35
_HOOKS: Final = 0.35
_MEMORY: Final = 0.3

#: The least and the most of each limit, of a profile; a mob has four times as much.
_LIMITS: Final[dict[str, tuple[float, float]]] = {
    "tokens": (100, 3000),
    "tool_calls": (1, 16),
    "seconds": (2, 60),
    "usd": (0.0005, 0.01),
}
_MOB_HAS: Final = 4
#: Dollars for a million tokens: input and output.
_PRICE: Final = {"input": 3, "output": 4}

_HOOK_TABLES: Final[dict[str, dict[str, Any]]] = {
    "clerk": {
        "on": ["run_started", "before_model", "after_model", "before_tool", "run_completed"],
        "timeout_s": 2.0,
    },
    "guard": {
        "on": ["run_started", "before_model", "before_tool", "after_tool", "turn_boundary"],
        "mode": "guardrail",
        "timeout_s": 1.5,
    },
    "lenient": {
        "on": ["before_model", "after_model", "before_tool", "after_tool"],
        "mode": "guardrail",
        "on_error": "allow",
        "timeout_s": 1.0,
    },
    "second": {
        "on": ["after_model", "before_tool", "turn_boundary"],
        "mode": "guardrail",
        "timeout_s": 1.0,
    },
    "diary": {
        "on": ["before_model", "after_model", "after_tool", "run_completed", "run_failed"],
        "timeout_s": 3.0,
    },
}


def drawn_definition(streams: Streams) -> MobDefinition:
    """The default mob, with what this seed adds to it."""
    table = default_table()
    profiles: dict[str, dict[str, Any]] = table["profiles"]
    random = streams.stream("variant")
    budgets, hooks, memory = (random.random() < chance for chance in (_BUDGETS, _HOOKS, _MEMORY))
    if budgets:
        for model in table["models"].values():
            model["price"] = dict(_PRICE)
        for owner, times in [(table, _MOB_HAS), *((each, 1) for each in profiles.values())]:
            if random.random() < 0.6:
                owner["budget"] = _budget(random, times)
    if hooks:
        table["hooks"] = {
            name: {**hook, "python": f"simulated.py:{name}"}
            for name, hook in _HOOK_TABLES.items()
            if random.random() < 0.8
        }
        for profile in profiles.values():
            profile["hooks"] = {name: False for name in table["hooks"] if random.random() < 0.2}
    if memory:
        profiles["chief"]["memory"] = {"scope": "mob"}
        profiles["worker"]["memory"] = {"scope": random.choice(("mob", "session"))}
        if random.random() < 0.5:
            profiles["clerk"]["memory"] = True
    for addition in ADDITIONS:
        addition.vary(table, streams.stream(f"variant/{addition.name}"))
    return MobDefinition.from_table(table, source=OWN)


def _budget(random: Random, times: int) -> dict[str, Any]:
    chosen = [key for key in KEYS if random.random() < 0.4] or [random.choice(KEYS)]
    budget: dict[str, Any] = {}
    for key in chosen:
        low, high = _LIMITS[key]
        much = times * low * (high / low) ** random.random()  # as many small ones as big ones
        budget[key] = round(much, 6) if key in ("seconds", "usd") else int(much)
    return budget


def more_steps(
    definition: MobDefinition, streams: Streams, members: tuple[str, ...], first: int
) -> tuple[Step, ...]:
    """The steps that only a run with budgets or a memory has, and those of the additions, numbered
    from `first`."""
    random = streams.stream("variant/steps")
    verbs: list[str] = []
    if definition.budget or any(each.budget for each in definition.profiles.values()):
        verbs += ["raise"] * random.randint(0, 2) + ["ask"] * random.randint(2, 6)
    if any(each.memory for each in definition.profiles.values()):
        verbs += ["search"] * random.randint(3, 10)
    steps = _steps(verbs, random, members, first)
    for addition in ADDITIONS:
        random = streams.stream(f"variant/{addition.name}/steps")
        verbs = addition.steps(definition, random)
        steps += _steps(verbs, random, members, first + len(steps))
    return steps


def _steps(
    verbs: list[str], random: Random, members: tuple[str, ...], first: int
) -> tuple[Step, ...]:
    return tuple(
        Step(
            first + place,
            verb,
            round(random.uniform(0.0, SPAN_S), 3),
            random.choice(members),
            tuple(random.randrange(10_000) / 10_000 for _ in range(4)),
        )
        for place, verb in enumerate(verbs)
    )


def raised(definition: MobDefinition, draw: float) -> MobDefinition:
    """`definition` with budgets that are raised, up to eightfold; or now and then with none."""
    if draw < 0.1:
        return _with_budgets(definition, lambda _budget: None)
    times = 1 + int(draw * 7)
    return _with_budgets(
        definition,
        lambda budget: Budget(
            **{
                limit: None if value is None else value * times
                for limit, value in attrs.asdict(budget).items()
            }
        ),
    )


def _with_budgets(definition: MobDefinition, make: Any) -> MobDefinition:
    profiles = {
        name: each if each.budget is None else attrs.evolve(each, budget=make(each.budget))
        for name, each in definition.profiles.items()
    }
    budget = None if definition.budget is None else make(definition.budget)
    return attrs.evolve(definition, budget=budget, profiles=profiles)
