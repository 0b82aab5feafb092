"""Staff: members who come by the dozen, begin anew, supervise each other and go on by themselves.

Owns: what the default mob has of groups, limits and autonomous members in some runs; the verbs
`respawn`, `spawn_many`, `ensure` and `complete` of a workload, and the storms that are about them.
Must not: judge (`mob.simulation.tenures` and `mob.simulation.failures` do).
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final, final

import trio

from mob.definition import MobDefinition
from mob.errors import MemberNotFound, StaleFence
from mob.limits import NO_LIMITS
from mob.mob import Mob
from mob.receipts import MemberHandle
from mob.simulation.additions import Addition, Player
from mob.simulation.kinds import FaultKind
from mob.simulation.steps import SPAN_S, Step
from mob.simulation.storms import PASSES, passes
from mob.simulation.tenures import AtWork, Completed, Ensured, Fenced, Hired, Respawned

if TYPE_CHECKING:
    from mob.simulation.client import Client
    from mob.simulation.workload import Machine
    from mob.simulation.world import World

#: Chance that the mob of a run has something of this; and that a run whose mob has nothing of it
#: has the verbs all the same.
_VARIES: Final = 0.27
_ACTS: Final = 0.1
#: Chance that such a run ends with `complete`, and for how many virtual seconds somebody waits.
_COMPLETES: Final = 0.15
_COMPLETES_IN_S: Final = 150.0
#: Who is hired together.
_HIRED: Final = ("u", "v", "w")
#: Chance that one of those who are hired together cannot be.
_MISFITS: Final = 0.3
#: Virtual seconds within which there is another process, mostly.
_STARTS_IN_S: Final = 3.5
#: How many respawn a member at once.
_CROWD: Final = 5


def _vary(table: dict[str, Any], random: Random) -> None:
    if random.random() >= _VARIES or any("comms" in each for each in table["profiles"].values()):
        return  # those who write to each other have runs of their own
    groups, limits, alone = (random.random() < chance for chance in (0.7, 0.5, 0.5))
    if groups:
        table["groups"] = _groups(random)
    if limits:
        table["limits"] = _limits(random)
    if alone:
        worker = table["profiles"]["worker"]
        worker["mode"] = "autonomous"
        worker["continue_with"] = "Go on."
        worker["max_turns"] = random.randint(1, 4)
        if random.random() < 0.4:  # it would go on for ever
            worker["restart"] = {**worker["restart"], "policy": "always"}
            limited = table.setdefault("limits", {})
            limited.setdefault("turns_per_member", random.randint(5, 12))


def _groups(random: Random) -> dict[str, Any]:
    strategies = ("one-for-one", "one-for-all", "rest-for-one")
    inner = random.sample(["worker", "clerk", "lead"], random.randint(1, 3))
    groups: dict[str, Any] = {
        "crew": {
            "members": inner,
            "strategy": random.choice(strategies),
            "restart": {"max": random.randint(1, 4), "within_s": random.choice((5.0, 15.0, 40.0))},
            "escalate": random.choice(("parent", "parent", "mob", "member:lead")),
        }
    }
    if "lead" not in inner and random.random() < 0.7:
        groups["crew"]["parent"] = "all"
        groups["all"] = {
            "members": ["lead"],
            "strategy": random.choice(strategies),
            "restart": {"max": random.randint(1, 3), "within_s": random.choice((15.0, 40.0))},
            "escalate": random.choice(("mob", "member:clerk")),
        }
    return groups


def _limits(random: Random) -> dict[str, Any]:
    drawn = {
        "members": random.randint(4, 7),
        "concurrent_turns": random.randint(1, 3),
        "turns_per_member": random.randint(5, 20),
        "turns": random.randint(30, 90),
    }
    return {key: value for key, value in drawn.items() if random.random() < 0.6}


def has_staff(definition: MobDefinition) -> bool:
    """Whether the mob has any of what is varied here."""
    alone = any(each.autonomy is not None for each in definition.profiles.values())
    return bool(definition.groups) or definition.limits != NO_LIMITS or alone


def _steps(definition: MobDefinition, random: Random) -> list[str]:
    if not _acts(definition, random):
        return []
    verbs = ["respawn"] * random.randint(1, 4) + ["hire"] * random.randint(0, 2)
    verbs += ["ensure"] * random.randint(0, 2)
    if definition.groups:
        verbs += ["onward"] * random.randint(1, 3)
    if random.random() < _COMPLETES:
        verbs.append("complete")
    return verbs


def _acts(definition: MobDefinition, random: Random) -> bool:
    """Whether the members of this run are respawned and the rest."""
    writes = any(each.comms.tools for each in definition.profiles.values())
    apart = writes or bool(definition.flows)
    return has_staff(definition) or (random.random() < _ACTS and not apart)


@final
class Staff:
    """Those who hire, replace and end members, in one world."""

    def __init__(self, world: World, client: Client, machine: Machine) -> None:
        self._world = world
        self._client = client
        self._machine = machine
        #: The oldest fence that was taken of each name, and the newest.
        self._fences: dict[str, list[MemberHandle]] = {}

    # -- verbs -----------------------------------------------------------------------------

    async def respawn(self, step: Step) -> None:
        """Respawn a member: with a fence of now, an old one or none, perhaps on another profile;
        or use a fence for something else."""
        first, second, third, fourth = step.draws
        await self._client.send(step.who, f"before {step.number}")
        await self.take_fence(step.who)
        fence = self._fence(step.who, second)
        profiles = self._machine.profiles
        changes = third < 0.3 and self._machine.is_default
        profile = profiles[int(third * len(profiles))] if changes else None
        if first < 0.7:
            await self._respawn(step.who, fence, profile)
        elif fence is not None:
            await self._use(fence, fourth, f"fenced {step.number}")

    def _fence(self, name: str, draw: float) -> MemberHandle | None:
        known = self._fences.get(name, [])
        return None if draw < 0.3 or not known else known[0 if draw < 0.6 else -1]

    async def take_fence(self, name: str) -> None:
        """Take the fence of a member as it is now."""

        async def call(mob: Mob) -> None:
            known = self._fences.setdefault(name, [])
            known[1:] = [mob.fence(name)]

        await self._client._call("fence", call)

    def _stale(self, fence: MemberHandle | None) -> bool:
        """Whether on disk the generation of the fence has ended."""
        session = None if fence is None else self._world.oracle.ledger.sessions.get(fence.token)
        return session is not None and session.archived

    async def _respawn(
        self, name: str, fence: MemberHandle | None, profile: str | None = None
    ) -> None:
        async def call(mob: Mob) -> Respawned | Fenced:
            stale = self._stale(fence)
            try:
                new = await mob.respawn(name, "worn out", profile=profile, fence=fence)
            except StaleFence:
                assert fence is not None
                return Fenced("respawn", fence, refused=True, stale=stale)
            if fence is not None:
                self._world.promised(Fenced("respawn", fence, refused=False, stale=stale))
            return Respawned(new, None if fence is None else fence.token)

        await self._client._call("respawn", call, "respawn.begun", "respawn.done")

    async def _use(self, fence: MemberHandle, draw: float, text: str) -> None:
        """Do something else with a fence."""
        name = fence.name

        async def call(mob: Mob) -> Fenced:
            stale = self._stale(fence)
            try:
                if draw < 0.5:
                    receipt = await mob.send(name, text, fence=fence)
                    return Fenced("send", fence, False, stale, receipt.session_id)
                if draw < 0.7:
                    mob.kill(name, "killed by its fence", fence=fence)
                else:
                    await mob.retire(name, fence=fence)
            except StaleFence:
                return Fenced("send", fence, refused=True, stale=stale)
            except MemberNotFound:
                return Fenced("send", fence, refused=True, stale=True)
            # Who has left already is retired again, whatever the fence.
            return Fenced("use", fence, False, stale and name in mob.roster.members)

        await self._client._call("fenced", call)

    async def hire(self, step: Step) -> None:
        """Have several join at once, sometimes with one among them who cannot; or leave again."""
        first, second, third, fourth = step.draws
        if first < 0.3:
            for name in _HIRED:
                await self._client.retire(name)
            return
        profiles = self._machine.profiles
        names = list(_HIRED[: 1 + int(second * 3)])
        pairs = [(name, profiles[int(third * len(profiles))]) for name in reversed(names)]
        if fourth < _MISFITS:
            misfit = [("lead", profiles[0]), (names[0], profiles[0]), ("t", "nobody's")]
            pairs.append(misfit[int(fourth / _MISFITS * 3)])

        async def call(mob: Mob) -> Hired:
            return Hired(tuple(pairs), tuple(await mob.spawn_many(pairs)))

        await self._client._call("spawn_many", call, "spawn.begun")
        await self._client.ask(names[0], f"hired {step.number}")

    async def ensure(self, step: Step) -> None:
        """Declare who is to be there: those of the definition, but for a few."""
        first, second, third, _ = step.draws
        definition = self._machine.definition
        wanted = dict(definition.member_names())
        profiles = self._machine.profiles
        if not self._machine.is_default:
            pass  # who is there is what its author says
        elif first < 0.4:
            wanted.pop(step.who, None)
        elif first < 0.8:
            wanted[step.who] = profiles[int(second * len(profiles))]
        if third < 0.4:
            wanted["u"] = profiles[-1]

        async def call(mob: Mob) -> Ensured:
            since = mob.realm.state.applied  # what is on disk and not heard of it cannot see
            return Ensured(tuple(wanted.items()), await mob.ensure(wanted), since)

        await self._client._call("ensure", call, "ensure.begun", "ensure.done")

    async def complete(self, step: Step) -> None:
        """Complete the mob when most has been done, waiting so long; not one that is a user's."""
        first, *_ = step.draws
        if not self._machine.is_default:
            return
        await trio.sleep(max(SPAN_S * (0.7 + first / 2) - step.at_s, 0.0))
        since = self._world.oracle.ledger.last

        async def call(mob: Mob) -> Completed:
            await mob.complete()
            return Completed(since)

        with trio.move_on_after(_COMPLETES_IN_S * first):
            await self._client._call("complete", call, "complete.begun", "complete.done")

    async def onward(self, _step: Step) -> None:
        """Have a mob that was stopped go on."""
        await self._machine.resume()

    # -- storms ----------------------------------------------------------------------------

    async def respawn_storm(self, step: Step, much: float) -> None:
        """One member is respawned by many at once, half of them with the same fence, while others
        ask it, interrupt it and kill it."""
        client, name = self._client, step.who
        await self.take_fence(name)
        fence = self._fence(name, 0.99)
        async with trio.open_nursery() as nursery:
            for index in range(3):
                nursery.start_soon(client.ask, name, f"storm {step.number}.{index}")
            if much < 0.5:
                await passes(int(much * 20 * PASSES) % PASSES)
            else:
                await trio.sleep(2 * (much - 0.5))
            for index in range(_CROWD):
                nursery.start_soon(self._respawn, name, fence if index % 2 else None)
                nursery.start_soon(client.send, name, f"storm {step.number}.{index} sent")
            nursery.start_soon(client.interrupt if much < 0.3 else client.kill, name)

    async def group_crash(self, step: Step, much: float) -> None:
        """Everybody crashes at once, again and again; the process between the decisions about it,
        sometimes."""
        client, process = self._client, self._world.process
        if process is None or not process.opened or not process.alive:
            return
        async with trio.open_nursery() as nursery:
            for index, name in enumerate(process.mob.members):
                nursery.start_soon(client.ask, name, f"storm {step.number}.{index}")
            await trio.sleep(0.3 * much)
            for _ in range(1 + int(much * 4)):
                await passes(PASSES)
                for name in process.mob.members:
                    await client.kill(name)
                await self._machine.wait_commit(1 + int(much * 4))
                if much < 0.4:
                    process.crash("between the decisions of groups")
                    await self._crash_again(step, much)
                    return
                await trio.sleep(0.5)

    async def _crash_again(self, step: Step, much: float) -> None:
        """When there is another process, everybody crashes in that one too."""
        client = self._client
        await trio.sleep(_STARTS_IN_S)
        async with trio.open_nursery() as nursery:
            for index, name in enumerate(self._everybody()):
                nursery.start_soon(client.ask, name, f"storm {step.number}.again {index}")
            for _ in range(2 + int(much * 5)):
                await trio.sleep(0.4)
                for name in self._everybody():
                    await client.kill(name)

    def _everybody(self) -> tuple[str, ...]:
        process = self._world.process
        if process is None or not process.opened or not process.alive:
            return ()
        return process.mob.members


def _play(world: World, client: Client, machine: Machine) -> Player:
    staff = Staff(world, client, machine)
    verbs = {
        "respawn": staff.respawn,
        "hire": staff.hire,
        "ensure": staff.ensure,
        "complete": staff.complete,
        "onward": staff.onward,
    }
    if not _acts(machine.definition, world.streams.stream("variant/staff/steps")):
        return Player(verbs)
    if machine.definition.limits.concurrent_turns is not None:
        world.disk.listeners.append(partial(_look, world))
    storms = {
        FaultKind.RESPAWN_STORM: staff.respawn_storm,
        FaultKind.GROUP_CRASH: staff.group_crash,
    }
    return Player(verbs, storms)


def _look(world: World, _commit: object) -> None:
    """Count the turns that need a slot, at each commit."""
    process = world.process
    if process is None or not process.opened or not process.alive or process.paused:
        return
    mob = process.mob
    names = tuple(
        name
        for name, live in mob._activations.members.items()
        if mob.realm.running(live.row.session_id) is not None
        and live.current is not None
        and not any(job.nested for job in live.jobs)
    )
    world.promised(AtWork(names))


STAFF: Final = Addition("staff", _vary, _steps, _play)
