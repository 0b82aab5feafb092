"""The same mob under a seeded scheduler, a virtual clock and faults: see docs/simulation.md."""

from __future__ import annotations

from mob.simulation.disk import Commit, SimDisk
from mob.simulation.faults import CRASH_POINTS, CrashPoint, Fault, FaultKind, FaultPlan, Faults
from mob.simulation.guards import RealWorldRefused
from mob.simulation.process import Process, ProcessDied
from mob.simulation.run import Counterexample, Run, attempt, simulate
from mob.simulation.streams import Streams
from mob.simulation.trace import Line, Trace, digest
from mob.simulation.world import Failure, World

__all__ = [
    "CRASH_POINTS",
    "Commit",
    "Counterexample",
    "CrashPoint",
    "Failure",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "Faults",
    "Line",
    "Process",
    "ProcessDied",
    "RealWorldRefused",
    "Run",
    "SimDisk",
    "Streams",
    "Trace",
    "World",
    "attempt",
    "digest",
    "simulate",
]
