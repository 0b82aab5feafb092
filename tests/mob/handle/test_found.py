"""What the machine of this folder found, each as a test of its own."""

from __future__ import annotations

from stores import MemoryDisk, open_memory
from tests.mob.handle.team import Models, open_team


async def test_peers_keep_the_order_of_joining_over_generations() -> None:
    """CONTRACTS 6.4, 6.5: a member that is respawned keeps its place."""
    async with open_memory() as store, open_team(store, Models()) as mob:
        await mob.wire("b", "c")
        await mob.respawn("a")
        assert mob.members == ("a", "b", "c", "t")
        assert mob.peers_of("b") == ("a", "c", "t")


async def test_a_rewind_takes_back_runs_of_flows_that_have_ended() -> None:
    """CONTRACTS 6.9: the handle knows what the next process will: no run, and no key of one."""
    disk, models = MemoryDisk(), Models()
    async with open_memory(disk) as store, open_team(store, models) as mob:
        await mob.snapshot("before")
        run = await mob.run_flow("report", {"topic": "bees"}, idempotency_key="k")
        await run.result()
        await mob.wait_idle()
        await mob.rewind("before")
        assert mob.flow_runs() == ()
        other = await mob.run_flow("report", {"topic": "wasps"}, idempotency_key="k")
        assert other.id != run.id
        assert (await other.result()).output == "done write done plan wasps"
    async with open_memory(disk) as store, open_team(store, models) as mob:
        assert [each.id for each in mob.flow_runs()] == [other.id]
