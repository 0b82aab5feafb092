"""The shapes that a scenario can have, by name.

Owns: the table. Must not: know what a shape does. To add one, write its file in `mob.bench.shapes`
and its line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mob.bench.shapes import (
    barrier,
    chaos,
    commons,
    crowd,
    debate,
    feed,
    marathon,
    mixture,
    research,
    resume,
    tasks,
    topology,
    village,
    vote,
)
from mob.bench.shapes.base import Shape

SHAPES: Final[Mapping[str, Shape]] = {
    "barrier": barrier.SHAPE,
    "chaos": chaos.SHAPE,
    "commons": commons.SHAPE,
    "crowd": crowd.SHAPE,
    "debate": debate.SHAPE,
    "feed": feed.SHAPE,
    "marathon": marathon.SHAPE,
    "mixture": mixture.SHAPE,
    "research": research.SHAPE,
    "resume": resume.SHAPE,
    "tasks": tasks.SHAPE,
    "topology": topology.SHAPE,
    "village": village.SHAPE,
    "vote": vote.SHAPE,
}
