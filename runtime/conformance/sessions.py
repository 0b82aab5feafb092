"""The suite for session stores: CONTRACTS 2.1 to 2.6 as a Hypothesis state machine.

Owns: what every `SessionStore` does. Must not: know one.

    class MyStoreConformance(SessionStoreConformance):
        def open_store(self):
            return open_my_store(self.directory)

    TestMyStore = MyStoreConformance.TestCase

What a store may count on, because sessions are so: a history only grows, unless `branch` says that
it is another one, and each id is 1 to 64 characters without ``/``.

Theory. The model is a dictionary from id to the session saved last. Everything that the suite hands
over or gets back it spoils afterwards, so a store that keeps or shares an object is found out.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import trio
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from runtime.conformance.values import (
    SESSION_IDS,
    USAGES,
    GuestMachine,
    described,
    raised,
    sessions,
    spoil,
    turns,
)
from runtime.errors import SessionError
from runtime.history import History
from runtime.ids import SessionId
from runtime.messages import Message, Usage, UserMessage
from runtime.session import Session, SessionStatus
from runtime.store import SessionStore
from stores.errors import Damaged


class SessionStoreConformance(GuestMachine):
    """Rules that hold for every `SessionStore`. Override `open_store`."""

    #: Whether `open_store`, called again in the same example, finds what was saved before.
    reopens: bool = False

    def __init__(self) -> None:
        super().__init__()
        self._saved: dict[SessionId, Session] = {}

    def open_store(self) -> AbstractAsyncContextManager[SessionStore]:
        """Open the store of this example: empty at first."""
        raise NotImplementedError("override `open_store` to open the store under test")

    def damaged(self, session_id: SessionId) -> AbstractAsyncContextManager[None] | None:
        """Damage what is stored of the session while entered, and mend it on leaving.

        Override it if you can (None: it cannot be done): corruption is never reported as absence
        (CONTRACTS 2.2).
        """
        return None

    @initialize()
    def begin(self) -> None:
        self.store: SessionStore = self.entered(self.open_store)

    # Saving

    @rule(data=st.data(), session_id=SESSION_IDS)
    def save(self, data: Any, session_id: SessionId) -> None:
        """A session never seen before, or another history under a known id: `branch` tells."""
        session: Session = data.draw(sessions(session_id))
        old = self._saved.get(session_id)
        if old is not None:
            session = attrs.evolve(session, branch=old.branch + 1)
        self._save(session)

    @precondition(lambda self: self._saved)
    @rule(data=st.data(), more=st.lists(turns(), max_size=3), usage=USAGES)
    def save_what_grew(self, data: Any, more: list[tuple[Message, ...]], usage: Usage) -> None:
        """The history goes on and the counters move, as after some turns, or none."""
        old = self._any(data)
        fresh = tuple(message for turn in more for message in turn)
        self._save(
            attrs.evolve(
                old,
                messages=(*old.messages, *fresh),
                head=old.head + len(more),
                turns=old.turns + len(more),
                revision=old.revision + 1,
                usage=usage,
            )
        )

    @precondition(lambda self: self._saved)
    @rule(data=st.data(), more=st.lists(turns(), max_size=2))
    def save_what_was_rewound(self, data: Any, more: list[tuple[Message, ...]]) -> None:
        """The end of the history went, others turns may have followed: the branch is another."""
        old = self._any(data)
        keep = data.draw(st.integers(0, len(old.messages)), label="messages kept")
        fresh = tuple(message for turn in more for message in turn)
        kept = (*old.messages[:keep], *fresh)
        self._save(attrs.evolve(old, messages=kept, branch=old.branch + 1, head=old.head + 1))

    @precondition(lambda self: self._saved)
    @rule(data=st.data(), status=st.sampled_from(SessionStatus), order=st.randoms())
    def save_what_was_relabelled(self, data: Any, status: SessionStatus, order: Any) -> None:
        """The same history under other labels: status, title, tags in another order."""
        old = self._any(data)
        tags = list(dict.fromkeys((*old.tags, "b", "a")))
        order.shuffle(tags)
        self._save(attrs.evolve(old, status=status, title="relabelled", tags=tuple(tags)))

    @precondition(lambda self: self._saved)
    @rule(data=st.data(), times=st.integers(2, 4))
    def save_several_at_once(self, data: Any, times: int) -> None:
        """One of them wins, whole."""
        old = self._any(data)
        versions = [
            attrs.evolve(old, messages=old.messages[:index], branch=old.branch + index)
            for index in range(1, times + 1)
        ]

        async def work() -> Session | None:
            async with trio.open_nursery() as nursery:
                for version in versions:
                    nursery.start_soon(self.store.save, described(version))
            return await self.store.load(old.session_id)

        found = self.run(work)
        assert found in versions, f"{found} is none of those that were saved"
        self._saved[old.session_id] = described(found)

    @rule(data=st.data())
    def save_without_an_id(self, data: Any) -> None:
        """Refused (CONTRACTS 2.6)."""
        session = data.draw(sessions(SessionId("")))
        self.run(lambda: raised(SessionError, self.store.save(session)))

    # Reading and removing

    @rule(session_id=SESSION_IDS)
    def load(self, session_id: SessionId) -> None:
        """An equal session, or None, and what is done to it is not done to the store."""
        found = self.run(lambda: self.store.load(session_id))
        assert found == self._saved.get(session_id)
        if found is not None:
            spoil(found)
            assert self.run(lambda: self.store.load(session_id)) == self._saved[session_id]

    @rule(session_id=SESSION_IDS)
    def delete(self, session_id: SessionId) -> None:
        """Whether anything was there; an unknown id is no error (CONTRACTS 2.5)."""
        was_there = self._saved.pop(session_id, None) is not None
        assert self.run(lambda: self.store.delete(session_id)) is was_there
        assert self.run(lambda: self.store.load(session_id)) is None
        assert self.run(lambda: self.store.delete(session_id)) is False

    @precondition(lambda self: self._saved)
    @rule(data=st.data())
    def read_damage(self, data: Any) -> None:
        """An error that names the session, and no other one suffers (CONTRACTS 2.2)."""
        session_id = self._any(data).session_id
        harm = self.damaged(session_id)
        if harm is None:
            return

        async def work() -> None:
            async with harm:
                error = await raised(Damaged, self.store.load(session_id))
                assert session_id in str(error), f"{error} does not name session {session_id}"
                for other, session in self._saved.items():
                    assert other == session_id or await self.store.load(other) == session
                assert session_id in await self.store.list(), "damage is not absence"

        self.run(work)

    @precondition(lambda self: self.reopens)
    @rule()
    def reopen(self) -> None:
        """What was saved is there in another process's eyes."""
        self.left()
        self.begin()
        for session_id, session in self._saved.items():
            found = self.run(lambda session_id=session_id: self.store.load(session_id))  # type: ignore[misc]
            assert found == session

    @invariant()
    def all_are_listed(self) -> None:
        """Every saved id, ascending, once."""
        if hasattr(self, "store"):
            assert list(self.run(self.store.list)) == sorted(self._saved)

    # How the rules are carried out

    def _any(self, data: Any) -> Session:
        session: Session = self._saved[data.draw(st.sampled_from(sorted(self._saved)))]
        return session

    def _save(self, session: Session) -> None:
        kept, given = described(session), described(session)
        live = list(given.messages)  # what a running session hands over: a view of a living list
        given = attrs.evolve(given, messages=History(len(live), live))
        self._saved[session.session_id] = kept
        self.run(lambda: self.store.save(given))
        spoil(given)
        live.append(UserMessage("said later"))
        found = self.run(lambda: self.store.load(session.session_id))
        assert found == kept
