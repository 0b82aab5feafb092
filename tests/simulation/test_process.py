"""One incarnation after the other: what a dead one still does has no effect."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import pytest
import trio

from mob.errors import DefinitionChanged
from mob.simulation import Process, ProcessDied, World, attempt, simulate
from mob.simulation.tasks import living_tasks
from runtime.models.base import ModelRequest
from runtime.models.scripted import ScriptedModel
from runtime.records import InputAccepted, TurnEnded
from stores import StoreFailed, StoreInUse, StoreLost
from tests.simulation.scenarios import team, ticks


def slow(seconds: float) -> ScriptedModel:
    async def answer(request: ModelRequest) -> str:
        await trio.sleep(seconds)
        return "done"

    return ScriptedModel(answer)


def test_a_crash_is_one_instant_and_its_tasks_are_gone_with_it() -> None:
    async def main(world: World) -> None:
        process = await world.start(team(), models={"m": slow(5)})
        for name in "abc":
            await process.do(partial(process.mob.send, name, "work"))
        await trio.sleep(1)
        assert len(living_tasks(process.who)) > 4
        before, commits = trio.current_time(), len(world.disk.commits)
        process.crash("pulled the plug")
        assert not process.alive
        await process.ended.wait()
        assert trio.current_time() == before
        assert living_tasks(process.who) == []
        assert len(world.disk.commits) == commits
        assert process.why == "pulled the plug"

    run = simulate(main, 1)
    answered = [e.seq for e in run.journal["t"] if isinstance(e.record, TurnEnded)]
    assert len(answered) == 3, "the next process did what the dead one had accepted"
    assert run.recoveries["mob.with_work"] == 1


def test_a_dead_process_says_nothing() -> None:
    async def main(world: World) -> None:
        async def answer(request: ModelRequest) -> str:
            try:
                await trio.sleep(5)
            finally:
                world.trace.note("model", "unwinding")
            return "done"

        process = await world.start(team(), models={"m": ScriptedModel(answer)})
        await process.mob.send("a", "work")
        await trio.sleep(1)
        process.crash()
        await process.ended.wait()

    run = attempt(main, 1, heal_s=0)
    assert run.failure is None
    assert [line.kind for line in run.trace.lines] == [
        "process.started",
        "process.opened",
        "process.died",
    ]


def test_a_caller_of_a_dead_process_is_told_so_at_once() -> None:
    async def main(world: World) -> None:
        process = await world.start(team(), models={"m": slow(50)})
        told: list[float] = []

        async def asker() -> None:
            with pytest.raises(ProcessDied, match="process 1 died: killed"):
                await process.do(partial(process.mob.ask, "a", "question"))
            told.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(asker)
            await trio.sleep(7)
            process.crash()
        assert told == [pytest.approx(7, abs=0.1)]
        with pytest.raises(ProcessDied):
            await process.do(process.mob.wait_idle)

    simulate(main, 1)


def test_a_crash_by_its_own_task() -> None:
    async def main(world: World) -> None:
        async def answer(request: ModelRequest) -> str:
            await trio.sleep(1)  # or the question would not be on disk yet
            assert world.process is not None
            if world.process.number < 3:
                world.process.crash("by the model")
            return "done"

        process = await world.start(team(), models={"m": ScriptedModel(answer)})
        with pytest.raises(ProcessDied):
            await process.do(partial(process.mob.ask, "a", "question"))
        await process.ended.wait()

    run = simulate(main, 1)
    assert [line.process for line in run.trace.lines if line.kind == "process.died"] == [1, 2]


def test_a_second_start_is_refused_and_harms_nobody() -> None:
    async def main(world: World) -> None:
        process = await world.start(team(), models={"m": slow(1)})
        for _ in range(3):
            with pytest.raises(StoreInUse):
                await world.start(team(), models={"m": slow(1)})
        assert world.process is process
        assert (await process.do(partial(process.mob.ask, "a", "q"))).text == "done"
        await process.close()
        again = await world.start(team(), models={"m": slow(1)})
        assert again.store.generation == 2

    simulate(main, 1)


def test_a_late_write_of_a_paused_process_is_refused() -> None:
    """Its question is answered by the process that took over; it itself dies of `StoreLost`."""

    async def main(world: World) -> None:
        old = await world.start(team(), models={"m": slow(1)})
        await old.do(partial(old.mob.send, "a", "before"))
        old.pause()
        assert old.alive
        assert old.paused
        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, old)
            await trio.sleep(30)
            new = await world.restart(take_over=True)
            assert world.process is new
            assert old.alive
            await new.do(partial(new.mob.ask, "a", "after"))
            old.unpause()
            await old.ended.wait()
        assert old.why is not None
        assert "StoreLost" in old.why

    async def refused(old: Process) -> None:
        with pytest.raises(StoreLost):
            await old.do(partial(old.mob.send, "b", "late"))

    run = simulate(main, 1)
    accepted = [e.record.text for e in run.journal["t"] if isinstance(e.record, InputAccepted)]
    assert accepted == ["before", "after"]
    assert {commit.process for commit in run.disk.commits if commit.generation > 1} == {2}


def test_a_pause_that_nobody_used_is_harmless() -> None:
    async def main(world: World) -> None:
        process = await world.start(team(), models={"m": slow(1)})
        process.pause()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(process.do, partial(process.mob.ask, "a", "q")))
            await trio.sleep(30)
            assert len(world.disk.commits) == 1
            process.unpause()

    run = simulate(main, 1)
    assert run.recoveries == {"mob.created": 1}


def test_what_a_definition_has_against_it_is_told_to_whoever_starts() -> None:
    async def main(world: World) -> None:
        process = await world.start(team("a"), models={"m": slow(1)})
        await process.close()
        assert process.why == "closed"
        with pytest.raises(DefinitionChanged):
            await world.start(team("b"), models={"m": slow(1)})

    simulate(main, 1, heal_s=0)


def test_a_task_that_escapes_its_process_is_found() -> None:
    async def main(world: World) -> None:
        def answer(request: ModelRequest) -> str:
            world.nursery.start_soon(trio.sleep, 500, name="escaped")
            return "done"

        process = await world.start(team(), models={"m": ScriptedModel(answer)})
        await process.do(partial(process.mob.ask, "a", "q"))
        await process.close()

    failure = attempt(main, 1).failure
    assert failure is not None
    assert failure.invariant == "no task outlives its nursery"
    assert "escaped: " in failure.message


def test_ids_never_repeat_and_rise_although_the_clock_is_set_back() -> None:
    async def main(world: World) -> None:
        made: list[str] = []
        for _ in range(3):
            process = await world.start(team(), models={"m": ticks(world)})
            ids = process.mob.realm.ports.ids
            drawn = [ids.new() for _ in range(10)]
            world.clock.jump(-3600)
            drawn += [ids.new() for _ in range(10)]
            assert drawn == sorted(drawn)
            assert all(len(each) == 32 and int(each, 16) >= 0 for each in drawn)
            made += drawn
            process.crash()
            await process.ended.wait()
        assert len(set(made)) == 60

    simulate(main, 1)


def test_a_wall_clock_jumps_and_durations_do_not() -> None:
    async def main(world: World) -> None:
        before = world.clock.now_ns()
        await trio.sleep(2)
        assert world.clock.now_ns() - before == 2_000_000_000
        world.clock.jump(-10)
        assert world.clock.now_ns() - before == -8_000_000_000
        assert trio.current_time() == 2

    simulate(main, 1)


def test_a_mob_that_goes_down_while_it_is_healed_is_not_taken_for_idle() -> None:
    """A read fails as the last thing before the faults cease: what was in flight is continued by
    the next process, and nobody is content with this one's being idle."""

    async def main(world: World) -> None:
        process = await world.start(team(), models={"m": slow(5)})
        await process.do(lambda: process.mob.send("a", "hello"))

        async def fail() -> None:
            raise StoreFailed("a read failed", path="here")

        process.mob._nursery.start_soon(fail)

    run = simulate(main, 3)
    assert run.recoveries["mob.with_work"] == 1


def test_a_call_that_ends_a_little_later_than_its_process_leaves_no_task_behind() -> None:
    """What a caller does in tasks of its own is not left over by the process."""

    async def main(world: World) -> None:
        process = await world.start(team(), models={"m": ticks(world)})

        async def call() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep, 5)

        async def asking() -> None:
            with suppress(ProcessDied):
                await process.do(call)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(asking)
            await trio.sleep(1)
            await process.close()

    simulate(main, 3, heal_s=0)
