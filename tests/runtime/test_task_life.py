"""Any order of task verbs, crashes and reopenings, against a plain model of tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import attrs
import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)
from trio.testing import wait_all_tasks_blocked

from runtime.errors import SessionError, TurnFailed
from runtime.ids import SessionId
from runtime.models.base import ModelRequest
from runtime.realm import Realm
from runtime.records import TaskEnded, TaskStarted
from runtime.session import Lifetime, TaskState
from runtime.tasks import TaskView
from stores import MemoryStore
from stores.guest import GuestLoop
from tests.runtime.fakes import new_session
from tests.runtime.tasking import MANY, begin, open_tasks, records

T = TypeVar("T")


@attrs.define
class Known:
    """What must be true of one task."""

    parent: SessionId
    lifetime: Lifetime
    text: str
    state: TaskState = TaskState.RUNNING
    answer: str | None = None
    messages: list[str] = attrs.field(factory=list)
    #: As it was seen when it had ended: it never changes again.
    final: TaskView | None = None


class TaskMachine(RuleBasedStateMachine):
    """One session at the top; tasks that wait to be let go, at any depth."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = GuestLoop()
        self.store = MemoryStore()
        self.gates: defaultdict[str, trio.Event] = defaultdict(trio.Event)
        self.known: dict[SessionId, Known] = {}
        self.count = 0
        self.realm: Realm
        self.call(self.open)
        self.top = self.call(lambda: new_session(self.realm))

    def call(self, work: Callable[[], Awaitable[T]]) -> T:
        async def bounded() -> T:
            with trio.fail_after(20):
                result = await work()
                await wait_all_tasks_blocked()
                return result

        return self.loop.run(bounded)

    async def say(self, request: ModelRequest) -> str:
        text = request.messages[-1].text
        if text.startswith("fail"):
            raise ValueError(text)
        if text.startswith("wait"):
            await self.gates[text].wait()
        return f"did {text}"

    async def open(self) -> None:
        opened, self.leave, self.left = trio.Event(), trio.Event(), trio.Event()
        leave, left = self.leave, self.left

        async def serve() -> None:
            async with open_tasks(self.store, self.say, limits=MANY) as self.realm:
                opened.set()
                await leave.wait()
            left.set()

        trio.lowlevel.spawn_system_task(serve)
        await opened.wait()

    async def close(self) -> None:
        self.leave.set()
        await self.left.wait()

    def teardown(self) -> None:
        self.call(self.close)
        self.loop.end()

    # -- the model -------------------------------------------------------------------------

    def running(self) -> list[SessionId]:
        return [each for each, known in self.known.items() if known.state is TaskState.RUNNING]

    def end(self, task: SessionId, state: TaskState, answer: str | None = None) -> None:
        known = self.known[task]
        known.state, known.answer = state, answer
        self.end_below(task)

    def end_below(self, parent: SessionId) -> None:
        for each in self.running():
            known = self.known[each]
            if known.parent == parent and known.lifetime is Lifetime.LINKED:
                self.end(each, TaskState.CANCELLED)

    def check(self) -> None:
        """CONTRACTS 1.9, 1.10, 1.12: what is known is what there is; what ended never changes."""
        background = self.realm.background
        assert list(self.realm.state.tasks) == sorted(self.running())
        assert background.running == len(self.running())
        by_parent: dict[SessionId, list[SessionId]] = {}
        for task, known in self.known.items():
            by_parent.setdefault(known.parent, []).append(task)
            view = background.get(known.parent, task)
            assert (view.state, view.answer) == (known.state, known.answer)
            if known.state is not TaskState.RUNNING:
                known.final = known.final or view
                assert view == known.final
        for parent, tasks in by_parent.items():
            assert [each.task_id for each in background.of(parent)] == tasks
        assert {r.session_id for r in records(self.realm, TaskStarted)} == set(self.known)
        ended = [r.session_id for r in records(self.realm, TaskEnded)]
        assert len(ended) == len(set(ended))
        active, total = self.realm.state.descendants.get(self.top, (0, 0))
        assert (active, total) == (len(self.running()), len(self.known))

    # -- verbs -----------------------------------------------------------------------------

    @rule(
        where=st.integers(0, 30),
        word=st.sampled_from(["wait", "wait", "wait", "say", "fail"]),
        lifetime=st.sampled_from(Lifetime),
    )
    def start(self, where: int, word: str, lifetime: Lifetime) -> None:
        self.count += 1
        above = [self.top, *self.running()]
        above = [each for each in above if self.realm.state.head(each).lineage.depth < 4]
        parent = above[where % len(above)]
        text = f"{word} {self.count}"
        made = self.call(lambda: begin(self.realm, parent, text, lifetime=lifetime, spawn_key=text))
        again = self.call(
            lambda: begin(self.realm, parent, text, lifetime=lifetime, spawn_key=text)
        )
        assert again.task_id == made.task_id
        self.known[made.task_id] = Known(parent, lifetime, text)
        if word == "say":
            self.end(made.task_id, TaskState.COMPLETED, f"did {text}")
        elif word == "fail":
            self.end(made.task_id, TaskState.FAILED)
        self.check()

    @precondition(lambda self: self.running())
    @rule(which=st.integers(0, 30))
    def let_go(self, which: int) -> None:
        task = self.running()[which % len(self.running())]
        known = self.known[task]

        async def run() -> None:
            self.gates[known.text].set()

        self.call(run)
        last = known.messages[-1] if known.messages else known.text
        self.end(task, TaskState.COMPLETED, f"did {last}")
        self.check()

    @precondition(lambda self: self.known)
    @rule(which=st.integers(0, 30))
    def message(self, which: int) -> None:
        task = list(self.known)[which % len(self.known)]
        known = self.known[task]
        self.count += 1
        text = f"more {self.count}"
        send = lambda: self.realm.background.message(  # noqa: E731
            known.parent, task, text, key=text
        )
        if known.state is TaskState.RUNNING:
            self.call(send)
            self.call(send)
            known.messages.append(text)
        else:
            with pytest.raises(SessionError, match="has ended"):
                self.call(send)
        self.check()

    @precondition(lambda self: self.known)
    @rule(which=st.integers(0, 30))
    def cancel(self, which: int) -> None:
        task = list(self.known)[which % len(self.known)]
        known = self.known[task]
        view = self.call(lambda: self.realm.background.cancel(known.parent, task, "enough"))
        if known.state is TaskState.RUNNING:
            self.end(task, TaskState.CANCELLED)
            assert view.error == "enough"
        self.check()

    @rule()
    def the_parent_fails(self) -> None:
        async def run() -> Any:
            with pytest.raises(TurnFailed):
                await self.realm.runner.send_message(self.top, "fail now")

        self.call(run)
        self.end_below(self.top)
        self.check()

    @rule(checkpoint=st.booleans())
    def reopen(self, checkpoint: bool) -> None:
        if checkpoint:
            self.call(self.realm.checkpoint)
        heads = self.realm.state.heads
        self.call(self.close)
        self.call(self.open)
        assert {each: head.task for each, head in self.realm.state.heads.items()} == {
            each: head.task for each, head in heads.items()
        }
        self.check()


def test_any_order_of_verbs_crashes_and_reopenings(request: pytest.FixtureRequest) -> None:
    """CONTRACTS 1.8, 1.9, 1.10, 1.12, 1.13."""
    long = request.config.getoption("--long")
    run_state_machine_as_test(
        TaskMachine,
        settings=settings(
            deadline=None,
            max_examples=500 if long else 25,
            stateful_step_count=60 if long else 25,
            suppress_health_check=list(HealthCheck),
        ),
    )
