"""What a mob file says of how members work: by themselves, in groups, within limits.

Owns: reading the tables ``[groups.X]``, ``[limits]``, ``[supervision]`` and the keys of a profile
about going on alone, and what is wrong with them. Must not: run or supervise anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import attrs

from mob.autonomy import REST, Autonomy
from mob.errors import Mistake
from mob.groups import MEMBER_PREFIX, MOB, PARENT, Group, GroupTree, Strategy, circles
from mob.limits import bounded_limits
from mob.tables import TableReader, nearest

if TYPE_CHECKING:
    from mob.definition import MobDefinition

TURN_DRIVEN: Final = "turn-driven"
AUTONOMOUS: Final = "autonomous"

_INF: Final = float("inf")


def read_autonomy(table: TableReader) -> Autonomy | None:
    """The keys `mode`, `continue_with`, `rest_word` and `max_turns` of a profile."""
    default = Autonomy()
    mode = table.choice("mode", TURN_DRIVEN, (TURN_DRIVEN, AUTONOMOUS))
    autonomy = Autonomy(
        table.take("continue_with", str, default.continue_with),
        table.take("rest_word", str),
        table.take("max_turns", int, default.max_turns),
    )
    return autonomy if mode == AUTONOMOUS else None


@attrs.frozen
class GroupDefinition:
    """A table ``[groups.X]``. In `members` a base name stands for all its replicas."""

    members: tuple[str, ...] = ()
    strategy: Strategy = Strategy.ONE_FOR_ONE
    parent: str | None = None
    max_restarts: int = 10
    within_s: float = 60.0
    escalate: str = PARENT


@attrs.frozen
class SupervisionDefinition:
    """The table ``[supervision]``. After `blocked_s` seconds without a sign of life the event loop
    counts as blocked; 0: nobody watches. No part of the blueprint."""

    blocked_s: float = 1.0


DEFAULT_SUPERVISION: Final = SupervisionDefinition()


def read_supervision(top: TableReader) -> SupervisionDefinition:
    """The table ``[supervision]``."""
    table = top.table("supervision")
    supervision = SupervisionDefinition(
        table.take("blocked_s", float, DEFAULT_SUPERVISION.blocked_s)
    )
    table.done()
    return supervision


def read_groups(top: TableReader) -> dict[str, GroupDefinition]:
    """The tables ``[groups.X]``."""
    return {name: _read_group(table) for name, table in top.tables("groups").items()}


def _read_group(table: TableReader) -> GroupDefinition:
    default = GroupDefinition()
    restart = table.table("restart")
    strategies = [each.value for each in Strategy]
    group = GroupDefinition(
        table.texts("members"),
        Strategy(table.choice("strategy", default.strategy.value, strategies)),
        table.take("parent", str),
        restart.take("max", int, default.max_restarts),
        restart.take("within_s", float, default.within_s),
        table.take("escalate", str, default.escalate),
    )
    restart.done()
    table.done()
    return group


def group_tree(definition: MobDefinition) -> GroupTree:
    """The groups of a checked definition, replicas by their names."""
    return GroupTree(
        {
            name: Group(
                name,
                tuple(_expanded(definition, group.members)),
                group.strategy,
                group.parent,
                group.max_restarts,
                group.within_s,
                group.escalate,
            )
            for name, group in definition.groups.items()
        }
    )


def _expanded(definition: MobDefinition, names: Iterable[str]) -> Iterable[str]:
    for name in names:
        member = definition.members.get(name)
        yield from (name,) if member is None else member.names(name)


def work_mistakes(definition: MobDefinition, names: Mapping[str, str]) -> Iterable[Mistake]:
    """What does not hold, each with its path; `names` are those of all members."""
    for name, profile in definition.profiles.items():
        if profile.autonomy is None:
            continue
        if not profile.autonomy.continue_with.strip():
            yield Mistake(f"profiles.{name}.continue_with", "is empty")
        if REST in definition.tools:
            yield Mistake(f"tools.{REST}", "the name is taken by a built-in tool", "rename it")
    most = definition.limits.members
    if most is not None and len(names) > most:
        yield Mistake("limits.members", f"is {most}, and the file has {len(names)} members")
    yield from _check_group_members(definition, names)
    for name, group in definition.groups.items():
        yield from _check_above(definition, f"groups.{name}", group, names)
    plain = {n: Group(n, (), parent=g.parent) for n, g in definition.groups.items()}
    for circle in circles(plain):
        way = " -> ".join(circle)
        yield Mistake(f"groups.{circle[0]}.parent", f"groups are below each other: {way}")


def _check_above(
    definition: MobDefinition, path: str, group: GroupDefinition, names: Mapping[str, str]
) -> Iterable[Mistake]:
    if group.parent is not None and group.parent not in definition.groups:
        hint = nearest(group.parent, definition.groups)
        yield Mistake(f"{path}.parent", f"there is no group {group.parent!r}", hint)
    told = group.escalate.removeprefix(MEMBER_PREFIX)
    if told != group.escalate and told not in names:
        yield Mistake(f"{path}.escalate", f"there is no member {told!r}", nearest(told, names))
    elif told == group.escalate and told not in (PARENT, MOB):
        hint = f"{PARENT}, {MOB} or {MEMBER_PREFIX}NAME"
        yield Mistake(f"{path}.escalate", f"{group.escalate!r} is not possible", hint)


def _check_group_members(definition: MobDefinition, names: Mapping[str, str]) -> Iterable[Mistake]:
    known = [*definition.members, *names]
    taken: dict[str, str] = {}
    for name, group in definition.groups.items():
        path = f"groups.{name}.members"
        for member in group.members:
            if member not in known:
                yield Mistake(path, f"there is no member {member!r}", nearest(member, known))
        for member in _expanded(definition, group.members):
            if taken.setdefault(member, name) != name:
                why = f"member {member!r} is in group {taken[member]!r} already"
                yield Mistake(path, why, "a member has one supervisor")


def bounded_work(
    definition: MobDefinition,
) -> Iterable[tuple[str, float | None, float, float]]:
    """Every number here with a bound: its path, its value, the least and the most."""
    for name, profile in definition.profiles.items():
        if profile.autonomy is not None:
            yield f"profiles.{name}.max_turns", profile.autonomy.max_turns, 1, _INF
    yield from bounded_limits(definition.limits)
    yield "supervision.blocked_s", definition.supervision.blocked_s, 0, _INF
    for name, group in definition.groups.items():
        yield f"groups.{name}.restart.max", group.max_restarts, 0, _INF
        yield f"groups.{name}.restart.within_s", group.within_s, 0.001, _INF
