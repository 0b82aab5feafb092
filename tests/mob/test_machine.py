"""Any order of verbs on the handle, against a plain model, in memory and on LMDB."""

from __future__ import annotations

import tempfile
import threading
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mob import open_mob
from mob.app import stored_mob
from mob.errors import MemberExists, MemberFailed, MemberNotFound, MobClosed
from mob.lifecycle import MobState, VerbRefused
from mob.mob import Mob
from runtime.errors import ModelError, SessionError, TurnInterrupted
from runtime.models.base import ModelRequest
from runtime.records import InputAccepted
from stores import MemoryStore, Store, open_lmdb
from tests.mob.mobs import asked, check_inputs, define, models, records, state_of

T = TypeVar("T")

NAMES = st.sampled_from(["a", "b", "x", "y"])
#: What becomes of an input: answered at once, answered when let go, or given up.
KINDS = st.sampled_from(["fast", "slow", "bad"])
DEFINITION = define("a", "b", restart={"backoff_s": 0.0, "max_backoff_s": 0.0, "max": 100_000})


class World:
    """Trio in a thread of its own, with a store and, most of the time, an open mob."""

    def __init__(self, *, on_disk: bool) -> None:
        self._on_disk = on_disk
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,), daemon=True)
        self.mob: Mob
        self.store: Store
        self.gate: trio.Event
        self._thread.start()
        assert self._ready.wait(30)

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._leave, self.gate = trio.Event(), trio.Event()
        async with AsyncExitStack() as stack:
            if self._on_disk:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                self.store = await stack.enter_async_context(open_lmdb(folder))
            else:
                self.store = MemoryStore()
            self.nursery = await stack.enter_async_context(trio.open_nursery())
            self._ready.set()
            await self._leave.wait()

    def call(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run `function` there and wait for it, half a minute at most."""

        async def bounded() -> T:
            with trio.fail_after(30):
                return await function(*args)

        return trio.from_thread.run(bounded, trio_token=self._token)

    def end(self) -> None:
        """End the thread."""
        self._token.run_sync_soon(self._leave.set)
        self._thread.join(30)
        assert not self._thread.is_alive()

    async def open(self) -> None:
        """Open the mob, or open it again."""
        self._close, self._closed = trio.Event(), trio.Event()
        self.mob = await self.nursery.start(self._serve)

    async def _serve(self, task_status: trio.TaskStatus[Mob]) -> None:
        close, closed = self._close, self._closed
        async with open_mob(
            DEFINITION, store=self.store, models=models(self._answer), grace_s=0
        ) as mob:
            task_status.started(mob)
            await close.wait()
        closed.set()

    async def close(self) -> None:
        """Leave the block of `open_mob`."""
        self._close.set()
        await self._closed.wait()

    async def _answer(self, request: ModelRequest) -> str:
        text = asked(request)
        if text.startswith("bad"):
            raise ModelError("never", provider="test", retryable=False)
        if text.startswith("slow"):
            await self.gate.wait()
        return f"done {text}"


class MobMachine(RuleBasedStateMachine):
    """The verbs as rules; the model is a roster, a state, and what was promised to whom."""

    on_disk = False

    def __init__(self) -> None:
        super().__init__()
        self.world = World(on_disk=self.on_disk)
        self.roster = ["a", "b"]
        self.left: set[str] = set()
        self.state = MobState.RUNNING
        self.count = 0
        #: Inputs that were acknowledged, and how each question ended.
        self.receipts: list[str] = []
        self.answers: dict[str, str | Exception] = {}
        self.asked: dict[str, str] = {}
        #: By session: members that were interrupted or retired, and whether the handle closed.
        self.disturbed: defaultdict[str, set[type]] = defaultdict(set)

    @initialize()
    def begin(self) -> None:
        self.world.call(self.world.open)

    def teardown(self) -> None:
        try:
            if hasattr(self.world, "mob"):
                if self.state is MobState.STOPPED:
                    self.resume()
                self.settle()
                self.reopen()
                self.world.call(self.world.close)
        finally:
            self.world.end()

    # -- verbs -----------------------------------------------------------------------------

    def expect(self, name: str) -> type[Exception] | None:
        """How a verb that sends to `name` is refused now, if it is."""
        if self.state is MobState.STOPPED:
            return VerbRefused
        return None if name in self.roster else MemberNotFound

    @rule(name=NAMES, kind=KINDS)
    def send(self, name: str, kind: str) -> None:
        self.count += 1
        refused = self.expect(name)
        if refused is not None:
            with pytest.raises(refused):
                self.world.call(self.world.mob.send, name, f"{kind} {self.count}")
            return
        receipt = self.world.call(self.world.mob.send, name, f"{kind} {self.count}")
        on_disk = [record.input_id for record in records(self.world.store, InputAccepted)]
        assert receipt.input_id in on_disk
        self.receipts.append(receipt.input_id)

    @rule(name=NAMES, kind=KINDS)
    def ask(self, name: str, kind: str) -> None:
        """Ask in the background; how it ends is looked at when all is settled."""
        self.count += 1
        text = f"{kind} {self.count}"
        mob = self.world.mob
        refused = self.expect(name)
        if refused is not None:
            with pytest.raises(refused):
                self.world.call(mob.ask, name, text)
            return
        self.asked[text] = mob.session_of(name)

        async def wait() -> None:
            try:
                self.answers[text] = (await mob.ask(name, text)).text
            except (SessionError, MobClosed) as error:
                self.answers[text] = error

        async def start() -> None:
            self.world.nursery.start_soon(wait)
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()

        self.world.call(start)

    @rule(name=NAMES)
    def spawn(self, name: str) -> None:
        spawn = lambda: self.world.mob.spawn(name, profile="p")  # noqa: E731
        if self.state is MobState.STOPPED or name in self.roster:
            refused = VerbRefused if self.state is MobState.STOPPED else MemberExists
            with pytest.raises(refused):
                self.world.call(spawn)
            return
        self.world.call(spawn)
        self.roster.append(name)

    @rule(name=NAMES)
    def retire(self, name: str) -> None:
        if name not in self.roster and name not in self.left:
            with pytest.raises(MemberNotFound):
                self.world.call(self.world.mob.retire, name)
            return
        if name in self.roster:
            self.disturbed[self.world.mob.session_of(name)].add(SessionError)
            self.roster.remove(name)
            self.left.add(name)
        self.world.call(self.world.mob.retire, name)

    @rule(name=NAMES, verb=st.sampled_from(["kill", "interrupt"]))
    def cut(self, name: str, verb: str) -> None:
        async def run() -> bool:
            done: bool = getattr(self.world.mob, verb)(name)
            return done

        refused = self.expect(name)
        if refused is not None:
            with pytest.raises(refused):
                self.world.call(run)
        elif self.world.call(run) and verb == "interrupt":
            self.disturbed[self.world.mob.session_of(name)].add(TurnInterrupted)

    @rule(deadline_s=st.sampled_from([0.0, 0.001]))
    def stop(self, deadline_s: float) -> None:
        if self.state is MobState.STOPPED:
            with pytest.raises(VerbRefused):
                self.world.call(self.world.mob.stop, deadline_s)
            return
        self.world.call(self.world.mob.stop, deadline_s)
        self.state = MobState.STOPPED
        assert self.world.mob.at_work == ()

    @rule()
    def resume(self) -> None:
        if self.state is MobState.RUNNING:
            with pytest.raises(VerbRefused):
                self.world.call(self.world.mob.resume)
            return
        self.world.call(self.world.mob.resume)
        self.state = MobState.RUNNING

    @rule()
    def reopen(self) -> None:
        """CONTRACTS 6.9, 6.12: what a new handle starts from is what the old one knew."""
        for session in self.asked.values():
            self.disturbed[session].add(MobClosed)
        self.world.call(self.world.close)
        known = state_of(self.world.mob)
        stored = stored_mob(self.world.store, "t")
        assert (stored.state.heads, stored.roster.members, stored.roster.mob_state) == (
            known[0],
            known[4],
            known[6],
        )
        self.world.call(self.world.open)

    @precondition(lambda self: self.state is MobState.RUNNING)
    @rule()
    def settle(self) -> None:
        """Let everything go: then every input has its one fate, and every question its answer."""

        async def run() -> None:
            self.world.gate.set()
            await self.world.mob.wait_idle()
            await trio.testing.wait_all_tasks_blocked()
            self.world.gate = trio.Event()

        self.world.call(run)
        heads = self.world.mob.realm.state.heads
        assert all(not head.inputs and head.partial is None for head in heads.values())
        assert self.answers.keys() == self.asked.keys()
        for text, answer in self.answers.items():
            self.check_answer(text, answer)
        accepted = {record.input_id for record in records(self.world.store, InputAccepted)}
        assert accepted.issuperset(self.receipts)

    def check_answer(self, text: str, answer: str | Exception) -> None:
        """A question ends as its text says, unless something was done to whom it was asked."""
        if isinstance(answer, str):
            assert answer == f"done {text}"
            assert not text.startswith("bad")
        elif isinstance(answer, MemberFailed):
            assert text.startswith("bad")
        else:
            assert type(answer) in self.disturbed[self.asked[text]]

    # -- what always holds -----------------------------------------------------------------

    @invariant()
    def the_roster_and_the_state_are_those_of_the_model(self) -> None:
        """CONTRACTS 5.13, 6.1, 6.2, 6.3."""
        if hasattr(self.world, "mob"):
            assert list(self.world.mob.members) == self.roster
            assert self.world.mob.state is self.state

    @invariant()
    def every_input_is_consumed_once_and_in_order(self) -> None:
        """CONTRACTS 5.6, 6.7, 6.12: the journal has no gap, and each session is a queue."""
        if not hasattr(self.world, "mob"):
            return

        async def check() -> None:
            check_inputs(self.world.store)

        self.world.call(check)


class MobMachineOnDisk(MobMachine):
    on_disk = True


@pytest.mark.parametrize(
    ("machine", "examples"), [(MobMachine, 60), (MobMachineOnDisk, 25)], ids=["memory", "lmdb"]
)
def test_any_order_of_verbs(
    machine: type[MobMachine], examples: int, request: pytest.FixtureRequest
) -> None:
    """CONTRACTS 5.6, 5.12, 5.13, 6.1, 6.2, 6.3, 6.7, 6.9, 6.12."""
    long = request.config.getoption("--long")
    run_state_machine_as_test(
        machine,
        settings=settings(
            deadline=None,
            max_examples=examples * (20 if long else 1),
            stateful_step_count=100 if long else 40,
            suppress_health_check=list(HealthCheck),
        ),
    )
