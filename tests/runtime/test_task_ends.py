"""How background children end, and who is told: CONTRACTS 1.10, 1.12, 1.13."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime.errors import (
    SessionError,
    TurnFailed,
    TurnInterrupted,
)
from runtime.ids import SessionId
from runtime.manager import RealmSessions
from runtime.messages import TASKS, UserMessage
from runtime.records import (
    SessionArchived,
    TaskEnded,
    TurnEnded,
)
from runtime.session import Lifetime, SessionStatus, TaskState
from stores import MemoryStore
from tests.runtime.fakes import new_session, open_lagging
from tests.runtime.tasking import (
    MANY,
    Desk,
    begin,
    interrupted_turn,
    open_tasks,
    records,
    spawn,
)


async def test_cancelling_a_task_cancels_its_running_turn(autojump_clock: Any) -> None:
    """CONTRACTS 1.13: by its scope; what is below it ends first, and the parent goes on."""
    desk = Desk()
    async with open_tasks(MemoryStore(), desk, limits=MANY) as realm:
        session = await new_session(realm)
        task = await begin(realm, session, "wait a")
        below = await begin(realm, task.task_id, "wait b")
        await wait_all_tasks_blocked()
        given = json.dumps({"task_id": task.task_id, "reason": "enough"})
        told = json.loads(
            (await realm.runner.send_message(session, f"call cancel_task {given}")).text
        )
        assert (told["state"], told["error"]) == ("cancelled", "enough")
        assert desk.cut == ["wait b", "wait a"]
        assert realm.background.running == 0
        ended = [record.session_id for record in records(realm, SessionArchived)]
        assert ended == [below.task_id, task.task_id]
        for each in (task, below):
            assert realm.state.head(each.task_id).status is SessionStatus.ARCHIVED
        again = await realm.runner.cancel_task(session, task.task_id, "again")
        assert again.error == "enough"


async def test_a_terminal_state_is_final(autojump_clock: Any) -> None:
    """CONTRACTS 1.12: a late update is dropped whole: no field and no time of it stays."""
    async with open_tasks(MemoryStore(), Desk()) as realm:
        session = await new_session(realm)
        task = await begin(realm, session, "a")
        task = await realm.runner.wait_task(session, task.task_id)
        head = attrs.evolve(realm.state.head(task.task_id))
        await realm.append(TaskEnded(task.task_id, TaskState.FAILED, 0, "late", 99)).wait()
        assert realm.state.head(task.task_id) == head
        assert await realm.runner.cancel_task(session, task.task_id, "late") == task


async def test_a_tree_of_a_thousand_is_cancelled_and_leaves_no_task_behind(
    autojump_clock: Any,
) -> None:
    """CONTRACTS 1.10, 1.13: deepest first, however many there are."""
    desk = Desk()
    before = trio.lowlevel.current_statistics().tasks_living
    async with open_tasks(MemoryStore(), desk, limits=MANY) as realm:
        session = await new_session(realm)
        for branch in range(20):
            child = await begin(realm, session, f"wait 1 {branch}")
            for leaf in range(49):
                await begin(realm, child.task_id, f"wait 2 {branch} {leaf}")
        await wait_all_tasks_blocked()
        assert realm.background.running == 1_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(interrupted_turn, realm, session)
            await wait_all_tasks_blocked()
            realm.interrupt(session)
        assert realm.background.running == 0
        assert not realm.state.tasks
        assert [text.split()[1] for text in desk.cut[1:]] == ["2"] * 980 + ["1"] * 20
        archived = [record.session_id for record in records(realm, SessionArchived)]
        assert len(set(archived)) == 1_000
        assert realm.state.descendants[session] == (0, 1_000)
        assert isinstance(realm.journal.read(realm.journal.last - 1)[0].record, TurnEnded)
    assert trio.lowlevel.current_statistics().tasks_living == before


@pytest.mark.parametrize("how", ["interrupted", "failed", "archived"])
@pytest.mark.parametrize("lag", [0.0, 1.0])
async def test_linked_children_end_with_their_parent_and_detached_ones_outlive_it(
    how: str, lag: float, autojump_clock: Any
) -> None:
    """CONTRACTS 1.10: before the parent is reported as ended; charged to the root all the same."""
    desk = Desk()
    async with open_lagging(delay_s=lag) as store:
        async with open_tasks(store, desk, limits=MANY) as realm:
            session = await new_session(realm)
            linked = await begin(realm, session, "wait linked")
            deeper = await begin(realm, linked.task_id, "wait deeper")
            detached = await begin(realm, session, "wait on", lifetime=Lifetime.DETACHED)
            kept = await begin(realm, detached.task_id, "wait below")
            apart = await begin(realm, linked.task_id, "wait apart", lifetime=Lifetime.DETACHED)
            await wait_all_tasks_blocked()
            if how == "interrupted":
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(interrupted_turn, realm, session)
                    await trio.sleep(3)
                    realm.interrupt(session)
                desk.cut.remove("wait for ever")
            elif how == "failed":
                with pytest.raises(TurnFailed):
                    await realm.runner.send_message(session, "fail now")
            else:
                await realm.runner.archive_session(session, "over")
            assert desk.cut == ["wait deeper", "wait linked"]
            batch = [
                e.record for e in realm.journal.read() if isinstance(e.record, SessionArchived)
            ]
            over = [deeper.task_id, linked.task_id] + ([session] if how == "archived" else [])
            assert [record.session_id for record in batch] == over
            assert list(realm.state.tasks) == [detached.task_id, kept.task_id, apart.task_id]
            assert realm.background.running == 3
            assert realm.state.descendants[session] == (3, 5)
            for each in (detached, kept, apart):
                assert realm.state.head(each.task_id).lineage.budget_root == session
            desk.gate.set()
            await realm.background.quiet()
            states = {
                each: realm.state.head(each).task for each in (detached.task_id, apart.task_id)
            }
            assert {task.state for task in states.values() if task} == {TaskState.COMPLETED}


async def test_a_parent_that_completes_keeps_its_children_running() -> None:
    """CONTRACTS 1.10: a turn that is answered is no end of the session."""
    async with open_tasks(MemoryStore(), Desk()) as realm:
        session = await new_session(realm)
        task = await begin(realm, session, "wait a")
        await realm.runner.send_message(session, "hello")
        assert (await realm.runner.get_task(session, task.task_id)).state is TaskState.RUNNING


async def test_a_task_that_ends_takes_its_linked_children_with_it() -> None:
    """CONTRACTS 1.10: also one that ends well, and before its own end is told."""
    desk = Desk()
    async with open_tasks(MemoryStore(), desk, limits=MANY) as realm:
        session = await new_session(realm)
        task = await begin(realm, session, spawn("wait linked"))
        task = await realm.runner.wait_task(session, task.task_id)
        assert task.state is TaskState.COMPLETED
        (child,) = await realm.runner.list_tasks(task.task_id)
        assert (child.state, child.error) == (TaskState.CANCELLED, "finished")
        assert desk.cut == ["wait linked"]


async def test_a_foreground_child_that_is_detached_goes_on_when_the_wait_is_cut_off() -> None:
    """CONTRACTS 1.10, 1.12."""
    desk = Desk()
    async with open_tasks(MemoryStore(), desk) as realm:
        session = await new_session(realm)

        async def send() -> None:
            told = spawn("wait a", mode="foreground", lifetime="detached")
            with pytest.raises(TurnInterrupted):
                await realm.runner.send_message(session, told)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            realm.interrupt(session)
        (task,) = await realm.runner.list_tasks(session)
        assert task.state is TaskState.RUNNING
        desk.gate.set()
        await realm.background.quiet()
        assert (await realm.runner.get_task(session, task.task_id)).answer == "done a"


async def test_nothing_is_started_below_what_is_ending(autojump_clock: Any) -> None:
    """CONTRACTS 1.10: an end that waits for one child to unwind takes no other in."""
    slow = trio.Event()

    class Slow(Desk):
        async def __call__(self, request: Any) -> Any:
            try:
                return await Desk.__call__(self, request)
            except trio.Cancelled:
                with trio.CancelScope(shield=True):
                    slow.set()
                    await trio.sleep(2)
                raise

    async with open_tasks(MemoryStore(), Slow(), limits=MANY) as realm:
        session = await new_session(realm)
        task = await begin(realm, session, "wait a")
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(realm.archive, session, "over")
            await slow.wait()
            for parent in (session, task.task_id):
                with pytest.raises(SessionError, match="is ending"):
                    await begin(realm, parent, "wait b")
        assert realm.background.running == 0


async def test_a_tool_that_will_not_unwind_holds_its_parent_s_end_up_for_a_while_only(
    autojump_clock: Any,
) -> None:
    """CONTRACTS 1.10."""

    async def stubborn(_: Any) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(60)
        return ""

    async with open_tasks(MemoryStore(), stubborn) as realm:
        session = await new_session(realm)
        await begin(realm, session, "wait a")
        await wait_all_tasks_blocked()
        began = trio.current_time()
        await realm.archive(session, "over")
        assert trio.current_time() - began == 5
        assert not realm.state.tasks


async def test_a_parent_at_rest_is_told_at_its_next_turn_and_once() -> None:
    """CONTRACTS 1.12: a notice is a durable input that goes with the next turn."""
    desk = Desk()
    async with open_tasks(MemoryStore(), desk, limits=MANY) as realm:
        session = await new_session(realm)
        one = await begin(realm, session, "a", name="one")
        two = await begin(realm, session, "fail b", name="two")
        await realm.background.quiet()
        assert realm.state.head(session).turns == 0
        result = await realm.runner.send_message(session, "hello")
        assert result.text == "said hello"
        assert desk.notices == [
            f"Your background task 'one' ({one.task_id}) has completed. Its answer:\nsaid a",
            f"Your background task 'two' ({two.task_id}) has failed. ValueError: b",
        ]
        said = [m for m in realm.messages(session, order="oldest") if isinstance(m, UserMessage)]
        assert [message.sender for message in said] == [TASKS, TASKS, None]
        desk.notices.clear()
        assert realm.state.head(session).inputs is None
        await realm.runner.send_message(session, "again")
        (turn,) = [r for r in records(realm, TurnEnded) if r.session_id == session][1:]
        assert len(turn.input_ids) == 1


async def test_who_waits_is_not_told_twice(autojump_clock: Any) -> None:
    """CONTRACTS 1.12: and who is cut off while waiting is told all the same."""
    desk = Desk()
    async with open_lagging() as store:
        async with open_tasks(store, desk, limits=MANY) as realm:
            session = await new_session(realm)
            one = await begin(realm, session, "wait a", name="one")
            two = await begin(realm, session, "wait b", name="two")
            await wait_all_tasks_blocked()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(realm.runner.wait_task, session, one.task_id)
                with trio.move_on_after(1.5) as scope:  # its end is on its way to the disk
                    desk.gate.set()
                    await realm.runner.wait_task(session, two.task_id)
                assert scope.cancelled_caught
            await store.barrier()
            waiting = realm.state.head(session).inputs or {}
            assert ["'two'" in each.text for each in waiting.values()] == [True]


async def test_a_child_archived_from_outside_is_an_end_that_its_parent_is_told_of() -> None:
    """CONTRACTS 1.12: in the commit that archives it, once; not who cancelled it itself, and not
    of one that had ended."""
    desk = Desk()
    async with open_tasks(MemoryStore(), desk, limits=MANY) as realm:
        session = await new_session(realm)
        heard: list[SessionId] = []
        realm.background.noticed = heard.append
        task = await begin(realm, session, "wait a")
        below = await begin(realm, task.task_id, "wait b")
        before = realm.journal.last
        await realm.runner.archive_session(task.task_id, "tidied up")
        kinds = [type(event.record).__name__ for event in realm.journal.read(before)]
        assert kinds == ["InputAccepted", "SessionArchived", "SessionArchived"]
        assert heard == [session], "whoever runs it is told too"
        assert (await realm.runner.get_task(session, task.task_id)).error == "tidied up"
        await realm.runner.archive_session(task.task_id, "again")
        mine = await begin(realm, session, "wait c")
        await realm.runner.cancel_task(session, mine.task_id, "enough")
        assert realm.state.head(below.task_id).inputs is None
        await realm.runner.send_message(session, "go")
        assert desk.notices == [
            f"Your background task 'helper' ({task.task_id}) has been cancelled. tidied up"
        ]
        assert heard == [session]


async def test_a_child_that_is_saved_as_archived_is_an_end_too() -> None:
    """CONTRACTS 1.12, 3.3: the same notice, in the commit that saves it."""
    desk = Desk()
    async with open_tasks(MemoryStore(), desk) as realm:
        session = await new_session(realm)
        task = await begin(realm, session, "wait a")
        realm.background.halt()
        await realm.background.quiet()
        manager = RealmSessions(realm)
        value = await manager.resume(task.task_id)
        await manager.save(attrs.evolve(value, status=SessionStatus.ARCHIVED))
        await realm.runner.send_message(session, "go")
        assert [text.partition("has ")[2] for text in desk.notices] == [
            "been cancelled. saved as archived"
        ]


async def test_who_waits_for_a_child_that_is_archived_is_told_by_the_wait() -> None:
    """CONTRACTS 1.12: and by no notice besides."""
    desk = Desk()
    async with open_tasks(MemoryStore(), desk) as realm:
        session = await new_session(realm)
        task = await begin(realm, session, "wait a")
        told: list[Any] = []

        async def wait() -> None:
            told.append(await realm.runner.wait_task(session, task.task_id))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            await realm.runner.archive_session(task.task_id, "tidied up")
        assert (told[0].state, told[0].error) == (TaskState.CANCELLED, "tidied up")
        await realm.runner.send_message(session, "go")
        assert desk.notices == []


async def test_a_long_answer_is_cut_in_the_notice() -> None:
    desk = Desk()
    async with open_tasks(MemoryStore(), desk) as realm:
        session = await new_session(realm)
        await begin(realm, session, "x" * 3_000)
        await realm.background.quiet()
        await realm.runner.send_message(session, "hello")
    assert "[1005 more characters: get_task has the whole]" in desk.notices[0]
    assert len(desk.notices[0]) < 2_200


async def test_a_notice_that_was_in_a_turn_cut_off_is_told_again_with_it(
    autojump_clock: Any,
) -> None:
    """CONTRACTS 1.12 over a crash: consumed by the turn that ends, not by the one that began."""
    store = MemoryStore()
    desk = Desk()
    async with open_tasks(store, desk) as realm:
        session = await new_session(realm)
        await begin(realm, session, "a")
        await realm.background.quiet()
        with trio.move_on_after(1):
            await realm.runner.send_message(session, "wait c", idempotency_key="k")
    desk = Desk()
    desk.gate.set()
    async with open_tasks(store, desk) as realm:
        result = await realm.runner.send_message(session, "wait c", idempotency_key="k")
        assert result.text == "done c"
        assert len(desk.notices) == 1
        assert realm.state.head(session).inputs is None
        (turn,) = [r for r in records(realm, TurnEnded) if r.session_id == session]
        assert len(turn.input_ids) == 2


async def test_inputs_that_wait_are_not_looked_through_for_notices() -> None:
    """A member with a long queue pays nothing for having no children."""

    class Untouched(dict[Any, Any]):
        def values(self) -> Any:
            raise AssertionError("looked through")

    async with open_tasks(MemoryStore(), Desk()) as realm:
        session = await new_session(realm)
        head = realm.state.head(session)
        head.inputs = Untouched()
        assert realm.state.notices(head) == ()


@pytest.mark.parametrize("lifetime", Lifetime)
async def test_a_child_on_its_way_when_its_parent_ends_lives_only_if_it_is_detached(
    lifetime: Lifetime, autojump_clock: Any
) -> None:
    """CONTRACTS 1.10 over a slow disk."""
    desk = Desk()
    async with open_lagging() as store:
        async with open_tasks(store, desk) as realm:
            session = await new_session(realm)

            async def start() -> None:
                await begin(realm, session, "wait a", lifetime=lifetime)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(start)
                await trio.sleep(0.1)
                nursery.start_soon(realm.archive, session, "over")
            await wait_all_tasks_blocked()
            detached = lifetime is Lifetime.DETACHED
            assert realm.background.running == len(realm.state.tasks) == detached
