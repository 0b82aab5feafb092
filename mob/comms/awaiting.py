"""Who waits for which reply, and what ends requests that nobody replies to.

Owns: `Awaiting`: those who wait, requests and ends on their way to the disk, the deadlines. Must
not: decide who may reply (`mob.comms.requesting` does).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs
import trio

from mob.comms.deadlines import Deadlines
from mob.comms.records import RequestSettled, Settled
from mob.comms.requests import OpenRequest, RequestBook, RequestEnd
from runtime.ids import InputId
from runtime.realm import Realm
from stores import StoreError, Ticket

_LATE: Final = "nobody replied before the deadline"


@attrs.define(eq=False)
class _Waiter:
    """Whoever waits for the end of one request."""

    settled: trio.Event = attrs.field(factory=trio.Event)
    end: RequestEnd | None = None
    error: Exception | None = None


class Awaiting:
    """The requests of one mob in this process."""

    def __init__(self, realm: Realm, book: RequestBook, nursery: trio.Nursery) -> None:
        self._realm = realm
        self._book = book
        self._deadlines = Deadlines(realm.ports.clock, nursery, self._late)
        self._waiters: dict[InputId, _Waiter] = {}
        #: Requests whose record is on its way to the disk.
        self._unsent: set[InputId] = set()
        #: What they end with whose end is on its way to the disk. The first stands.
        self.settling: dict[InputId, tuple[Settled, str]] = {}
        book.heard = self._heard
        book.ended = self._ended

    def recover(self) -> None:
        """Watch the requests that an earlier process left open."""
        for request in self._book.open.values():
            self._deadlines.add(request.request_id, request.deadline_ns)

    def close(self, error: Exception) -> None:
        """Tell whoever waits `error`, and end nothing any more."""
        self._deadlines.close()
        self.begin_anew(error)

    def begin_anew(self, error: Exception) -> None:
        """The requests are others now: tell whoever waits `error`. `recover` watches these."""
        self._deadlines.keep(())
        self._unsent.clear()
        self.settling.clear()
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters.values():
            waiter.error = error
            waiter.settled.set()

    def knows(self, request_id: InputId) -> bool:
        """Whether the request was sent, or is being sent."""
        book = self._book
        return (
            request_id in self._unsent
            or request_id in book.open
            or book.end(request_id) is not None
        )

    @contextmanager
    def sending(self, request_id: InputId) -> Iterator[None]:
        """Queue the record of the request in this block."""
        self._unsent.add(request_id)
        queued = False
        try:
            yield
            queued = True
        finally:
            if not queued:
                self._unsent.discard(request_id)

    async def end(self, request_id: InputId) -> RequestEnd:
        """Wait for the end of the request, which is on disk by then. Raises as `close` says."""
        end = self._book.end(request_id)
        if end is not None:
            await trio.lowlevel.checkpoint()
            return end
        waiter = self._waiters.setdefault(request_id, _Waiter())
        await waiter.settled.wait()
        if waiter.error is not None:
            raise waiter.error
        assert waiter.end is not None
        return waiter.end

    def settle(self, request_id: InputId, how: Settled, text: str) -> Ticket:
        """Queue the end of an open request."""
        self.settling[request_id] = (how, text)
        now = self._realm.ports.clock.now_ns()
        try:
            return self._realm.append(RequestSettled(request_id, how, text, now))
        except StoreError:
            self.settling.pop(request_id, None)
            raise

    def _late(self, request_id: InputId) -> None:
        if request_id in self._book.open and request_id not in self.settling:
            self.settle(request_id, Settled.PASSED, _LATE)

    def _heard(self, request: OpenRequest) -> None:
        self._unsent.discard(request.request_id)
        self._deadlines.add(request.request_id, request.deadline_ns)

    def _ended(self, end: RequestEnd) -> None:
        request_id = end.request.request_id
        self.settling.pop(request_id, None)
        self._deadlines.keep(self._book.open)
        waiter = self._waiters.pop(request_id, None)
        if waiter is not None:
            waiter.end = end
            waiter.settled.set()
