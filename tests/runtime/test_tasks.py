"""Background children: CONTRACTS 1.8 to 1.10 and 1.12 to 1.14 for those that run beside a turn."""

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
    LimitExceeded,
    SessionBusy,
    SessionError,
    TaskNotFound,
    TurnFailed,
    TurnInterrupted,
    Unsupported,
)
from runtime.heads import FORMAT
from runtime.ids import SessionId
from runtime.manager import RealmSessions
from runtime.messages import TASKS, ToolOutcome, ToolResult, UserMessage
from runtime.realm import Realm
from runtime.records import (
    InputAccepted,
    SessionArchived,
    SessionCreated,
    TaskEnded,
    TaskStarted,
    TurnEnded,
    TurnProgressed,
)
from runtime.retention import Retention
from runtime.session import Lifetime, SessionStatus, TaskState
from runtime.spawning import SpawnLimits
from stores import MemoryStore, open_lmdb
from tests.runtime.fakes import make_realm, new_session, open_lagging
from tests.runtime.tasking import Desk, begin, open_tasks, spawn

MANY = SpawnLimits(max_depth=4, max_active=2_000, max_total=4_000)


def records(realm: Realm, kind: type) -> list[Any]:
    return [e.record for e in realm.journal.read(0, 100_000) if type(e.record) is kind]


def last_result(realm: Realm, session: SessionId) -> ToolResult:
    found = realm.messages(session)
    return next(message for message in found if isinstance(message, ToolResult))


async def test_a_child_in_the_background_lets_its_parent_go_on(autojump_clock: Any) -> None:
    """CONTRACTS 1.12: the call returns the task's id at once; the task has its end on disk."""
    desk = Desk()
    async with open_tasks(MemoryStore(), desk) as realm:
        session = await new_session(realm, agent_id="lead", locale="de")
        result = await realm.runner.send_message(session, spawn("wait a"))
        told = json.loads(result.text)
        assert (told["name"], told["state"]) == ("helper", "running")
        await wait_all_tasks_blocked()
        (task,) = await realm.runner.list_tasks(session)
        assert (task.task_id, task.state, task.doing) == (
            told["task_id"],
            TaskState.RUNNING,
            "model",
        )
        desk.gate.set()
        task = await realm.runner.wait_task(session, task.task_id)
        assert (task.state, task.answer, task.turns, task.timed_out) == (
            TaskState.COMPLETED,
            "done a",
            1,
            False,
        )
        head = realm.state.head(task.task_id)
        assert (head.title, head.agent_id, head.locale) == ("helper", "lead", "de")
        assert (head.lineage.parent, head.lineage.depth) == (session, 1)
        assert head.status is SessionStatus.ARCHIVED
        assert realm.state.descendants[session] == (0, 1)
        await realm.background.quiet()
        assert not realm.state.tasks


async def test_a_child_and_its_work_are_one_commit() -> None:
    """CONTRACTS 1.8, 1.9: whatever instant the process ends, no child is there without its task."""
    store = MemoryStore()
    async with open_tasks(store, Desk()) as realm:
        session = await new_session(realm)
        before = realm.journal.last
        await begin(realm, session, "wait a")
        kinds = [type(event.record) for event in realm.journal.read(before)]
    assert kinds[:3] == [SessionCreated, TaskStarted, InputAccepted]


async def test_tasks_are_listed_in_order_of_creation_and_only_to_their_parent() -> None:
    """CONTRACTS 1.12."""
    async with open_tasks(MemoryStore(), Desk(), limits=MANY) as realm:
        session, other = await new_session(realm), await new_session(realm)
        made = [(await begin(realm, session, f"wait {n}")).task_id for n in range(5)]
        foreground = await new_session(realm, parent=session)
        assert [each.task_id for each in await realm.runner.list_tasks(session)] == made
        assert await realm.runner.list_tasks(other) == ()
        for wrong in (SessionId("nobody"), foreground, session):
            with pytest.raises(TaskNotFound, match=made[0]):
                await realm.runner.get_task(session, wrong)
        with pytest.raises(TaskNotFound, match="started none"):
            await realm.runner.get_task(other, made[0])


@pytest.mark.parametrize(
    "tool",
    ["get_task", "wait_task", "cancel_task", "message_task"],
)
async def test_an_unknown_task_is_data_for_the_model(tool: str) -> None:
    """CONTRACTS 1.12."""
    async with open_tasks(MemoryStore(), Desk()) as realm:
        session = await new_session(realm)
        given = {"task_id": "t1"} | ({"message": "x"} if tool == "message_task" else {})
        await realm.runner.send_message(session, f"call {tool} {json.dumps(given)}")
        answer = last_result(realm, session)
    assert answer.outcome is ToolOutcome.ERROR
    assert answer.text == "error: there is no task 't1'; you have started none"


async def test_a_wait_that_times_out_is_a_snapshot(autojump_clock: Any) -> None:
    """CONTRACTS 1.12: it says `timed_out` and is no error; the task goes on."""
    desk = Desk()
    async with open_tasks(MemoryStore(), desk) as realm:
        session = await new_session(realm)
        task = await begin(realm, session, "wait a")
        began = trio.current_time()
        given = json.dumps({"task_id": task.task_id, "timeout_s": 5})
        told = json.loads(
            (await realm.runner.send_message(session, f"call wait_task {given}")).text
        )
        assert trio.current_time() - began == 5
        assert (told["state"], told["timed_out"]) == ("running", True)
        assert last_result(realm, session).outcome is ToolOutcome.OK
        desk.gate.set()
        assert (await realm.runner.wait_task(session, task.task_id)).answer == "done a"
        again = await realm.runner.wait_task(session, task.task_id, 0)
        assert (again.answer, again.timed_out) == ("done a", False)


async def test_a_message_is_worked_on_after_what_the_task_does_now() -> None:
    """CONTRACTS 1.12: the task ends when nothing is left, with its last answer."""
    desk = Desk()
    async with open_tasks(MemoryStore(), desk) as realm:
        session = await new_session(realm)
        task = await begin(realm, session, "wait a")
        given = json.dumps({"task_id": task.task_id, "message": "and b"})
        await realm.runner.send_message(session, f"call message_task {given}")
        assert (await realm.runner.get_task(session, task.task_id)).state is TaskState.RUNNING
        desk.gate.set()
        task = await realm.runner.wait_task(session, task.task_id)
        assert (task.turns, task.answer) == (2, "said and b")
        with pytest.raises(SessionError, match="has ended"):
            await realm.runner.message_task(session, task.task_id, "late", key="k")
        assert (await realm.runner.get_task(session, task.task_id)).turns == 2


async def test_a_message_sent_twice_for_one_call_is_one_message() -> None:
    """CONTRACTS 1.9, 1.12: also if the task has ended meanwhile."""
    desk = Desk()
    async with open_tasks(MemoryStore(), desk) as realm:
        session = await new_session(realm)
        task = await begin(realm, session, "wait a")
        for _ in range(2):
            await realm.runner.message_task(session, task.task_id, "b", key="k")
        desk.gate.set()
        assert (await realm.runner.wait_task(session, task.task_id)).turns == 2
        again = await realm.runner.message_task(session, task.task_id, "b", key="k")
        assert again.state is TaskState.COMPLETED


async def test_a_message_that_arrives_as_the_last_turn_ends_is_not_lost(
    autojump_clock: Any,
) -> None:
    """CONTRACTS 1.12: on a slow disk the task looks for it before it ends."""
    desk = Desk()
    async with open_lagging() as store:
        async with open_tasks(store, desk) as realm:
            session = await new_session(realm)
            task = await begin(realm, session, "wait a")
            await wait_all_tasks_blocked()

            async def send() -> None:
                await realm.runner.message_task(session, task.task_id, "b", key="k")

            async with trio.open_nursery() as nursery:
                desk.gate.set()
                await trio.sleep(0.5)  # its turn's end is on its way
                nursery.start_soon(send)
            task = await realm.runner.wait_task(session, task.task_id)
            assert (task.turns, task.answer) == (2, "said b")


@pytest.mark.parametrize("lifetime", Lifetime)
async def test_a_task_that_fails_says_why(lifetime: Lifetime) -> None:
    """CONTRACTS 1.2, 1.12: a child's failure is its own; it crashes nobody."""
    async with open_tasks(MemoryStore(), Desk()) as realm:
        session = await new_session(realm)
        task = await begin(realm, session, "fail because", lifetime=lifetime)
        task = await realm.runner.wait_task(session, task.task_id)
        assert (task.state, task.error, task.answer) == (
            TaskState.FAILED,
            "ValueError: because",
            None,
        )
        assert (await realm.runner.send_message(session, "still here")).text == "said still here"


@pytest.mark.parametrize("mode", ["background", "foreground"])
@pytest.mark.parametrize("lifetime", ["linked", "detached"])
async def test_an_answer_under_a_schema_is_checked_and_parsed(mode: str, lifetime: str) -> None:
    """CONTRACTS 1.12: with the machinery of structured output, retries and all."""
    answers = iter(['{"n": "x"}', '{"n": 7}'])
    desk = Desk()

    async def say(request: Any) -> Any:
        return next(answers) if request.output_schema is not None else await desk(request)

    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    async with open_tasks(MemoryStore(), say) as realm:
        session = await new_session(realm)
        told = spawn("count", output_schema=schema, lifetime=lifetime, mode=mode)
        said = json.loads((await realm.runner.send_message(session, told)).text)
        if mode == "foreground":
            assert said == {"n": 7}
        else:
            task = await realm.runner.wait_task(session, said["task_id"])
            assert (task.output, task.answer) == ({"n": 7}, '{"n": 7}')
        bad = spawn("count", output_schema={"type": "nothing"}, lifetime=lifetime, mode=mode)
        await realm.runner.send_message(session, bad)
        assert "not a JSON Schema" in last_result(realm, session).text
        assert len(realm.state.head(session).children or ()) == 1


async def test_an_answer_that_never_fits_is_a_task_that_failed() -> None:
    """CONTRACTS 1.12."""

    async with open_tasks(MemoryStore(), Desk()) as realm:
        session = await new_session(realm)
        told = json.loads(
            (
                await realm.runner.send_message(
                    session, spawn("x", output_schema={"type": "integer"})
                )
            ).text
        )
        task = await realm.runner.wait_task(session, told["task_id"])
    assert task.state is TaskState.FAILED
    assert "does not fit its schema" in (task.error or "")


# -- cancelling ------------------------------------------------------------------------------


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
            nursery.start_soon(_interrupted, realm, session)
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


async def _interrupted(realm: Realm, session: SessionId) -> None:
    with pytest.raises(TurnInterrupted):
        await realm.runner.send_message(session, "wait for ever")


# -- lifetimes -------------------------------------------------------------------------------


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
                    nursery.start_soon(_interrupted, realm, session)
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


# -- limits, and what is not supported ---------------------------------------------------------


@pytest.mark.parametrize("lag", [0.0, 1.0])
async def test_limits_hold_however_many_are_spawned_at_once(
    lag: float, autojump_clock: Any
) -> None:
    """CONTRACTS 1.8."""
    limits = SpawnLimits(max_active=3)
    async with open_lagging(delay_s=lag) as store:
        async with open_tasks(store, Desk(), limits=limits) as realm:
            session = await new_session(realm)
            refused: list[LimitExceeded] = []

            async def one() -> None:
                try:
                    await begin(realm, session, "wait a")
                except LimitExceeded as error:
                    refused.append(error)

            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(one)
            assert len(refused) == 7
            assert realm.state.descendants[session] == (3, 3)
            assert len(realm.state.tasks) == 3


async def test_a_replayed_spawn_finds_its_child(autojump_clock: Any) -> None:
    """CONTRACTS 1.9: whoever waits for it, and after it has ended."""
    async with open_lagging() as store:
        async with open_tasks(store, Desk()) as realm:
            session = await new_session(realm)
            with trio.move_on_after(0.5):
                await begin(realm, session, "a", spawn_key="k")
            again = await begin(realm, session, "a", spawn_key="k")
            await realm.background.quiet()
            ended = await begin(realm, session, "a", spawn_key="k")
            assert (ended.task_id, ended.answer) == (again.task_id, "said a")
            assert realm.state.head(session).children == [again.task_id]


async def test_a_runner_that_cannot_run_in_the_background_says_so() -> None:
    """CONTRACTS 1.14: it names the operation, creates nothing, and the model is told."""
    async with open_tasks(MemoryStore(), Desk(), serve=False) as realm:
        session = await new_session(realm)
        with pytest.raises(Unsupported) as found:
            await begin(realm, session, "a")
        assert found.value.operation == "background children"
        await realm.runner.send_message(session, spawn("a"))
        answer = last_result(realm, session)
        assert (answer.outcome, "does not support background" in answer.text) == (
            ToolOutcome.ERROR,
            True,
        )
        assert realm.state.head(session).children is None


async def test_a_task_is_driven_by_nobody_else() -> None:
    """CONTRACTS 4.2: the loser of a race is told; a finished one takes nothing."""
    async with open_tasks(MemoryStore(), Desk()) as realm:
        session = await new_session(realm)
        task = await begin(realm, session, "wait a")
        for _ in range(2):
            with pytest.raises(SessionBusy):
                await realm.runner.send_message(task.task_id, "hi")
            await wait_all_tasks_blocked()
        for verb in ("delete", "rewind"):
            given = () if verb == "delete" else (0,)
            with pytest.raises(SessionBusy):
                await getattr(RealmSessions(realm), verb)(task.task_id, *given)


# -- notices -----------------------------------------------------------------------------------


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


# -- crash and reopen --------------------------------------------------------------------------


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


# -- damage, retention, forks and rewinds ------------------------------------------------------


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
    """CONTRACTS 1.12, 5.12: a tool that has finished is not run again by the next process."""
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
