"""Members that depend on others: who goes on first, who is cut off first, and who is told.

Owns: `depends_on` of the mob file as an order, and carrying it out when a mob goes on and when it
stops. Must not: order anything else: a message for a dependent does not wait for those it depends
on, because nothing says that it needs them.

# Invariant: nobody waits for a member that waits for it. Whoever is asked from inside a turn goes
# on at once, whomever it depends on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

import trio

from mob.errors import Mistake
from mob.groups import SUPERVISOR
from mob.tables import nearest
from runtime.records import InputAccepted
from runtime.tasks import is_notice

if TYPE_CHECKING:
    from mob.activation import Activations
    from mob.definition import MobDefinition
    from mob.jobs import Job, LiveMember
    from runtime.realm import Realm


def dependencies_of(definition: MobDefinition) -> dict[str, tuple[str, ...]]:
    """On whom each member of a checked definition depends, replicas by their names; members that
    depend on nobody are not in it."""
    members = definition.members
    found: dict[str, tuple[str, ...]] = {}
    for base, member in members.items():
        needed: dict[str, None] = {}
        for each in member.depends_on:
            needed.update(dict.fromkeys(members[each].names(each) if each in members else (each,)))
        if needed:
            found.update(dict.fromkeys(member.names(base), tuple(needed)))
    return found


def waves(needs: Mapping[str, Iterable[str]]) -> list[tuple[str, ...]]:
    """Those who depend on others or are depended on, in waves: each depends on earlier ones only.
    Raises `graphlib.CycleError`."""
    sorter = TopologicalSorter(needs)
    sorter.prepare()
    found: list[tuple[str, ...]] = []
    while sorter.is_active():
        ready = tuple(sorted(sorter.get_ready()))
        found.append(ready)
        sorter.done(*ready)
    return found


def dependency_mistakes(definition: MobDefinition, names: Mapping[str, str]) -> Iterable[Mistake]:
    """What does not hold, each with its path; `names` are those of all members."""
    known = [*definition.members, *names]
    sound = True
    for base, member in definition.members.items():
        for each in member.depends_on:
            if each not in known:
                sound = False
                why = f"there is no member {each!r}"
                yield Mistake(f"members.{base}.depends_on", why, nearest(each, known))
    if not sound:
        return
    try:
        waves(dependencies_of(definition))
    except CycleError as error:
        circle = error.args[1][::-1]
        way = " -> ".join(circle)
        yield Mistake(f"members.{circle[0]}.depends_on", f"members depend on each other: {way}")


class Dependencies:
    """The order among the members of one mob. Made only if some member depends on another."""

    def __init__(
        self, needs: Mapping[str, tuple[str, ...]], activations: Activations, realm: Realm
    ) -> None:
        self._needs = needs
        self._waves = waves(needs)
        self._dependents: dict[str, list[str]] = {}
        for name, needed in needs.items():
            for each in needed:
                self._dependents.setdefault(each, []).append(name)
        self._activations = activations
        self._realm = realm
        #: Who is held back, and how many jobs of others it waits for.
        self._held: dict[LiveMember, int] = {}

    def hold(self) -> None:
        """Before work goes on: those whose dependencies have something left to do begin when that
        is done, or given up."""
        members = self._activations.members
        # Anew: what was waited for may have been cut off since, and is waited for once more.
        before, self._held = self._held, {}
        for each in before:
            each.held = False
        left: dict[str, list[Job]] = {}
        for wave in self._waves:
            for name in wave:
                live = members.get(name)
                if live is None:
                    continue
                left[name] = [job for job in live.jobs if not is_notice(job.pending)]
                ahead = [job for each in self._needs.get(name, ()) for job in left.get(each, ())]
                if ahead and live.jobs and not live.active and not live.held:
                    live.held = True
                    self._held[live] = len(ahead)
                    for job in ahead:
                        self._wait_for(job, live)

    def _wait_for(self, job: Job, live: LiveMember) -> None:
        before, held = job.then, self._held

        def then() -> None:
            if before is not None:
                before()
            if held is self._held and live in held:
                held[live] -= 1
                if not held[live]:
                    self.release(live)

        job.then = then

    def release(self, live: LiveMember) -> None:
        """The member goes on, if it was held back."""
        if self._held.pop(live, None) is None:
            return
        live.held = False
        if self._activations.members.get(live.row.name) is live:
            self._activations.start(live)

    async def cut(self, within_s: float) -> None:
        """Cut the members off that are at work, dependents before those they depend on: each wave
        when the one before has unwound, in `within_s` seconds together. The mob is halting."""
        activations = self._activations
        with trio.move_on_after(within_s), self._realm.decisions.watch() as stirred:
            for wave in reversed(self._waves):
                cut = [activations.members[name] for name in wave if name in activations.members]
                cut = [live for live in cut if live.active]
                for live in cut:
                    activations.cut(live, "halted")
                while any(live.active for live in cut):
                    await stirred()

    def told(self, name: str, reason: str) -> tuple[InputAccepted, ...]:
        """What the dependents of `name` that are at work are told when its turn is given up: system
        context, for the commit that says so."""
        members = self._activations.members
        text = f"Member {name!r}, on which you depend, has given up its work: {reason}"
        at_work = [members[each] for each in self._dependents.get(name, ()) if each in members]
        return tuple(
            self._realm.inputs.context(live.row.session_id, text, SUPERVISOR)
            for live in at_work
            if live.active and not live.gone
        )
