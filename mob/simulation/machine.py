"""A mob as a Hypothesis state machine: rules that use it, with the oracle asked at every commit.

Owns: `MobStateMachine` and its rules. Must not: judge (the oracle and the invariants do), be
imported by anything that users without Hypothesis import.

Subclass it, give it your definition, add rules and invariants; its ``TestCase`` is the test.
Hypothesis chooses the seed of the run and the order of the rules, and makes both small when
something fails. The same choices are the same run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, TypeVar

import trio
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from mob.definition import MobDefinition
from mob.mob import Mob
from mob.simulation.client import Client
from mob.simulation.faults import FaultPlan
from mob.simulation.invariants import UserInvariant
from mob.simulation.ledger import Ledger
from mob.simulation.stepping import Stepper
from mob.simulation.steps import GUESTS, default_definition
from mob.simulation.strategies import messages
from mob.simulation.workload import Machine
from mob.simulation.world import World

_T = TypeVar("_T")


class MobStateMachine(RuleBasedStateMachine):
    """One world and its people. Between two rules virtual time stands still.

    The rules: `ask`, `send`, `spawn`, `retire`, `interrupt`, `kill`, `stop`, `resume`, `crash`,
    `restart`, `reopen`, `pass_time`. Faults of `faults` strike meanwhile. When the rules are over
    the faults end, and everything accepted must finish.
    """

    #: What is played; the simulation's own mob of four by default.
    definition: ClassVar[MobDefinition | None] = None
    #: What can go wrong besides what the rules do.
    faults: ClassVar[str | FaultPlan] = "none"
    #: What must hold beside the invariants of the table: functions with `@invariant`.
    must_hold: ClassVar[Sequence[UserInvariant | Callable[[Ledger], None]]] = ()
    #: Virtual seconds that somebody waits for an answer.
    patience_s: ClassVar[float] = 60.0

    def __init__(self) -> None:
        super().__init__()
        self._stepper: Stepper | None = None
        self._people: Client | None = None
        self._machine: Machine | None = None

    # -- for subclasses --------------------------------------------------------------------

    def options(self, world: World) -> Mapping[str, Any]:
        """What processes open the mob with beside simulated models and tools: ``models=`` and
        ``tools=`` of your own, say. See `mob.open_mob`."""
        return {}

    @property
    def world(self) -> World:
        """The world that the rules are about."""
        return self._running.world

    @property
    def mob(self) -> Mob:
        """The mob of the process that was started last; it may be dead."""
        assert self.world.process is not None
        return self.world.process.mob

    @property
    def client(self) -> Client:
        """Somebody who uses the mob and tells the oracle what they were told."""
        assert self._people is not None, "the world is not there yet"
        return self._people

    @property
    def alive(self) -> bool:
        """Whether a process runs that takes calls."""
        process = self.world.process
        return process is not None and process.alive and process.opened

    def do(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Await ``call()`` in the world; what the mob does meanwhile happens too.

        Raises:
            Counterexample: an invariant does not hold.
        """
        return self._running.do(call)

    def somebody(self, number: int) -> str:
        """A member's name, of those that there are; a guest's, if there are none."""
        members = sorted(self.world.oracle.ledger.members)
        return members[number % len(members)] if members else GUESTS[0]

    # -- a run -----------------------------------------------------------------------------

    @property
    def _running(self) -> Stepper:
        assert self._stepper is not None, "the world is not there yet"
        return self._stepper

    @initialize(seed=st.integers(0, 2**16))
    def begin(self, seed: int) -> None:
        """Make the world and start the first process."""
        self._stepper = Stepper(seed, faults=self.faults, invariants=self.must_hold)
        world, definition = self.world, self.definition
        machine = Machine(world, definition or default_definition(), options=self.options(world))
        self._machine = machine
        self._people = Client(world)
        self.do(machine.start)

    def teardown(self) -> None:
        """End the faults, have everything finish, and judge the end."""
        if self._stepper is None:
            return
        try:
            if self.world.failure is None:
                self._stepper.finish()
        finally:
            self._stepper.abandon()

    # -- rules -----------------------------------------------------------------------------

    @rule(who=st.integers(0, 7), text=messages())
    def ask(self, who: int, text: str) -> None:
        """Ask a member, and wait for the answer."""
        name = self.somebody(who)
        self.do(lambda: self.client.ask(name, text, patience_s=self.patience_s))

    @rule(who=st.integers(0, 7), text=messages())
    def send(self, who: int, text: str) -> None:
        """Send a member something; its turn goes on while later rules run."""
        name = self.somebody(who)
        self.do(lambda: self.client.send(name, text))

    @rule(name=st.sampled_from(GUESTS), profile=st.integers(0, 7))
    def spawn(self, name: str, profile: int) -> None:
        """Add a member."""
        assert self._machine is not None
        profiles = self._machine.profiles
        self.do(lambda: self.client.spawn(name, profiles[profile % len(profiles)]))

    @rule(name=st.sampled_from(GUESTS))
    def retire(self, name: str) -> None:
        """Remove one of those that were added."""
        self.do(lambda: self.client.retire(name))

    @rule(who=st.integers(0, 7))
    def interrupt(self, who: int) -> None:
        """Cancel a member's turn."""
        name = self.somebody(who)
        self.do(lambda: self.client.interrupt(name))

    @rule(who=st.integers(0, 7))
    def kill(self, who: int) -> None:
        """Crash a member's activation."""
        name = self.somebody(who)
        self.do(lambda: self.client.kill(name))

    @rule(deadline_s=st.sampled_from([0.0, 1.0, 10.0]))
    def stop(self, deadline_s: float) -> None:
        """Stop the mob."""
        self.do(lambda: self.client.stop(deadline_s))

    @rule()
    def resume(self) -> None:
        """Resume the mob."""
        self.do(self.client.resume)

    @precondition(lambda self: self.alive)
    @rule()
    def crash(self) -> None:
        """Kill the process; it stays dead until `restart`."""
        process = self.world.process
        assert process is not None
        process.crash("a rule")
        self.do(process.ended.wait)

    @precondition(lambda self: not self.alive)
    @rule()
    def restart(self) -> None:
        """Start a process after one that died."""
        assert self._machine is not None
        self.do(self._machine.reopen)

    @precondition(lambda self: self.alive)
    @rule()
    def reopen(self) -> None:
        """Close the process in order, and start another."""
        assert self._machine is not None
        self.do(self._machine.reopen)

    @rule(seconds=st.sampled_from([0.01, 0.3, 5.0, 120.0]))
    def pass_time(self, seconds: float) -> None:
        """Let virtual time go by."""
        self.do(partial(trio.sleep, seconds))
