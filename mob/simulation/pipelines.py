"""Flows and the task board in the default workload: a third of the runs has them.

Owns: the flows of such a run, its verbs about runs and tasks, and their storms. Must not: judge
(`mob.simulation.flowrules` and `mob.simulation.boards` do).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final, final

import trio

from mob.board import BoardTask
from mob.definition import MobDefinition
from mob.errors import BoardKeyUsed, BoardMisuse, BoardTaskNotFound, FlowKeyUsed, MemberNotFound
from mob.flows.records import FlowRunId, FlowStepEnded, FlowStepStarted, StepState
from mob.flows.results import FlowResult
from mob.mob import Mob
from mob.records import MOB_RECORDS
from mob.simulation.additions import Addition, Player
from mob.simulation.boards import BoardTold
from mob.simulation.client import Client
from mob.simulation.desk import decide_now
from mob.simulation.disk import Commit
from mob.simulation.flowing import CancelsFlow, FlowBegun, FlowCancelled, FlowsListed, FlowTold
from mob.simulation.kinds import FaultKind
from mob.simulation.steps import GUESTS, Step
from stores import Append

if TYPE_CHECKING:
    from mob.simulation.workload import Machine
    from mob.simulation.world import World

#: Chance that a run has flows and a board.
_CHANCE: Final = 0.4
#: How many take part in a storm.
_CROWD: Final = 6
#: Virtual seconds between two looks whether a healing mob waits for somebody to decide.
_LOOKS_S: Final = 5.0

_NAMES: Final = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3}
_SCORE: Final = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["score"],
}

#: A chain with a list that is worked through, votes, a branch with a fallback, and a loop.
FLOWS: Final[dict[str, Any]] = {
    "chain": {
        "params": {"topic": {"default": "bees"}},
        "steps": {
            "plan": {
                "member": "lead",
                "message": "plan {{params.topic}}",
                "output_schema": _NAMES,
                "retries": 1,
                "backoff_s": 0.3,
            },
            "find": {
                "profile": "worker",
                "for_each": "steps.plan.output",
                "message": "find {{item}}",
                "needs": ["plan"],
                "retries": 2,
                "backoff_s": 0.2,
                "timeout_s": 12.0,
            },
            "check": {
                "member": "clerk",
                "message": "check {{steps.find.output}}",
                "after": ["find"],
                "condition": "steps.find.state == 'succeeded' or params.topic == 'ants'",
            },
            "write": {
                "member": "lead",
                "message": "write {{steps.find.output}}",
                "needs": ["find"],
                "after": ["check"],
            },
        },
    },
    "votes": {
        "params": {"topics": {"default": ["a", "b", "c", "d"]}},
        "steps": {
            "race": {"profile": "worker", "message": "who is first?", "collect": "any"},
            "poll": {
                "profile": "worker",
                "for_each": "params.topics",
                "message": "vote on {{item}}, {{member}}",
                "quorum": 2,
                "timeout_s": 20.0,
                "retries": 1,
                "backoff_s": 1.0,
            },
            "tell": {
                "member": "lead",
                "message": "{{steps.race.output}}: {{steps.poll.output}}",
                "needs": ["race", "poll"],
            },
        },
    },
    "fallback": {
        "params": {"topic": {"default": "bees"}},
        "steps": {
            "hasty": {
                "member": "clerk",
                "message": "in haste",
                "branch": "draft",
                "timeout_s": 0.4,
            },
            "steady": {"profile": "worker", "message": "in time", "branch": "draft", "retries": 1},
            "last": {"member": "lead", "message": "if need be", "branch": "draft"},
            "judge": {
                "member": "clerk",
                "message": "judge {{steps.draft.output}}, {{round}}",
                "after": ["draft"],
                "timeout_s": 30.0,
            },
            "edit": {
                "member": "worker-1",
                "message": "edit, as {{steps.judge.output}}",
                "needs": ["judge"],
                "output_schema": _SCORE,
            },
        },
        "repeat": {
            "polish": {
                "steps": ["judge", "edit"],
                "until": "steps.edit.output.score >= 6",
                "max_rounds": 3,
                "at_limit": "continue",
            }
        },
    },
}


def _vary(table: dict[str, Any], random: Random) -> None:
    # Members that are supervised in groups, limited or autonomous have runs of their own.
    alone = any("mode" in profile for profile in table["profiles"].values())
    if random.random() >= _CHANCE or alone or "groups" in table or "limits" in table:
        return
    table["flows"] = FLOWS
    for profile in table["profiles"].values():
        if random.random() < 0.7:
            profile["board"] = True


def _startable(definition: MobDefinition) -> tuple[str, ...]:
    """The flows that can be run without knowing what they are about."""
    return tuple(
        name
        for name, flow in definition.flows.items()
        if not any(param.required for param in flow.params.values())
    )


def _steps(definition: MobDefinition, random: Random) -> list[str]:
    if not _startable(definition):
        return []
    return ["flow"] * random.randint(2, 5) + ["inspect"] * 2 + ["task"] * random.randint(4, 12)


def _play(world: World, client: Client, machine: Machine) -> Player:
    if not _startable(machine.definition):
        return Player()
    made = _Pipelines(world, client, machine)
    world.caretakers.append(made.tidy)
    world.disk.listeners.append(made.heard)
    return Player(
        {"flow": made.flow, "inspect": made.look, "task": made.task},
        {FaultKind.FLOW_STORM: made.flow_storm, FaultKind.CLAIM_STORM: made.claim_storm},
    )


PIPELINES: Final = Addition("flows", _vary, _steps, _play)

_STEPPED: Final = frozenset(
    each.kind for each in MOB_RECORDS if each.cls in (FlowStepStarted, FlowStepEnded)
)


@final
class _Pipelines:
    """Those who start and cancel runs and use the board, in one world."""

    def __init__(self, world: World, client: Client, machine: Machine) -> None:
        self._world = world
        self._client = client
        self._machine = machine
        self._names = _startable(machine.definition)

    # -- flows -----------------------------------------------------------------------------

    async def flow(self, step: Step) -> None:
        """Start a run, with a key or without, the same again, and wait for it or end it."""
        first, second, third, fourth = step.draws
        name = self._names[int(first * len(self._names))]
        key = None if second < 0.3 else f"flow-{int(second * 10)}"
        run_id = await self.run(name, key)
        if key is not None and third < 0.6:
            run_id = await self.run(name, key) or run_id
        if run_id is None:
            return
        if fourth < 0.3:
            await trio.sleep(third * 8)
            await self.cancel(run_id)
        else:
            await self.result(run_id, 40 * fourth)

    async def run(self, name: str, key: str | None) -> str | None:
        """Start a run; its id."""

        async def call(mob: Mob) -> FlowBegun:
            try:
                run = await mob.run_flow(name, idempotency_key=key)
            except FlowKeyUsed as error:  # with another flow: that run is there
                run = mob.flow_run(error.run_id)
            return FlowBegun(run.id, run.flow, key)

        begun = await self._client._call("run_flow", call, "flow.begun")
        return None if begun is None else begun.run_id

    async def cancel(self, run_id: str) -> None:
        """End a run."""

        async def call(mob: Mob) -> FlowCancelled:
            run = mob.flow_run(run_id)
            self._world.promised(CancelsFlow(run_id))
            return FlowCancelled(run_id, await run.cancel())

        await self._client._call("cancel_flow", call, "flow.cancel")

    async def result(self, run_id: str, patience_s: float) -> None:
        """Wait for a run, and look at what came of it."""

        async def call(mob: Mob) -> FlowTold:
            run = mob.flow_run(run_id)
            await run.result()
            return _told(mob, run.now())

        with trio.move_on_after(patience_s):
            await self._client._call("flow_result", call)

    async def look(self, _step: Step) -> None:
        """Look at all runs and all tasks."""
        await self._look_at_runs()
        await self._look_at_tasks()

    async def _look_at_runs(self) -> None:
        async def listed(mob: Mob) -> FlowsListed:
            found: list[str] = []
            while page := mob.flow_runs(found[-1] if found else None, 3):
                found += [each.id for each in page]
            return FlowsListed(tuple(found), mob.realm.state.applied)

        seen = await self._client._call("flow_runs", listed)
        for run_id in () if seen is None else seen.run_ids:
            await self._client._call("flow_run", partial(_look_at, run_id))

    async def tidy(self, mob: Mob) -> bool:
        """While the mob heals: wait until no run is under way, deciding what waits; at the end
        everything is looked at. Whether there was anything to wait for."""
        waited, process = False, self._world.process
        while mob._flows.book.running and process is not None and not process.leaving:
            waited = True
            with trio.move_on_after(_LOOKS_S):
                await mob._flows.quiet()
            await decide_now(self._world, mob)
            await process.store.commit([])  # raises if nothing can be written any more
        if not waited:
            await self.look(Step(0, "inspect", 0.0, "", ()))
        return waited

    def heard(self, commit: Commit) -> None:
        """A commit is on disk: a step of a run may have begun or ended with it."""
        process = self._world.process
        if process is None or not process.alive or process.number != commit.process:
            return
        stepped = any(
            isinstance(each, Append) and each.kind in _STEPPED for each in commit.operations
        )
        if stepped and self._world.faults.crashes_at("flow.step"):
            process.crash("flow.step")

    async def flow_storm(self, step: Step, much: float) -> None:
        """Many start one run, others end it, and the mob stops meanwhile."""
        name = self._names[int(much * 997) % len(self._names)]
        key = f"storm-{step.number}"
        async with trio.open_nursery() as nursery:
            for _ in range(_CROWD):
                nursery.start_soon(self.run, name, key)
            nursery.start_soon(self.run, name, None)
            await trio.sleep(2 * (much * 10 % 1))
            if much < 0.6:
                nursery.start_soon(self._client.stop, much)
                await trio.sleep(0.3 * (much * 100 % 1))
            for run_id in self._under_way():
                for _ in range(2):
                    nursery.start_soon(self.cancel, run_id)
            if much < 0.1:
                await self._machine.reopen()
            await trio.sleep(much)
        await self._machine.resume()
        await self._look_at_runs()

    def _under_way(self) -> list[FlowRunId]:
        process = self._world.process
        if process is None or not process.opened or not process.alive:
            return []
        return list(process.mob._flows.book.running)[-3:]

    # -- the board -------------------------------------------------------------------------

    async def task(self, step: Step) -> None:
        """Do something to the board, sometimes twice under one key."""
        first, second, third, fourth = step.draws
        key = f"task-{step.number}" if fourth < 0.5 else None
        one, other = f"t{1 + int(second * 6)}", f"t{1 + int(third * 6)}"
        verbs: dict[str, Callable[[Mob], Awaitable[BoardTask]]] = {
            "add": lambda mob: mob.board.add(f"step {step.number}", "", (), key),
            "add behind": lambda mob: mob.board.add(f"step {step.number}", "", (one,), key),
            "claim": lambda mob: mob.board.claim(one, step.who, key),
            "claim again": lambda mob: mob.board.claim(other, step.who, key),
            "release": lambda mob: mob.board.release(one, None, key),
            "finish": lambda mob: mob.board.finish(one, f"by {step.who}", None, key),
            "cancel": lambda mob: mob.board.cancel(one, "no need", key),
            "block": lambda mob: mob.board.block(one, (other,), key),
        }
        # More is added and claimed than cancelled.
        turns = ("add", "add", "add behind", "claim", "claim", "claim again", *verbs)
        verb = turns[int(first * len(turns))]
        await self.on_board(verb, verbs[verb])
        if key is not None:
            await self.on_board(verb, verbs[verb])
        if verb == "add behind" and (newest := self._newest()) is not None:
            await self.on_board("claim", lambda mob: mob.board.claim(newest, step.who))
        if verb.startswith("claim") and third < 0.6:
            await trio.sleep(2 * third)
            await self.on_board("finish", verbs["finish"])
        await self._look_at_tasks()

    async def on_board(self, verb: str, do: Callable[[Mob], Awaitable[BoardTask]]) -> None:
        """Call a verb of the board; what it is told is a promise."""

        async def call(mob: Mob) -> BoardTold | None:
            try:
                task = await do(mob)
            except (BoardMisuse, BoardTaskNotFound, BoardKeyUsed, MemberNotFound):
                return None
            return BoardTold((_stands(task),), mob.realm.state.applied)

        await self._client._call(f"board {verb}", call)

    async def _look_at_tasks(self) -> None:
        async def call(mob: Mob) -> BoardTold:
            tasks = tuple(map(_stands, mob.board.list()))
            return BoardTold(tasks, mob.realm.state.applied, whole=True)

        await self._client._call("board list", call)

    async def claim_storm(self, step: Step, much: float) -> None:
        """Many claim one task at once, while some of them leave and others let it go."""
        client = self._client
        title = f"storm {step.number}"
        await client.spawn(GUESTS[0], self._machine.profiles[0])
        await self.on_board("add", lambda mob: mob.board.add(title, key=title))
        task = self._newest()
        if task is None:
            return

        def claims(name: str) -> Callable[[Mob], Awaitable[BoardTask]]:
            return lambda mob: mob.board.claim(task, name)

        async with trio.open_nursery() as nursery:
            for name in (GUESTS[0], *self._everybody(), GUESTS[0])[:_CROWD]:
                nursery.start_soon(self.on_board, "claim", claims(name))
            await trio.sleep(0.1 * much)
            if much < 0.6:
                nursery.start_soon(client.retire, GUESTS[0])
            if much > 0.4:
                nursery.start_soon(self.on_board, "release", lambda mob: mob.board.release(task))
            nursery.start_soon(self.on_board, "claim", claims(GUESTS[0]))
        await client.spawn(GUESTS[0], self._machine.profiles[0])
        await self._look_at_tasks()

    def _newest(self) -> str | None:
        process = self._world.process
        if process is None or not process.opened or not process.alive:
            return None
        tasks = process.mob.board.list()
        return tasks[-1].task_id if tasks else None

    def _everybody(self) -> tuple[str, ...]:
        process = self._world.process
        if process is None or not process.opened or not process.alive:
            return ()
        return process.mob.members


async def _look_at(run_id: str, mob: Mob) -> FlowTold:
    await trio.lowlevel.checkpoint()
    return _told(mob, mob.flow_run(run_id).now())


def _told(mob: Mob, result: FlowResult) -> FlowTold:
    steps = {
        name: (
            each.state.value,
            each.round,
            each.output if each.state is StepState.SUCCEEDED else None,
        )
        for name, each in result.steps.items()
    }
    return FlowTold(result.run_id, mob.realm.state.applied, result.state.value, steps)


def _stands(task: BoardTask) -> tuple[str, str, str | None, str, tuple[str, ...]]:
    return task.task_id, task.state.value, task.owner, task.result, tuple(task.blocked_by)
