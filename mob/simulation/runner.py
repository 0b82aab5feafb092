"""Carrying out one step of a workload.

Owns: `StepRunner`: waiting for the time of a step, the storms that break out at it, and the verbs
that every workload has. Must not: draw anything; judge.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, final

import trio

from mob.simulation.additions import Verb
from mob.simulation.client import Client
from mob.simulation.steps import Step
from mob.simulation.storms import PASSES, Storms, passes
from mob.simulation.world import World
from runtime.session import SessionHead

if TYPE_CHECKING:
    from mob.simulation.workload import Machine


@final
class StepRunner:
    """One step, carried out. `more` are the verbs of the additions."""

    def __init__(
        self,
        world: World,
        client: Client,
        machine: Machine,
        storms: Storms,
        more: Mapping[str, Verb],
        step: Step,
    ) -> None:
        self._world = world
        self._client = client
        self._machine = machine
        self._storms = storms
        self._more = more
        self._step = step

    async def run(self) -> None:
        """Wait for its time; then do it while the storms that fire here break out."""
        step, world = self._step, self._world
        await trio.sleep(step.at_s)
        world.trace.note("step", str(step))
        if world.faults.crashes_at("step.begun") and world.process is not None:
            world.process.crash("step.begun")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._storms.strike, step)
            await self._do()

    async def _do(self) -> None:
        step, client = self._step, self._client
        first, second, *_ = step.draws
        who, text = step.who, f"step {step.number}"
        profiles = self._machine.profiles
        verbs: dict[str, Callable[[], Awaitable[object]]] = {
            "ask": lambda: client.ask(who, text, patience_s=5 + 60 * first),
            "ask_keyed": self._ask_keyed,
            "talk": self._talk,
            "send": lambda: client.send(who, text),
            "spawn": lambda: client.spawn(who, profiles[int(first * len(profiles))]),
            "retire": lambda: client.retire(who),
            "interrupt": lambda: self._begun(client.interrupt),
            "kill": lambda: self._begun(client.kill),
            "stop": self._stop,
            "reopen": self._machine.reopen,
            "raise": lambda: self._machine.reopen(second),
            "search": self._search,
            "fork": lambda: self._session(client.fork, first),
            "rewind": self._rewind,
            "restore": lambda: self._session(
                client.restore, first, lambda head: bool(head.branches)
            ),
            "label": lambda: self._session(
                lambda each: client.label(each, f"name {step.number}", (f"t{step.number}",)), first
            ),
            # Now and then the session of a member, which is refused.
            "delete": lambda: self._session(
                client.delete, first, lambda head: second < 0.2 or not client.is_member(head)
            ),
            "save": lambda: self._session(
                lambda each: client.save(each, text), first, lambda head: not client.is_member(head)
            ),
        }
        own = verbs.get(step.verb)
        await (self._more[step.verb](step) if own is None else own())

    async def _ask_keyed(self) -> None:
        """Ask, lose patience, and ask the same again under the same key."""
        step = self._step
        for patience_s in (step.draws[0], 2 + 30 * step.draws[1]):
            await self._client.ask(
                step.who, f"step {step.number}", key=f"key-{step.number}", patience_s=patience_s
            )

    async def _talk(self) -> None:
        """Ask again in the very moment in which the answer comes, a few times."""
        step = self._step
        for index in range(2 + int(step.draws[0] * 4)):
            await self._client.ask(
                step.who, f"step {step.number}.{index}", patience_s=5 + 30 * step.draws[1]
            )

    async def _begun(self, verb: Callable[[str], Awaitable[None]]) -> None:
        """Do it to a member that has been given something to do."""
        step = self._step
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._client.ask, step.who, f"step {step.number}")
            if step.draws[1] < 0.3:  # in the moment in which it begins
                await passes(int(step.draws[0] * PASSES))
            else:
                await trio.sleep(step.draws[0] * 0.6)
            await verb(step.who)

    async def _stop(self) -> None:
        """Stop, look around, resume."""
        first, second, *_ = self._step.draws
        await self._client.stop(first * 2.0)
        await trio.sleep(second * 3.0)
        await self._machine.resume()

    async def _rewind(self) -> None:
        """Rewind a session that has a history; half of the time bring it back at once."""
        first, second, third, *_ = self._step.draws
        client = self._client
        session_id = client.pick(first, lambda head: head.turns > 0)
        if session_id is not None:
            await client.rewind(session_id, second)
            if third < 0.5:
                await client.restore(session_id)

    async def _search(self) -> None:
        """Search for some of the numbers that steps have, often just after a rewind."""
        step = self._step
        first, second, third, *_ = step.draws
        client = self._client
        if third < 0.4:
            session_id = client.pick(
                second, lambda head: head.agent_id == step.who and head.turns > 0
            )
            if session_id is not None:
                await client.rewind(session_id, second)
        for more in range(6):
            await client.search(step.who, str((int(first * 24) + more) % 24))

    async def _session(
        self,
        verb: Callable[[Any], Awaitable[None]],
        draw: float,
        suits: Callable[[SessionHead], bool] = lambda _head: True,
    ) -> None:
        session_id = self._client.pick(draw, suits)
        if session_id is not None:
            await verb(session_id)
