"""The shapes that a scenario can have, by name.

Owns: the table. Must not: know what a shape does. To add one, write its file in `mob.bench.shapes`
and its line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mob.bench.shapes import barrier, feed, vote
from mob.bench.shapes.base import Shape

SHAPES: Final[Mapping[str, Shape]] = {
    "barrier": barrier.SHAPE,
    "feed": feed.SHAPE,
    "vote": vote.SHAPE,
}
