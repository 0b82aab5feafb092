"""A store whose commits a test holds back, lets go or fails.

Owns: `HeldStore`. Must not: start a thread, so that it works on the virtual clock. It gives the
memory engine the one thing that it lacks and a disk has: a time between "submitted" and "durable".
"""

from __future__ import annotations

from typing import Any

import trio

from stores import Batch, Committed, MemoryStore, StoreError, Ticket
from stores.writer import again


class HeldTicket:
    """A ticket of a batch that waits to be let go."""

    def __init__(self, batch: Batch, committed: Committed | None) -> None:
        self.batch = batch
        self.committed = committed
        self.settled = trio.Event()
        self.inner: Ticket | None = None
        self.error: StoreError | None = None

    async def wait(self) -> tuple[int, ...]:
        await self.settled.wait()
        if self.error is not None:
            raise again(self.error)
        assert self.inner is not None
        return await self.inner.wait()

    @property
    def done(self) -> bool:
        return self.settled.is_set()


class HeldStore:
    """A memory store; after `hold`, batches are queued until `release` or `fail`."""

    def __init__(self) -> None:
        self.inner = MemoryStore()
        self.held: list[HeldTicket] = []
        self.holding = False
        self.broken: StoreError | None = None
        self.changed = trio.Event()

    def hold(self) -> None:
        self.holding = True

    def release(self, count: int | None = None) -> None:
        """Let the first `count` batches go; None: all of them, and hold no more."""
        self.holding = count is not None
        going = self.held[:count]
        del self.held[:count]
        for ticket in going:
            ticket.inner = self.inner.submit(ticket.batch, ticket.committed)
        for ticket in going:
            ticket.settled.set()

    def fail(self, error: StoreError) -> None:
        """Fail what is held and everything that comes."""
        self.broken = error
        for ticket in self.held:
            ticket.error = error
            ticket.settled.set()
        self.held.clear()

    async def wait_held(self, count: int = 1) -> None:
        """Park until at least `count` batches are held."""
        while len(self.held) < count:
            await self.changed.wait()

    def submit(self, batch: Batch, committed: Committed | None = None) -> Ticket:
        if self.broken is not None:
            raise again(self.broken)
        if not self.holding:
            return self.inner.submit(batch, committed)
        ticket = HeldTicket(tuple(batch), committed)
        self.held.append(ticket)
        self.changed.set()
        self.changed = trio.Event()
        return ticket

    async def commit(self, batch: Batch) -> tuple[int, ...]:
        return await self.submit(batch).wait()

    async def barrier(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.held:
            await self.held[-1].settled.wait()
        if self.broken is not None:
            raise again(self.broken)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)
