"""Topologies: what one says goes to all others along a star, a chain, a tree and a graph.

The four that collaboration networks of agents are compared by (MacNet, Qian et al. 2024). Who hears
it first passes it on to all neighbours but the one it came from; each takes a second for it. So all
have heard it after as many seconds as there are edges to the farthest, and one more; and whoever
has no edge is refused. On a virtual clock.
"""

from __future__ import annotations

from contextlib import aclosing
from random import Random

import trio

from mob.bench import closed
from mob.bench.plan import Expected, Plan
from mob.bench.shapes.base import Figures, Shape
from mob.bench.stage import Stage
from mob.errors import NotWired
from mob.mob import Mob
from runtime.records import InputAccepted, TurnEnded

KINDS = ("star", "chain", "tree", "graph")


def links_of(kind: str, nodes: int, seed: int) -> list[tuple[int, int]]:
    """The edges between nodes 0 to `nodes` - 1, each once. The graph is a ring with as many chords
    as a quarter of it has nodes, drawn from the seed."""
    if kind == "star":
        return [(0, each) for each in range(1, nodes)]
    if kind == "chain":
        return [(each - 1, each) for each in range(1, nodes)]
    if kind == "tree":
        return [((each - 1) // 2, each) for each in range(1, nodes)]
    ring = [(each, (each + 1) % nodes) for each in range(nodes)]
    known, random = {frozenset(each) for each in ring}, Random(seed)
    chords = []
    for _ in range(nodes // 4):
        one, other = random.sample(range(nodes), 2)
        if frozenset((one, other)) not in known:
            known.add(frozenset((one, other)))
            chords.append((one, other))
    return ring + chords


def _network(plan: Plan, kind: str) -> dict[str, list[str]]:
    nodes = plan.size["nodes"]
    found: dict[str, list[str]] = {f"{kind}-{each}": [] for each in range(nodes)}
    for one, other in links_of(kind, nodes, plan.seed):
        found[f"{kind}-{one}"].append(f"{kind}-{other}")
        found[f"{kind}-{other}"].append(f"{kind}-{one}")
    return found


def _edges(plan: Plan) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"{kind}-{one}", f"{kind}-{other}")
        for kind in KINDS
        for one, other in links_of(kind, plan.size["nodes"], plan.seed)
    )


def _expect(plan: Plan) -> dict[str, Expected]:
    nodes, messages, depths = plan.size["nodes"], 0, {}
    latency_s = plan.option("latency_s", 0.0)
    for kind in KINDS:
        messages += closed.flood_messages(nodes, len(links_of(kind, nodes, plan.seed)))
        farthest = max(closed.hops(_network(plan, kind), f"{kind}-0").values())
        depths[f"{kind}_s"] = Expected((farthest + 1) * latency_s)
    return {
        "messages": Expected(messages),
        "turns": Expected(messages + len(KINDS)),
        "refused": Expected(len(KINDS)),
        **depths,
    }


async def _run(stage: Stage) -> Figures:
    plan = stage.plan
    async with stage.open() as mob:
        floods = [await _flood(mob, _network(plan, kind)) for kind in KINDS]
        refused = sum([await _refused(mob, kind) for kind in KINDS])
    return {
        "messages": sum(sent for sent, _ in floods),
        "refused": refused,
        **{f"{kind}_s": took_s for kind, (_, took_s) in zip(KINDS, floods, strict=True)},
    }


async def _flood(mob: Mob, network: dict[str, list[str]]) -> tuple[int, float]:
    """Tell the first one something; return how many messages it took, and how many seconds until
    all had worked on it."""
    members = {mob.session_of(name): name for name in network}
    source, came_from = next(iter(network)), dict[str, str]()
    waiting, sent, began_s, took_s = set(network), 0, trio.current_time(), 0.0
    cursor = mob.realm.journal.last
    pending = 1
    await mob.send(source, "news")
    async with aclosing(mob.events(cursor)) as events:
        async for event in events:
            record = event.record
            if isinstance(record, InputAccepted) and record.session_id in members:
                came_from.setdefault(members[record.session_id], record.sender or "")
            elif isinstance(record, TurnEnded) and record.session_id in members:
                pending -= 1
                name = members[record.session_id]
                if name in waiting:
                    waiting.discard(name)
                    took_s = trio.current_time() - began_s
                    targets = [each for each in network[name] if each != came_from[name]]
                    for each in targets:
                        await mob.send(each, "news", sender=name)
                    sent, pending = sent + len(targets), pending + len(targets)
                if not pending:
                    break
    return sent, took_s


async def _refused(mob: Mob, kind: str) -> bool:
    """Whether a member of the kind may not write to one of another kind."""
    other = KINDS[(KINDS.index(kind) + 1) % len(KINDS)]
    try:
        await mob.send(f"{other}-0", "news", sender=f"{kind}-1")
    except NotWired:
        return True
    return False


SHAPE = Shape(
    "news go through a star, a chain, a tree and a graph (members: one group of each name)",
    size={"nodes": 4},
    figures=("messages", "refused", *(f"{kind}_s" for kind in KINDS)),
    expect=_expect,
    run=_run,
    edges=_edges,
)
