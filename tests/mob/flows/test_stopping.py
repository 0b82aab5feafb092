"""Runs of flows that are cut off: by a stop, a restart, a member that leaves, another definition.

Both engines where the disk counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mob.errors import MobClosed
from mob.flows.records import FlowEnded, FlowStepEnded, FlowStepStarted, RunState, StepState
from mob.flows.verbs import FlowRun
from mob.mob import Mob
from runtime.models.base import ModelRequest
from runtime.records import InputAccepted
from stores import MemoryDisk, open_lmdb, open_memory
from tests.mob.flows.mobs import a_mob, flow
from tests.mob.held import HeldStore
from tests.mob.mobs import Stuck, asked, check_inputs, define, member, records


@pytest.mark.parametrize("engine", ["memory", "lmdb"])
async def test_a_run_pauses_when_the_mob_stops_and_goes_on_when_it_resumes(
    engine: str, tmp_path: Path
) -> None:
    """CONTRACTS 6.10, 5.11, 5.12: nobody is asked twice, also when it is opened again."""
    stuck = Stuck()
    flows = flow(
        one={"member": "a", "message": "1"},
        two={"member": "b", "message": "2 {{steps.one.output}}", "needs": ["one"]},
    )
    disk = MemoryDisk()

    def opening() -> Any:
        return open_memory(disk) if engine == "memory" else open_lmdb(tmp_path / "store")

    async with opening() as store, a_mob(flows, stuck, store, grace_s=0.0) as mob:
        run = await mob.run_flow("f")
        await stuck.entered.wait()
        await mob.stop(0.0)
        assert mob.folds.flows.running[run.id].steps["one"].state is StepState.RUNNING
        await mob.resume()
        await mob.stop(0.0)
        await mob.close(0.0)
        with pytest.raises(MobClosed):
            await run.result()
    stuck.gate.set()
    async with opening() as store, a_mob(flows, stuck, store) as mob:
        await wait_all_tasks_blocked()
        assert mob.flow_run(run.id).state is RunState.RUNNING
        await mob.resume()
        result = await mob.flow_run(run.id).result()
        assert result.outputs == {"one": "done 1", "two": "done 2 done 1"}
        assert [each.step for each in records(store, FlowStepStarted)] == ["one", "two"]
        assert len(records(store, InputAccepted)) == 2
        check_inputs(store)
    async with opening() as store, a_mob(flows, stuck, store) as mob:
        assert not mob.folds.flows.running
        assert mob.flow_run(run.id).now() == result, "its row says what its records said"


async def test_a_stopped_run_can_be_cancelled() -> None:
    """CONTRACTS 6.10: what it had begun is given up when the mob goes on."""
    stuck = Stuck()
    flows = flow(vote={"profile": "p", "message": "{{member}}"})
    disk = MemoryDisk()
    for reopen in (False, True):
        async with open_memory(disk) as store:
            async with a_mob(flows, stuck, store, grace_s=0.0) as mob:
                if mob.state.value == "stopped":
                    await mob.resume()
                run = await mob.run_flow("f")
                await wait_all_tasks_blocked()
                await mob.stop(0.0)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(run.cancel)
                    nursery.start_soon(run.cancel)
                assert (await run.result()).state is RunState.CANCELLED
                if not reopen:
                    await mob.resume()
                    await mob.wait_idle()
                    assert mob.at_work == ()
                    await mob.stop()
            if reopen:
                async with a_mob(flows, stuck, store) as mob:
                    await mob.resume()
                    await mob.wait_idle()
                    assert mob.at_work == ()
    async with open_memory(disk) as store:
        check_inputs(store)
        assert len(records(store, FlowEnded)) == 2


async def test_a_deadline_is_kept_over_a_restart() -> None:
    """CONTRACTS 6.10: the time of an attempt goes on while the process is away."""
    stuck, disk = Stuck(), MemoryDisk()
    flows = flow(slow={"member": "a", "message": "slow", "timeout_s": 0.2})
    async with open_memory(disk) as store, a_mob(flows, stuck, store, grace_s=0.0) as mob:
        run = await mob.run_flow("f")
        await stuck.entered.wait()
    async with open_memory(disk) as store, a_mob(flows, stuck, store) as mob:
        result = await mob.flow_run(run.id).result()
        (begun,) = records(store, FlowStepStarted)
        (ended,) = records(store, FlowStepEnded)
        assert result.steps["slow"].error == "timed out after 0.2 s"
        assert ended.at_ns - begun.at_ns >= 0
        await mob.wait_idle()


async def test_a_member_that_leaves_answers_nothing() -> None:
    """CONTRACTS 6.10, 6.3: the step fails or goes on without it."""
    stuck = Stuck()
    flows = flow(
        vote={"profile": "p", "message": "{{member}}", "quorum": 2},
        after={"member": "c", "message": "c", "needs": ["vote"]},
    )
    async with a_mob(flows, stuck) as mob:
        run = await mob.run_flow("f")
        await wait_all_tasks_blocked()
        await mob.retire("a")
        await mob.retire("c")
        result = await run.result()
        assert result.state is RunState.FAILED
        assert "2 of 3 answers were wanted, 2 will not come" in str(result.error)
        stuck.gate.set()


async def test_a_run_keeps_the_flow_it_was_started_with() -> None:
    """CONTRACTS 6.10: also when the mob has adopted another one."""
    stuck, disk = Stuck(), MemoryDisk()
    old = flow(a={"member": "a", "message": "old"}, b={"member": "b", "message": "x", "after": "a"})
    new = flow(other={"member": "a", "message": "new"})
    async with open_memory(disk) as store, a_mob(old, stuck, store, grace_s=0.0) as mob:
        run = await mob.run_flow("f")
        await stuck.entered.wait()
    stuck.gate.set()
    async with open_memory(disk) as store, a_mob(new, stuck, store, adopt=True) as mob:
        assert (await mob.flow_run(run.id).result()).outputs == {"a": "done old", "b": "done x"}
        assert (await (await mob.run_flow("f")).result()).output == "done new"


async def test_completing_waits_for_runs_and_destroying_ends_them() -> None:
    """CONTRACTS 6.10, 6.1."""
    flows = flow(
        a={"member": "a", "message": "1"},
        b={"member": "b", "message": "2", "needs": ["a"]},
    )
    async with a_mob(flows) as mob:
        run = await mob.run_flow("f")
        await mob.complete()
        assert run.state is RunState.SUCCEEDED
    stuck = Stuck()
    async with a_mob(flows, stuck) as mob:
        run = await mob.run_flow("f")
        await stuck.entered.wait()
        await mob.stop(0.0)
        await mob.destroy("enough")
        assert (await run.result()).error == "the mob was destroyed: enough"


async def test_a_mob_without_flows_has_the_blueprint_it_always_had() -> None:
    """CONTRACTS 6.9: a stored mob is what it was."""
    assert "flows" not in define("a").blueprint()
    with_one = define("a", flows=flow(s={"member": "a", "message": "x"}))
    assert '"flows": {"f": {"steps": [["s", {"member": "a", "message": "x"}]]}}' in (
        with_one.blueprint()
    )


async def test_a_key_that_looks_like_a_runs_is_somebody_elses() -> None:
    """CONTRACTS 6.9, 6.10: only what a run has asked is given up when it is not wanted."""
    stuck, disk = Stuck(), MemoryDisk()
    async with open_memory(disk) as store, a_mob({}, stuck, store, grace_s=0.0) as mob:
        await mob.send("a", "mine", idempotency_key="flow:x:step:1:0:1")
        await stuck.entered.wait()
    stuck.gate.set()
    async with open_memory(disk) as store, a_mob({}, stuck, store) as mob:
        await mob.wait_idle()
        assert [m.text for m in mob.realm.messages(mob.session_of("a"))] == ["done mine", "mine"]


async def held_at_its_end(mob: Mob, store: HeldStore, gates: dict[str, trio.Event]) -> FlowRun:
    """A run of a vote that any answer ends, whose end is on its way to the disk."""
    run = await mob.run_flow("f")
    await wait_all_tasks_blocked()
    store.hold()
    gates["b"].set()
    await store.wait_held()
    store.release(1)
    await store.wait_held()
    await wait_all_tasks_blocked()
    return run


def gated(gates: dict[str, trio.Event]) -> Any:
    async def says(request: ModelRequest) -> str:
        await gates[member(request)].wait()
        return asked(request)

    return says


VOTE = flow(vote={"profile": "p", "message": "{{member}}", "collect": "any"})


async def test_a_stop_waits_for_what_a_run_has_decided() -> None:
    """CONTRACTS 6.10: once its end is on its way, what it asked is cut off and not gone on with."""
    gates = {name: trio.Event() for name in "abc"}
    store = HeldStore()
    async with a_mob(VOTE, gated(gates), store) as mob:
        run = await held_at_its_end(mob, store, gates)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.stop, 0.0)
            await wait_all_tasks_blocked()
            store.release()
        assert (await run.result()).output == "b"
        await mob.resume()
        await mob.wait_idle()
        assert mob.at_work == ()


async def test_a_stop_that_is_cancelled_leaves_the_runs_running() -> None:
    """CONTRACTS 6.10, 5.11: also while it waited for one of them."""
    gates = {name: trio.Event() for name in "abc"}
    store = HeldStore()
    flows = flow(
        vote={"profile": "p", "message": "{{member}}", "collect": "any"},
        then={"member": "b", "message": "then", "needs": ["vote"]},
    )
    async with a_mob(flows, gated(gates), store) as mob:
        run = await held_at_its_end(mob, store, gates)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.stop, 0.0)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            store.release()
        assert mob.state.value == "running"
        with trio.fail_after(10):
            assert (await run.result()).output == "then"
        gates["a"].set()
        gates["c"].set()


async def test_a_stopped_run_is_cancelled_once(tmp_path: Path) -> None:
    """CONTRACTS 6.10: a run ends exactly once, whoever wants it to, also on a disk that is slow."""
    stuck = Stuck()
    async with open_lmdb(tmp_path / "store") as store:
        async with a_mob(VOTE, stuck, store, grace_s=0.0) as mob:
            run = await mob.run_flow("f")
            await stuck.entered.wait()
            await mob.stop(0.0)
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(run.cancel)
            assert run.state is RunState.CANCELLED
        assert len(records(store, FlowEnded)) == 1


async def test_a_question_moves_to_the_next_generation_of_a_member() -> None:
    """CONTRACTS 6.10, 6.4: also when the process ends before it is answered."""
    stuck, disk = Stuck(), MemoryDisk()
    flows = flow(s={"member": "a", "message": "x"})
    async with open_memory(disk) as store, a_mob(flows, stuck, store, grace_s=0.0) as mob:
        await mob.send("a", "busy")
        run = await mob.run_flow("f")
        await wait_all_tasks_blocked()
        await mob.respawn("a")
        await wait_all_tasks_blocked()
    stuck.gate.set()
    async with open_memory(disk) as store, a_mob(flows, stuck, store) as mob:
        assert (await mob.flow_run(run.id).result()).output == "done x"
        assert len(records(store, FlowStepStarted)) == 1
