"""CONTRACTS 3.1 to 3.8: looking after sessions, against a plain model of what must be true.

Most of it is the suite that a manager of yours runs too; here is what it leaves to each manager.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

import attrs
import pytest
import trio
from hypothesis import settings

from runtime.errors import (
    LimitExceeded,
    LineageCycle,
    MobError,
    SessionBusy,
    SessionError,
    SessionNotFound,
)
from runtime.ids import HarnessId, SessionId
from runtime.manager import RealmSessions, RewindOutOfRange
from runtime.messages import AssistantMessage, Message, SystemMessage, Usage, UserMessage
from runtime.models.base import Emit, ModelReply, ModelRequest
from runtime.models.scripted import ScriptedModel
from runtime.models.sim import EchoModel
from runtime.ports import Ports
from runtime.records import SessionDeleted, SessionRewound, TurnEnded
from runtime.session import NO_LINEAGE, Lineage, SessionStatus
from runtime.spawning import SpawnLimits
from runtime.store import StoredSessions
from stores import Batch, Committed, MemoryStore, Ticket
from tests.mob.held import HeldStore
from tests.runtime.fakes import HARNESS, REALM, call, make_realm, new_session, open_lagging
from tests.runtime.managers import OverLmdb, OverMemory

TestOverMemory = OverMemory.TestCase
TestOverLmdb = OverLmdb.TestCase
TestOverLmdb.settings = settings(max_examples=25, stateful_step_count=25)


def texts(messages: tuple[Message, ...] | list[Message]) -> list[str]:
    return [message.text for message in messages if isinstance(message, UserMessage)]


async def test_unknown_ids_are_not_found_and_change_nothing() -> None:
    """CONTRACTS 3.2"""
    store = MemoryStore()
    realm = make_realm(store, EchoModel())
    manager = RealmSessions(realm)
    gone = SessionId("nobody")
    for operation in (
        lambda: manager.resume(gone),
        lambda: manager.delete(gone),
        lambda: manager.fork(gone),
        lambda: manager.rewind(gone, 0),
        lambda: manager.restore(gone),
        lambda: manager.tag(gone, ["a"]),
        lambda: manager.untag(gone, ["a"]),
        lambda: manager.rename(gone, "n"),
        lambda: manager.diff(gone, gone),
    ):
        with pytest.raises(SessionNotFound):
            await operation()  # type: ignore[no-untyped-call]
    assert realm.journal.last == 0


async def test_a_busy_session_is_left_alone(autojump_clock: trio.testing.MockClock) -> None:
    """CONTRACTS 3.5: rewinding a session with a turn in flight raises busy."""

    async def hang(_: object) -> str:
        await trio.sleep(5)
        return "at last"

    realm = make_realm(MemoryStore(), ScriptedModel(hang))
    manager = RealmSessions(realm)
    session = await new_session(realm)
    await realm.runner.send_message(session, "first")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(realm.runner.send_message, session, "second")
        await trio.sleep(1)
        for operation in (manager.rewind(session, 0), manager.delete(session)):
            with pytest.raises(SessionBusy):
                await operation
        forked = await manager.fork(session)
        assert forked.turns == 1
    assert realm.state.head(session).turns == 2


async def test_the_range_of_a_rewind_is_named() -> None:
    """CONTRACTS 3.5"""
    realm = make_realm(MemoryStore(), EchoModel())
    manager = RealmSessions(realm)
    session = await new_session(realm)
    for text in ("one", "two", "three"):
        await realm.runner.send_message(session, text)
    with pytest.raises(RewindOutOfRange, match="0 to 2"):
        await manager.rewind(session, 3)


@pytest.mark.parametrize("tag", ["", "x" * 65])
async def test_tags_have_bounds(tag: str) -> None:
    """CONTRACTS 3.6"""
    realm = make_realm(MemoryStore(), EchoModel())
    manager = RealmSessions(realm)
    session = await new_session(realm)
    with pytest.raises(SessionError, match="1 to 64"):
        await manager.tag(session, ["fine", tag])
    assert (await manager.list())[0].tags == ()


async def test_deleting_takes_children_along_and_leaves_forks() -> None:
    """CONTRACTS 3.7"""
    realm = make_realm(MemoryStore(), EchoModel())
    manager = RealmSessions(realm)
    parent = await new_session(realm)
    child = await new_session(realm, parent=parent)
    await realm.runner.send_message(parent, "shared")
    fork = await manager.fork(parent)
    await manager.delete(parent)
    assert set(realm.state.heads) == {fork.session_id}
    assert child not in realm.state.heads
    assert texts(realm.messages(fork.session_id, order="oldest")) == ["shared"]
    await realm.runner.send_message(fork.session_id, "after")
    assert texts(realm.messages(fork.session_id, order="oldest")) == ["shared", "after"]


async def test_a_guard_protects_sessions() -> None:
    realm = make_realm(MemoryStore(), EchoModel())
    manager = RealmSessions(realm, guard=lambda head, verb: "it is a member; retire it first")
    session = await new_session(realm)
    with pytest.raises(SessionError, match="retire it first"):
        await manager.delete(session)


async def test_saving_what_is_not_whole_turns_is_refused() -> None:
    realm = make_realm(MemoryStore(), EchoModel())
    manager = RealmSessions(realm)
    session = await manager.resume(await new_session(realm))
    broken = attrs.evolve(
        session, messages=(UserMessage("q"), AssistantMessage("", (_a_call(),), None))
    )
    with pytest.raises(SessionError, match="not whole turns"):
        await manager.save(broken)
    assert realm.state.head(session.session_id).turns == 0


async def test_a_saved_copy_under_a_new_id_is_a_new_session() -> None:
    """CONTRACTS 3.3: save creates what is not there."""
    realm = make_realm(MemoryStore(), EchoModel())
    manager = RealmSessions(realm)
    session = await new_session(realm, title="original")
    for text in ("one", "two", "three"):
        await realm.runner.send_message(session, text)
    value = await manager.resume(session)
    copy = attrs.evolve(value, session_id=SessionId("imported"), tags=("kept",))
    row = await manager.save(attrs.evolve(copy, status=SessionStatus.ARCHIVED))
    assert (row.turns, row.tags, row.status) == (3, ("kept",), SessionStatus.ARCHIVED)
    assert (await manager.resume(SessionId("imported"))).messages == value.messages


async def test_a_lineage_in_a_circle_is_refused() -> None:
    """CONTRACTS 1.7: in each of the three links, and named; charging would go round for ever.

    A circle takes a session that others still name: one that was deleted and comes back.
    """
    realm = make_realm(MemoryStore(), EchoModel())
    manager = RealmSessions(realm)
    session = await new_session(realm, title="x")
    await realm.runner.send_message(session, "one")
    copy = (await manager.fork(session)).session_id
    child = await new_session(realm, parent=copy)
    gone = attrs.evolve(await manager.resume(session), session_id=SessionId("back"))
    again = attrs.evolve(await manager.resume(session), lineage=NO_LINEAGE)
    await manager.delete(session)
    for lineage in (
        Lineage(forked_from=copy),
        Lineage(budget_root=copy),
        Lineage(parent=copy, budget_root=session, depth=1),
        Lineage(parent=child, budget_root=session, depth=2),
        Lineage(forked_from=session),
        Lineage(budget_root=session),
    ):
        with pytest.raises(LineageCycle, match=session):
            await manager.save(attrs.evolve(again, lineage=lineage))
    with pytest.raises(SessionNotFound):
        await manager.save(attrs.evolve(again, lineage=Lineage(parent=session)))
    for lineage in (
        Lineage(parent=copy, budget_root=session, depth=2),
        Lineage(parent=copy, budget_root=copy, depth=1),
        Lineage(parent=copy, depth=1),
    ):
        with pytest.raises(SessionError, match="depth 1 and charged to"):
            await manager.save(attrs.evolve(gone, lineage=lineage))
    assert session not in realm.state.heads
    assert "back" not in realm.state.heads
    await manager.save(again)
    lineage = Lineage(parent=copy, budget_root=session, depth=1)
    await manager.save(attrs.evolve(gone, lineage=lineage))
    assert realm.state.heads[SessionId("back")].lineage == lineage


@pytest.mark.parametrize("lag", [0.0, 1.0])
async def test_the_limits_hold_for_children_that_are_saved(lag: float, autojump_clock: Any) -> None:
    """CONTRACTS 1.8, 3.3: however many are saved and spawned at once; no slot is lost."""
    limits = SpawnLimits(max_active=3, max_total=4)
    async with open_lagging(delay_s=lag) as store:
        realm = make_realm(store, limits=limits)
        manager = RealmSessions(realm)
        root = await new_session(realm)
        lineage = Lineage(parent=root, budget_root=root, depth=1)
        blank = attrs.evolve(await manager.resume(root), lineage=lineage)
        refused: list[str] = []

        async def save(name: str, **given: Any) -> None:
            try:
                if name == "spawned":
                    await realm.create(HARNESS, parent=root)
                else:
                    await manager.save(attrs.evolve(blank, session_id=SessionId(name), **given))
            except LimitExceeded as error:
                refused.append(error.limit)

        async with trio.open_nursery() as nursery:
            for name in ("a", "b", "c"):
                nursery.start_soon(save, name)
                nursery.start_soon(save, "spawned")
        assert (realm.state.descendants[root], refused) == ((3, 3), ["max_active"] * 3)
        await save("over", status=SessionStatus.ARCHIVED)
        assert realm.state.descendants[root] == (3, 4), "what has ended is not active"
        await save("more", status=SessionStatus.ARCHIVED)
        assert refused[3:] == ["max_total"]
        assert realm.spawning.taken == 0
        await save("friend", lineage=Lineage(budget_root=root))  # charged to it, not below it
        deep = Lineage(parent=SessionId("over"), budget_root=root, depth=2)
        realm.spawning.limits = lambda _, __: SpawnLimits(max_depth=1)
        await save("deep", lineage=deep)
        assert refused[4:] == ["max_depth"]
        assert "friend" in realm.state.heads
        assert "deep" not in realm.state.heads


async def test_turns_are_counted_by_user_messages_also_in_what_is_saved() -> None:
    """CONTRACTS 3.5: what no user asked is part of a turn, never a turn of its own."""
    realm = make_realm(MemoryStore(), EchoModel())
    manager = RealmSessions(realm)
    session = await manager.resume(await new_session(realm))
    told: list[Message] = [
        SystemMessage("be brief"),
        *(UserMessage("one"), AssistantMessage("1", usage=Usage(5, 1, 1, 0))),
        *(UserMessage("two"), AssistantMessage("2", usage=Usage(7, 1, 1, 0))),
    ]
    row = await manager.save(attrs.evolve(session, messages=tuple(told)))
    assert row.turns == 2
    told += [SystemMessage("noted"), AssistantMessage("2!", usage=Usage(9, 1, 1, 0))]
    session = await manager.resume(session.session_id)
    row = await manager.save(attrs.evolve(session, messages=tuple(told)))
    assert (row.turns, row.message_count) == (2, 7)
    assert row.usage == Usage(21, 3, 3, 0)  # each answer is charged once
    assert (await manager.resume(session.session_id)).messages == tuple(told)
    await realm.runner.send_message(session.session_id, "three")
    assert (await manager.rewind(session.session_id, 1)).messages == tuple(told)
    assert (await manager.rewind(session.session_id, 0)).messages == tuple(told[:3])
    with pytest.raises(RewindOutOfRange, match="0 to 0"):
        await manager.rewind(session.session_id, 1)


async def test_sessions_of_one_moment_are_listed_by_id() -> None:
    """CONTRACTS 3.1"""
    names = iter("cadb")
    ports = Ports(StoppedClock(), NamedIds(names))
    realm = make_realm(MemoryStore(), EchoModel(), ports=ports)
    for _ in range(4):
        await realm.create(HarnessId("plain"))
    assert [row.session_id for row in await RealmSessions(realm).list()] == ["a", "b", "c", "d"]


async def test_listing_reads_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """CONTRACTS 3.1: nor does it bring a session into memory."""
    realm = make_realm(MemoryStore(), EchoModel())
    for _ in range(3):
        await realm.runner.send_message(await new_session(realm), "x")

    def read(*_: object) -> None:
        raise AssertionError("a list is made of rows alone")

    for name in ("turn", "messages", "read", "get"):
        monkeypatch.setattr(realm.journal, name, read)
    rows = await RealmSessions(realm).list()
    assert [row.message_count for row in rows] == [2, 2, 2]


async def test_a_fork_knows_whose_copy_it_is_and_from_where() -> None:
    """CONTRACTS 3.4"""
    realm = make_realm(MemoryStore(), EchoModel())
    manager = RealmSessions(realm)
    session = await new_session(realm)
    await realm.runner.send_message(session, "one")
    head = realm.state.head(session).head
    fork = await manager.fork(session)
    await realm.runner.send_message(session, "two")
    again = await manager.fork(fork.session_id)
    for row, source in ((fork, session), (again, fork.session_id)):
        assert (row.lineage.forked_from, row.lineage.fork_seq) == (source, head)


async def test_every_operation_is_one_transaction() -> None:
    """CONTRACTS 3.8: a crash between two batches of one would leave it half done."""
    store = CountingStore()
    realm = make_realm(store, EchoModel())
    snapshots = StoredSessions(store, REALM)
    manager = RealmSessions(realm, snapshots)
    parent = await new_session(realm, title="x")
    await new_session(realm, parent=parent)
    for text in ("one", "two", "three"):
        await realm.runner.send_message(parent, text)
    await snapshots.save(await manager.resume(parent))
    value = await manager.resume(parent)
    cut = attrs.evolve(
        value, title="y", tags=("t",), messages=(*value.messages[:2], *OTHER, *OTHER)
    )
    copy = attrs.evolve(value, session_id=SessionId("copy"), tags=("t",))
    archived = attrs.evolve(copy, session_id=SessionId("old"), status=SessionStatus.ARCHIVED)
    operations: list[Callable[[], Awaitable[object]]] = [
        lambda: manager.save(cut),
        lambda: manager.save(copy),
        lambda: manager.save(archived),
        lambda: manager.fork(parent),
        lambda: manager.rewind(parent, 0),
        lambda: manager.restore(parent),
        lambda: manager.tag(parent, ["a", "b"]),
        lambda: manager.untag(parent, ["a"]),
        lambda: manager.rename(parent, "z"),
        lambda: manager.delete(parent),
    ]
    for operation in operations:
        before = store.batches
        await operation()
        assert store.batches == before + 1


async def test_one_text_is_not_taken_for_a_list_of_tags() -> None:
    realm = make_realm(MemoryStore(), EchoModel())
    manager = RealmSessions(realm)
    session = await new_session(realm)
    await manager.tag(session, ["t"])
    wrong: Any
    for wrong in ("tag", [7], [None]):
        with pytest.raises(SessionError, match="tag"):
            await manager.tag(session, wrong)
        saved = attrs.evolve(await manager.resume(session), tags=wrong)
        with pytest.raises(SessionError, match="tag"):
            await manager.save(saved)
    with pytest.raises(SessionError, match="list of tags"):
        await manager.untag(session, "tag")
    with pytest.raises(MobError, match="a name is a text"):
        await manager.rename(session, None)  # type: ignore[arg-type]
    assert realm.state.head(session).tags == ("t",)


async def test_a_session_without_an_id_or_with_an_impossible_name_is_refused() -> None:
    realm = make_realm(MemoryStore(), EchoModel())
    manager = RealmSessions(realm)
    session = await new_session(realm)
    with pytest.raises(SessionError, match="without an id"):
        await manager.save(attrs.evolve(await manager.resume(session), session_id=SessionId("")))
    with pytest.raises(MobError, match="1 to 200"):
        await manager.rename(session, "")


def _a_call() -> Any:
    return call("c1")


@pytest.mark.parametrize("looked_at", [False, True])
async def test_a_snapshot_in_the_instant_of_a_rewind_has_the_history_it_names(
    looked_at: bool,
) -> None:
    """CONTRACTS 3.5, 5.2: whoever saves right when the record lands, before whoever asked for it
    runs on, saves the messages that belong to the new head; also if somebody looked at the session
    in between."""
    realm = make_realm(MemoryStore(), EchoModel())
    manager = RealmSessions(realm)
    session = await new_session(realm)
    seen: list[tuple[int, list[Message]]] = []

    def look(seq: int, record: SessionRewound | TurnEnded) -> None:
        if looked_at:
            realm.live(session)
        folds[type(record)](seq, record)
        found = realm.snapshot(session)
        seen.append((found.head, list(found.messages)))

    for text in ("one", "two", "three"):
        await realm.runner.send_message(session, text)
    folds = {kind: realm.state.transitions[kind] for kind in (SessionRewound, TurnEnded)}
    realm.state.transitions.update(dict.fromkeys(folds, look))
    await manager.rewind(session, 0)
    await realm.runner.send_message(session, "other")
    await manager.restore(session)
    whole = await manager.resume(session)
    await manager.save(attrs.evolve(whole, messages=(*whole.messages, *whole.messages[:2])))
    assert len(seen) == 4
    assert [each == realm.journal.messages(head) for head, each in seen] == [True] * 4


OTHER = (UserMessage("other"), AssistantMessage("other"))


class CountingStore(MemoryStore):
    batches = 0

    def submit(self, batch: Batch, committed: Committed | None = None) -> Ticket:
        self.batches += 1
        return super().submit(batch, committed)


class StoppedClock:
    def now_ns(self) -> int:
        return 7


class NamedIds:
    def __init__(self, names: Iterator[str]) -> None:
        self._names = names

    def new(self) -> str:
        return next(self._names)

    def rise_above(self, ids: Iterable[str]) -> None:
        """They are given, and do not."""


async def test_a_session_whose_last_turn_is_on_its_way_to_the_disk_is_busy() -> None:
    """CONTRACTS 3.3: found by simulation: a turn was cut off, and a chain made that forgot it."""
    store = HeldStore()
    realm = make_realm(store, EchoModel())
    manager = RealmSessions(realm, StoredSessions(store, REALM))
    session_id = await new_session(realm)
    for text in ("one", "two"):
        await realm.runner.send_message(session_id, text)
    before = await manager.resume(session_id)
    said = (*before.messages, UserMessage("by hand"), AssistantMessage("noted"))
    store.hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(realm.runner.send_message, session_id, "three")
        await store.wait_held(2)  # the input and the end of its turn
        nursery.cancel_scope.cancel()

    async def refused(change: Any, *given: Any) -> None:
        with pytest.raises(SessionBusy):
            await change(*given)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refused, manager.rewind, session_id, 0)
        nursery.start_soon(refused, manager.delete, session_id)
        nursery.start_soon(refused, manager.save, attrs.evolve(before, messages=said))
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
        store.release()  # who was let in after all waits for the disk, and is not cancelled


class DeafModel(EchoModel):
    """Swallows the cancellation of a call and goes on until `heard`."""

    def __init__(self) -> None:
        super().__init__()
        self.called = trio.Event()
        self.heard = trio.Event()

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        self.called.set()
        with trio.CancelScope(shield=True):
            await self.heard.wait()
        return await super().generate(request, emit)


async def test_a_session_is_not_deleted_under_a_turn_that_goes_on_after_its_archiving() -> None:
    """CONTRACTS 3.7: found by simulation. The turn of a retired member was deaf; its record came
    behind the deletion, and spoke of a session that was not there."""
    model = DeafModel()
    realm = make_realm(MemoryStore(), model)
    manager = RealmSessions(realm)
    session_id = await new_session(realm)
    async with trio.open_nursery() as nursery:
        pending = realm.inputs.accept(session_id, "hello").pending
        assert pending is not None
        nursery.start_soon(realm.driver(session_id, (pending,)).run, (pending,))
        await model.called.wait()
        await realm.archive(session_id, "retired")
        try:
            with pytest.raises(SessionBusy):
                await manager.delete(session_id)
        finally:
            model.heard.set()
    await manager.delete(session_id)
    assert [type(each.record) for each in realm.journal.read()][-1] is SessionDeleted
