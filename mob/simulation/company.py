"""Company: members that come for a word, and members that wait for each other.

Owns: what the default mob has of newcomers and dependencies in some runs; the verbs of a workload
that ask helpers and write to who is not there yet, and their storms. Must not: judge
(`mob.simulation.attendance` does).
"""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final, final

import trio

from mob.definition import MobDefinition
from mob.mob import Mob
from mob.simulation.additions import Addition, Player
from mob.simulation.attendance import ComesByMessage
from mob.simulation.client import Client
from mob.simulation.kinds import FaultKind
from mob.simulation.promises import Answered
from mob.simulation.steps import Step
from mob.spawndefs import NO_SPAWN

if TYPE_CHECKING:
    from mob.simulation.workload import Machine
    from mob.simulation.world import World

#: Chance that a mob has company; that it has newcomers then, and that some depend on others.
_CHANCE: Final = 0.14
_NEWCOMERS: Final = 0.7
_DEPENDS: Final = 0.7
#: Virtual seconds after which whoever asked a helper goes away.
_PATIENCE_S: Final = 20.0
#: How many ask or write at once in a storm.
_CROWD: Final = 5

#: Who depends on whom, by the names in the file.
_NEEDS: Final[tuple[dict[str, list[str]], ...]] = (
    {"clerk": ["worker"]},
    {"lead": ["worker", "clerk"]},
    {"worker": ["lead"], "clerk": ["worker"]},
    {"clerk": ["lead", "worker-0"], "worker": ["lead"]},
)


def _vary(table: dict[str, Any], random: Random) -> None:
    if random.random() >= _CHANCE:
        return
    newcomers, depends = random.random() < _NEWCOMERS, random.random() < _DEPENDS
    if newcomers or not depends:
        profiles = list(table["profiles"])
        table["spawn"] = {"rules": {"r-*": random.choice(profiles)}}
        if random.random() < 0.3:  # whoever has left comes back when somebody writes
            table["spawn"]["on_unknown"] = random.choice(profiles)
    if depends:
        for name, needed in random.choice(_NEEDS).items():
            table["members"][name]["depends_on"] = needed


def has_company(definition: MobDefinition) -> bool:
    """Whether the mob has any of what is varied here."""
    depends = any(each.depends_on for each in definition.members.values())
    return depends or definition.spawn != NO_SPAWN


def _pattern(definition: MobDefinition) -> str | None:
    """What names of newcomers are made of; None: nobody joins so."""
    return next((rule for rule in definition.spawn.rules if rule.count("*") == 1), None)


def _steps(definition: MobDefinition, random: Random) -> list[str]:
    if not has_company(definition):
        return []
    verbs = ["help"] * random.randint(1, 3)
    if _pattern(definition) is not None:
        verbs += ["newcomer"] * random.randint(1, 4)
    if any(each.depends_on for each in definition.members.values()):
        verbs += ["pile"] * random.randint(1, 3)
    return verbs


def _play(world: World, client: Client, machine: Machine) -> Player:
    if not has_company(machine.definition):
        return Player()
    company = _Company(world, client, machine)
    verbs = {"help": company.help, "newcomer": company.newcomer, "pile": company.pile}
    storms = {FaultKind.HELP_STORM: company.help_storm}
    if _pattern(machine.definition) is not None:
        storms[FaultKind.NEWCOMER_STORM] = company.newcomer_storm
    return Player(verbs, storms)


COMPANY: Final = Addition("company", _vary, _steps, _play)


@final
class _Company:
    """Those who ask helpers and write to newcomers, in one world."""

    def __init__(self, world: World, client: Client, machine: Machine) -> None:
        self._world = world
        self._client = client
        self._machine = machine
        self._rule = _pattern(machine.definition) or ""

    # -- helpers ---------------------------------------------------------------------------

    async def help(self, step: Step) -> None:
        """Ask a helper, one in two with a key, one in two a fork; sometimes leave early; with a key
        ask again."""
        first, second, third = (int(draw * 10) for draw in step.draws[:3])
        key = f"help-{step.number}" if first % 2 else None
        history = None if second % 2 else "full" if third % 2 else third
        for _ in range(1 if key is None else 2):
            patience_s = 1.0 if second < 3 else _PATIENCE_S
            await self.ask_helper(step.who, f"help {step.number}", key, history, patience_s)

    async def ask_helper(
        self, of: str, text: str, key: str | None, history: str | int | None, patience_s: float
    ) -> None:
        """Ask a helper of a member; one that knows that much of what its member knows, or (None)
        nothing."""

        async def call(mob: Mob) -> Answered:
            if history is None:
                result = await mob.spawn_helper(of, text, key=key)
            else:
                result = await mob.fork_helper(of, text, history=history, key=key)
            name = self._world.oracle.ledger.sessions[result.session_id].agent or ""
            if not name.startswith(f"{of}~"):
                self._world.fail("a helper is its member's", f"{name!r} answered for {of!r}")
            return Answered(name, text, result, None if key is None else f"helper:{key}")

        with trio.move_on_after(patience_s):
            await self._client._call("help", call, "help.begun", "help.done")

    async def help_storm(self, step: Step, much: float) -> None:
        """Many ask helpers of one member, some under one key; some go away, and the mob stops, is
        opened anew or dies meanwhile."""
        async with trio.open_nursery() as nursery:
            for index in range(_CROWD):
                key = f"storm-{step.number}" if index % 2 else None
                patience_s = _PATIENCE_S if index % 3 else much
                nursery.start_soon(
                    self.ask_helper,
                    step.who,
                    f"storm {step.number}.h" if key else f"storm {step.number}.h{index}",
                    key,
                    (None, "full", 1)[index % 3],
                    patience_s,
                )
            await trio.sleep(0.6 * (much * 10 % 1))
            if much < 0.4:
                await self._client.stop(much)
            elif much < 0.7 and self._world.process is not None:
                self._world.process.crash("killed while helpers work")
            elif much < 0.8:
                await self._machine.reopen()
        await self._machine.resume()

    # -- newcomers -------------------------------------------------------------------------

    def _name(self, draw: float) -> str:
        return self._rule.replace("*", str(int(draw * 2)))

    async def newcomer(self, step: Step) -> None:
        """Write to somebody who is not there, or not any more, in one of the ways there are."""
        first, second, third, fourth = step.draws
        name, text = self._name(first), f"come {step.number}"
        await self.write(name, text, second)
        if third < 0.5:  # again: to one who is there by now
            await self.write(name, f"{text} again", third * 2)
        if fourth < 0.4:
            await self._client.retire(name)
            await self.write(name, f"{text} back", fourth * 2)

    async def write(self, name: str, text: str, how: float) -> None:
        """Write to one who joins so."""
        await self._client._call("newcomer", partial(self._comes, name), "newcomer.begun")
        if how < 0.4:
            await self._client.ask(name, text, patience_s=_PATIENCE_S)
        elif how < 0.6:
            await self._client.send(name, text)
        elif how < 0.7:
            await self._client.send(name, text, key=f"key of {text}")
        elif how < 0.8:  # too long for some mailboxes
            await self._client.send(name, text + "." * 200)
        else:
            await self._client._call("newcomers", partial(self._to_both, text, how < 0.9))

    async def _comes(self, name: str, _mob: Mob) -> ComesByMessage:
        await trio.lowlevel.checkpoint()
        return ComesByMessage(name)

    async def _to_both(self, text: str, waits: bool, mob: Mob) -> None:
        """To both at once, in one commit or each when there is room."""
        for draw in (0.0, 0.9):
            self._world.promised(ComesByMessage(self._name(draw)))
        names = (self._name(0.0), "lead", self._name(0.9))
        with trio.move_on_after(_PATIENCE_S):
            await mob.broadcast(text, to=names, when_full="wait" if waits else "raise")

    async def newcomer_storm(self, step: Step, much: float) -> None:
        """Many write at once to one who is not there, while others have it leave, and the mob stops
        or dies."""
        name, client = self._name(much * 10 % 1), self._client
        await client.retire(name)
        async with trio.open_nursery() as nursery:
            for index in range(_CROWD):
                text = f"storm {step.number}.n{index}"
                nursery.start_soon(self.write, name, text, (much + index * 0.2) % 1)
            await trio.sleep(0.1 * much)
            if much < 0.5:
                nursery.start_soon(client.retire, name)
            if much < 0.25:
                nursery.start_soon(client.stop, much)
            elif much > 0.8 and self._world.process is not None:
                self._world.process.crash("killed while somebody joins")
        await self._machine.resume()

    # -- dependencies ----------------------------------------------------------------------

    async def pile(self, step: Step) -> None:
        """Give everybody several things to do, and have them go on with it: after a stop, or in
        another process; or have one fail for good on whom others depend."""
        first, second, third, fourth = step.draws
        client = self._client
        for name in self._machine.definition.member_names():
            for index in range(1 + int(second * 2)):
                await client.send(name, f"pile {step.number}.{index}")
        if first < 0.4:
            await client.stop(third * 0.3)
            if first < 0.1:
                await self._machine.reopen()
            await self._machine.resume()
            if first > 0.25:  # once more, before all of it has been done
                await trio.sleep(fourth)
                await client.stop(third * 0.3)
                await self._machine.resume()
        elif first < 0.7 and self._world.process is not None:
            self._world.process.crash("killed with work piled up")
        else:
            needed = {e for m in self._machine.definition.members.values() for e in m.depends_on}
            names = self._machine.definition.member_names()
            for _ in range(6):
                await trio.sleep(0.3)
                for name in names:
                    if name in needed or name.partition("-")[0] in needed:
                        await client.kill(name)
