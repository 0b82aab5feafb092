"""Noticing that something blocks the event loop, and what it is.

Owns: the thread that watches, armed only while members work. Must not: do anything about it (a
thread cannot), run in a simulation (there the time is nobody's).

A tool that computes for a minute, or waits without `await`, stands in for the whole program: no
other member moves, no deadline fires. Nobody on the loop can say so. So while members work a thread
asks the loop for a sign of life; if none comes within the limit, it looks whose step the loop is
in. If it is in the same step of the same task when the limit has passed once more, it takes the
stack of the loop's thread, which shows the code. (With ten thousand members one pass over all that
are due takes a second, and nobody blocks anybody.) While nobody works the thread is parked without
a deadline.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final

import attrs
import trio

if TYPE_CHECKING:
    from mob.activation import Activations

_log: Final = logging.getLogger("mob")

#: Blocks that are remembered.
REMEMBERED: Final = 16

#: What Trio calls the function that runs one step of a task after the other.
_LOOP: Final = "unrolled_run"


@attrs.define
class Blocked:
    """The loop did not move: for `seconds` at least, seen at `stack`, innermost call last."""

    seconds: float
    stack: str


class Watchdog:
    """Watches the loop of the thread it is made in. One step of one task that lasts longer than
    `limit_s` is a block; it is told of at the latest when twice that has passed."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._token = trio.lowlevel.current_trio_token()
        self._watched = threading.get_ident()
        self._armed = threading.Event()
        self._alive = threading.Event()
        self._ended = threading.Event()
        #: The latest blocks, oldest first.
        self.blocked: deque[Blocked] = deque(maxlen=REMEMBERED)
        #: Made when somebody first works.
        self._thread: threading.Thread | None = None

    def arm(self) -> None:
        """Somebody works."""
        if self._thread is None and not self._ended.is_set():
            self._thread = threading.Thread(target=self._watch, name="mob watchdog", daemon=True)
            self._thread.start()
        self._armed.set()

    def disarm(self) -> None:
        """Nobody does."""
        self._armed.clear()
        self._alive.set()

    def close(self) -> None:
        """End the thread; returns when it is gone."""
        self._ended.set()
        self._armed.set()
        self._alive.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        while True:
            self._armed.wait()
            if self._ended.is_set():
                return
            self._alive.clear()
            try:
                self._token.run_sync_soon(self._alive.set, idempotent=True)
            except trio.RunFinishedError:
                return
            began = time.monotonic()
            if not self._alive.wait(self._limit_s):
                if self._one_step():
                    self._report(began)
            # The next question comes when this much time has passed, or nobody works any more.
            elif self._armed.is_set():
                self._ended.wait(self._limit_s / 4)

    def _one_step(self) -> bool:
        """Whether the loop stays in one step of one task; waits until it is known."""
        step = self._step()
        while not self._alive.wait(self._limit_s):
            before, step = step, self._step()
            if step is not None and step is before:
                return True
        return False

    def _step(self) -> FrameType | None:
        """The outermost frame of the task that the loop is in: each task has its own, and is in it
        at most once between two signs of life."""
        frame = sys._current_frames().get(self._watched)
        while frame is not None and frame.f_back is not None:
            if frame.f_back.f_code.co_name == _LOOP:
                return frame
            frame = frame.f_back
        return None

    def _report(self, began: float) -> None:
        frame = sys._current_frames().get(self._watched)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        seen = Blocked(time.monotonic() - began, stack)
        self.blocked.append(seen)
        _log.warning("the event loop has been blocked for %.1f s in:\n%s", seen.seconds, stack)
        self._alive.wait()
        seen.seconds = time.monotonic() - began


@contextmanager
def watched(activations: Activations, limit_s: float) -> Iterator[None]:
    """Watch the loop in this block while they work; not if the limit is 0, or the time is not the
    real one."""
    real = type(trio.lowlevel.current_clock()).__module__ == "trio._core._run"
    if not limit_s or not real:
        yield
        return
    watchdog = activations.watchdog = Watchdog(limit_s)
    try:
        yield
    finally:
        activations.watchdog = None
        watchdog.close()
