"""What goes on in a mob that was brought back: snapshots, keys, budgets, limits, readers."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from mob.mob import Mob
from runtime.errors import BudgetExceeded, LimitExceeded
from runtime.ids import RealmId
from runtime.messages import Usage
from runtime.models.base import ModelReply, ModelRequest
from runtime.store import TAIL, StoredSessions
from stores import MemoryStore
from tests.mob.held import HeldStore
from tests.mob.journeys import said, team
from tests.mob.mobs import Stuck, asked, opened


async def _saved(mob: Mob, name: str) -> list[str]:
    """What the member's snapshot says, once all that is due is saved."""
    await mob._gate.flush()
    snapshot = await StoredSessions(mob.realm.store, RealmId(mob.id)).load(mob.session_of(name))
    assert snapshot is not None
    return [message.text for message in snapshot.messages]


@pytest.mark.parametrize("at_once", [False, True])
async def test_snapshots_are_of_the_history_that_is_there(at_once: bool) -> None:
    """CONTRACTS 5.2, 6.12: whether or not they were written before the next turn."""
    async with opened(team(), store=MemoryStore()) as mob:
        await mob.ask("a", "one")
        await mob.snapshot("start")
        await mob.ask("a", "two")
        assert await _saved(mob, "a") == ["one", "one", "two", "two"]
        left = await mob.rewind("start")
        if at_once:
            assert await _saved(mob, "a") == ["one", "one"]
        await mob.ask("a", "three")
        assert await _saved(mob, "a") == ["one", "one", "three", "three"]
        await mob.rewind(left.label)
        assert await _saved(mob, "a") == ["one", "one", "two", "two"]


async def test_a_snapshot_knows_histories_apart_that_end_alike() -> None:
    """CONTRACTS 5.2, 6.12: those of two branches, by more than by what was said last."""
    async with opened(team(), store=MemoryStore()) as mob:
        await mob.snapshot("start")
        for first in ("two", "three"):
            await mob.ask("a", first)
            for _ in range(TAIL // 2):
                await mob.ask("a", "the same")
            assert (await _saved(mob, "a"))[0] == first
            await mob.rewind("start")


@pytest.mark.parametrize("back", [False, True])
async def test_in_the_instant_of_a_rewind_a_history_is_that_of_its_branch(back: bool) -> None:
    """CONTRACTS 2.7, 6.12: found by simulation: a snapshot in the instant in which it landed had
    the new head and the messages of the old branch."""
    store = HeldStore()
    async with opened(team(), store=store) as mob:
        await mob.ask("a", "one")
        await mob.snapshot("start")
        await mob.ask("a", "two")
        left = await mob.rewind("start")
        await mob.ask("a", "three")
        store.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mob.rewind, left.label if back else "start")
            await store.wait_held()
            store.release(1)
            seen = said(mob, "a")
            store.release()
        assert seen == said(mob, "a") == ["one", "one", *(["two", "two"] if back else [])]


async def test_an_interrupt_of_what_was_left_behind_ends_no_turn(autojump_clock: Any) -> None:
    """CONTRACTS 4.3, 6.12: of a turn that a stop gave up on before it could end so."""
    gone = trio.Event()

    async def deaf(request: ModelRequest) -> str:
        if asked(request) == "one":
            with trio.CancelScope(shield=True):
                await gone.wait()
        return asked(request)

    async with opened(team(), deaf, store=MemoryStore()) as mob:
        await mob.snapshot("start")
        await mob.send("a", "one")
        await trio.testing.wait_all_tasks_blocked()
        assert mob.interrupt("a")
        try:
            assert (await mob.stop(deadline_s=0)).stuck == ("a",)
            await mob.rewind("start")
            await mob.resume()
            assert (await mob.ask("a", "two")).text == "two"
        finally:
            gone.set()


async def test_an_input_that_waits_again_has_its_key(autojump_clock: Any) -> None:
    """CONTRACTS 5.7, 6.12: whatever became of it since."""
    stuck = Stuck()
    async with opened(team(), stuck, store=MemoryStore()) as mob:
        await mob.send("a", "first")
        await mob.send("a", "second", idempotency_key="k")
        await stuck.entered.wait()
        await mob.snapshot("start")
        stuck.gate.set()
        await mob.wait_idle()
        await mob.realm.checkpoint()
        await mob.rewind("start")
        assert (await mob.ask("a", "second", idempotency_key="k")).text == "done second"
        await mob.wait_idle()
        assert said(mob, "a") == ["first", "done first", "second", "done second"]


async def test_budgets_and_limits_count_what_is_there_again() -> None:
    """CONTRACTS 6.12, 6.15."""

    def answer(request: ModelRequest) -> ModelReply:
        return ModelReply(asked(request), usage=Usage(10, 0, 1))

    parts: Any = {"budget": {"tokens": 25}, "limits": {"turns": 5}}
    async with opened(team(**parts), answer, store=MemoryStore()) as mob:
        await mob.ask("a", "one")
        await mob.snapshot("start")
        await mob.ask("b", "two")
        await mob.rewind("start")
        for text in ("three", "four"):
            await mob.ask("a", text)
        with pytest.raises(BudgetExceeded) as found:
            await mob.ask("a", "five")
        assert found.value.spent == 30
        await mob.send("a", "the fifth")
        with pytest.raises(LimitExceeded, match="still to do, 5"):
            await mob.send("a", "the sixth")


async def test_whoever_reads_a_fork_from_any_of_its_records_waits_for_the_next() -> None:
    """CONTRACTS 6.12: also one that is there up to its end, and costs nothing until there is
    more."""
    async with opened(team(), store=MemoryStore()) as mob:
        await mob.ask("a", "one")
        await mob.fork("u")
        async with opened(team("u"), store=mob.realm.store) as fork:
            await fork.ask("a", "two")
            last, seen, looks = fork.realm.journal.last, list[int](), 0
            read = fork.realm.journal.read

            def counted(after: int = 0, limit: int = 100) -> Any:
                nonlocal looks
                looks += 1
                return read(after, limit)

            fork.realm.journal.read = counted  # type: ignore[method-assign]

            async def follow() -> None:
                async for event in fork.realm.journal.follow(last - 1):
                    seen.append(event.seq)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow)
                await trio.testing.wait_all_tasks_blocked()
                assert (seen, looks) == ([last], 2)
                await fork.send("a", "three")
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            assert seen == list(range(last, fork.realm.journal.last + 1))
