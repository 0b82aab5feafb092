"""Groups of members: supervisors above the members' own, as data and as a decision. Pure.

Owns: the tree of groups, what one does when a member fails, and when a failure goes further up.
Must not: import Trio, read a clock, restart anything: `mob.activation` carries the decision out.

The strategies and the restart intensity are OTP's. A member's own policy (`mob.supervision`) says
whether it is restarted itself; its group says who else is, and counts: more failures than its
intensity allows, and the failure is its parent's, as if the whole group had failed there.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

import attrs

#: Where a failure goes that a group cannot put up with.
PARENT: Final = "parent"
MOB: Final = "mob"
MEMBER_PREFIX: Final = "member:"

#: As whom a member is told of a failure. No member is called that.
SUPERVISOR: Final = "(supervisor)"


class Strategy(enum.Enum):
    """Who is restarted besides whoever failed."""

    ONE_FOR_ONE = "one-for-one"
    ONE_FOR_ALL = "one-for-all"
    #: Those that come after it.
    REST_FOR_ONE = "rest-for-one"


@attrs.frozen
class Group:
    """One supervisor. `members` are names in their order; the groups below it come after them.
    At most `max_restarts` failures within `within_s` seconds, and the next one goes to `escalate`:
    the parent (the mob, if there is none), the mob, or ``member:NAME``."""

    name: str
    members: tuple[str, ...]
    strategy: Strategy = Strategy.ONE_FOR_ONE
    parent: str | None = None
    max_restarts: int = 10
    within_s: float = 60.0
    escalate: str = PARENT


@attrs.frozen
class RestartThese:
    """Cut the turns of `members` off and continue them, because of `group`."""

    group: str
    members: tuple[str, ...]


@attrs.frozen
class TellMember:
    """Send `member` a message about the failure that `group` could not put up with."""

    group: str
    member: str
    reason: str


@attrs.frozen
class StopMob:
    """Stop the mob: nobody is left above `group` to put up with its failures."""

    group: str
    reason: str


Action: TypeAlias = RestartThese | TellMember | StopMob


@attrs.frozen
class GroupDecision:
    """What to do, and the times of failures (seconds, ascending) to pass in with the next one."""

    actions: tuple[Action, ...]
    recent: Mapping[str, tuple[float, ...]]


class GroupTree:
    """The groups of a mob by name. A member is in one of them at most."""

    def __init__(self, groups: Mapping[str, Group]) -> None:
        self.groups = groups
        self._of = {name: group for group in groups.values() for name in group.members}
        self._below: dict[str, list[Group]] = {}
        for group in groups.values():
            if group.parent is not None:
                self._below.setdefault(group.parent, []).append(group)

    def __bool__(self) -> bool:
        return bool(self.groups)

    def of(self, member: str) -> Group | None:
        """The group that a member is in."""
        return self._of.get(member)

    def everybody(self, group: Group) -> Iterator[str]:
        """The members of a group and of all groups below it, in order."""
        yield from group.members
        for inner in self._below.get(group.name, ()):
            yield from self.everybody(inner)

    def above(self, member: str) -> Iterator[Group]:
        """The groups that a member is in, the innermost first."""
        group = self._of.get(member)
        while group is not None:
            yield group
            group = None if group.parent is None else self.groups[group.parent]

    def affected(self, group: Group, failed: str | Group) -> tuple[str, ...]:
        """Who is restarted when `failed`, a member or a group below, fails in `group`. Of a group
        that failed that is everybody in it."""
        parts: list[str | Group] = [*group.members, *self._below.get(group.name, ())]
        place = parts.index(failed)
        chosen = {
            Strategy.ONE_FOR_ONE: [failed],
            Strategy.ONE_FOR_ALL: parts,
            Strategy.REST_FOR_ONE: parts[place:],
        }[group.strategy]
        names: list[str] = []
        for part in chosen:
            names.extend([part] if isinstance(part, str) else self.everybody(part))
        return tuple(names)


NO_GROUPS: Final = GroupTree({})


def decide_group(
    tree: GroupTree,
    member: str,
    recent: Mapping[str, tuple[float, ...]],
    cause: str,
    at_s: float,
) -> GroupDecision:
    """What the groups above `member` do about its failure at `at_s`, given the times of the
    failures before it by group. Pure; nothing for a member without a group."""
    counted: dict[str, tuple[float, ...]] = {}
    failed: str | Group = member
    group = tree.of(member)
    while group is not None:
        times = tuple(at for at in recent.get(group.name, ()) if at_s - at < group.within_s)
        if len(times) < group.max_restarts:
            counted[group.name] = (*times, at_s)
            others = tuple(name for name in tree.affected(group, failed) if name != member)
            return GroupDecision((RestartThese(group.name, others),) if others else (), counted)
        counted[group.name] = ()  # it begins afresh, as a supervisor that was restarted does
        reason = (
            f"{cause} (group {group.name!r} has had {len(times)} failures within"
            f" {group.within_s:g} s, which is the limit)"
        )
        if group.escalate.startswith(MEMBER_PREFIX):
            told = group.escalate.removeprefix(MEMBER_PREFIX)
            return GroupDecision((TellMember(group.name, told, reason),), counted)
        if group.escalate == MOB or group.parent is None:
            return GroupDecision((StopMob(group.name, reason),), counted)
        failed, group = group, tree.groups[group.parent]
    return GroupDecision((), counted)


def circles(groups: Mapping[str, Group]) -> Iterator[tuple[str, ...]]:
    """The circles in which groups are each other's parents, each once, with the first name again at
    its end."""
    known: set[str] = set()
    for name in groups:
        way: list[str] = []
        at: str | None = name
        while at is not None and at in groups and at not in way:
            way.append(at)
            at = groups[at].parent
        if at in way:
            circle = way[way.index(at) :]
            if not known.intersection(circle):
                yield (*circle, circle[0])
            known.update(circle)
