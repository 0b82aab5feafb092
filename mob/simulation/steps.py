"""The steps of a workload as data, drawn once from the seed.

Owns: `Step`, the verbs there are and how often each comes, the mob that they are made for. Must
not: carry a step out (`mob.simulation.workload` does).

A step says all that it will ever draw, so steps can be left out of a run without changing the rest:
that is how a failing run is shrunk.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

import attrs

from mob.definition import MobDefinition

#: How often each verb comes, in parts of their sum.
WEIGHTS: Final[dict[str, int]] = {
    "ask": 26,
    "send": 14,
    "ask_keyed": 6,
    "talk": 6,
    "spawn": 6,
    "retire": 4,
    "interrupt": 4,
    "kill": 4,
    "stop": 4,
    "reopen": 2,
    "fork": 5,
    "rewind": 3,
    "restore": 2,
    "label": 3,
    "delete": 3,
    "save": 4,
    "decide": 6,
    "guest": 7,
    "stage": 4,
    "apply": 5,
}

#: Virtual seconds over which the steps of a run are spread.
SPAN_S: Final = 40.0
#: Fewest and most steps of a run.
COUNT: Final = (10, 26)
#: Names that come and go besides the members of the definition.
GUESTS: Final = ("x", "y")


@attrs.frozen
class Step:
    """One thing that somebody does.

    `number` names the step for ever, `at_s` is when it begins (seconds after the workload did),
    `who` the member it is about, `draws` are numbers in [0, 1) for whatever else it has to choose.
    """

    number: int
    verb: str
    at_s: float
    who: str
    draws: tuple[float, ...]

    def __str__(self) -> str:
        return f"{self.number} {self.verb} {self.who} at {self.at_s:g} s"


def default_definition() -> MobDefinition:
    """Four members of three kinds: with children and peers, with none, and with a schema."""
    return MobDefinition.from_table(default_table(), source="the simulation's own definition")


def default_table() -> dict[str, Any]:
    """The same as a table, which whoever asks may change."""
    # Within a run there is to be time for restarts to be forgotten.
    restart = {"max": 3, "within_s": 12.0, "backoff_s": 0.2, "max_backoff_s": 5.0}
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string"}, "calls": {"type": "integer"}},
        "required": ["answer", "calls"],
        "additionalProperties": False,
    }
    return {
        "mob": {"id": "sim", "lead": "lead"},
        "models": {
            "quick": {
                "model": "sim:echo",
                "fallback": ["patient"],
                "retry": {"attempts": 2, "backoff_s": 0.5},
                "timeout_s": 90.0,
            },
            # Never watched: a call that hangs does so until somebody ends it.
            "patient": {"model": "sim:echo", "retry": {"attempts": 2, "backoff_s": 1.0}},
        },
        "tools": {
            **{name: {"function": f"simulated.py:{name}"} for name in ("work", "note", "delegate")},
            "pay": {"function": "simulated.py:pay", "approve": "ask"},
        },
        "profiles": {
            "chief": {
                "model": "quick",
                "tools": ["work", "note", "delegate", "pay"],
                "subagents": {"max_depth": 2, "max_children": 4, "background": True},
                "restart": restart,
                "max_steps": 8,
            },
            "worker": {
                "model": "patient",
                "tools": ["work", "note", "pay"],
                "restart": restart,
                # Most turns have four messages, so the third of a worker finds one due.
                "compaction": {"at_messages": 6, "keep_turns": 1},
            },
            "clerk": {
                "model": "quick",
                "tools": ["work", "note"],
                "approve": ["note"],
                "output_schema": schema,
                "restart": {"policy": "never"},
            },
        },
        "members": {
            "lead": {"profile": "chief"},
            "worker": {"profile": "worker", "replicas": 2},
            "clerk": {"profile": "clerk"},
        },
        "wiring": {"default": "allow"},
        "checkpoint": {"every_turns": 2, "max_tail": 40},
    }


def drawn_steps(random: Random, members: tuple[str, ...]) -> tuple[Step, ...]:
    """The steps of one run, in order of time."""
    least, most = COUNT
    count = random.randint(least, most)
    times = sorted(round(random.uniform(0.0, SPAN_S), 3) for _ in range(count))
    verbs = random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count)
    steps = []
    for number, (verb, at_s) in enumerate(zip(verbs, times, strict=True)):
        guest = verb == "spawn" or (verb != "delete" and random.random() < 0.2)
        who = random.choice(GUESTS if guest else members)
        draws = tuple(random.randrange(10_000) / 10_000 for _ in range(4))
        steps.append(Step(number, verb, at_s, who, draws))
    return tuple(steps)
