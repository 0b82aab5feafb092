"""Trio with its dice in our hand: the same seed schedules the same steps.

Owns: `run_pinned`, and knowing the two private names of Trio that it takes. Must not: be used
inside a run of Trio; refuse anything (`mob.simulation.guards` does).

Trio shuffles the tasks that are ready in each pass of its loop, with a generator of its own. With
the switch that its Hypothesis plugin sets it also sorts them first, by age, so that the order in
which they became ready does not depend on memory addresses. Both names are private; if a release
of Trio loses one, this module says so when it is imported, and `tests/simulation/test_pinning.py`
holds the interleaving for each release it is run with.

Also held still: the garbage collector, which would end abandoned generators at a moment that
depends on everything the program did before.
"""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from random import Random
from types import FunctionType
from typing import Final, TypeVar

import trio
from trio._core import _run
from trio.testing import MockClock

_T = TypeVar("_T")

_SWITCH: Final = "_ALLOW_DETERMINISTIC_SCHEDULING"
_DICE: Final = "_r"


class TrioUnknown(ImportError):
    """This release of Trio cannot be pinned as the ones before it."""


def _check() -> None:
    """Raise unless the loop reads both names anew on each pass."""
    loop = getattr(_run, "unrolled_run", None)
    read = loop.__code__.co_names if isinstance(loop, FunctionType) else ()
    for name in (_SWITCH, _DICE):
        if not hasattr(_run, name) or name not in read:
            raise TrioUnknown(
                f"trio {trio.__version__} does not schedule by trio._core._run.{name} any more, so"
                " its order cannot be seeded: use an older Trio for simulation, and report this"
            )


_check()


def run_pinned(main: Callable[[], Awaitable[_T]], seed: int, clock: MockClock | None = None) -> _T:
    """``trio.run(main)`` with its order of steps decided by `seed`, on a virtual clock.

    The clock jumps ahead whenever all tasks are parked. Raises what `main` raises.
    """
    with pinned(Random(seed)):
        return trio.run(main, clock=clock or virtual_clock())


@contextmanager
def pinned(dice: Random) -> Iterator[None]:
    """A block in which Trio's loop takes its order from `dice`."""
    before = getattr(_run, _SWITCH), getattr(_run, _DICE)
    collecting = gc.isenabled()
    gc.disable()
    setattr(_run, _SWITCH, True)
    setattr(_run, _DICE, dice)
    try:
        yield
    finally:
        setattr(_run, _SWITCH, before[0])
        setattr(_run, _DICE, before[1])
        if collecting:
            gc.enable()


def virtual_clock() -> MockClock:
    """A clock at 0 that jumps to the next deadline when nothing can run."""
    clock = MockClock(autojump_threshold=0)
    # It would look at the real clock at every step only to multiply the difference with 0.
    clock._real_clock = still
    return clock


def still() -> float:
    """A real clock that does not go."""
    return 0.0
