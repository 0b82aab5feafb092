"""The clock and the ids of a simulated machine.

Owns: `SimClock`, `SimIds`, `sim_ports`. Must not: touch the virtual clock of the scheduler.

Durations and deadlines are Trio's business. What jumps here is the time that people read, as it
does when somebody sets a machine's clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Final, final

import trio

from runtime.ports import Clock, Ports, newest_millis

#: 2026-01-01T00:00:00Z, in seconds since the Unix epoch: when every simulation begins.
EPOCH_S: Final = 1_767_225_600


@final
class SimClock:
    """Wall-clock time: the virtual clock, and where somebody has set it to."""

    def __init__(self) -> None:
        self._offset_ns = EPOCH_S * 1_000_000_000

    def now_ns(self) -> int:
        """See `runtime.ports.Clock.now_ns`."""
        return self._offset_ns + round(trio.current_time() * 1e9)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forwards, or backwards if `seconds` is negative."""
        self._offset_ns += round(seconds * 1e9)


@final
class SimIds:
    """Ids of one process in the form of `runtime.ports.SystemIds`, from a seeded start.

    Invariant: they rise within a process, also when the clock is set back, and no two processes of
    a run make the same one: the process's number is part of it.
    """

    def __init__(self, clock: Clock, process: int, random: Random) -> None:
        self._clock = clock
        self._millis = 0
        # 16 bits of process, then 64 that start at random and count up; the top one starts clear.
        self._tail = (process & 0xFFFF) << 64 | random.getrandbits(63)

    def new(self) -> str:
        """See `runtime.ports.Ids.new`."""
        self._millis = max(self._millis, self._clock.now_ns() // 1_000_000)
        self._tail += 1
        return f"{self._millis:012x}{self._tail:020x}"

    def rise_above(self, ids: Iterable[str]) -> None:
        """See `runtime.ports.Ids.rise_above`."""
        self._millis = max(self._millis, newest_millis(ids) + 1)


def sim_ports(clock: SimClock, process: int, random: Random) -> Ports:
    """The ports of the process number `process`."""
    return Ports(clock, SimIds(clock, process, random))
