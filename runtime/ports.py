"""The runtime's nondeterminism as ports: the clock and the maker of ids.

Owns: the protocols and their production forms. Must not: be imported by a pure module (pure
modules receive times and ids as arguments).

Production and simulation differ only in what is plugged in here. Durations and deadlines use
Trio's clock, which a simulation replaces too; `Clock.now_ns` is for timestamps that people read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Final, Protocol

import attrs

_HEX: Final = frozenset("0123456789abcdef")
#: Milliseconds from the epoch to the year 10000.
_LATEST: Final = 253_402_300_800_000
_LAST: Final = 0xFFFF_FFFF


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

    def rise_above(self, ids: Iterable[str]) -> None:
        """From now on make ids that sort after these, whatever the clock says: they are those of
        processes before this one. What is not of the form of an id is passed over."""
        ...


class SystemClock:
    """The machine's clock."""

    now_ns = staticmethod(time.time_ns)


class SystemIds:
    """48 bits of milliseconds, then 80 bits that start at random and count up.

    Invariant: ids rise strictly, also when the clock steps back, within a process and, because each
    begins above those of the one before (`rise_above`), from one process to the next. Two processes
    would have to draw 80-bit starts within a few million of each other in the same millisecond to
    collide. The layout follows UUID version 7 (RFC 9562) without its fixed bits.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._millis = 0
        # The top bit is left clear so that counting up cannot overflow into the milliseconds.
        self._tail = int.from_bytes(os.urandom(10), "big") >> 1
        #: The digits of the milliseconds and of all but the last 32 bits of the tail, which are the
        #: same for thousands of ids: two are made in every turn. Empty when they are not any more.
        self._prefix = ""

    def new(self) -> str:
        millis = self._clock.now_ns() // 1_000_000
        self._tail += 1
        last = self._tail & _LAST
        if millis > self._millis or not last or not self._prefix:
            self._millis = max(millis, self._millis)
            self._prefix = f"{self._millis:012x}{self._tail >> 32:012x}"
        return self._prefix + format(last, "08x")

    def rise_above(self, ids: Iterable[str]) -> None:
        # A whole millisecond above: behind the newest of them its process made others, of inputs
        # and runs, and none of those may be made again.
        self._millis = max(self._millis, newest_millis(ids) + 1)
        self._prefix = ""


def newest_millis(ids: Iterable[str]) -> int:
    """The milliseconds of the newest of `ids` that has the form of `Ids.new`; 0 if none has.

    None beyond the year 9999 counts: such an id was given by somebody, not made by a clock.
    """
    made = [each[:12] for each in ids if len(each) == 32 and _HEX.issuperset(each)]
    return max((millis for text in made if (millis := int(text, 16)) < _LATEST), default=0)


@attrs.frozen
class Ports:
    """Everything a realm takes from the outside world besides its store and its models."""

    clock: Clock = attrs.field(factory=SystemClock)
    ids: Ids = attrs.field(factory=SystemIds)
