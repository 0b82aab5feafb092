"""CONTRACTS 3: looking after sessions, against a plain model of what must be true.

The machine keeps histories as plain lists of texts and runs the real manager beside them, with the
realm reopened at any moment, from rows or from the journal alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import attrs
import pytest
import trio
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from runtime.errors import MobError, SessionBusy, SessionError, SessionNotFound, StaleRevision
from runtime.ids import SessionId
from runtime.manager import RealmSessions, RewindOutOfRange, split_turns
from runtime.messages import AssistantMessage, Message, UserMessage
from runtime.models.scripted import ScriptedModel
from runtime.models.sim import EchoModel
from runtime.realm import Realm
from runtime.session import SessionStatus
from runtime.store import StoredSessions
from stores import MemoryStore
from tests.runtime.fakes import REALM, call, counting_ports, make_realm, new_session

T = TypeVar("T")


@attrs.define
class Expected:
    """What a session should be: its turns as texts, and what rewinds put aside."""

    turns: list[str]
    branches: list[list[str]]
    name: str | None
    tags: list[str]
    spent: int = 0


def texts(messages: tuple[Message, ...] | list[Message]) -> list[str]:
    return [message.text for message in messages if isinstance(message, UserMessage)]


class ManagerMachine(RuleBasedStateMachine):
    """A realm, its manager, and the model beside them."""

    sessions = Bundle("sessions")

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.ports = counting_ports()
        self.expected: dict[SessionId, Expected] = {}
        self.said = 0
        self.open()

    def open(self) -> None:
        self.realm: Realm = make_realm(self.store, EchoModel(), ports=self.ports)
        self.snapshots = StoredSessions(self.store, REALM)
        self.manager = RealmSessions(self.realm, self.snapshots)

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        return trio.run(work)

    def known(self, session: SessionId) -> bool:
        return session in self.expected

    @rule(target=sessions, name=st.sampled_from([None, "x", "x (fork)"]))
    def create(self, name: str | None) -> SessionId:
        session = self.run(lambda: new_session(self.realm, title=name))
        self.expected[session] = Expected([], [], name, [])
        return session

    @rule(session=sessions, count=st.integers(1, 5))
    def talk(self, session: SessionId, count: int) -> None:
        if not self.known(session):
            return
        for _ in range(count):
            self.said += 1
            text = f"t{self.said}"
            self.run(lambda text=text: self.realm.runner.send_message(session, text))  # type: ignore[misc]
            self.expected[session].turns.append(text)
            self.expected[session].spent += 1

    @rule(target=sessions, session=sessions)
    def fork(self, session: SessionId) -> Any:
        if not self.known(session):
            with pytest.raises(SessionNotFound):
                self.run(lambda: self.manager.fork(session))
            return multiple()
        source = self.expected[session]
        copy = self.run(lambda: self.manager.fork(session))
        assert copy.usage.total_tokens == 0
        assert copy.lineage.forked_from == session
        name = None
        if source.name is not None:
            names = {each.name for each in self.expected.values()}
            name = f"{source.name} (fork)"
            number = 2
            while name in names:
                name = f"{source.name} (fork {number})"
                number += 1
        assert copy.title == name
        self.expected[copy.session_id] = Expected(list(source.turns), [], name, [])
        return copy.session_id

    @rule(session=sessions, index=st.integers(-1, 12))
    def rewind(self, session: SessionId, index: int) -> None:
        if not self.known(session):
            return
        model = self.expected[session]
        if not 0 <= index < len(model.turns):
            with pytest.raises(RewindOutOfRange):
                self.run(lambda: self.manager.rewind(session, index))
            return
        back = self.run(lambda: self.manager.rewind(session, index))
        if index < len(model.turns) - 1:
            model.branches.append(model.turns)
            model.turns = model.turns[: index + 1]
        assert texts(list(back.messages)) == model.turns

    @rule(session=sessions, branch=st.integers(-2, 2))
    def restore(self, session: SessionId, branch: int) -> None:
        if not self.known(session):
            return
        model = self.expected[session]
        if not -len(model.branches) <= branch < len(model.branches):
            with pytest.raises(SessionError):
                self.run(lambda: self.manager.restore(session, branch))
            return
        back = self.run(lambda: self.manager.restore(session, branch))
        wanted = model.branches.pop(branch % len(model.branches))
        if model.turns:  # an empty history is no branch
            model.branches.append(model.turns)
        model.turns = wanted
        assert texts(list(back.messages)) == model.turns

    @rule(session=sessions, tags=st.lists(st.sampled_from(["a", "b", "c"]), max_size=3))
    def tag(self, session: SessionId, tags: list[str]) -> None:
        if self.known(session):
            self.run(lambda: self.manager.tag(session, tags))
            model = self.expected[session]
            model.tags = list(dict.fromkeys([*model.tags, *tags]))

    @rule(session=sessions, tags=st.lists(st.sampled_from(["a", "b", "d"]), max_size=2))
    def untag(self, session: SessionId, tags: list[str]) -> None:
        if self.known(session):
            self.run(lambda: self.manager.untag(session, tags))
            model = self.expected[session]
            model.tags = [tag for tag in model.tags if tag not in tags]

    @rule(session=sessions, name=st.sampled_from(["y", "z"]))
    def rename(self, session: SessionId, name: str) -> None:
        if self.known(session):
            self.run(lambda: self.manager.rename(session, name))
            self.expected[session].name = name

    @rule(session=consumes(sessions))
    def delete(self, session: SessionId) -> None:
        if not self.known(session):
            with pytest.raises(SessionNotFound):
                self.run(lambda: self.manager.delete(session))
            return
        self.run(lambda: self.snapshots.save(self.realm.snapshot(session)))
        self.run(lambda: self.manager.delete(session))
        del self.expected[session]
        assert self.run(lambda: self.snapshots.load(session)) is None

    @rule(session=sessions, keep=st.integers(0, 8), more=st.integers(0, 3))
    def save(self, session: SessionId, keep: int, more: int) -> None:
        """Save what was read with its end changed: what it replaces becomes a branch."""
        if not self.known(session):
            return
        model = self.expected[session]
        held = self.run(lambda: self.manager.resume(session))
        kept = split_turns(held.messages)[:keep]
        messages = [message for turn in kept for message in turn]
        turns = texts(messages)
        for _ in range(more):
            self.said += 1
            messages += [UserMessage(f"t{self.said}"), AssistantMessage("saved")]
            turns.append(f"t{self.said}")
        saved = attrs.evolve(held, messages=tuple(messages))
        self.run(lambda: self.manager.save(saved))
        if len(kept) < len(model.turns):
            model.branches.append(model.turns)
        model.turns = turns
        if saved.revision != self.realm.state.head(session).applied:
            with pytest.raises(StaleRevision):
                self.run(lambda: self.manager.save(saved))

    @rule(session=sessions)
    def checkpoint_and_snapshot(self, session: SessionId) -> None:
        self.run(self.realm.checkpoint)
        if self.known(session):
            value = self.realm.snapshot(session)
            self.run(lambda: self.snapshots.save(value))
            assert self.run(lambda: self.snapshots.load(session)) == value

    @rule(one=sessions, other=sessions)
    def diff(self, one: SessionId, other: SessionId) -> None:
        if not (self.known(one) and self.known(other)):
            return
        first, second = self.expected[one].turns, self.expected[other].turns
        shared = 0
        while shared < min(len(first), len(second)) and first[shared] == second[shared]:
            shared += 1
        found = self.run(lambda: self.manager.diff(one, other))
        assert found.shared_turns == shared
        assert texts(found.only_first) == first[shared:]
        assert texts(found.only_second) == second[shared:]

    @rule()
    def reopen(self) -> None:
        self.open()

    @invariant()
    def all_is_as_expected(self) -> None:
        listed = self.run(self.manager.list)
        assert {row.session_id for row in listed} == set(self.expected)
        assert listed == sorted(listed, key=lambda row: (-row.updated_at_ns, row.session_id))
        for row in listed:
            model = self.expected[row.session_id]
            assert (row.title, list(row.tags)) == (model.name, model.tags)
            assert row.turns == len(model.turns)
            assert row.usage.model_calls == model.spent
            assert [branch.turns for branch in row.branches] == [len(b) for b in model.branches]
            assert texts(self.realm.messages(row.session_id, order="oldest")) == model.turns
            head = self.realm.state.head(row.session_id)
            assert head.links == (self.realm.journal.links(head.head) if head.head else ())


TestManager = ManagerMachine.TestCase


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
