"""The fold: after any course of events the live state is what a reopened realm computes.

The machine below runs a realm over a store whose commits take time, and cuts callers off at every
kind of moment: in a model call, in a tool, in a commit, while a child answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)
from trio.testing import MockClock

from runtime.errors import LimitExceeded, SessionError, SessionNotFound
from runtime.ids import InputId, RunId, SessionId
from runtime.messages import NO_USAGE, ToolResult, UserMessage, check_sequence
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import calling
from runtime.realm import Realm
from runtime.records import InputAccepted, TurnEnded, TurnOutcome, TurnProgressed
from runtime.session import SessionStatus
from runtime.spawning import SpawnLimits
from runtime.state import RealmState
from runtime.tools.agents import SpawnAgent
from stores import MemoryStore
from tests.runtime.fakes import REALM, Doing, LaggingStore, counting_ports, make_realm, new_session

LIMITS = SpawnLimits(max_depth=2, max_active=3, max_total=6)


async def say(request: ModelRequest) -> ModelReply | str:
    """Do what the latest user message says; answer once a tool has."""
    last = request.messages[-1]
    if not isinstance(last, UserMessage):
        return f"after {last.text}"
    if last.text == "fail":
        raise ValueError("as asked")
    if last.text == "hang":
        await trio.sleep(3)
    if last.text == "tools":
        return calling(("quick", {}), ("slow", {}), ("quick", {}))
    if last.text.startswith("spawn"):
        told = last.text.partition(" ")[2] or "hang"
        return calling(("spawn_agent", {"name": "n", "instructions": told}))
    return f"re: {last.text}"


WORDS = st.sampled_from(["hi", "fail", "hang", "tools", "spawn", "spawn spawn tools", "spawn fail"])
PATIENCE = st.sampled_from([0.1, 0.6, 1.1, 1.6, 2.1, 2.6, 3.1, 3.6, 4.6, 5.6, 7.6, 99.0])


async def nap(_: Any) -> str:
    await trio.sleep(2)
    return "rested"


class RealmMachine(RuleBasedStateMachine):
    """A realm, its callers, and the end of its process."""

    sessions = Bundle("sessions")
    keys = st.none() | st.sampled_from(["k1", "k2"])

    def __init__(self) -> None:
        super().__init__()
        self.inner = MemoryStore()
        self.ids = counting_ports()
        self.tools: list[Any] = [
            Doing(lambda _: "ok", name="quick"),
            Doing(nap, name="slow", idempotent=True),
            SpawnAgent(),
        ]
        self.known: set[str] = set()
        self._open()

    def _open(self) -> None:
        self.store = LaggingStore(self.inner, 1.0)
        self.realm = make_realm(
            self.store,
            say,
            self.tools,
            limits=LIMITS,
            ports=self.ids,  # type: ignore[arg-type]
        )

    def _run(self, work: Callable[[], Awaitable[Any]]) -> None:
        """Run `work` with a disk beneath; everything queued reaches it before this returns."""

        async def with_disk() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.store.serve)
                try:
                    await work()
                finally:
                    self.store.close()
            self.store.reopen()

        trio.run(with_disk, clock=MockClock(autojump_threshold=0))

    @initialize(target=sessions)
    def begin(self) -> SessionId:
        return self.create(None)  # type: ignore[no-any-return]

    @rule(target=sessions, spawn_key=st.none() | st.just("root"))
    def create(self, spawn_key: str | None) -> Any:
        made: list[SessionId] = []

        async def work() -> None:
            made.append(await new_session(self.realm, spawn_key=spawn_key))

        self._run(work)
        return made[0]

    @rule(target=sessions, parent=sessions, patience=st.lists(PATIENCE, max_size=5), key=keys)
    def create_children(self, parent: SessionId, patience: list[float], key: str | None) -> Any:
        """Many at once: the limits are never passed, one key makes one child."""
        made: list[SessionId] = []

        async def one(seconds: float) -> None:
            with trio.move_on_after(seconds):
                try:
                    name = None if key is None else f"{parent}:{key}"
                    made.append(await new_session(self.realm, parent=parent, spawn_key=name))
                except (LimitExceeded, SessionError):
                    pass

        async def work() -> None:
            async with trio.open_nursery() as nursery:
                for seconds in patience:
                    nursery.start_soon(one, seconds)

        self._run(work)
        assert key is None or len(set(made)) <= 1
        return multiple(*dict.fromkeys(made))

    @rule(
        session=sessions,
        text=WORDS,
        key=keys,
        patience=PATIENCE,
        after=st.sampled_from(["nothing", "interrupt", "archive", "again", "checkpoint"]),
        at=PATIENCE,
    )
    def send(
        self,
        session: SessionId,
        text: str,
        key: str | None,
        patience: float,
        after: str,
        at: float,
    ) -> None:
        """A message that comes through, or is cut off, interrupted, doubled or archived."""
        name = None if key is None else f"{session}:{key}"
        if name is not None:
            self.known.add(name)

        async def send_once(seconds: float) -> None:
            with trio.move_on_after(seconds):
                try:
                    await self.realm.runner.send_message(session, text, idempotency_key=name)
                except SessionError:
                    pass

        async def meanwhile() -> None:
            await trio.sleep(at)
            if after == "interrupt":
                self.realm.interrupt(session)
            elif after == "archive":
                await self.realm.archive(session, "over")
            elif after == "again":
                await send_once(99)
            elif after == "checkpoint":
                await self.realm.checkpoint()

        async def work() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_once, patience)
                if after != "nothing":
                    nursery.start_soon(meanwhile)

        self._run(work)

    @rule(session=consumes(sessions))
    def archive(self, session: SessionId) -> None:
        async def work() -> None:
            await self.realm.archive(session, "over")

        self._run(work)

    @rule()
    def checkpoint(self) -> None:
        async def work() -> None:
            await self.realm.checkpoint()

        self._run(work)

    @rule()
    def reopen(self) -> None:
        """The process ends and another takes over."""
        self._open()

    @invariant()
    def a_reopened_realm_knows_the_same(self) -> None:
        state = self.realm.state
        reopened = make_realm(self.inner).state
        replayed = RealmState()
        for event in whole_journal(self.realm):
            replayed.apply(event.seq, event.record)
        for other in (reopened, replayed):
            assert other.heads == state.heads
            assert other.descendants == state.descendants
            assert other.spawned == state.spawned
        for key in self.known:
            assert state.find_key(key) == reopened.find_key(key) == replayed.find_key(key)

    @invariant()
    def histories_are_whole_and_live_copies_equal_them(self) -> None:
        for session_id, head in self.realm.state.heads.items():
            chain = self.realm.history(head)
            assert check_sequence(chain) is None
            assert len(chain) == head.message_count
            live = self.realm._live.get(session_id)
            assert live is None or live.history == chain

    @invariant()
    def nothing_is_done_twice(self) -> None:
        consumed: Counter[InputId] = Counter()
        accepted: Counter[str] = Counter()
        answered: Counter[tuple[SessionId, str]] = Counter()
        runs: Counter[RunId] = Counter()
        for event in whole_journal(self.realm):
            record = event.record
            if isinstance(record, TurnEnded):
                consumed.update(record.input_ids)
                runs[record.run_id] += 1
                answered.update(
                    (record.session_id, message.call_id)
                    for message in record.messages
                    if isinstance(message, ToolResult)
                )
            elif isinstance(record, InputAccepted) and record.idempotency_key is not None:
                accepted[record.idempotency_key] += 1
        for counter in (consumed, accepted, answered, runs):
            assert not [one for one, times in counter.items() if times > 1]
        quick = Counter(self.tools[0].finished)
        assert not [one for one, times in quick.items() if times > 1]

    @invariant()
    def limits_hold_and_no_lineage_is_a_circle(self) -> None:
        state = self.realm.state
        assert not self.realm.spawning.creating
        for root, (active, total) in state.descendants.items():
            below = [h for h in state.heads.values() if h.lineage.budget_root == root]
            assert total == len(below) <= LIMITS.max_total
            assert active == sum(not h.archived for h in below) <= LIMITS.max_active
        for head in state.heads.values():
            depth = 0
            above = head
            while above.lineage.parent is not None:
                above = state.head(above.lineage.parent)
                depth += 1
                assert depth <= LIMITS.max_depth
            assert depth == head.lineage.depth
            if head.lineage.parent is not None and state.head(head.lineage.parent).archived:
                assert head.archived

    def teardown(self) -> None:
        """Whatever was cut off, the next message to each session leaves nothing behind."""

        async def work() -> None:
            for session, head in list(self.realm.state.heads.items()):
                if not head.archived:
                    result = await self.realm.runner.send_message(session, "hi")
                    assert result.text == "re: hi"

        self._run(work)
        for head in self.realm.state.heads.values():
            assert head.inputs is None
            assert head.partial is None
        self.nothing_is_done_twice()
        self.histories_are_whole_and_live_copies_equal_them()
        self.a_reopened_realm_knows_the_same()


RealmMachine.TestCase.settings = settings(settings.default, max_examples=60, stateful_step_count=15)
TestRealm = RealmMachine.TestCase


def whole_journal(realm: Realm) -> list[Any]:
    return realm.journal.read(limit=realm.journal.last)


def test_a_record_of_an_unknown_session_or_type_is_an_error() -> None:
    state = RealmState()
    late = TurnProgressed(SessionId("x"), RunId("r"), (), (), NO_USAGE, 1, 1)
    with pytest.raises(SessionNotFound):
        state.apply(1, late)
    with pytest.raises(KeyError):
        state.apply(1, "not a record")


async def test_a_late_turn_record_never_revives_an_archived_session() -> None:
    """CONTRACTS 4.5."""
    realm = make_realm(MemoryStore())
    session = await new_session(realm)
    await realm.archive(session, "over")
    progress = TurnProgressed(session, RunId("r"), (), (UserMessage("x"),), NO_USAGE, 1, 1)
    await realm.append(progress).wait()
    assert realm.state.head(session).partial is None
    assert realm.state.head(session).status is SessionStatus.ARCHIVED
    ended = TurnEnded(
        session, RunId("r"), 0, TurnOutcome.INTERRUPTED, (), NO_USAGE, (), None, "x", 1, 1
    )
    await realm.append(ended).wait()
    assert realm.state.head(session).status is SessionStatus.ARCHIVED


async def test_realms_fold_apart(autojump_clock: Any) -> None:
    store = MemoryStore()
    one = make_realm(store, ["x"])
    session = await new_session(one)
    await one.runner.send_message(session, "hi")
    other = make_realm(store, realm_id=type(REALM)("other"))
    assert other.state.heads == {}
