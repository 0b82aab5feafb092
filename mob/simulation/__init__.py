"""The same mob under a seeded scheduler, a virtual clock and faults: see docs/simulation.md."""

from __future__ import annotations

from mob.simulation.disk import Commit, SimDisk
from mob.simulation.streams import Streams
from mob.simulation.trace import Line, Trace, digest

__all__ = ["Commit", "Line", "SimDisk", "Streams", "Trace", "digest"]
