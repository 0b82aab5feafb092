"""Deadlines of requests: what ends those that nobody replies to.

Owns: the task that sleeps until the next deadline, while there is one. Must not: know what a
request is about, or end it (whoever made this does).

Deadlines are times of the wall clock, in the journal, so they are the same in every process: one
that has passed while none ran is found at once. No task is there while nothing waits.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection

import trio

from runtime.ids import InputId
from runtime.ports import Clock


class Deadlines:
    """An alarm for each open request. `passed` is called with each that is late, once."""

    def __init__(
        self, clock: Clock, nursery: trio.Nursery, passed: Callable[[InputId], None]
    ) -> None:
        self._clock = clock
        self._nursery = nursery
        self._passed = passed
        self._heap: list[tuple[int, InputId]] = []
        self._scope: trio.CancelScope | None = None
        self._running = False
        self._closed = False

    def add(self, request_id: InputId, deadline_ns: int) -> None:
        """Watch another one."""
        if self._closed:
            return
        heapq.heappush(self._heap, (deadline_ns, request_id))
        if not self._running:
            self._running = True
            self._nursery.start_soon(self._run, name="deadlines of requests")
        elif self._heap[0][1] == request_id and self._scope is not None:
            self._scope.cancel()  # it is the first: sleep anew

    def keep(self, open_: Collection[InputId]) -> None:
        """Only these are open: forget the others, once they are many, and sleep for no other."""
        if not open_ or len(self._heap) > 2 * len(open_) + 64:
            self._heap = [each for each in self._heap if each[1] in open_]
            heapq.heapify(self._heap)
            if not self._heap and self._scope is not None:
                self._scope.cancel()

    def close(self) -> None:
        """Ring no more."""
        self._closed = True
        self.keep(())

    async def _run(self) -> None:
        try:
            while self._heap:
                late_ns, request_id = self._heap[0]
                left_s = (late_ns - self._clock.now_ns()) / 1e9
                if left_s <= 0:
                    heapq.heappop(self._heap)
                    self._passed(request_id)
                    continue
                with trio.CancelScope() as self._scope:
                    await trio.sleep(left_s)
                self._scope = None
        finally:
            # Invariant: between "no alarm" and this there is no checkpoint.
            self._scope = None
            self._running = False
