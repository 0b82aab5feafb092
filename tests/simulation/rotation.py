"""Which fault plan a seed of a long run is played under.

Owns: the rotation, so that a seed alone says which run it is; how the programs here speak. Must
not: run anything.
"""

from __future__ import annotations

import sys
from typing import Final

#: Every plan that has a name, the heavy one more often: what goes wrong together finds most.
PLANS: Final = (
    "heavy", "light", "store", "heavy", "process", "control", "heavy", "tool", "model", "heavy",
    "message", "clock", "none",
)  # fmt: skip


def plan_of(seed: int) -> str:
    """The plan of `seed`."""
    return PLANS[seed % len(PLANS)]


def say(line: str) -> None:
    """Print one line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
