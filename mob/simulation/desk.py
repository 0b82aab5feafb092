"""The desk: people who decide about tool calls that wait for approval, well and badly.

Owns: `Desk`: those who decide in their own time, the verbs of a workload about decisions, and the
faults that are about them; `decide_all`, by which a run that heals has somebody who decides. Must
not: judge (`mob.simulation.decisions` does), decide when a verb or a fault comes.

What somebody decides about a call is drawn from the call's key, so that it is the same whoever else
takes part. Some calls nobody decides about until the run heals.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, final

import trio

from mob.errors import MobClosed
from mob.lifecycle import VerbRefused
from mob.mob import Mob
from mob.simulation import promises
from mob.simulation.client import Client
from mob.simulation.process import Process
from mob.simulation.questions import KnownQuestion
from mob.simulation.steps import Step
from runtime.approvals import Approval
from runtime.errors import ApprovalNotFound, ApprovalRefused
from stores import StoreError

if TYPE_CHECKING:
    from mob.simulation.workload import Machine
    from mob.simulation.world import World

#: Chance that nobody decides about a call by himself.
_LEFT: Final = 0.15
#: Chances of approving as it is and with other arguments; the rest is denied.
_APPROVES: Final = 0.5
_EDITS: Final = 0.25
#: Chance that other arguments do not fit, which is refused and decides nothing.
_MISFITS: Final = 0.2
#: Most virtual seconds that somebody takes, and how often he tries again if he gets no answer.
_TAKES_S: Final = 4.0
_TRIES: Final = 20
#: Virtual seconds that a fault waits until something is there to be decided about.
_PATIENCE_S: Final = 4.0
#: How many decide at once in a storm.
_CROWD: Final = 4
#: Passes of the scheduler within which a decision is on its way.
_PASSES: Final = 4


@final
class Desk:
    """Those who decide, in one world."""

    def __init__(self, world: World, client: Client) -> None:
        self._world = world
        self._client = client
        #: Set, and made anew, by each commit.
        self._committed = trio.Event()

    async def serve(self) -> None:
        """Have somebody look after each call that waits, until cancelled."""
        known = self._world.oracle.ledger.questions.known
        taken = 0
        listeners = self._world.disk.listeners
        listeners.append(self._heard)
        try:
            async with trio.open_nursery() as nursery:
                while True:
                    known = self._world.oracle.ledger.questions.known
                    for question in list(known.values())[taken:]:
                        nursery.start_soon(self._look_after, question, name="somebody decides")
                    taken = len(known)
                    await self._committed.wait()
        finally:
            listeners.remove(self._heard)

    def _heard(self, _commit: object) -> None:
        self._committed.set()
        self._committed = trio.Event()

    async def _look_after(self, question: KnownQuestion) -> None:
        key = question.key
        if self._draw(key, "left") < _LEFT:
            return
        for index in range(_TRIES):
            await trio.sleep(0.02 + _TAKES_S * self._draw(key, "takes", index))
            if question.decided is not None or question.asked.run_id in self._ended:
                return
            await self.decide(key, self._draw(key, "decides", index))

    @property
    def _ended(self) -> Mapping[str, int]:
        return self._world.oracle.ledger.ended

    def _draw(self, *site: str | int) -> float:
        return self._world.streams.unit("desk", *site)

    # -- verbs -----------------------------------------------------------------------------

    async def step(self, step: Step) -> None:
        """What a step of the workload does: decide about some call, mostly one that waits."""
        first, second, third, *_ = step.draws
        waiting = await self.waiting(_PATIENCE_S * third)
        asked = list(self._world.oracle.ledger.questions.known)
        if first < 0.2 and asked:  # one that is gone, or was decided, or neither
            await self.decide(asked[int(second * len(asked))], third, by="bob")
        elif first < 0.25:
            await self.decide("nobody:asked:this", second, by="bob")
        elif waiting and first < 0.6:
            await self.decide(waiting[int(second * len(waiting))].key, third, by="bob")
        elif waiting:
            await self._twice(waiting[int(second * len(waiting))].key, third)

    async def _twice(self, key: str, draw: float) -> None:
        """Decide, and the same again while that is on its way, and after it."""
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(self.decide, key, draw, "eve")
        await self.decide(key, draw, "eve")

    async def decide(self, key: str, draw: float, by: str = "ada") -> None:
        """Decide about a call, as the number in [0, 1) says."""
        if draw < _APPROVES:
            await self.approve(key, by)
        elif draw < _APPROVES + _EDITS:
            question = self._world.oracle.ledger.questions.known.get(key)
            arguments = {} if question is None else json.loads(question.asked.arguments or "{}")
            await self.approve(key, by, self._edited(key, arguments))
        else:
            await self.deny(key, by, f"{by} says no")

    def _edited(self, key: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if self._draw(key, "misfits") < _MISFITS:
            return {**arguments, "no such argument": [None]}
        return {
            name: f"{value}!" if isinstance(value, str) else value
            for name, value in arguments.items()
        }

    async def approve(self, key: str, by: str, arguments: dict[str, Any] | None = None) -> None:
        """Approve a call, with other arguments or as it is."""
        text = None if arguments is None else json.dumps(arguments, ensure_ascii=False)

        async def call(mob: Mob) -> promises.Promise:
            applied = mob.realm.state.applied
            try:
                await mob.approve(key, by=by, arguments=text)
            except ApprovalNotFound:
                return promises.NotWaiting(key, applied)
            return promises.Decided(key, "approved", by, "", text)

        await self._client._call("approve", call, "decision.begun", "decision.done")

    async def deny(self, key: str, by: str, reason: str) -> None:
        """Deny a call."""

        async def call(mob: Mob) -> promises.Promise:
            applied = mob.realm.state.applied
            try:
                await mob.deny(key, by=by, reason=reason)
            except ApprovalNotFound:
                return promises.NotWaiting(key, applied)
            return promises.Decided(key, "denied", by, reason)

        await self._client._call("deny", call, "decision.begun", "decision.done")

    async def waiting(self, patience_s: float = 0.0) -> Sequence[Approval]:
        """The calls that wait in the process that lives; looked for until there are some, or that
        many seconds are over."""
        with trio.move_on_after(patience_s):
            while not self._now():
                await self._committed.wait()
                await trio.sleep(0.001)  # a commit is heard of before the fold knows of it
        return self._now()

    def _now(self) -> Sequence[Approval]:
        process = self._world.process
        if process is None or not process.opened or not process.alive:
            return ()
        return process.mob.approvals()

    # -- faults ----------------------------------------------------------------------------

    async def storm(self, step: Step, much: float) -> None:
        """Several people decide about everything that waits, each otherwise, at the same time."""
        async with trio.open_nursery() as nursery:
            self._give_work(nursery, step)
            for call in await self.waiting(_PATIENCE_S):
                for index in range(_CROWD):
                    draw = self._draw(call.key, "storm", step.number, index)
                    nursery.start_soon(self.decide, call.key, draw, f"p{index % 3}")
            await trio.sleep(much * 0.1)

    async def while_stopped(self, step: Step, much: float, machine: Machine) -> None:
        """Stop while calls wait, decide about them, perhaps in another process, and resume."""
        async with trio.open_nursery() as nursery:
            self._give_work(nursery, step)
            await self.waiting(_PATIENCE_S)
            await self._client.stop(0.0 if much < 0.5 else 0.5)
            if much < 0.3:
                await machine.reopen()
            for call in self._now():
                await self.decide(call.key, self._draw(call.key, "stopped"), "bob")
            if much > 0.6:
                await machine.reopen()
            await machine.resume()

    async def crash_while_waiting(self, step: Step, much: float) -> None:
        """Kill the process while calls wait: with nobody there, while decisions are on their way,
        or when they have just been told."""
        async with trio.open_nursery() as nursery:
            self._give_work(nursery, step)
            for call in await self.waiting(_PATIENCE_S):
                if much < 0.7:
                    draw = self._draw(call.key, "crash")
                    nursery.start_soon(self.decide, call.key, draw, "bob")
            if much < 0.35:
                for _ in range(int(much * 10 * _PASSES) % _PASSES):
                    await trio.lowlevel.checkpoint()
            else:
                await trio.sleep(much * 0.05)
            if self._world.process is not None:
                self._world.process.crash("killed while calls wait")

    def _give_work(self, nursery: trio.Nursery, step: Step) -> None:
        process = self._world.process
        if process is None or not process.opened or not process.alive:
            return
        for index, name in enumerate(process.mob.members):
            text = f"to decide {step.number}.{index}"
            nursery.start_soon(self._client.ask, name, text)


async def decide_all(world: World, process: Process) -> None:
    """Decide about whatever waits, whenever nothing but that is left to do; until cancelled, or
    until nobody can decide any more."""
    while True:
        try:
            await process.mob.wait_blocked()
            await decide_now(world, process.mob)
        except MobClosed:
            return
        except VerbRefused:
            await trio.sleep(0.1)  # a failure went up and stops the mob
        except StoreError:
            process.crash("its store does not write any more")
            return


async def decide_now(world: World, mob: Mob) -> bool:
    """Decide about everything that waits now; whether there was anything."""
    waiting = mob.approvals()
    for call in waiting:
        try:
            if world.streams.unit("desk", call.key, "heals") < 0.5:
                await mob.approve(call.key, by="whoever is left")
            else:
                await mob.deny(call.key, by="whoever is left")
        except (ApprovalNotFound, ApprovalRefused):
            # Somebody was faster, or its turn has ended; what they said may be on its way still.
            await mob.realm.store.barrier()
    return bool(waiting)
