"""What must hold of the flows of a definition.

Owns: every rule about how the parts of a flow fit together, for files and for Python alike. Must
not: read a file, change a flow.

The rules are there so that a run cannot get stuck or meet a name that is not there: what is left
for a run to find out is what only answers can tell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from mob.errors import Mistake
from mob.flows.definition import Collect, FlowDefinition, RepeatDefinition, StepDefinition
from mob.flows.graph import Graph, graph_of
from mob.flows.paths import PATH
from mob.flows.scoping import Scoping
from mob.tables import nearest
from runtime.structured import check_schema, mistakes_in

if TYPE_CHECKING:
    from mob.definition import MobDefinition

#: Rounds of one loop: it asks members each time, so a larger number is a slip.
MAX_ROUNDS: Final = 1000
MAX_RETRIES: Final = 100
#: Steps of one flow: deciding looks at each of them.
MAX_STEPS: Final = 1000


def flow_mistakes(definition: MobDefinition) -> Iterator[Mistake]:
    """What does not hold, each with its path."""
    teams: dict[str, int] = {}
    names = definition.member_names() if definition.flows else {}
    for profile in names.values():
        teams[profile] = teams.get(profile, 0) + 1
    for name, flow in definition.flows.items():
        yield from _Checker(definition, names, teams, f"flows.{name}", flow).mistakes()


class _Checker:
    """The rules over one flow."""

    def __init__(
        self,
        definition: MobDefinition,
        members: Mapping[str, str],
        teams: Mapping[str, int],
        path: str,
        flow: FlowDefinition,
    ) -> None:
        self._definition = definition
        self._members = members
        self._teams = teams
        self._path = path
        self._flow = flow
        self._graph: Graph = graph_of(flow)
        self._names = [*flow.steps, *self._graph.branches, *flow.repeats]

    def mistakes(self) -> Iterator[Mistake]:
        flow = self._flow
        if not 0 < len(flow.steps) <= MAX_STEPS:
            what = f"a flow has 1 to {MAX_STEPS} steps, this one {len(flow.steps)}"
            yield Mistake(f"{self._path}.steps", what, "add [flows.NAME.steps.NAME]")
            return
        yield from self._check_names()
        yield from self._check_params()
        for name, step in flow.steps.items():
            yield from self._check_step(f"{self._path}.steps.{name}", name, step)
        for name, loop in flow.repeats.items():
            yield from self._check_loop(f"{self._path}.repeat.{name}", name, loop)
        if flow.output is not None and flow.output not in self._names:
            yield self._unknown(f"{self._path}.output", flow.output, self._names)
        circle = self._graph.circle()
        if circle:
            what = f"waits for itself: {' > '.join(circle)}"
            yield Mistake(f"{self._path}.steps.{circle[0]}", what, "take one of these out")
            return  # what a step can see is not defined in a circle
        scoping = Scoping(self._flow, self._graph, self._schemas())
        for path, what in scoping.mistakes():
            yield Mistake(f"{self._path}.{path}", what)

    def _check_names(self) -> Iterator[Mistake]:
        taken: set[str] = set()
        groups: tuple[tuple[str, Collection[str]], ...] = (
            ("steps", self._flow.steps),
            ("branch", self._graph.branches),
            ("repeat", self._flow.repeats),
            ("params", self._flow.params),
        )
        for table, names in groups:
            for name in names:
                where = f"{self._path}.{table}.{name}"
                if not PATH.fullmatch(name) or "." in name or len(name) > 63:
                    rule = "letters, digits, - and _, beginning with a letter, at most 63"
                    yield Mistake(where, f"{name!r} is not a name", rule)
                if table != "params" and name in taken:
                    what = f"the name {name!r} is taken by another step, branch or loop"
                    yield Mistake(where, what, "rename one of them")
            if table != "params":
                taken.update(names)

    def _check_params(self) -> Iterator[Mistake]:
        for name, param in self._flow.params.items():
            if param.schema is None:
                continue
            path = f"{self._path}.params.{name}"
            reason = check_schema(param.schema)
            if reason is not None:
                yield Mistake(f"{path}.schema", reason)
            elif not param.required:
                reason = mistakes_in(param.schema, param.default)
                if reason is not None:
                    yield Mistake(f"{path}.default", reason)

    def _check_step(self, path: str, name: str, step: StepDefinition) -> Iterator[Mistake]:
        yield from self._check_who(path, step)
        if not step.message.strip():
            yield Mistake(f"{path}.message", "is empty")
        yield from self._check_collect(path, step)
        yield from _bounded(f"{path}.retries", step.retries, 0, MAX_RETRIES)
        yield from _bounded(f"{path}.backoff_s", step.backoff_s, 0, float("inf"))
        yield from _bounded(f"{path}.timeout_s", step.timeout_s, 0.001, float("inf"))
        if step.output_schema is not None:
            reason = check_schema(step.output_schema)
            if reason is not None:
                yield Mistake(f"{path}.output_schema", reason)
        for key, others in (("needs", step.needs), ("after", step.after)):
            for other in others:
                yield from self._check_wait(f"{path}.{key}", name, key, other)
        if step.branch is not None:
            group = self._graph.branches[step.branch]
            if len({self._graph.loop_of.get(each) for each in group}) > 1:
                what = f"the steps of branch {step.branch!r} are not all in the same loop"
                yield Mistake(f"{path}.branch", what)

    def _check_who(self, path: str, step: StepDefinition) -> Iterator[Mistake]:
        if (step.member is None) == (step.profile is None):
            yield Mistake(path, "needs a member or a profile, and not both")
        elif step.member is not None and step.member not in self._members:
            hint = nearest(step.member, self._members)
            base = self._definition.members.get(step.member)
            if base is not None and base.replicas:
                hint = f"say which, such as {step.member}-0, or ask the profile {base.profile!r}"
            yield Mistake(f"{path}.member", f"there is no member {step.member!r}", hint)
        elif step.profile is not None and step.profile not in self._definition.profiles:
            known = self._definition.profiles
            what = f"there is no profile {step.profile!r}"
            yield Mistake(f"{path}.profile", what, nearest(step.profile, known))
        elif step.profile is not None and step.profile not in self._teams:
            yield Mistake(f"{path}.profile", f"no member has the profile {step.profile!r}")

    def _check_wait(self, path: str, name: str, key: str, other: str) -> Iterator[Mistake]:
        if other not in self._names:
            yield self._unknown(path, other, self._names)
            return
        own = self._graph.loop_of.get(name)
        for each in self._graph.steps_of(other):
            loop = self._graph.loop_of.get(each)
            if loop is not None and loop != own and other != loop:
                yield Mistake(path, f"{other!r} is in the loop {loop!r}", f"wait for {loop!r}")
                return
        step = self._flow.steps[name]
        rival = self._flow.steps.get(other)
        if key == "needs" and rival and rival.branch == step.branch and step.branch is not None:
            what = (
                f"{other!r} is in the same branch {step.branch!r}: if it succeeds this is skipped"
            )
            yield Mistake(path, what, "steps of a branch follow each other by themselves")

    def _check_collect(self, path: str, step: StepDefinition) -> Iterator[Mistake]:
        if step.collect is not Collect.ALL and not step.fans_out:
            yield Mistake(
                f"{path}.collect",
                f"{step.collect.value!r} of one answer means nothing",
                "give a profile or for_each, or leave it out",
            )
        if (step.collect is Collect.QUORUM) != (step.quorum is not None):
            yield Mistake(f"{path}.quorum", "goes with collect = 'quorum', and that with it")
        if step.quorum is None:
            return
        yield from _bounded(f"{path}.quorum", step.quorum, 1, float("inf"))
        if step.profile is not None and step.for_each is None:
            team = self._teams.get(step.profile, 0)
            if 0 < team < step.quorum:
                what = f"{step.quorum} answers cannot come from {team} members of {step.profile!r}"
                yield Mistake(f"{path}.quorum", what)

    def _check_loop(self, path: str, name: str, loop: RepeatDefinition) -> Iterator[Mistake]:
        yield from _bounded(f"{path}.max_rounds", loop.max_rounds, 1, MAX_ROUNDS)
        if not loop.steps:
            yield Mistake(f"{path}.steps", "a loop has at least one step")
        for step in loop.steps:
            if step not in self._flow.steps:
                yield self._unknown(f"{path}.steps", step, self._flow.steps)
            elif self._graph.loop_of[step] != name:
                what = f"{step!r} is in the loop {self._graph.loop_of[step]!r} too"
                yield Mistake(f"{path}.steps", what)
        if len(set(loop.steps)) != len(loop.steps):
            yield Mistake(f"{path}.steps", "a step is listed more than once")

    def _schemas(self) -> dict[str, Mapping[str, Any] | None]:
        """What an answer to each step's question fits; None for text."""
        found: dict[str, Mapping[str, Any] | None] = {}
        for name, step in self._flow.steps.items():
            profile = step.profile or self._members.get(step.member or "")
            own = self._definition.profiles.get(profile or "")
            found[name] = step.output_schema or (own.output_schema if own is not None else None)
        return found

    def _unknown(self, path: str, word: str, known: Collection[str]) -> Mistake:
        return Mistake(path, f"there is no step {word!r}", nearest(word, known))


def _bounded(path: str, value: float | None, least: float, most: float) -> Iterator[Mistake]:
    if value is not None and not least <= value <= most:
        bounds = f"at least {least:g}" if most == float("inf") else f"{least:g} to {most:g}"
        yield Mistake(path, f"must be {bounds}, found {value:g}")
