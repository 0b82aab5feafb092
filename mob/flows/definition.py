"""What a flow is made of, in Python or in a mob file, and its canonical form. Pure.

Owns: the definition types, and flows as plain data: what a blueprint remembers of one, and what a
run is pinned to. Must not: judge a flow (`mob.flows.checks` does) or know of runs.

A run keeps the flow that it was started with, so a mob that adopts another definition finishes the
runs of the old one as they were meant.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from typing import Any, Final

import attrs


class Collect(enum.Enum):
    """How many of a step's answers it takes. The values are stored."""

    ALL = "all"
    #: The first answer; the other questions are withdrawn.
    ANY = "any"
    #: The first so many; the other questions are withdrawn.
    QUORUM = "quorum"


class AtLimit(enum.Enum):
    """What becomes of a loop whose last round has not brought what it waits for."""

    FAIL = "fail"
    CONTINUE = "continue"


@attrs.frozen
class ParamDefinition:
    """What a run is given. Without a `default` it must be given; `schema` is what it must fit."""

    default: Any = None
    required: bool = True
    schema: dict[str, Any] | None = None


@attrs.frozen
class StepDefinition:
    """One step: a message to a `member`, or to all members of a `profile`, and what it waits for.

    `needs` must have succeeded, `after` must only have ended. With `for_each` there is one message
    for each item of the list at that path. `timeout_s` is for one attempt, `retries` are further
    attempts, with a backoff that doubles from `backoff_s`. Of the steps with the same `branch` the
    first in order that succeeds wins.
    """

    message: str
    member: str | None = None
    profile: str | None = None
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    condition: str | None = None
    for_each: str | None = None
    collect: Collect = Collect.ALL
    quorum: int | None = None
    retries: int = 0
    backoff_s: float = 1.0
    timeout_s: float | None = None
    branch: str | None = None
    output_schema: dict[str, Any] | None = None

    @property
    def fans_out(self) -> bool:
        """Whether it may have more than one answer: then its output is a list, or with ANY the
        first of them."""
        return self.profile is not None or self.for_each is not None


@attrs.frozen
class RepeatDefinition:
    """A loop: its `steps` run in rounds, at most `max_rounds`, until the condition `until` holds at
    the end of one."""

    steps: tuple[str, ...]
    until: str
    max_rounds: int
    at_limit: AtLimit = AtLimit.FAIL


@attrs.frozen
class FlowDefinition:
    """A graph of steps. Steps, branches and loops have names that differ."""

    steps: Mapping[str, StepDefinition]
    params: Mapping[str, ParamDefinition] = attrs.field(factory=dict)
    repeats: Mapping[str, RepeatDefinition] = attrs.field(factory=dict)
    #: The step, branch or loop whose output is that of a run; None: that of the step defined last.
    output: str | None = None

    def branches(self) -> dict[str, tuple[str, ...]]:
        """The steps of each branch, in their order."""
        found: dict[str, list[str]] = {}
        for name, step in self.steps.items():
            if step.branch is not None:
                found.setdefault(step.branch, []).append(name)
        return {branch: tuple(names) for branch, names in found.items()}

    def loop_of(self, step: str) -> str | None:
        """The loop that the step is in."""
        return next((name for name, loop in self.repeats.items() if step in loop.steps), None)


def plain(flow: FlowDefinition) -> dict[str, Any]:
    """The flow as plain data. What was not given is not in it, so that a key of later versions
    changes no stored mob. Steps stay in their order, which a branch follows."""
    table: dict[str, Any] = {"steps": [[n, _given(step)] for n, step in flow.steps.items()]}
    if flow.params:
        table["params"] = {name: _given(param) for name, param in flow.params.items()}
    if flow.repeats:
        table["repeats"] = {name: _given(loop) for name, loop in flow.repeats.items()}
    if flow.output is not None:
        table["output"] = flow.output
    return table


def packed(flow: FlowDefinition) -> str:
    """`plain`, as JSON."""
    return json.dumps(plain(flow), sort_keys=True, ensure_ascii=False)


def unpacked(text: str) -> FlowDefinition:
    """The flow that `packed` made this of. Raises `ValueError`, `TypeError` if it did not."""
    table = json.loads(text)
    return FlowDefinition(
        {name: _read(StepDefinition, step) for name, step in table["steps"]},
        {name: _read(ParamDefinition, param) for name, param in table.get("params", {}).items()},
        {name: _read(RepeatDefinition, loop) for name, loop in table.get("repeats", {}).items()},
        table.get("output"),
    )


_ENUMS: Final[dict[str, type[enum.Enum]]] = {"collect": Collect, "at_limit": AtLimit}


def _given(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in attrs.fields(type(value)):
        given = getattr(value, field.name)
        if field.default is attrs.NOTHING or given != field.default:
            found[field.name] = given.value if isinstance(given, enum.Enum) else given
    return found


def _read(kind: Any, table: Mapping[str, Any]) -> Any:
    given: dict[str, Any] = {}
    for key, value in table.items():
        if key in _ENUMS:
            value = _ENUMS[key](value)
        given[key] = tuple(value) if key in ("needs", "after", "steps") else value
    return kind(**given)
