"""Guests: sessions of a mob that are no member's, and the programs that use them.

Owns: `Guests`: the verbs of a workload about such sessions, runs that are applied to them, and
system context for any session; the faults that are about them; finishing what was begun when a run
heals. Must not: judge (`mob.simulation.receipts` and `mob.simulation.staged` do).

A service holds live objects for its sessions (their model and tools) until its process ends, so
whoever uses a session in a later process gives them again, as `docs/sessions.md` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast, final

import trio

from mob.mob import Mob
from mob.service import MobSessions, sessions_of
from mob.simulation import promises, receipts, staged
from mob.simulation.client import Client
from mob.simulation.hosted import REFUSED, Hosting, Refusing, works
from mob.simulation.models import SimModel
from mob.simulation.process import Process
from mob.simulation.steps import Step
from runtime.addenda import is_context
from runtime.errors import (
    AgentError,
    ContextConflict,
    SessionBusy,
    SessionStoreError,
)
from runtime.ids import InputId, RunId, SessionId
from runtime.ledger import InputState, RunApplyBoundary
from runtime.service import (
    HARNESS,
    AppendSystemContext,
    CreateSessionRequest,
    InitialTurnPolicy,
    PeerMessage,
    SessionBuildOptions,
    StartTurnRequest,
)
from runtime.session import SessionHead
from stores import StoreError

if TYPE_CHECKING:
    from mob.simulation.workload import Machine
    from mob.simulation.world import World

#: What guests call each other, as far as they have a name.
_NAMES: Final = ("p0", "p1", "p2")
#: The tools that a guest has.
_TOOLS: Final = ("work", "note")
#: How often a program applies a run again that failed, was cut off or met another one.
_TRIES: Final = 5
#: Virtual seconds after which whoever waits for a turn goes away, which cuts it off.
_PATIENCE_S: Final = 60.0
#: Virtual seconds between two of those.
_RESTS_S: Final = 0.4
#: How many do the same at once in a storm.
_CROWD: Final = 4
#: Most guests there are; a program that wants another uses one that is there.
_MOST: Final = 5


@final
class Guests:
    """The guests of one world."""

    def __init__(self, world: World, client: Client, machine: Machine) -> None:
        self._world = world
        self._client = client
        self._tools = [tool for name, tool in machine.tools.items() if name in _TOOLS]
        self._model = Refusing(
            SimModel(world.faults, world.streams, machine.passing, name="sim:guest")
        )
        self._service: tuple[Process, MobSessions] | None = None
        #: The sessions whose live objects the process at hand has.
        self._built: set[SessionId] = set()
        self._hosting = Hosting(self._give)

    def service(self, process: Process) -> MobSessions:
        """The service of this process' mob."""
        if self._service is None or self._service[0] is not process:
            self._service = process, sessions_of(process.mob)
            self._built = set()
        return self._service[1]

    # -- steps -----------------------------------------------------------------------------

    async def visit(self, step: Step) -> None:
        """What a step of the workload does with a guest."""
        first, second, third, fourth = step.draws
        text = f"guest {step.number}"
        session_id = self._pick(second)
        if session_id is None or (first < 0.3 and len(self._guests()) < _MOST):
            name = None if third < 0.3 else _NAMES[int(third * 3)]
            hosted = name is not None and fourth > 0.3
            await self.create(text, name, fourth < 0.6, hosted=hosted)
            if hosted and name is not None:
                await self._tell(name, step, int(first * 10))
        elif first < 0.6:
            await self.turn(session_id, text, patience_s=0.2 + 40 * third)
        elif first < 0.75:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.turn, session_id, text)
                await trio.sleep(third * 0.5)
                await self.interrupt(session_id)
        elif first < 0.92:
            await self._tell(self._name(third), step, 1 + int(fourth * 3))
            if fourth < 0.5:
                await self.turn(session_id, text)
        else:
            await self.archive(session_id)
            await self.turn(session_id, text)

    async def stage(self, step: Step) -> None:
        """Say something to some session's model, perhaps under a key that came already; perhaps
        have it said to the model at once."""
        first, second, third, fourth = step.draws
        session_id = self._client.pick(first, lambda head: not head.archived)
        if session_id is None:
            return
        key = None if second < 0.3 else f"ctx{int(second * 4)}"
        await self.append(session_id, f"note {int(third * 3)}", key)
        if fourth < 0.5 and session_id in self._guests():
            await self.turn(session_id, f"staged {step.number}")
        elif fourth < 0.5:
            await self._client.ask(step.who, f"staged {step.number}")

    async def apply(self, step: Step) -> None:
        """Accept inputs, and apply them as runs until their fate is decided."""
        first, second, third, fourth = step.draws
        session_id = self._pick(first)
        if session_id is None:
            session_id = await self.create(f"for runs {step.number}", None, False)
        if session_id is None:
            return
        number = step.number
        word = REFUSED if third > 0.75 else "input"
        queued = [
            await self.queue(session_id, f"{word} {number}.{index}", f"in-{number}-{index}")
            for index in range(1 + int(second * 3))
        ]
        ids = [each for each in queued if each is not None]
        if len(ids) > 1 and fourth < 0.25:
            await self.give_up(session_id, ids.pop())
        boundary = RunApplyBoundary.IMMEDIATE if third < 0.2 else RunApplyBoundary.RUN_START
        await self._until_applied(session_id, f"run-{number}", ids, boundary, 1 + (fourth > 0.6))

    async def _until_applied(
        self,
        session_id: SessionId,
        name: str,
        ids: Sequence[InputId],
        boundary: RunApplyBoundary,
        at_once: int,
    ) -> None:
        """Apply until there is a receipt; a run that failed is another one the next time."""
        failed = 0
        for _ in range(_TRIES if ids else 0):
            run_id = RunId(f"{name}.{failed}")
            async with trio.open_nursery() as nursery:
                for _ in range(at_once):
                    nursery.start_soon(self.run, session_id, run_id, ids, boundary)
            ledger = self._world.oracle.ledger
            if run_id in ledger.receipts.known:
                await self.run(session_id, run_id, ids, boundary)
                await self.run(session_id, run_id, (InputId("another"),), boundary)
                return
            failed += run_id in ledger.ended
            await trio.sleep(_RESTS_S)

    # -- verbs -----------------------------------------------------------------------------

    async def create(
        self, text: str, name: str | None, at_once: bool, *, hosted: bool = False
    ) -> SessionId | None:
        """Make a session, perhaps a hosted one, and perhaps run its first turn at once."""
        made: list[SessionId] = []

        async def call(mob: Mob) -> None:
            service = self.service(self._now())
            if hosted:
                await self._hosting.serve(self._now(), service)
            build = SessionBuildOptions(
                llm_client_override=self._model, external_tools=self._tools, comms_name=name
            )
            policy = InitialTurnPolicy
            first = policy.RUN_IMMEDIATELY if at_once else policy.DEFER
            request = CreateSessionRequest(
                "sim:echo", text, initial_turn=first, build=build, host_mode=hosted
            )
            result = await service.create_session(request)
            self._built.add(result.session_id)
            made.append(result.session_id)

        with trio.move_on_after(_PATIENCE_S):
            await self._client._call("create", call)
        return made[0] if made else None

    async def turn(self, session_id: SessionId, text: str, patience_s: float = _PATIENCE_S) -> None:
        """Start a turn, and go away after a while, which cuts it off."""

        async def call(mob: Mob) -> promises.Answered:
            service = await self._ready(session_id)
            result = await service.start_turn(session_id, StartTurnRequest(text))
            return promises.Answered(None, text, result)

        with trio.move_on_after(patience_s):
            await self._client._call("turn", call)

    async def interrupt(self, session_id: SessionId) -> None:
        """Interrupt the session's turn."""

        async def call(mob: Mob) -> promises.Interrupted | None:
            process, realm = self._now(), mob.realm
            # Somebody who was admitted and goes away before the turn begins leaves nothing to end.
            begun = realm.running(session_id) or realm.decisions.parked(session_id)
            await self.service(process).interrupt(session_id)
            return promises.Interrupted("", session_id, process.number) if begun else None

        await self._client._call("interrupt session", call)

    async def archive(self, session_id: SessionId) -> None:
        """End the session."""

        async def call(mob: Mob) -> staged.Archived:
            await self.service(self._now()).archive(session_id)
            return staged.Archived(session_id)

        await self._client._call("archive", call)

    async def tell_peer(self, to: str, text: str, key: str) -> None:
        """Send a message to a guest by its name, twice."""

        async def call(mob: Mob) -> staged.ToldPeer:
            message = PeerMessage(to, text, "outside", key=key)
            service = self.service(self._now())
            await self._hosting.serve(self._now(), service)
            session_id = await service.send_peer_message(message)
            return staged.ToldPeer(session_id, text, "outside", key)

        for _ in range(2):
            await self._client._call("tell peer", call)

    async def _tell(self, name: str, step: Step, times: int) -> None:
        for index in range(times):
            await self.tell_peer(name, f"told {step.number}.{index}", f"k{step.number}.{index}")

    async def append(self, session_id: SessionId, text: str, key: str | None) -> None:
        """Stage system context."""

        async def call(mob: Mob) -> promises.Promise:
            request = AppendSystemContext(text, "outside", key)
            try:
                await self.service(self._now()).append_system_context(session_id, request)
            except ContextConflict:
                return staged.Conflicting(session_id, text, key or "")
            return staged.Staged(session_id, text, key)

        await self._client._call("stage", call, "context.begun", "context.done")

    async def queue(self, session_id: SessionId, text: str, key: str) -> InputId | None:
        """Accept an input for a run to come."""

        async def call(mob: Mob) -> receipts.Queued | None:
            mob.admit_work()
            admission = mob.realm.inputs.accept(session_id, text, idempotency_key=key)
            if admission.ticket is not None:
                await admission.ticket.wait()
            else:
                await mob.realm.store.barrier()
            if admission.pending is None:
                return None
            return receipts.Queued(session_id, admission.pending.input_id, text, key)

        queued = await self._client._call("queue", call)
        return None if queued is None else InputId(queued.input_id)

    async def give_up(self, session_id: SessionId, input_id: InputId) -> None:
        """Give an input up that nobody wants any more."""

        async def call(mob: Mob) -> receipts.GivenUp:
            runs = self.service(self._now()).runs
            await runs.end(session_id, input_id, InputState.SUPERSEDED, "a better one")
            return receipts.GivenUp(input_id)

        await self._client._call("give up", call)

    async def run(
        self,
        session_id: SessionId,
        run_id: RunId,
        ids: Sequence[InputId],
        boundary: RunApplyBoundary,
    ) -> None:
        """Apply a run."""

        async def call(mob: Mob) -> receipts.Applied:
            service = await self._ready(session_id)
            request = StartTurnRequest("")
            output = await service.apply_runtime_turn(session_id, run_id, request, boundary, ids)
            return receipts.Applied(output.receipt)

        with trio.move_on_after(_PATIENCE_S):
            await self._client._call("apply", call, "apply.begun", "apply.done")

    # -- faults ----------------------------------------------------------------------------

    async def session_storm(self, step: Step, much: float) -> None:
        """Everything at once to one session that is no member's."""
        session_id = self._pick(much) or await self.create(f"storm {step.number}", None, False)
        if session_id is None:
            return
        async with trio.open_nursery() as nursery:
            for index in range(_CROWD):
                text = f"storm {step.number}.{index}"
                nursery.start_soon(self.turn, session_id, text, 0.05 + 8 * much * index)
                nursery.start_soon(self.append, session_id, f"note {index % 2}", f"s{step.number}")
            await trio.sleep(much * 0.5)
            nursery.start_soon(self.interrupt, session_id)
            if much < 0.3:
                await trio.sleep(much)
                nursery.start_soon(self.archive, session_id)
            elif much > 0.8:
                await self._client.stop(0.2)
                await self._client.resume()

    async def apply_storm(self, step: Step, much: float) -> None:
        """One run is applied by many at once who go away, while others stop, stage and kill."""
        session_id = self._pick(much) or await self.create(f"runs {step.number}", None, False)
        if session_id is None:
            return
        queued = await self.queue(session_id, f"input {step.number}", f"storm-{step.number}")
        if queued is None:
            return
        start = RunApplyBoundary.RUN_START
        run_id = RunId(f"storm-{step.number}")
        with trio.move_on_after(0.05 + much):
            async with trio.open_nursery() as nursery:
                for _ in range(_CROWD):
                    nursery.start_soon(self.run, session_id, run_id, (queued,), start)
                await trio.sleep(much * 0.3)
                if much < 0.3 and self._world.process is not None:
                    self._world.process.crash("killed while a run is applied")
                elif much > 0.7:
                    await self._client.stop(0.0)
        await self._client.resume()
        await self._until_applied(session_id, f"storm-{step.number}", (queued,), start, 1)

    async def context_storm(self, step: Step, _much: float) -> None:
        """Two texts come at once under one key to every session: one of them is refused."""
        async with trio.open_nursery() as nursery:
            for index, session_id in enumerate(self._everywhere()):
                for text in (0, 1, 0):
                    key = f"storm {step.number}"
                    said = f"note {(index + text) % 3}"
                    nursery.start_soon(self.append, session_id, said, key)

    # -- healing ---------------------------------------------------------------------------

    async def tidy(self, mob: Mob) -> bool:
        """Finish what was begun in sessions that nobody drives; whether there was anything."""
        process = self._now()
        found = False
        for head in list(mob.realm.state.heads.values()):
            if head.harness_id != HARNESS or head.archived:
                continue
            if mob.realm.busy(head.session_id) and not works(head):
                continue
            open_now = [each for each in (head.inputs or {}).values() if not is_context(each)]
            partial = head.partial
            if partial is None and not open_now:
                continue
            found = True
            if works(head):
                await self._hosting.serve(process, self.service(process))
                await trio.sleep(_RESTS_S)  # it works by itself, as long as the store does
                try:
                    await process.store.commit([])
                except StoreError:
                    process.crash("its store does not write any more")
                    return False
                continue
            service = await self._ready(head.session_id, process)
            try:
                if partial is not None and not partial.run_id.startswith(("run-", "storm-")):
                    request = StartTurnRequest("go on")
                    await service.start_turn(head.session_id, request)
                    continue
                ids = [each.input_id for each in open_now]
                run_id = RunId(f"run-{head.session_id}-{head.applied}")
                if partial is not None:
                    run_id = partial.run_id
                    ids = [each for each in ids if each in partial.input_ids]
                await service.apply_runtime_turn(
                    head.session_id, run_id, StartTurnRequest(""), RunApplyBoundary.RUN_START, ids
                )
            except (AgentError, SessionBusy):
                continue  # it is in the journal, or somebody is at it
            except SessionStoreError:
                process.crash("its store does not write any more")
                return False
        return found

    # -- inside ----------------------------------------------------------------------------

    async def _ready(self, session_id: SessionId, process: Process | None = None) -> MobSessions:
        """The service, with the live objects of this session given again."""
        service = self.service(process or self._now())
        head = service.realm.state.head(session_id)
        if works(head):
            await self._hosting.serve(process or self._now(), service)
        await self._give(session_id, process or self._now())
        return service

    async def _give(self, session_id: SessionId, process: Process) -> None:
        """Give the session its live objects, if this process has not got them."""
        service = self.service(process)
        head = service.realm.state.head(session_id)
        if session_id not in self._built and head.harness_id == HARNESS and not head.archived:
            session = await service.load_persisted_session(session_id)
            build = SessionBuildOptions(
                llm_client_override=self._model,
                external_tools=self._tools,
                resume_session=session,
                comms_name=None if head.spec.peer is None else head.spec.peer.name,
            )
            request = CreateSessionRequest(
                cast(str, head.spec.model),
                initial_turn=InitialTurnPolicy.DEFER,
                build=build,
                host_mode=head.spec.host_mode,
            )
            await service.create_session(request)
            self._built.add(session_id)

    def _now(self) -> Process:
        process = self._world.process
        assert process is not None
        return process

    def _guests(self) -> list[SessionId]:
        return [head.session_id for head in self._heads() if head.harness_id == HARNESS]

    def _name(self, draw: float) -> str:
        """The name of a guest, or one that nobody has."""
        known = [each.spec.peer.name for each in self._heads() if each.spec.peer is not None]
        names = known or _NAMES
        return names[int(draw * len(names))]

    def _everywhere(self) -> list[SessionId]:
        return [head.session_id for head in self._heads()][:8]

    def _heads(self) -> list[SessionHead]:
        process = self._world.process
        if process is None or not process.opened or not process.alive:
            return []
        return [each for each in process.mob.realm.state.heads.values() if not each.archived]

    def _pick(self, draw: float) -> SessionId | None:
        guests = self._guests()
        return guests[int(draw * len(guests))] if guests else None
