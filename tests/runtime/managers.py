"""`RealmSessions` under the suite for managers, over both engines; and what a realm adds to it.

Owns: `RealmConformance` and its two engines. Must not: be collected as a test.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from runtime.compaction import Compacted, Compacting, beginning, compact
from runtime.conformance import SessionManagerConformance
from runtime.ids import SessionId
from runtime.manager import RealmSessions, SessionManager
from runtime.messages import Usage
from runtime.models.base import ModelReply, ModelRequest, StopReason
from runtime.models.scripted import ScriptedModel
from runtime.realm import Realm
from runtime.session import CompactionPolicy
from runtime.store import StoredSessions
from stores import MemoryStore, Store, open_lmdb
from tests.runtime.fakes import REALM, counting_ports, make_realm

SUMMARY = ModelReply("in short", (), StopReason.END, Usage(5, 6, 1))


class RealmConformance(SessionManagerConformance):
    """A realm over `open_engine`, with a model that answers when the suite lets it."""

    kind: Callable[[Realm, StoredSessions], SessionManager] = RealmSessions

    def __init__(self) -> None:
        super().__init__()
        self.ports = counting_ports()

    def open_engine(self) -> AbstractAsyncContextManager[Store]:
        raise NotImplementedError

    @asynccontextmanager
    async def open_manager(self) -> AsyncIterator[SessionManager]:
        async with self.open_engine() as self.engine:
            self.realm = make_realm(self.engine, ScriptedModel(self.answer), ports=self.ports)
            self.snapshots = StoredSessions(self.engine, REALM)
            yield type(self).kind(self.realm, self.snapshots)

    async def answer(self, request: ModelRequest) -> ModelReply:
        self.called.set()
        await self.gate.wait()
        text = f"re: {request.messages[-1].text}"
        return ModelReply(text, (), StopReason.END, Usage(3, 4, 1))

    @asynccontextmanager
    async def turn(self, session_id: SessionId, text: str) -> AsyncIterator[None]:
        self.called, self.gate = trio.Event(), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.realm.runner.send_message, session_id, text)
            await self.called.wait()
            yield
            self.gate.set()

    # What only a realm has

    @rule()
    def checkpoint(self) -> None:
        """The next opening begins from rows."""
        self.run(self.realm.checkpoint)

    @precondition(lambda self: self.expected)
    @rule(which=st.integers(0, 10**6), keep=st.integers(0, 2))
    def compact(self, which: int, keep: int) -> None:
        """Sums up what is not among the newest turns, and changes nothing that anybody reads."""
        session_id, model = self._pick(which)
        turns = self.realm.state.head(session_id).turns
        how = Compacting(CompactionPolicy(keep_turns=keep), ScriptedModel(lambda _: SUMMARY))

        async def work() -> Compacted:
            live = self.realm.live(session_id)
            return await compact(self.realm, live, how)

        made = self.run(work)
        assert made.summary is None or (made.turns, made.usage) == (turns - keep, SUMMARY.usage)
        model.usage = self._row(session_id).usage

    @invariant()
    def compactions_are_of_the_histories_that_have_them(self) -> None:
        if not hasattr(self, "manager"):
            return
        journal = self.realm.journal
        for head in self.realm.state.heads.values():
            for place in (head, *head.branches):
                compaction = place.compaction
                while compaction is not None:
                    record = journal.get(compaction.seq)
                    assert compaction.turns <= compaction.made_at <= place.turns
                    assert journal.find_turn(place.head, compaction.made_at) == record.head
                    last = journal.turn(journal.find_turn(place.head, compaction.turns))
                    assert last.total == compaction.total == record.total
                    compaction = record.before
            live = self.realm.live(head.session_id)
            whole = journal.messages(head.head)
            standing, count = beginning(journal, head)
            assert (live.first, live.skipped) == (standing, count)
            assert live.history == whole[count:]
            assert (head.compaction is None) == (not standing)

    @precondition(lambda self: self.expected)
    @rule()
    def snapshot_all(self) -> None:
        """Snapshots load equal; deleting a session deletes its own."""
        for session_id in self.expected:
            value = self.realm.snapshot(session_id)

            async def work(value: object = value, session_id: SessionId = session_id) -> None:
                await self.snapshots.save(value)
                assert await self.snapshots.load(session_id) == value

            self.run(work)

    @invariant()
    def snapshots_are_of_sessions_and_links_are_those_of_the_chain(self) -> None:
        if not hasattr(self, "manager"):
            return
        assert set(self.run(self.snapshots.list)) <= set(self.expected)
        for session_id in self.expected:
            head = self.realm.state.head(session_id)
            assert head.links == (self.realm.journal.links(head.head) if head.head else ())
            assert head.children is None or set(head.children) <= set(self.expected)


class OverMemory(RealmConformance):
    """Reopens over the same `MemoryStore`."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = MemoryStore()

    @asynccontextmanager
    async def open_engine(self) -> AsyncIterator[Store]:
        yield self.memory


class OverLmdb(RealmConformance):
    def open_engine(self) -> AbstractAsyncContextManager[Store]:
        return open_lmdb(self.directory)
