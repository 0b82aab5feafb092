"""The same mob under a seeded scheduler, a virtual clock and faults: see docs/simulation.md."""

from __future__ import annotations

from mob.simulation.disk import Commit, SimDisk
from mob.simulation.faults import (
    CRASH_POINTS,
    CrashPoint,
    Fault,
    FaultKind,
    FaultPlan,
    Faults,
    PlanInvalid,
)
from mob.simulation.streams import Streams
from mob.simulation.trace import Line, Trace, digest

__all__ = [
    "CRASH_POINTS",
    "Commit",
    "CrashPoint",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "Faults",
    "Line",
    "PlanInvalid",
    "SimDisk",
    "Streams",
    "Trace",
    "digest",
]
