"""Background children over crashes, damage, retention, forks: CONTRACTS 1.9, 1.12, 2.2, 3.4."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import msgpack
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime.errors import (
    TaskNotFound,
)
from runtime.heads import FORMAT
from runtime.manager import RealmSessions
from runtime.messages import ToolResult, UserMessage
from runtime.ports import Ports
from runtime.records import (
    TaskEnded,
    TaskStarted,
    TurnProgressed,
)
from runtime.retention import Retention
from runtime.session import Lifetime, TaskState
from stores import MemoryStore, open_lmdb
from tests.runtime.fakes import make_realm, new_session, open_lagging
from tests.runtime.tasking import (
    MANY,
    Desk,
    begin,
    open_tasks,
    records,
    spawn,
)


@pytest.mark.parametrize("checkpointed", [False, True])
async def test_a_reopened_realm_takes_its_running_children_up(
    tmp_path: Path, checkpointed: bool
) -> None:
    """CONTRACTS 1.12: by rows and by the journal alone; the wait finds them again, lifetimes
    and results stay."""
    async with open_lmdb(tmp_path) as store, open_tasks(store, Desk(), limits=MANY) as realm:
        session = await new_session(realm)
        over = await begin(realm, session, "a", name="over")
        over = await realm.runner.wait_task(session, over.task_id)
        linked = await begin(realm, session, "wait b")
        detached = await begin(realm, session, "wait c", lifetime=Lifetime.DETACHED)
        await wait_all_tasks_blocked()
        if checkpointed:
            await realm.checkpoint()
        before = await realm.runner.list_tasks(session)
    desk = Desk()
    async with open_lmdb(tmp_path) as store, open_tasks(store, desk, limits=MANY) as realm:
        after = await realm.runner.list_tasks(session)
        assert [attrs.evolve(each, doing="") for each in before] == list(after)
        await wait_all_tasks_blocked()
        assert realm.background.running == 2
        desk.gate.set()
        assert (await realm.runner.wait_task(session, linked.task_id)).answer == "done b"
        assert (await realm.runner.wait_task(session, detached.task_id)).answer == "done c"
        assert await realm.runner.get_task(session, over.task_id) == over
        await realm.checkpoint()
    async with open_lmdb(tmp_path) as store, open_tasks(store, Desk()) as realm:
        assert realm.background.running == 0
        assert (await realm.runner.get_task(session, linked.task_id)).answer == "done b"


@pytest.mark.parametrize("lag", [0.0, 1.0])
@pytest.mark.parametrize("cut_at", [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5])
async def test_cut_off_anywhere_there_is_one_child_and_one_answer(
    cut_at: float, lag: float, autojump_clock: Any
) -> None:
    """CONTRACTS 1.9, 1.12: the process ends at any instant of spawning and waiting."""

    async def say(request: Any) -> Any:
        await trio.sleep(1)
        last = request.messages[-1]
        if isinstance(last, ToolResult):
            told = json.loads(last.text)
            if told["state"] == "running":
                return await desk_call("wait_task", task_id=told["task_id"])
            return f"heard {told['answer']}"
        if last.text == "help":
            return "child's answer"
        return await desk_call("spawn_agent", name="n", instructions="help", mode="background")

    async def desk_call(tool: str, **given: Any) -> Any:
        return await Desk()(request_of(f"call {tool} {json.dumps(given)}"))

    inner = MemoryStore()
    async with open_lagging(inner, lag) as store:
        async with open_tasks(store, say) as realm:
            session = await new_session(realm)
            with trio.move_on_after(cut_at):
                await realm.runner.send_message(session, "go", idempotency_key="k")
        await store.barrier()
        async with open_tasks(store, say) as realm:
            result = await realm.runner.send_message(session, "go", idempotency_key="k")
            assert result.text == "heard child's answer"
            await realm.background.quiet()
            await store.barrier()
            (child,) = realm.state.head(session).children or []
            assert len(records(realm, TaskEnded)) == 1
            assert realm.state.head(child).turns == 1
            assert realm.state.descendants[session] == (0, 1)


class VirtualClock:
    """Wall-clock time that goes as Trio's clock does, from one second past the epoch."""

    def now_ns(self) -> int:
        return 1_000_000_000 + round(trio.current_time() * 1e9)


@pytest.mark.parametrize(("down_s", "more_s"), [(2, 5), (20, 0)])
@pytest.mark.parametrize("checkpointed", [False, True])
async def test_a_wait_that_is_repeated_ends_when_the_first_one_would_have(
    down_s: float, more_s: float, checkpointed: bool, autojump_clock: Any
) -> None:
    """CONTRACTS 1.12: the call was made before the crash, and its timeout counts from there; by
    rows and by the journal alone, also if several processes are cut off in it."""
    store, ports = MemoryStore(), Ports(VirtualClock())
    async with open_tasks(store, Desk(), ports=ports) as realm:
        session = await new_session(realm)
        task = await begin(realm, session, "wait a")
        given = json.dumps({"task_id": task.task_id, "timeout_s": 10})
        await trio.sleep(100)
        with trio.move_on_after(2):
            await realm.runner.send_message(session, f"call wait_task {given}", idempotency_key="k")
        if checkpointed:
            await realm.checkpoint()
    for _ in range(2):
        async with open_tasks(store, Desk(), ports=ports) as realm:
            with trio.move_on_after(0.5):
                await realm.runner.send_message(session, "", idempotency_key="k")
    await trio.sleep(down_s)
    async with open_tasks(store, Desk(), ports=ports) as realm:
        began = trio.current_time()
        told = json.loads((await realm.runner.send_message(session, "", idempotency_key="k")).text)
        assert (told["state"], told["timed_out"]) == ("running", True)
        assert trio.current_time() - began == pytest.approx(more_s, abs=0.001)


def request_of(text: str) -> Any:
    @attrs.frozen
    class Asked:
        messages: tuple[Any, ...]

    return Asked((UserMessage(text),))


async def test_what_was_halted_is_continued_and_not_repeated(autojump_clock: Any) -> None:
    """CONTRACTS 5.11, 5.12: as `stop` and `resume` of a mob do."""
    desk = Desk()
    async with open_lagging() as store:
        async with open_tasks(store, desk) as realm:
            session = await new_session(realm)
            task = await begin(realm, session, "wait a")
            await wait_all_tasks_blocked()
            realm.background.halt()
            realm.background.resume()
            await trio.sleep(5)
            assert desk.seen == ["wait a", "wait a"]
            realm.background.halt()
            await realm.background.quiet()
            assert (await realm.runner.get_task(session, task.task_id)).state is TaskState.RUNNING
            desk.gate.set()
            realm.background.resume()
            assert (await realm.runner.wait_task(session, task.task_id)).turns == 1


async def test_a_quarantined_task_has_failed_and_wakes_who_waits(autojump_clock: Any) -> None:
    """CONTRACTS 2.2: damage is said; nobody waits for it for ever, and it is not continued."""
    desk = Desk()
    async with open_tasks(MemoryStore(), desk) as realm:
        session = await new_session(realm)
        task = await begin(realm, session, "wait a")
        await realm.runner.message_task(session, task.task_id, "b", key="k")
        await wait_all_tasks_blocked()
        realm.state.quarantine(task.task_id, "broken")
        desk.gate.set()
        found = await realm.runner.wait_task(session, task.task_id)
        assert (found.state, found.error) == (TaskState.FAILED, "it is quarantined: broken")
        realm.background.resume()
        await wait_all_tasks_blocked()
        assert realm.background.running == 0
        await RealmSessions(realm).delete(task.task_id)
        with pytest.raises(TaskNotFound):
            await realm.runner.get_task(session, task.task_id)
        assert not realm.state.tasks


async def test_a_quarantined_parent_is_told_nothing() -> None:
    desk = Desk()
    async with open_tasks(MemoryStore(), desk) as realm:
        session = await new_session(realm)
        task = await begin(realm, session, "wait a")
        realm.state.quarantine(session, "broken")
        desk.gate.set()
        await realm.background.quiet()
        assert realm.state.heads[task.task_id].task is not None
        assert len(records(realm, TaskEnded)) == 1


async def test_a_mended_task_comes_to_its_end() -> None:
    """CONTRACTS 3.5: rewound to before the damage it has nothing left to do."""
    desk = Desk()
    async with open_tasks(MemoryStore(), desk) as realm:
        session = await new_session(realm)
        task = await begin(realm, session, "a")
        await realm.runner.message_task(session, task.task_id, "wait b", key="k")
        while realm.state.head(task.task_id).turns < 1:
            await trio.lowlevel.checkpoint()
        realm.background.halt()
        await realm.background.quiet()
        realm.state.quarantine(task.task_id, "broken")
        realm.background.resume()
        await RealmSessions(realm).rewind(task.task_id, 0)
        found = await realm.runner.wait_task(session, task.task_id)
        assert (found.state, found.answer) == (TaskState.COMPLETED, "said a")


async def test_what_a_task_answered_outlives_retention_and_what_is_deleted_does_not() -> None:
    """CONTRACTS 3.7."""
    store = MemoryStore()
    async with open_tasks(store, Desk()) as realm:
        session = await new_session(realm)
        kept = await begin(realm, session, "a")
        gone = await begin(realm, session, "b")
        await realm.background.quiet()
        await realm.runner.send_message(session, "hello")
        await RealmSessions(realm).delete(gone.task_id)
        await Retention(realm, 0).run()
        assert (await realm.runner.get_task(session, kept.task_id)).answer == "said a"
        assert [r.session_id for r in records(realm, TaskStarted)] == [kept.task_id]
        heads = realm.state.heads
        rebuilt = await realm.recovery.rebuilt()
        assert {each: head.task for each, head in rebuilt.state.heads.items()} == {
            each: head.task for each, head in heads.items()
        }
    async with open_tasks(store, Desk()) as realm:
        assert (await realm.runner.get_task(session, kept.task_id)).answer == "said a"


async def test_forks_have_no_tasks_and_a_rewind_keeps_them() -> None:
    """CONTRACTS 3.4, 3.5: tasks belong to the session, not to its history."""
    async with open_tasks(MemoryStore(), Desk(), limits=MANY) as realm:
        manager = RealmSessions(realm)
        session = await new_session(realm)
        await realm.runner.send_message(session, "first")
        await realm.runner.send_message(session, spawn("a"))
        await realm.background.quiet()
        (task,) = await realm.runner.list_tasks(session)
        fork = await manager.fork(session)
        assert await realm.runner.list_tasks(fork.session_id) == ()
        child_fork = await manager.fork(task.task_id)
        assert child_fork.task is None
        assert (await realm.runner.send_message(child_fork.session_id, "x")).text == "said x"
        await manager.rewind(session, 0)
        assert await realm.runner.list_tasks(session) == (task,)
        assert len(realm.state.head(session).inputs or ()) == 1


async def test_a_realm_that_starts_no_such_child_writes_what_it_always_wrote() -> None:
    """The rows of other sessions have the layout that every version reads."""
    realm = make_realm(MemoryStore(), ["x"])
    session = await new_session(realm)
    await realm.runner.send_message(session, "hi")
    row = realm.state.row(session)
    assert row is not None
    assert msgpack.unpackb(row)[0] == FORMAT
    assert realm.state.head(session).metadata().task is None


async def test_waiting_and_resting_cost_no_time_and_no_task(autojump_clock: Any) -> None:
    """No polling: while children park, the clock jumps from event to event and nothing runs."""
    desk = Desk()
    async with open_tasks(MemoryStore(), desk, limits=MANY) as realm:
        session = await new_session(realm)
        task = await begin(realm, session, "wait a")
        await wait_all_tasks_blocked()
        tasks = trio.lowlevel.current_statistics().tasks_living
        ran = _Steps()
        trio.lowlevel.add_instrument(ran)
        await realm.runner.wait_task(session, task.task_id, 3_600)
        trio.lowlevel.remove_instrument(ran)
        assert ran.count < 10
        assert trio.lowlevel.current_statistics().tasks_living == tasks
        assert not realm.background._waiting


class _Steps(trio.abc.Instrument):
    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: Any) -> None:
        self.count += 1


async def test_a_task_in_flight_is_journalled_like_any_turn() -> None:
    """CONTRACTS 1.12, 6.9: a tool that has finished is not run again by the next process."""
    store = MemoryStore()
    async with open_tasks(store, Desk(), limits=MANY) as realm:
        session = await new_session(realm)
        await begin(realm, session, spawn("wait x"))
        await wait_all_tasks_blocked()
        assert records(realm, TurnProgressed)
        before = len(realm.state.heads)
    async with open_tasks(store, Desk(), limits=MANY) as realm:
        await wait_all_tasks_blocked()
        assert len(realm.state.heads) == before
