"""`MobStateMachine`: it holds for the mob, finds a bug of its user's, and repeats itself."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import invariant as always
from hypothesis.stateful import rule, run_state_machine_as_test

from mob.definition import MobDefinition
from mob.simulation import Counterexample, Ledger, World, invariant
from mob.simulation.client import Client
from mob.simulation.machine import MobStateMachine
from mob.simulation.stepping import Stepper
from runtime.errors import MobError
from runtime.tools.function import tool
from tests.simulation.scenarios import start, team

QUICK = settings(
    max_examples=20,
    stateful_step_count=10,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
    phases=[Phase.generate, Phase.shrink],  # explaining takes hundreds of runs
)

MANY = settings(QUICK, max_examples=200)


class PlainMob(MobStateMachine):
    """The simulation's own mob, with faults."""

    faults = "light"

    @always()
    def the_process_is_the_one_that_was_started_last(self) -> None:
        if self._stepper is not None:
            assert self.world.process is not None


class Counted(MobStateMachine):
    """A tool of a user's that keeps its count in memory: a crash takes it away."""

    definition = MobDefinition.from_table(
        {
            "mob": {"id": "c", "lead": "lead"},
            "models": {"m": {"model": "sim:agent", "timeout_s": 60.0}},
            "tools": {"count": {"function": "given.py:count"}},
            "profiles": {"p": {"model": "m", "tools": ["count"], "tool_choice": ["count"]}},
            "members": {"lead": {"profile": "p"}},
        }
    )
    told = 0

    def options(self, world: World) -> Mapping[str, Any]:
        counts: dict[int, int] = {}

        async def count() -> str:
            """Count one more."""
            process = len(world.processes)
            counts[process] = counts.get(process, 0) + 1  # the bug: it begins anew
            return str(counts[process])

        from runtime.models.sim import AgentModel

        return {"tools": {"count": tool(count)}, "models": {"m": AgentModel(latency_s=0.1)}}

    @rule()
    def count(self) -> None:
        """Ask for the next number: it must be higher than the last."""
        if not self.alive:
            return
        mob = self.mob

        async def ask() -> int | None:
            try:
                await mob.ask("lead", "count")
            except MobError:
                return None
            head = mob.realm.state.head(mob.session_of("lead"))
            texts = [each.text for each in mob.realm.history(head)]
            return int(next(text for text in reversed(texts) if text.isdecimal()))

        number = self.do(ask)
        if number is not None:
            assert number > self.told, f"{number} after {self.told}"
            self.told = number


def test_a_bug_of_a_users_tool_is_found_and_made_small() -> None:
    """Two counts with a crash between them; nothing else is needed."""
    with pytest.raises(AssertionError, match="1 after 1") as caught:
        run_state_machine_as_test(Counted, settings=MANY)  # type: ignore[no-untyped-call]
    text = "\n".join(caught.value.__notes__)
    assert text.count("state.count()") == 2
    assert len([line for line in text.splitlines() if line.startswith("state.")]) <= 6, text


def test_the_machine_holds_for_the_mob_under_faults() -> None:
    run_state_machine_as_test(PlainMob, settings=QUICK)  # type: ignore[no-untyped-call]


class Crowded(MobStateMachine):
    """An invariant of a user's that does not hold: there may be five members."""

    @staticmethod
    @invariant
    def at_most_four(ledger: Ledger) -> None:
        assert len(ledger.members) <= 4, sorted(ledger.members)

    must_hold = (at_most_four,)


def test_a_users_invariant_is_asked_and_its_counterexample_is_small() -> None:
    with pytest.raises(Counterexample, match="at_most_four") as caught:
        run_state_machine_as_test(Crowded, settings=MANY)  # type: ignore[no-untyped-call]
    text = "\n".join(caught.value.__notes__)
    assert text.count("state.spawn(") == 1
    assert "state.ask(" not in text


def test_the_same_calls_are_the_same_run() -> None:
    def digest(seed: int) -> str:
        stepper = Stepper(seed, faults="store=0.05")
        try:
            stepper.do(lambda: start(stepper.world))
            client = Client(stepper.world)
            for number in range(5):
                stepper.do(partial(client.send, "a", f"message {number}"))
            return stepper.finish().digest
        finally:
            stepper.abandon()

    assert digest(3) == digest(3) != digest(4)


def test_stepping_starts_no_thread_and_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a thread was started")

    monkeypatch.setattr(threading.Thread, "start", refused)
    stepper = Stepper(1)
    stepper.do(lambda: start(stepper.world))
    run = stepper.finish()
    assert run.failure is None
    assert run.virtual_s < 5
    import trio

    assert trio.run(answer) == 42
    assert team()


async def answer() -> int:
    return 42
