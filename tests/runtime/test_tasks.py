"""Background children, one by one: CONTRACTS 1.12 to 1.14."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from runtime.errors import (
    LimitExceeded,
    SessionBusy,
    SessionError,
    TaskNotFound,
    Unsupported,
)
from runtime.ids import SessionId
from runtime.manager import RealmSessions
from runtime.messages import ToolOutcome
from runtime.records import (
    InputAccepted,
    SessionCreated,
    TaskStarted,
)
from runtime.session import Lifetime, SessionStatus, TaskState
from runtime.spawning import SpawnLimits
from stores import MemoryStore
from tests.runtime.fakes import new_session, open_lagging
from tests.runtime.tasking import (
    MANY,
    Desk,
    begin,
    last_result,
    open_tasks,
    spawn,
)


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
