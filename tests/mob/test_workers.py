"""The tasks of activations, used again: what the next activation sees of the one before."""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mob.jobs import LiveMember
from mob.roster import Member
from mob.workers import Workers
from runtime.errors import TurnInterrupted
from runtime.ids import SessionId
from runtime.lanes import Lane
from runtime.models.base import ModelRequest
from runtime.records import TurnEnded
from stores import MemoryStore
from tests.mob.mobs import Stuck, asked, define, opened, records

WHO: ContextVar[str] = ContextVar("who", default="nobody")


class _Acts:
    """Activations that end when they are let go, and what each has seen of its task."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[trio.lowlevel.Task, str, str]] = {}
        self.gates: dict[str, trio.Event] = {}

    async def run(self, live: LiveMember, lane: Lane) -> None:
        task, name = trio.lowlevel.current_task(), live.row.name
        self.seen[name] = (task, task.name, WHO.get())
        WHO.set(f"left by {name}")
        gate = self.gates[name] = trio.Event()
        await gate.wait()

    def begin(self, workers: Workers, name: str) -> None:
        WHO.set(f"asker of {name}")
        workers.begin(LiveMember(Member(name, "p", SessionId(name), 1)))


async def _tasks(nursery: trio.Nursery) -> int:
    await wait_all_tasks_blocked()
    return len(nursery.child_tasks)


async def test_a_task_that_is_used_again_looks_as_a_new_one_does() -> None:
    """CONTRACTS 6.8: nothing of one member's activation reaches another's but their task."""
    acts = _Acts()
    async with trio.open_nursery() as nursery:
        workers = Workers(nursery, acts.run)
        for name in "abc":
            acts.begin(workers, name)
        await wait_all_tasks_blocked()
        acts.gates["b"].set()
        await wait_all_tasks_blocked()
        acts.begin(workers, "d")
        await wait_all_tasks_blocked()
        assert acts.seen["d"] == (acts.seen["b"][0], "d", "asker of d")
        assert acts.seen["a"][0] is not acts.seen["b"][0]
        nursery.cancel_scope.cancel()


async def test_tasks_without_work_end_when_nobody_works() -> None:
    """CONTRACTS 6.13: an idle mob has none; a parked one ends with the nursery, too."""
    acts = _Acts()
    async with trio.open_nursery() as nursery:
        workers = Workers(nursery, acts.run)
        for name in "abc":
            acts.begin(workers, name)
        await wait_all_tasks_blocked()
        acts.gates["a"].set()
        acts.gates["b"].set()
        assert await _tasks(nursery) == 3
        acts.gates["c"].set()
        assert await _tasks(nursery) == 0
        acts.begin(workers, "d")
        acts.begin(workers, "e")
        await wait_all_tasks_blocked()
        acts.gates["d"].set()
        assert await _tasks(nursery) == 2
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            assert await _tasks(nursery) == 0
            acts.begin(workers, "f")
            await wait_all_tasks_blocked()
        assert "f" in acts.seen, "it is begun, and cancelled as all are"


async def test_all_rest_at_once_and_the_next_questions_find_their_tasks() -> None:
    """One commit ends all turns in flight: whoever is told asks again a pass later."""
    tasks: list[trio.lowlevel.Task] = []

    def says(request: ModelRequest) -> str:
        tasks.append(trio.lowlevel.current_task())
        return asked(request)

    async with opened(define("a", "b", "c"), says) as mob:

        async def ask(name: str) -> None:
            for text in ("one", "two", "three"):
                assert (await mob.ask(name, text)).text == text

        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(ask, name)
    assert len(tasks) == 9
    assert len(set(map(id, tasks))) <= 4, "one of them is still looking whether it may end"


async def test_an_interrupt_ends_one_turn_of_a_task_and_not_the_next() -> None:
    """CONTRACTS 4.3: each turn is cut off alone, though they share a task and its scope."""
    stuck, store = Stuck(), MemoryStore()
    async with opened(define("a"), stuck, store=store) as mob, trio.open_nursery() as nursery:
        outcomes: list[str] = []

        async def ask(text: str) -> None:
            try:
                outcomes.append((await mob.ask("a", text)).text)
            except TurnInterrupted:
                outcomes.append(f"interrupted {text}")

        for text in ("one", "two", "three", "four"):
            nursery.start_soon(ask, text)
            await wait_all_tasks_blocked()
        for _ in range(2):
            assert mob.interrupt("a")
            await wait_all_tasks_blocked()
        stuck.gate.set()
        await mob.wait_idle()
        await wait_all_tasks_blocked()
    assert sorted(outcomes) == ["done four", "done three", "interrupted one", "interrupted two"]
    assert len(records(store, TurnEnded)) == 4


async def _spoil(lane: Lane, how: str) -> None:
    with lane:
        if how == "error":
            raise ValueError("x")
        if how == "deadline":
            lane.scope.deadline = trio.current_time() + 100
        else:
            lane.scope.cancel()
        if how == "cut":
            await trio.sleep_forever()


@pytest.mark.parametrize("spoil", ["error", "cut", "cancelled in vain", "deadline"])
async def test_a_scope_is_for_others_only_as_long_as_nothing_was_done_to_it(spoil: str) -> None:
    """CONTRACTS 4.3, 6.15: no turn is ended by what was meant for the one before."""
    lane = Lane()
    scopes = [lane.scope]
    for _ in range(2):
        with lane:
            await trio.lowlevel.checkpoint()
        assert lane.scope is scopes[-1]
        with suppress(ValueError):
            await _spoil(lane, spoil)
        scopes.append(lane.scope)
    assert len(set(map(id, scopes))) == 3
    lane.close()
    await trio.lowlevel.checkpoint()


async def test_a_lane_lets_the_cancellation_of_its_task_through() -> None:
    """CONTRACTS 5.11: what cancels the task is not taken for an interrupt."""
    lane = Lane()
    with trio.CancelScope() as outer:
        with lane:
            await trio.lowlevel.checkpoint()
        outer.cancel()
        with lane:
            await trio.sleep_forever()
        raise AssertionError("it went on")
    assert outer.cancelled_caught
    lane.close()
