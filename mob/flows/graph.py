"""The graph of a flow: who waits for whom. Pure.

Owns: names and what they stand for, dependencies, circles, waves. Must not: know of runs, or judge
what a step says (`mob.flows.checks` does).

Three kinds of names share one space: steps, branches (steps of which the first that succeeds wins)
and loops. A step waits for what it needs or comes after, for the steps before it in its branch, and
through a branch or a loop for all of their steps. Inside a loop the graph is that of one round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from mob.flows.definition import FlowDefinition


@attrs.frozen
class Graph:
    """What follows from a flow's names. Names that nothing has are passed over."""

    flow: FlowDefinition
    branches: Mapping[str, tuple[str, ...]]
    loop_of: Mapping[str, str]
    #: The steps that each step waits for.
    before: Mapping[str, frozenset[str]]

    def steps_of(self, name: str) -> tuple[str, ...]:
        """The steps that a name stands for."""
        if name in self.flow.repeats:
            return self.flow.repeats[name].steps
        return self.branches.get(name, (name,) if name in self.flow.steps else ())

    def ancestors(self, step: str) -> frozenset[str]:
        """All steps that have ended when this one begins, this round of a loop or at all."""
        seen: set[str] = set()
        ahead = list(self.before[step])
        while ahead:
            name = ahead.pop()
            if name not in seen:
                seen.add(name)
                ahead.extend(self.before[name])
        return frozenset(seen)

    def circle(self) -> tuple[str, ...]:
        """Steps that wait for each other, the first one again at the end; empty if none do."""
        done: set[str] = set()
        for start in self.flow.steps:
            trail: list[str] = []
            found = self._circle_from(start, trail, done)
            if found:
                return found
        return ()

    def _circle_from(self, start: str, trail: list[str], done: set[str]) -> tuple[str, ...]:
        # By hand and not by recursion: a flow may be a chain of thousands.
        ahead = [(start, False)]
        while ahead:
            name, left = ahead.pop()
            if left:
                done.add(trail.pop())
            elif name in trail:
                return (*trail[trail.index(name) :], name)
            elif name not in done:
                trail.append(name)
                ahead.append((name, True))
                ahead.extend((other, False) for other in sorted(self.before[name], reverse=True))
        return ()

    def waves(self) -> tuple[tuple[str, ...], ...]:
        """The steps in waves: those of one may run at the same time, once those of the waves
        before have ended. Of a flow without a circle."""
        depth: dict[str, int] = {}
        ahead = list(self.flow.steps)[::-1]
        while ahead:
            name = ahead[-1]
            missing = [other for other in sorted(self.before[name]) if other not in depth]
            if name in depth or not missing:
                ahead.pop()
                depth.setdefault(
                    name, 1 + max((depth[other] for other in self.before[name]), default=-1)
                )
            else:
                ahead.extend(missing)
        waves: list[list[str]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
        for name in self.flow.steps:
            waves[depth[name]].append(name)
        return tuple(map(tuple, waves))


def graph_of(flow: FlowDefinition) -> Graph:
    """The graph of a flow, which may have mistakes."""
    branches = flow.branches()
    loop_of = {step: name for name, loop in flow.repeats.items() for step in loop.steps}

    def expanded(names: Iterable[str]) -> Iterable[str]:
        for name in names:
            if name in flow.repeats:
                yield from flow.repeats[name].steps
            elif name in branches:
                yield from branches[name]
            else:
                yield name

    before: dict[str, frozenset[str]] = {}
    for name, step in flow.steps.items():
        waits = set(expanded((*step.needs, *step.after)))
        if step.branch is not None:
            group = branches[step.branch]
            waits.update(group[: group.index(name)])
        before[name] = frozenset(waits & set(flow.steps))
    return Graph(flow, branches, loop_of, before)
