"""Python's garbage collector, set for a swarm.

Owns: `tuned_gc`. Must not: be used by anything but applications: the collector is the whole
process's, so whether it is tuned is for the program to say and not for a library to do unasked.

A thousand turns in flight at once are some hundred thousand young objects, nearly all of which are
let go by reference counting a moment later. With the interpreter's own threshold of 700 the
collector looks at all of them again and again and finds nothing: that is a third of the processor
time of a durable turn (`benchmarks/turns.py`).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

#: Net allocations between two collections of the youngest objects, and how many collections of one
#: generation go before one of the next. A turn in flight is some 60 objects: with 1,000 of them,
#: none is looked at before it is let go. Cycles that wait for collection take some 40 MB with this.
_THRESHOLDS: Final = (200_000, 5, 100)

#: Of so many, the program has chosen by itself.
_CHOSEN: Final = 50_000


@contextmanager
def tuned_gc() -> Iterator[None]:
    """Collect garbage seldom in this block, and never look at what was there before it.

    For programs whose process runs a mob: `mob run` uses it. The thresholds are put back at the
    end. Blocks may be nested; the outermost one counts.
    """
    before = gc.get_threshold()
    if not before[0] or before[0] >= _CHOSEN:  # off, or somebody's choice already
        yield
        return
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
