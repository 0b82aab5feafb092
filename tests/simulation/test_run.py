"""A run ends, says why it failed, and is the same when it is run again."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from mob.records import MobCreated
from mob.simulation import (
    Counterexample,
    CrashPoint,
    FaultPlan,
    Run,
    World,
    attempt,
    simulate,
)
from runtime.models.base import ModelRequest
from runtime.models.scripted import ScriptedModel
from runtime.records import TurnEnded
from tests.simulation.scenarios import ask, team, ticking, ticks

PLAN = "store=0.02,process=0.02"


def failed(run: Run) -> tuple[str, str]:
    assert run.failure is not None, "it should have failed"
    return run.failure.invariant, run.failure.message


def test_a_run_tells_what_happened() -> None:
    run = simulate(ticking, 1)
    assert run.failure is None
    assert isinstance(run.journal["t"][0].record, MobCreated)
    turns = [event for event in run.journal["t"] if isinstance(event.record, TurnEnded)]
    assert len(turns) == 20
    assert [line.kind for line in run.trace.lines].count("answered") == 20
    assert run.virtual_s > 1
    assert run.recoveries == {"mob.created": 1}
    assert (run.plan, run.fired, run.sites) == ("none", {}, ())


def test_the_same_seed_gives_the_same_digest_and_another_another() -> None:
    digests = [attempt(ticking, seed, faults=PLAN).digest for seed in range(6)]
    assert [attempt(ticking, seed, faults=PLAN).digest for seed in range(6)] == digests
    assert len(set(digests)) == 6


def test_the_digest_is_the_same_in_another_process_and_with_another_hash_seed() -> None:
    seeds = [str(seed) for seed in range(8)]

    def fresh(hash_seed: str) -> list[str]:
        return subprocess.run(
            [sys.executable, "-m", "tests.simulation.scenarios", PLAN, *seeds],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout.split()

    here = [attempt(ticking, int(seed), faults=PLAN).digest for seed in seeds]
    assert fresh("1") == here
    assert fresh("2") == here


def test_everything_asked_is_answered_although_processes_die() -> None:
    """Crashes at every point of a commit: acknowledged work is done, exactly once."""
    died = 0
    for seed in range(25):
        run = simulate(ticking, seed, faults="process=0.05,store=0.01")
        turns = [
            input_id
            for event in run.journal["t"]
            if isinstance(event.record, TurnEnded)
            for input_id in event.record.input_ids
        ]
        assert len(turns) == len(set(turns))
        died += run.recoveries["mob.with_work"]
    assert died > 10


def test_leaving_one_fault_out_moves_no_other() -> None:
    """What a shrinker relies on: the faults of a run can be given back to it one by one."""
    run = next(
        run
        for run in (attempt(ticking, seed, faults=PLAN) for seed in itertools.count())
        if len(run.sites) > 3
    )
    again = attempt(ticking, run.seed, faults=FaultPlan(only=frozenset(run.sites)))
    assert again.sites == run.sites
    assert again.digest == run.digest
    fewer = attempt(ticking, run.seed, faults=FaultPlan(only=frozenset(run.sites[:2])))
    assert fewer.sites == run.sites[:2]


def test_steps_can_be_left_out_by_number() -> None:
    async def main(world: World) -> None:
        for step in world.keep(["a", "b"]) + world.keep(["c"]):
            world.trace.note("step", step)

    run = attempt(main, 1, keep=lambda number: number != 1)
    assert [line.text for line in run.trace.lines] == ["a", "c"]
    assert (run.offered, run.steps) == (3, 2)


@pytest.mark.parametrize("nth", range(1, 9))
def test_a_directed_crash_strikes_and_the_run_recovers(nth: int) -> None:
    run = simulate(ticking, 3, faults=FaultPlan(crashes=(CrashPoint("commit.after", nth),)))
    died = [line for line in run.trace.lines if line.kind == "process.died"]
    assert [line.text for line in died] == ["commit.after"]


def test_a_directed_crash_may_wait_for_a_kind_of_record() -> None:
    run = simulate(ticking, 3, faults="crash=commit.after/TurnEnded:4,crash=commit.in/MobCreated")
    died = [line for line in run.trace.lines if line.kind == "process.died"]
    assert [line.text for line in died] == ["commit.in", "commit.after"]
    commits = [each for each in run.disk.commits if each.process == died[-1].process]
    ended = [
        event.record
        for event in run.journal["t"]
        if isinstance(event.record, TurnEnded)
        and event.seq <= max(seq for each in commits for seq in each.sequences)
    ]
    assert len(ended) == 4


def test_an_exception_of_the_scenario_is_a_counterexample() -> None:
    async def main(world: World) -> None:
        await trio.sleep(1)
        assert world.seed != 5, "five is right out"

    assert simulate(main, 4).failure is None
    with pytest.raises(Counterexample, match="five is right out") as caught:
        simulate(main, 5)
    assert isinstance(caught.value.__cause__, AssertionError)
    assert caught.value.run.seed == 5


def test_a_failure_of_pytest_itself_is_a_counterexample() -> None:
    """Its exceptions are no `Exception`s."""

    async def main(world: World) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            with pytest.raises(ValueError, match="never"):
                await trio.sleep(1)

    with pytest.raises(Counterexample, match="DID NOT RAISE"):
        simulate(main, 1)


def test_an_interrupt_by_the_user_comes_out_as_it_is() -> None:
    async def main(world: World) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(main, 1)


def test_a_deadlock_is_told_with_the_parked_tasks() -> None:
    async def waits_for_godot(event: trio.Event) -> None:
        with trio.CancelScope(shield=True):
            await event.wait()

    async def main(world: World) -> None:
        event = trio.Event()
        await world.start(team(), models={"m": ticks(world)})
        world.nursery.start_soon(lets_go, world, event)
        await waits_for_godot(event)

    async def lets_go(world: World, event: trio.Event) -> None:
        await trio.sleep(4000)
        event.set()

    invariant, message = failed(attempt(main, 1))
    assert invariant == "the scenario ends"
    assert "within 3600 virtual seconds" in message
    assert "waits_for_godot (test_run.py:" in message
    assert "checkpointer" in message


def test_a_task_that_will_not_end_cannot_hold_a_failed_run_up() -> None:
    async def answer(request: ModelRequest) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()
        return ""

    async def main(world: World) -> None:
        await world.start(team(), models={"m": ScriptedModel(answer)})
        await ask(world, "a", 1)

    invariant, message = failed(attempt(main, 1))
    assert invariant == "the scenario ends"
    assert "answer (test_run.py:" in message


def test_a_busy_loop_is_ended_by_the_watchdog() -> None:
    async def main(world: World) -> None:
        process = await world.start(team(), models={"m": ticks(world)})
        while process.alive:
            pass

    handler = signal.getsignal(signal.SIGALRM)
    began = time.monotonic()
    invariant, message = failed(attempt(main, 1, watchdog_s=0.2))
    assert time.monotonic() - began < 4
    assert invariant == "virtual time goes on"
    assert "while process.alive" in message
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_loop_of_checkpoints_is_ended_by_the_watchdog_too() -> None:
    async def main(world: World) -> None:
        while True:
            await trio.lowlevel.checkpoint()

    assert failed(attempt(main, 1, watchdog_s=0.2))[0] == "virtual time goes on"


def test_work_that_never_finishes_fails_the_healed_phase() -> None:
    async def main(world: World) -> None:
        async def answer(request: ModelRequest) -> str:
            await trio.sleep_forever()
            raise AssertionError

        process = await world.start(team(), models={"m": ScriptedModel(answer)})
        await process.mob.send("a", "never mind")

    run = attempt(main, 1)
    invariant, message = failed(run)
    assert invariant == "healed, everything finishes"
    assert "parked are" in message
    assert run.recoveries["mob.with_work"] == 1, "the restart after half of the time"
    assert attempt(main, 1, heal_s=0).failure is None


def test_healing_starts_a_dead_process_and_resumes_a_stopped_mob() -> None:
    async def main(world: World) -> None:
        process = await world.start(team(), models={"m": ticks(world)})
        await process.mob.stop()
        process.crash("for good")

    run = simulate(main, 1)
    assert run.recoveries["mob.stopped"] == 1
    assert run.journal["t"][-1].record.state == "running"


def test_a_process_that_fails_by_itself_fails_the_run() -> None:
    async def main(world: World) -> None:
        process = await world.start(team(), models={"m": ticks(world)})
        process.mob.realm.state.transitions[TurnEnded] = lambda _seq, _record: 1 / 0
        await process.mob.send("a", "hello")
        await process.ended.wait()

    invariant, message = failed(attempt(main, 1))
    assert invariant == "no process fails by itself"
    assert "ZeroDivisionError" in message


def test_what_the_library_logs_is_part_of_the_trace(capsys: pytest.CaptureFixture[str]) -> None:
    run = attempt(ticking, 1, faults=FaultPlan.parse("only=store.error@commit/4"))
    assert any(line.kind == "log.warning" and "anew" in line.text for line in run.trace.lines)
    assert run.recoveries["store.repeated"] == 1
    assert capsys.readouterr().err == ""


def test_a_process_may_die_while_it_opens() -> None:
    run = simulate(ticking, 1, faults="crash=commit.in:1,crash=commit.after:2")
    assert [line.process for line in run.trace.lines if line.kind == "process.died"] == [1, 2]
