"""A wall clock that goes with the virtual one.

Owns: `wall`. Must not: know what it is for: deadlines of requests are times of the wall clock.
"""

from __future__ import annotations

import trio

from runtime.ports import Ports


class _Wall:
    def __init__(self, ahead_s: float) -> None:
        self._ahead_s = ahead_s

    def now_ns(self) -> int:
        return int((trio.current_time() + self._ahead_s) * 1e9)


def wall(ahead_s: float = 0) -> Ports:
    """Ports whose clock shows Trio's time and `ahead_s` more."""
    return Ports(clock=_Wall(ahead_s))
