"""The suites hold for what is here, and fail for what breaks one rule each."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from runtime.conformance import SessionStoreConformance
from runtime.conformance.values import GuestMachine
from runtime.errors import MobError
from runtime.ids import SessionId
from runtime.manager import RealmSessions
from runtime.messages import NO_USAGE
from runtime.session import Session
from runtime.store import SessionStore, StoredSessions
from stores import Damaged, MemoryStore, Put, Store, StoreError, open_lmdb
from tests.runtime.broken import BROKEN_MANAGERS
from tests.runtime.fakes import REALM
from tests.runtime.managers import OverMemory


class Kept(SessionStoreConformance):
    """`StoredSessions` over any store of the port."""

    kind: Any = StoredSessions
    harmed: Store

    @asynccontextmanager
    async def damaged(self, session_id: SessionId) -> AsyncIterator[None]:
        """Cut the row short, past the engine's own checksums: what a bug of ours would do."""
        key = f"snapshot/{REALM}/{session_id}".encode()
        whole = self.harmed.get(key)
        assert whole is not None
        await self.harmed.commit([Put(key, whole[:-1])])
        yield
        await self.harmed.commit([Put(key, whole)])


class MemoryConformance(Kept):
    reopens = True

    def __init__(self) -> None:
        super().__init__()
        self.harmed = MemoryStore()

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[SessionStore]:
        yield self.kind(self.harmed, REALM)


class LmdbConformance(Kept):
    reopens = True

    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[SessionStore]:
        async with open_lmdb(self.directory) as self.harmed:
            yield self.kind(self.harmed, REALM)


TestMemory = MemoryConformance.TestCase
TestLmdb = LmdbConformance.TestCase
TestLmdb.settings = settings(max_examples=30)


class _DamageIsAbsence(StoredSessions):
    """What cannot be read was never there."""

    async def load(self, session_id: SessionId) -> Session | None:
        try:
            return await super().load(session_id)
        except Damaged:
            return None


class _Appends(StoredSessions):
    """Messages are added to what is stored, whatever became of it."""

    async def save(self, session: Session) -> None:
        old = await self.load(session.session_id) if session.session_id else None
        if old is not None and len(session.messages) < len(old.messages):
            session = attrs.evolve(session, messages=(*old.messages, *session.messages))
        await super().save(session)


class _FirstSaveCounts(StoredSessions):
    """What is stored stays."""

    async def save(self, session: Session) -> None:
        if session.session_id not in await self.list():
            await super().save(session)


class _Unordered(StoredSessions):
    """The latest first."""

    async def list(self) -> Any:
        return (await super().list())[::-1]


class _ListsWhatWasDeleted(StoredSessions):
    """An id once seen is listed for ever."""

    seen: set[SessionId]

    async def list(self) -> Any:
        self.seen = getattr(self, "seen", set()) | set(await super().list())
        return sorted(self.seen)


class _ForgetsTheBranch(StoredSessions):
    """The number of the branch does not come back."""

    async def load(self, session_id: SessionId) -> Session | None:
        found = await super().load(session_id)
        return found and attrs.evolve(found, branch=0)


class _ForgetsCounters(StoredSessions):
    """What was spent does not come back."""

    async def load(self, session_id: SessionId) -> Session | None:
        found = await super().load(session_id)
        return found and attrs.evolve(found, usage=NO_USAGE)


class _SortsTags(StoredSessions):
    """Tags come back in the order of the alphabet."""

    async def load(self, session_id: SessionId) -> Session | None:
        found = await super().load(session_id)
        return found and attrs.evolve(found, tags=tuple(sorted(found.tags)))


class _AlwaysDeleted(StoredSessions):
    """`delete` says that something was there."""

    async def delete(self, session_id: SessionId) -> bool:
        await super().delete(session_id)
        return True


class _RefusesToDeleteTwice(StoredSessions):
    """`delete` of an unknown id raises."""

    async def delete(self, session_id: SessionId) -> bool:
        if not await super().delete(session_id):
            raise KeyError(session_id)
        return True


class _DeletesByPrefix(StoredSessions):
    """Whatever begins with the id goes with it."""

    async def delete(self, session_id: SessionId) -> bool:
        gone = await super().delete(session_id)
        for other in await self.list():
            if gone and other.startswith(session_id):
                await super().delete(other)
        return gone


class _RaisesForTheUnknown(StoredSessions):
    """`load` of an unknown id raises."""

    async def load(self, session_id: SessionId) -> Session | None:
        found = await super().load(session_id)
        if found is None:
            raise KeyError(session_id)
        return found


class _TakesTheNameless(StoredSessions):
    """A session without an id is saved under another."""

    async def save(self, session: Session) -> None:
        await super().save(attrs.evolve(session, session_id=session.session_id or "nobody"))


class _KeepsObjects(StoredSessions):
    """What is given is kept, and given back, as it is."""

    objects: dict[SessionId, Session]

    async def save(self, session: Session) -> None:
        await super().save(session)
        self.objects = {**getattr(self, "objects", {}), session.session_id: session}

    async def load(self, session_id: SessionId) -> Session | None:
        found = await super().load(session_id)
        return found and getattr(self, "objects", {}).get(session_id, found)


class _SharesWhatItLoads(StoredSessions):
    """A cache of what was loaded."""

    cache: dict[SessionId, Session]

    async def save(self, session: Session) -> None:
        self.cache = {}
        await super().save(session)

    async def load(self, session_id: SessionId) -> Session | None:
        cache = self.cache = getattr(self, "cache", {})
        if session_id not in cache:
            found = await super().load(session_id)
            if found is None:
                return None
            cache[session_id] = found
        return cache[session_id]

    async def delete(self, session_id: SessionId) -> bool:
        self.cache = {}
        return await super().delete(session_id)


class _MixesSavesUp(StoredSessions):
    """Of two saves at once the messages are one's and the rest is the other's."""

    last: Session

    async def save(self, session: Session) -> None:
        self.last = session
        await trio.lowlevel.checkpoint()
        await super().save(attrs.evolve(session, branch=self.last.branch))


_BROKEN_STORES = [
    _AlwaysDeleted,
    _Appends,
    _DamageIsAbsence,
    _DeletesByPrefix,
    _FirstSaveCounts,
    _ForgetsCounters,
    _ForgetsTheBranch,
    _KeepsObjects,
    _ListsWhatWasDeleted,
    _MixesSavesUp,
    _RaisesForTheUnknown,
    _RefusesToDeleteTwice,
    _SharesWhatItLoads,
    _SortsTags,
    _TakesTheNameless,
    _Unordered,
]


def named(broken: type) -> str:
    return broken.__name__.strip("_")


@pytest.mark.parametrize("broken", _BROKEN_STORES, ids=named)
def test_the_suite_catches_a_store_that_breaks_a_rule(broken: type[StoredSessions]) -> None:
    """CONTRACTS 2.1 to 2.6, 2.10."""

    class Machine(MemoryConformance):
        kind = broken

    assert_caught(Machine, (KeyError,))


def test_the_suite_catches_a_store_that_forgets_when_it_is_closed() -> None:
    class Machine(Kept):
        reopens = True

        @asynccontextmanager
        async def open_store(self) -> AsyncIterator[SessionStore]:
            self.harmed = MemoryStore()
            yield StoredSessions(self.harmed, REALM)

    assert_caught(Machine)


def assert_caught(machine: type[GuestMachine], also: tuple[type[Exception], ...] = ()) -> None:
    """The suite ends with a finding: an assertion of its own, or an error that no rule allows."""
    findings = (AssertionError, MobError, StoreError, *also)
    with pytest.raises((*findings, ExceptionGroup)) as caught:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=1_000,
                stateful_step_count=25,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    assert is_a_finding(caught.value, findings), caught.value


def is_a_finding(error: BaseException, findings: tuple[type[Exception], ...]) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(is_a_finding(inner, findings) for inner in error.exceptions)
    return isinstance(error, findings)


@pytest.mark.parametrize("broken", BROKEN_MANAGERS, ids=named)
def test_the_suite_catches_a_manager_that_breaks_a_rule(broken: type[RealmSessions]) -> None:
    """CONTRACTS 3.1 to 3.7."""

    class Machine(OverMemory):
        kind = broken

    assert_caught(Machine)


def test_the_examples_of_the_documentation_run() -> None:
    """docs/conformance.md, every block of Python in it, as one module."""
    text = (Path(__file__).parents[2] / "docs" / "conformance.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/conformance.md", "exec"), names)
    suites = [each for name, each in names.items() if name.startswith("Test")]
    assert len(suites) == 3
    for suite in suites:
        suite.settings = settings(max_examples=5)
        suite("runTest").runTest()
