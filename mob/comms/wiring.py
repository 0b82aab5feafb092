"""The wiring of a mob as it stands: what the file says, with what was changed at run time over it.

Owns: `Wiring`, which answers for members who their peers are. Must not: change anything
(`mob.comms.linking` has the verbs).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

from mob.comms.routing import Rule, may_send

if TYPE_CHECKING:
    from mob.comms.graph import Graph
    from mob.definition import MobDefinition


class Wiring:
    """Who may send to whom now. `profiles` are the members with their profiles, in their order."""

    def __init__(
        self,
        definition: MobDefinition,
        profile: Callable[[str], str | None],
        names: Callable[[], Iterable[str]],
        order: Callable[[str], Any],
        graph: Graph | None = None,
    ) -> None:
        self.declared: Mapping[str, dict[str, None]] = _declared(definition)
        self.roles = definition.wiring.roles()
        self.default = definition.wiring.default == "allow"
        self.profile = profile
        self._names = names
        self._order = order
        self._graph = graph
        #: Pairs whose unwiring is on its way to the disk, as often as it is: nothing new goes along
        #: them, or it would be accepted behind the record that forbids it.
        self.closing: Counter[tuple[str, str]] = Counter()
        #: Profiles that may send to whole others: for their peers all members are looked at.
        self._wide = {sender for (sender, _), allowed in self.roles.items() if allowed}

    @property
    def names(self) -> Iterable[str]:
        """The members, in order of joining."""
        return self._names()

    def of(self, profiles: Mapping[str, str]) -> Wiring:
        """The same wiring among these members, each with its profile."""
        place = {name: index for index, name in enumerate(profiles)}
        other = copy(self)
        other.profile, other._names = profiles.get, lambda: profiles
        other._order = place.__getitem__
        return other

    def count(self, name: str, most: int) -> int:
        """How many peers the member has, as soon as there are more than `most` no further."""
        if self.default and not self.roles and self._graph is not None and not self._graph:
            return len(list(self._names())) - 1
        found = 0
        for each in self._candidates(name):
            found += self.may_send(name, each).allows
            if found > most:
                break
        return found

    def changed(self, sender: str, recipient: str) -> bool | None:
        if self.closing and self.closing[sender, recipient]:
            return False
        return None if self._graph is None else self._graph.said(sender, recipient)

    def may_send(self, sender: str, recipient: str) -> Rule:
        """Whether one may send to the other, and why or why not."""
        return may_send(self, sender, recipient)

    def peers_of(self, name: str) -> tuple[str, ...]:
        """To whom the member may send, in order of joining. Looks at the edges of the member, or at
        all members if those of its profile may send to whole profiles."""
        return tuple([each for each in self._candidates(name) if self.may_send(name, each).allows])

    def _candidates(self, name: str) -> Iterable[str]:
        """All who may be peers of the member, in order of joining."""
        if self.default or self.profile(name) in self._wide:
            return self._names()
        said = {} if self._graph is None else self._graph.of(name)
        known = {*self.declared.get(name, ()), *said}
        present = [each for each in known if self.profile(each) is not None]
        return sorted(present, key=self._order)


def _declared(definition: MobDefinition) -> dict[str, dict[str, None]]:
    """The edges of the file by sender, replicas written out."""
    groups = {base: member.names(base) for base, member in definition.members.items()}
    found: dict[str, dict[str, None]] = {}

    def add(edges: Iterable[tuple[str, str]]) -> None:
        for one, other in edges:
            for left in groups.get(one, (one,)):
                for right in groups.get(other, (other,)):
                    if left != right:
                        found.setdefault(left, {})[right] = None

    add(definition.wiring.edges)
    add((other, one) for one, other in definition.wiring.edges)
    add(definition.wiring.directed)
    return found
