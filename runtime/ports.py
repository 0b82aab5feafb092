"""The runtime's nondeterminism as ports: the clock and the maker of ids.

Owns: the protocols and their production forms. Must not: be imported by a pure module (pure
modules receive times and ids as arguments).

Production and simulation differ only in what is plugged in here. Durations and deadlines use
Trio's clock, which a simulation replaces too; `Clock.now_ns` is for timestamps that people read.
"""

from __future__ import annotations

import os
import time
from typing import Protocol

import attrs


class Clock(Protocol):
    """Wall-clock time."""

    def now_ns(self) -> int:
        """Nanoseconds since the Unix epoch. May jump; never used to measure a duration."""
        ...


class Ids(Protocol):
    """A source of ids that never repeat, here or in any other process."""

    def new(self) -> str:
        """A fresh id: 32 lower-case hexadecimal digits that sort by time of making."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        return time.time_ns()


class SystemIds:
    """48 bits of milliseconds, then 80 bits that start at random and count up.

    Invariant: within a process ids rise strictly, also when the clock steps back. Two processes
    would have to draw 80-bit starts within a few million of each other in the same millisecond to
    collide. The layout follows UUID version 7 (RFC 9562) without its fixed bits.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._millis = 0
        # The top bit is left clear so that counting up cannot overflow into the milliseconds.
        self._tail = int.from_bytes(os.urandom(10), "big") >> 1

    def new(self) -> str:
        millis = self._clock.now_ns() // 1_000_000
        if millis > self._millis:
            self._millis = millis
        self._tail += 1
        return f"{self._millis:012x}{self._tail:020x}"


@attrs.frozen
class Ports:
    """Everything a realm takes from the outside world besides its store and its models."""

    clock: Clock = attrs.field(factory=SystemClock)
    ids: Ids = attrs.field(factory=SystemIds)
