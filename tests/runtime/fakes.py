"""What the tests of the runtime share: realms over scripted models, a store with a slow disk.

Owns: `open_realm`, `LaggingStore`, counting ids and clocks. Must not: assert anything.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from runtime.driver import SessionConfig
from runtime.ids import HarnessId, RealmId, SessionId, ToolCallId
from runtime.messages import ToolCall
from runtime.models.base import Model, ModelReply, StopReason, ToolSpec
from runtime.models.scripted import Answer, Line, ScriptedModel
from runtime.ports import Ports
from runtime.realm import Realm
from runtime.session import SessionHead
from runtime.spawning import SpawnLimits
from runtime.tools.base import Tool, Toolbox, ToolContext
from runtime.turn import PLAIN_RULES, TurnRules
from stores import Batch, Committed, MemoryStore, Store, StoreClosed, Ticket

REALM = RealmId("test")
HARNESS = HarnessId("plain")
ANYTHING: Mapping[str, Any] = {"type": "object"}


class CountingIds:
    """Ids that rise by one: ``id-000001``."""

    def __init__(self, start: int = 1) -> None:
        self._numbers = itertools.count(start)

    def new(self) -> str:
        return f"id-{next(self._numbers):06}"

    def rise_above(self, ids: Iterable[str]) -> None:
        """They rise in any case, as long as a test begins its processes at rising numbers."""


class CountingClock:
    """A clock that ticks each time it is read."""

    def __init__(self) -> None:
        self._ticks = itertools.count(1)

    def now_ns(self) -> int:
        return next(self._ticks)


def counting_ports(start: int = 1) -> Ports:
    return Ports(CountingClock(), CountingIds(start))


def make_realm(
    store: Store,
    script: Model | Iterable[Line | Answer] | Answer = (),
    tools: Iterable[Tool] = (),
    *,
    rules: TurnRules = PLAIN_RULES,
    limits: SpawnLimits | None = None,
    ports: Ports | None = None,
    realm_id: RealmId = REALM,
) -> Realm:
    """A recovered realm whose sessions all run on one model and one set of tools."""
    model = script if hasattr(script, "generate") else ScriptedModel(script)
    box = Toolbox(tools)

    def configure(_: SessionHead) -> SessionConfig:
        return SessionConfig(model, toolbox=box, rules=rules)

    realm = Realm(store, realm_id, configure, limits=limits, ports=ports)
    realm.recover()
    return realm


async def new_session(realm: Realm, **given: Any) -> SessionId:
    return (await realm.create(HARNESS, **given)).session_id


@attrs.define
class Doing:
    """A tool that does what the test gives it, and remembers the calls it finished."""

    does: Callable[[Mapping[str, Any]], Any]
    name: str = "work"
    idempotent: bool = False
    timeout_s: float | None = None
    parameters: Mapping[str, Any] = ANYTHING
    begun: list[str] = attrs.field(factory=list)
    finished: list[str] = attrs.field(factory=list)

    @property
    def spec(self) -> ToolSpec:
        return ToolSpec(self.name, "", self.parameters)

    async def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        self.begun.append(context.call.id)
        value = self.does(arguments)
        if hasattr(value, "__await__"):
            value = await value
        self.finished.append(context.call.id)
        return value


def call(call_id: str, name: str = "work", arguments: str = "{}") -> ToolCall:
    return ToolCall(ToolCallId(call_id), name, arguments)


def asking(*calls: ToolCall, text: str = "") -> ModelReply:
    """A reply that makes these calls, ids and all."""
    return ModelReply(text, calls, StopReason.TOOL_CALLS)


class _LaggingTicket:
    def __init__(self) -> None:
        self.settled = trio.Event()
        self.inner: Ticket | None = None

    async def wait(self) -> tuple[int, ...]:
        await self.settled.wait()
        if self.inner is None:
            raise StoreClosed("the store was closed")
        return await self.inner.wait()

    @property
    def done(self) -> bool:
        return self.settled.is_set()


class LaggingStore:
    """A store whose commits take `delay_s` of the (virtual) clock, as a disk's do.

    What is submitted while a commit is under way shares the next one. Get one from
    `open_lagging`; leaving it makes everything submitted durable, as the real engine does.
    """

    durable = True
    location = "lagging"
    crowded = False

    def __init__(self, inner: MemoryStore, delay_s: float) -> None:
        self.inner = inner
        self.delay_s = delay_s
        self._queue: list[tuple[Batch, Committed | None, _LaggingTicket]] = []
        self._filled = trio.Event()
        self._closed = False

    def submit(self, batch: Batch, committed: Committed | None = None) -> Ticket:
        if self._closed:
            raise StoreClosed("the store was closed")
        ticket = _LaggingTicket()
        self._queue.append((tuple(batch), committed, ticket))
        self._filled.set()
        return ticket

    async def commit(self, batch: Batch) -> tuple[int, ...]:
        return await self.submit(batch).wait()

    async def room(self) -> None:
        pass

    async def barrier(self) -> None:
        await self.commit(())

    async def serve(self) -> None:
        with trio.CancelScope(shield=True):
            while self._queue or not self._closed:
                await self._filled.wait()
                await trio.sleep(0 if self._closed else self.delay_s)
                group, self._queue, self._filled = self._queue, [], trio.Event()
                for batch, committed, ticket in group:
                    ticket.inner = self.inner.submit(batch, committed)
                for _, _, ticket in group:
                    ticket.settled.set()

    def close(self) -> None:
        self._closed = True
        self._filled.set()

    def reopen(self) -> None:
        """Serve again after `close`."""
        self._closed = False
        self._filled = trio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@asynccontextmanager
async def open_lagging(
    inner: MemoryStore | None = None, delay_s: float = 1.0
) -> AsyncIterator[LaggingStore]:
    store = LaggingStore(inner or MemoryStore(), delay_s)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.serve)
        try:
            yield store
        finally:
            store.close()
