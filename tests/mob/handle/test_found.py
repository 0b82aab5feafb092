"""What the machine of this folder found, each as a test of its own."""

from __future__ import annotations

import trio

from mob.mob import Mob
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


async def test_requests_keep_the_order_of_sending_over_processes_and_rewinds(
    autojump_clock: object,
) -> None:
    """CONTRACTS 6.9: the oldest is the one that was sent first, whatever their ids are."""
    disk = MemoryDisk()
    sent: list[str] = []

    async def ask(mob: Mob, number: int) -> None:
        text = f"[request {number}] wait"
        with trio.move_on_after(1):
            await mob.request("a", "b", text, 1e6, idempotency_key=f"k {number}")
        sent.append(mob.requests[-1].request_id)

    for number in range(0, 6, 2):
        async with open_memory(disk) as store, open_team(store, Models()) as mob:
            assert [each.request_id for each in mob.requests] == sent
            await ask(mob, number)
            await ask(mob, number + 1)
            assert [each.request_id for each in mob.requests] == sent
            await mob.realm.checkpoint()
    assert sent != sorted(sent), "else this shows nothing"
    async with open_memory(disk) as store, open_team(store, Models()) as mob:
        await mob.wait_idle()
        await mob.snapshot("now")
        await mob.rewind("now")
        assert [each.request_id for each in mob.requests] == sent
        oldest = sent.pop(0)
        await mob.reply(oldest, "yes")
        await mob.retire("b")
        assert mob.requests == ()
