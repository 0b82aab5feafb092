"""What a step asks of whom, and when it has enough answers. Pure.

Owns: the questions of an attempt with their keys, dispatch over members, collection. Must not: send
anything.

A question's key is made of run, step, round, item and attempt. So whoever begins an attempt again
after a crash asks nobody twice: the same key joins the turn that was begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import attrs

from mob.flows.conditions import read_condition
from mob.flows.definition import Collect, StepDefinition
from mob.flows.paths import FlowMistake, find, kind_of, read_path
from mob.flows.records import FlowRunId, RunState, StepState
from mob.flows.state import Run, state_of
from mob.flows.templates import read_template

#: Questions of one attempt: each is an input of somebody's, and a task that waits for its answer.
MAX_ASKS: Final = 10_000

_KEY: Final = "flow"


@attrs.frozen
class Ask:
    """One question of an attempt."""

    index: int
    member: str
    text: str
    key: str


@attrs.frozen
class Place:
    """Where in a run a question belongs."""

    run_id: FlowRunId
    step: str
    round: int
    attempt: int
    index: int

    @property
    def key(self) -> str:
        """The idempotency key of the question. A step's name has no colon in it."""
        return f"{_KEY}:{self.run_id}:{self.step}:{self.round}:{self.index}:{self.attempt}"


def place_of(key: str | None) -> Place | None:
    """The place that a key was made for; None if it is not of a flow."""
    parts = [] if key is None else key.split(":")
    if len(parts) != 6 or parts[0] != _KEY or not all(part.isdigit() for part in parts[3:]):
        return None
    _, run_id, step, round_, index, attempt = parts
    return Place(FlowRunId(run_id), step, int(round_), int(attempt), int(index))


def wanted(run: Run | None, place: Place) -> bool:
    """Whether the run still waits for the answer of a question."""
    if run is None or run.state is not RunState.RUNNING:
        return False
    step = run.steps.get(place.step)
    if step is None or step.state is not StepState.RUNNING:
        return False
    return (step.round, step.attempt) == (place.round, place.attempt)


def scope_of(run: Run, step: str | None = None) -> dict[str, Any]:
    """What templates and conditions of a run see, those of `step` its round too."""
    steps: dict[str, Any] = {
        name: {"output": each.output, "state": each.state.value, "error": each.error}
        for name, each in run.steps.items()
    }
    for branch, names in run.flow.branches().items():
        won = [name for name in names if run.steps[name].state is StepState.SUCCEEDED]
        output = run.steps[won[0]].output if won else None
        steps[branch] = {"output": output, "state": _state(run, branch), "error": None}
    for name, loop in run.loops.items():
        output = run.steps[run.flow.repeats[name].steps[-1]].output
        steps[name] = {"output": output, "state": _state(run, name), "error": loop.error}
    scope: dict[str, Any] = {"params": run.params, "steps": steps}
    if step is not None:
        scope["round"] = run.steps[step].round
    return scope


def _state(run: Run, name: str) -> str:
    state = state_of(run, name)
    return "running" if state is None else state.value


def holds(run: Run, step: str) -> bool:
    """Whether the step's condition holds, if it has one. Raises `FlowMistake`."""
    condition = run.flow.steps[step].condition
    return condition is None or read_condition(condition).holds(scope_of(run, step))


def dispatch(run: Run, step: str, team: Sequence[str]) -> tuple[str, ...]:
    """Who is asked, one member for each question, by turns if there are more items than members.
    `team` is who may be asked.

    Raises:
        FlowMistake: there is nobody, the items are no list, or too many.
    """
    definition = run.flow.steps[step]
    if not team:
        raise FlowMistake(f"profile {definition.profile!r} has no members now")
    if definition.for_each is None:
        count = len(team)
    else:
        count = len(_items(run, step))
    if count > MAX_ASKS:
        raise FlowMistake(f"there are {count} items, and at most {MAX_ASKS} are asked about")
    return tuple(team[index % len(team)] for index in range(count))


def asks_of(run: Run, step: str) -> tuple[Ask, ...]:
    """The questions of the step's present attempt. Raises `FlowMistake`."""
    definition, now = run.flow.steps[step], run.steps[step]
    return texts_of(run, step, now.members, now.attempt, definition)


def texts_of(
    run: Run, step: str, members: Sequence[str], attempt: int, definition: StepDefinition
) -> tuple[Ask, ...]:
    """The questions of an attempt that asks these members. Raises `FlowMistake`."""
    template = read_template(definition.message)
    scope = scope_of(run, step)
    items = _items(run, step) if definition.for_each is not None else [None] * len(members)
    round_ = run.steps[step].round
    asks: list[Ask] = []
    for index, (member, item) in enumerate(zip(members, items, strict=True)):
        text = template.fill({**scope, "item": item, "index": index, "member": member})
        if not text.strip():
            raise FlowMistake("the message is empty")
        asks.append(Ask(index, member, text, Place(run.run_id, step, round_, attempt, index).key))
    return tuple(asks)


def _items(run: Run, step: str) -> Sequence[Any]:
    path = run.flow.steps[step].for_each
    assert path is not None
    value = find(read_path(path), scope_of(run, step))
    if not isinstance(value, list):
        raise FlowMistake(f"for_each: {path} is {kind_of(value)} and not a list")
    return value


@attrs.frozen
class Answer:
    """A question was answered: `output` is the parsed JSON or the text."""

    output: Any


@attrs.frozen
class NoAnswer:
    """A question will not be answered, and why. `final`: asking again cannot help."""

    reason: str
    final: bool = False


@attrs.frozen
class Enough:
    """The step has what it wants."""

    output: Any


@attrs.frozen
class TooFew:
    """The step cannot get what it wants any more, and why."""

    reason: str
    final: bool = False


class Collection:
    """The answers of one attempt as they come."""

    def __init__(self, step: StepDefinition, questions: int) -> None:
        self._step = step
        self._questions = questions
        needed = {Collect.ALL: questions, Collect.ANY: 1, Collect.QUORUM: step.quorum or 1}
        self._needed = needed[step.collect]
        self._answers: dict[int, Any] = {}
        self._refused: dict[int, NoAnswer] = {}

    def add(self, index: int, outcome: Answer | NoAnswer) -> None:
        """Take the outcome of one question."""
        if isinstance(outcome, Answer):
            self._answers[index] = outcome.output
        else:
            self._refused[index] = outcome

    def verdict(self) -> Enough | TooFew | None:
        """What has come of it; None while it is open."""
        if len(self._answers) >= self._needed:
            return Enough(self._output())
        left = self._questions - len(self._refused)
        if left < self._needed:
            return TooFew(self._why(), any(each.final for each in self._refused.values()))
        return None

    def _output(self) -> Any:
        outputs = [self._answers[index] for index in sorted(self._answers)]
        if not self._step.fans_out:
            return outputs[0]
        if self._step.collect is Collect.ANY:
            return outputs[0]
        return outputs[: self._needed]

    def _why(self) -> str:
        reasons = list(dict.fromkeys(each.reason for each in self._refused.values()))
        if self._questions == 1 and reasons:
            return reasons[0]
        wanted_of = f"{self._needed} of {self._questions} answers were wanted"
        if not reasons:
            return wanted_of
        more = f" and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        return f"{wanted_of}, {len(self._refused)} will not come: {'; '.join(reasons[:3])}{more}"


def output_of(run: Run) -> Any:
    """The output of a run: that of the step, branch or loop which is named for it, or was defined
    last."""
    name = run.flow.output
    if name is None:
        last = list(run.flow.steps)[-1]
        name = run.flow.loop_of(last) or run.flow.steps[last].branch or last
    return scope_of(run)["steps"][name]["output"]
