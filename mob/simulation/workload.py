"""The default scenario: a small mob, people who use all of its verbs, and a machine that fails.

Owns: `Workload`, which has the drawn steps carried out (`runner`), and `Machine`, which starts
processes and replaces dead ones. Must not: judge (the oracle does), draw anything while it runs.

The steps are drawn once (`mob.simulation.steps`) and run concurrently, each at its virtual time. At
each of them the faults of control, messages, clock and machine are asked for (`storms`); those of
models, tools and the store strike on their own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, final

import trio

from mob.definition import MobDefinition
from mob.hooks import HookDefinition
from mob.mob import Mob
from mob.simulation import promises
from mob.simulation.accounts import ModelCalled
from mob.simulation.added import ADDITIONS
from mob.simulation.additions import Verb
from mob.simulation.client import Client
from mob.simulation.desk import Desk
from mob.simulation.facts import ToolRan
from mob.simulation.guests import Guests
from mob.simulation.hooks import SimHook
from mob.simulation.models import SimModel
from mob.simulation.process import Process, ProcessDied
from mob.simulation.runner import StepRunner
from mob.simulation.steps import Step, drawn_steps
from mob.simulation.storms import Storms
from mob.simulation.tools import Effects, sim_tools
from mob.simulation.trace import SPEAKING
from mob.simulation.variants import OWN, drawn_definition, more_steps, raised
from mob.simulation.world import World
from runtime.errors import MobError
from runtime.hookbodies import python_body
from runtime.hooks import Body
from runtime.models.base import ModelRequest
from runtime.tools.base import Tool, ToolContext
from runtime.tools.fixed import FixedSource
from runtime.tools.function import tool
from runtime.tools.names import wire_name
from runtime.tools.source import ToolSource
from stores import StoreError

#: Virtual seconds until somebody notices that the process is dead and starts another: least, most.
_NOTICES_S: Final = (0.02, 3.0)


@final
class Workload:
    """A scenario for `simulate`. `steps` instead of drawn ones, `definition` instead of its own.

    A definition of one's own has members of any names and profiles. Its models all are simulated,
    and so are its tools: each of `tools` is doubled by one that is called as it is.
    """

    def __init__(
        self,
        definition: MobDefinition | None = None,
        steps: Sequence[Step] | None = None,
        tools: Mapping[str, Tool] | None = None,
    ) -> None:
        self._definition = definition
        self._steps = steps
        self._tools = tools

    async def __call__(self, world: World) -> None:
        """Run it in `world`; returns when every step has ended."""
        definition = self._definition or drawn_definition(world.streams)
        machine = Machine(world, definition, self._tools)
        client = Client(world)
        desk = Desk(world, client)
        guests = Guests(world, client, machine)
        world.caretakers.append(guests.tidy)
        storms = Storms(world, client, machine, desk, guests)
        more: dict[str, Verb] = {
            "decide": desk.step,
            "guest": guests.visit,
            "stage": guests.stage,
            "apply": guests.apply,
        }
        for addition in ADDITIONS:
            player = addition.play(world, client, machine)
            more.update(player.verbs)
            storms.by_kind.update(player.storms)
        members = tuple(definition.member_names())
        steps = self._steps
        if steps is None:
            steps = drawn_steps(world.streams.stream("steps"), members)
            steps += more_steps(definition, world.streams, members, len(steps))
        world.heals_alone = True
        await machine.start()
        async with trio.open_nursery() as service:
            service.start_soon(machine.keep, name="keeper")
            service.start_soon(machine.watch, client, name="watcher")
            service.start_soon(desk.serve, name="desk")
            async with trio.open_nursery() as nursery:
                for step in world.keep(steps):
                    runner = StepRunner(world, client, machine, storms, more, step)
                    nursery.start_soon(runner.run, name=f"step {step.number}")
            service.cancel_scope.cancel()


@final
class Machine:
    """What runs the processes of a workload: starts them, replaces dead ones, hands out tools."""

    def __init__(
        self,
        world: World,
        definition: MobDefinition,
        tools: Mapping[str, Tool] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._world = world
        self.definition: Final = definition
        #: Whether it is the workload's own mob: of another one the wiring is its author's.
        self.is_default: Final = definition.source == OWN
        #: What members that come and go may be of.
        self.profiles: Final = tuple(definition.profiles)
        effects = Effects(self._tool_began, self._tool_returned)
        models = {
            alias: SimModel(
                world.faults,
                world.streams,
                self.passing,
                name=f"sim:{alias}",
                latency_s=definition.sim.latency_s,
                price=model.price,
                calling=self._model_called,
            )
            for alias, model in definition.models.items()
        }
        made = sim_tools(world.faults, world.streams, effects, self.passing, tools)
        if tools is None:
            made = {name: each for name, each in made.items() if name in definition.tools}
        #: The tools of the mob, by name.
        self.tools: Final = made
        self._options: dict[str, Any] = {
            "models": models,
            "tools": made,
            "mcp": {name: self._server(name, effects) for name in definition.mcp},
            "hooks": {name: self._hook(name, hook) for name, hook in _hooks_of(definition).items()},
            "grace_s": 0.5,
            **(options or {}),
        }
        #: One start at a time: whoever starts a process looks first whether one lives.
        self._starting = trio.Lock()
        #: Set, and made anew, when a process has been started.
        self._started = trio.Event()

    def _server(self, name: str, effects: Effects) -> ToolSource:
        """What stands in for an MCP server: it has one tool, ``work``."""
        wire = wire_name(name, "work")
        doubled = {wire: tool(_work, name=wire, idempotent=True)}
        world = self._world
        made = sim_tools(world.faults, world.streams, effects, self.passing, doubled)
        return FixedSource(name, {"work": made[wire]})

    def _hook(self, name: str, hook: HookDefinition) -> Body:
        """What stands in for a hook's program."""
        world = self._world
        made = SimHook(name, hook, world.faults, world.streams, self._promise)
        return python_body(made.answer)

    async def start(self) -> None:
        """Start the first process, as often as it takes."""
        async with self._starting:
            try:
                await self._world.start(self.definition, **self._options)
            except ProcessDied:
                await self._restart()
            self._tell()

    async def start_second(self) -> Process | None:
        """Start a process beside the one that lives, as somebody does by mistake.

        Raises:
            StoreInUse: as it must be.
        """
        async with self._starting:
            before = self._world.process
            if before is None or not before.alive:
                return None
            try:
                second = await self._world.start(self.definition, **self._options)
            except ProcessDied:
                return None
            if _dead(before):  # it died in between, and the second one was the first to notice
                self._world.process = second
                self._tell()
            return second

    async def take_over(self) -> None:
        """Replace the process without ending it: it is taken for dead. Not if it is being closed,
        which a paused one never comes to the end of."""
        if self._starting.locked():
            return
        async with self._starting:
            before = self._world.process
            try:
                await self._world.restart(take_over=True)
            except ProcessDied:
                assert before is not None
                before.unpause()
                before.crash("both are gone")
            self._tell()

    async def reopen(self, raised_by: float | None = None) -> None:
        """Close the process in order, and start another; with budgets that are raised, or not."""
        async with self._starting:
            process = self._world.process
            if process is None or process.paused:
                return
            if process.alive:
                await process.close()
            if raised_by is not None:
                process.definition = raised(process.definition, raised_by)
            await self._restart()
            self._tell()

    async def visit(
        self,
        changed: Callable[[MobDefinition], MobDefinition],
        use: Callable[[Mob], Awaitable[None]],
    ) -> None:
        """Close the process, have another one run the mob of a `changed` definition, on the same
        disk, for as long as `use` takes; then start the first one again."""
        async with self._starting:
            process = self._world.process
            if process is None or process.paused:
                return
            if process.alive:
                await process.close()
            other = None
            try:
                definition = changed(process.definition)
                other = await self._world.start(definition, aside=True, **self._options)
                await other.do(partial(use, other.mob))
                await other.close()
            except (ProcessDied, StoreError, MobError) as error:
                self._world.trace.note("machine", f"visit: {type(error).__name__}")
                if other is not None:
                    other.crash("it was only visited")
                    await other.ended.wait()
            await self._restart()
            self._tell()

    async def keep(self) -> None:
        """Start another process whenever the newest is dead, after a while."""
        world = self._world
        low, high = _NOTICES_S
        while True:
            process = world.process
            assert process is not None
            await process.ended.wait()
            await trio.sleep(low + (high - low) * world.streams.unit("notices", process.number))
            async with self._starting:
                now = world.process
                if now is process and not process.alive:
                    await self._restart()
                    self._tell()

    async def watch(self, client: Client) -> None:
        """Follow the events of one process after the other, from where the last one was left."""
        cursor = 0
        while True:
            process, started = self._world.process, self._started
            assert process is not None
            if process.alive and process.opened:
                pause_s = self._world.streams.unit("watcher", process.number) * 0.2
                cursor = await client.watch(process, "watcher", cursor, pause_s)
            if self._world.process is process and process.alive:
                await process.ended.wait()
            if self._started is started:
                await started.wait()

    async def resume(self) -> None:
        """Have the mob running again, whatever was done to it."""
        process = self._world.process
        if process is not None and process.alive and process.opened:
            await Client(self._world).resume()

    async def wait_commit(self, more: int) -> None:
        """Park until so many further commits are on the disk, or a second has gone by."""
        reached = trio.Event()
        commits = self._world.disk.commits
        wanted = len(commits) + more

        def look(_commit: object) -> None:
            if len(commits) >= wanted:
                reached.set()

        self._world.disk.listeners.append(look)
        try:
            with trio.move_on_after(1.0):
                await reached.wait()
        finally:
            self._world.disk.listeners.remove(look)

    def passing(self, point: str) -> None:
        """A task of a process comes by a crash point."""
        if self._world.faults.crashes_at(point):
            who = SPEAKING.get()
            for process in self._world.processes:
                if process.who is who:
                    process.crash(point)

    async def _restart(self) -> None:
        """Called with the lock. Dying while opening, twenty times in a row, is no failure: the
        faults are heavy, and healing ends them."""
        try:
            await self._world.restart()
        except ProcessDied as died:
            self._world.trace.note("machine", f"gave up for now: {died}")

    def _tell(self) -> None:
        self._started.set()
        self._started = trio.Event()

    def _tool_began(self, tool: Tool, context: ToolContext) -> None:
        call = context.call
        self._promise(
            ToolRan(
                context.session_id,
                context.run_id,
                call.id,
                call.name,
                tool.idempotent,
                call.arguments or "{}",
            )
        )

    def _tool_returned(self, context: ToolContext, text: str) -> None:
        self._promise(
            promises.ToolReturned(context.session_id, context.run_id, context.call.id, text)
        )

    def _model_called(self, request: ModelRequest) -> int | None:
        """A model is called: by whom, and how many tokens are left for it."""
        process = self._world.process
        ledger = self._world.oracle.ledger
        if not ledger.accounts.bounded or process is None or not process.opened:
            return None
        realm, key = process.mob.realm, request.key.rpartition("/")[0]
        callers = [
            head.session_id
            for head in realm.state.heads.values()
            if realm.running(head.session_id) is not None and realm.key_of(head) == key
        ]
        if len(callers) != 1:  # one that is retired runs on beside its successor
            return None
        now_s = trio.current_time()
        self._promise(ModelCalled(callers[0], request.key, now_s, realm.state.applied))
        return ledger.accounts.left(callers[0])

    def _promise(self, promise: promises.Promise) -> None:
        # One that was replaced while it hung finds out when it writes: until then nobody but the
        # world outside could keep its tools from touching that.
        who = SPEAKING.get()
        if who is not None and who.alive and self._world.disk.owner == who.number:
            definition = self._world.processes[who.number - 1].definition
            self._world.promised(promise, definition.id)


def _hooks_of(definition: MobDefinition) -> dict[str, HookDefinition]:
    """Every hook of a mob, also those of its profiles alone."""
    own = {
        name: how
        for profile in definition.profiles.values()
        for name, how in profile.hooks.items()
        if isinstance(how, HookDefinition)
    }
    return {**own, **definition.hooks}


async def _work(what: str) -> str:
    """Do some work."""
    raise AssertionError("a tool that is doubled does not run")


def _dead(process: Process) -> bool:
    """`alive`, read again: it may have changed meanwhile."""
    return not process.alive
