"""A Trio loop for code that is not async: Hypothesis's rules run one step of it at a time.

Owns: the guest run and the hand-over of the thread. Must not: know a store. From Trio's guide to
guest mode; each call runs in the same task, so nurseries opened in one may be closed in another.
"""

from __future__ import annotations

import queue
from collections.abc import Awaitable, Callable
from typing import TypeVar

import outcome
import trio

_T = TypeVar("_T")


class GuestLoop:
    """A Trio loop that gets the thread only while `run` waits for it."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._ended: outcome.Outcome[None] | None = None
        self._work: trio.MemorySendChannel[Callable[[], Awaitable[None]]]
        self._work, receive = trio.open_memory_channel[Callable[[], Awaitable[None]]](1)
        trio.lowlevel.start_guest_run(
            self._serve,
            receive,
            run_sync_soon_threadsafe=self._calls.put,
            done_callback=self._end,
        )

    def run(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """Run `work` in the loop, always in the same task, and return what it returns."""
        results: list[outcome.Outcome[_T]] = []

        async def captured() -> None:
            results.append(await outcome.acapture(work))

        self._calls.put(lambda: self._work.send_nowait(captured))
        while not results and self._ended is None:
            self._calls.get()()
        assert results, f"the loop ended: {self._ended}"
        return results[0].unwrap()

    def end(self) -> None:
        """Let the loop come to its end."""
        self._calls.put(self._work.close)
        while self._ended is None:
            self._calls.get()()
        self._ended.unwrap()

    async def _serve(
        self, receive: trio.MemoryReceiveChannel[Callable[[], Awaitable[None]]]
    ) -> None:
        async for work in receive:
            await work()

    def _end(self, ended: outcome.Outcome[None]) -> None:
        self._ended = ended
