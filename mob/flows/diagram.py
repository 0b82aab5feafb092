"""Plans and pictures of a flow. Pure.

Owns: the plan (waves of steps, who is asked, what each waits for), and the graph as a Mermaid
diagram and as boxes for a terminal. Must not: run or judge anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import attrs

from mob.flows.definition import Collect, FlowDefinition, StepDefinition
from mob.flows.graph import Graph, graph_of


@attrs.frozen
class PlannedStep:
    """A step in a plan: in which wave, whom it asks, what for, what it waits for, in words."""

    name: str
    wave: int
    asks: str
    needs: tuple[str, ...]
    after: tuple[str, ...]
    notes: tuple[str, ...]


def plan(flow: FlowDefinition) -> tuple[PlannedStep, ...]:
    """The steps of a valid flow, wave by wave: those of one wave may run at the same time."""
    graph = graph_of(flow)
    return tuple(
        PlannedStep(
            name,
            number,
            asked(flow.steps[name]),
            flow.steps[name].needs,
            flow.steps[name].after,
            tuple(_notes(graph, name)),
        )
        for number, wave in enumerate(graph.waves(), 1)
        for name in wave
    )


def asked(step: StepDefinition) -> str:
    """Whom a step asks, and how many answers it takes."""
    who = step.member if step.member is not None else f"every {step.profile}"
    if step.for_each is not None:
        who = f"{step.member or f'the {step.profile} by turns'}, for each of {step.for_each}"
    if step.collect is Collect.ANY:
        return f"{who}; the first answer"
    if step.collect is Collect.QUORUM:
        return f"{who}; the first {step.quorum} answers"
    return who


def _notes(graph: Graph, name: str) -> Iterator[str]:
    step = graph.flow.steps[name]
    if step.condition is not None:
        yield f"if {step.condition}"
    if step.branch is not None:
        group = graph.branches[step.branch]
        place = group.index(name)
        tail = f", if {group[place - 1]} does not succeed" if place else ""
        yield f"branch {step.branch}, {place + 1} of {len(group)}{tail}"
    loop = graph.loop_of.get(name)
    if loop is not None:
        repeat = graph.flow.repeats[loop]
        yield f"in loop {loop} until {repeat.until}, at most {repeat.max_rounds} rounds"
    if step.retries:
        yield f"{step.retries} retries"
    if step.timeout_s is not None:
        yield f"{step.timeout_s:g} s for each attempt"


def plan_text(flow: FlowDefinition) -> str:
    """The plan as lines for people."""
    lines: list[str] = []
    wave = 0
    for each in plan(flow):
        if each.wave != wave:
            wave = each.wave
            lines.append(f"wave {wave}")
        waits = [f"needs {', '.join(each.needs)}"] if each.needs else []
        waits += [f"after {', '.join(each.after)}"] if each.after else []
        tail = "; ".join([*waits, *each.notes])
        lines.append(f"  {each.name} asks {each.asks}{f' ({tail})' if tail else ''}")
    return "\n".join(lines)


def mermaid(flow: FlowDefinition) -> str:
    """The graph as a Mermaid flowchart: solid arrows are needs, dashed ones after, thick ones what
    comes next in a branch if the one before does not succeed."""
    graph = graph_of(flow)
    lines = ["flowchart TD"]
    for loop, repeat in flow.repeats.items():
        lines.append(f'    subgraph {_id(loop)}["{loop}: until {_safe(repeat.until)}"]')
        lines += [f"        {_box(name, flow.steps[name])}" for name in repeat.steps]
        lines.append("    end")
    for name, step in flow.steps.items():
        if name not in graph.loop_of:
            lines.append(f"    {_box(name, step)}")
    for branch in graph.branches:
        lines.append(f'    {_id(branch)}{{"{branch}"}}')
    for name, step in flow.steps.items():
        lines += [f"    {_id(other)} --> {_id(name)}" for other in step.needs]
        lines += [f"    {_id(other)} -.-> {_id(name)}" for other in step.after]
    for branch, names in graph.branches.items():
        lines += [f"    {_id(a)} ==> {_id(b)}" for a, b in itertools.pairwise(names)]
        lines += [f"    {_id(name)} --> {_id(branch)}" for name in names]
    return "\n".join(lines)


def boxes(flow: FlowDefinition) -> str:
    """The graph as boxes, one row for each wave."""
    rows: list[str] = []
    for wave in graph_of(flow).waves():
        if rows:
            rows.append("     |")
            rows.append("     v")
        cells = [(name, asked(flow.steps[name])) for name in wave]
        widths = [max(len(name), len(who)) for name, who in cells]
        rows.append("  ".join(f"+-{'-' * width}-+" for width in widths))
        for part in (0, 1):
            row = zip(cells, widths, strict=True)
            rows.append("  ".join(f"| {cell[part]:<{width}} |" for cell, width in row))
        rows.append("  ".join(f"+-{'-' * width}-+" for width in widths))
    return "\n".join(rows)


def _id(name: str) -> str:
    # "end" and the like are words of Mermaid's, and so is "--".
    return "n_" + name.replace("_", "_u").replace("-", "_h")


def _box(name: str, step: StepDefinition) -> str:
    return f'{_id(name)}["{name}<br/>{_safe(asked(step))}"]'


def _safe(text: str) -> str:
    return text.replace('"', "#quot;")
