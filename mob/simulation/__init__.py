"""The same mob under a seeded scheduler, a virtual clock and faults: see docs/simulation.md."""

from __future__ import annotations

from mob.simulation.disk import Commit, SimDisk
from mob.simulation.faults import CrashPoint, Fault, FaultPlan, Faults
from mob.simulation.guards import RealWorldRefused
from mob.simulation.invariants import INVARIANTS, Invariant, Moment, invariant
from mob.simulation.kinds import CRASH_POINTS, FaultKind
from mob.simulation.ledger import Ledger
from mob.simulation.oracle import Oracle, Violation
from mob.simulation.process import Process, ProcessDied
from mob.simulation.run import Counterexample, Run, attempt, simulate
from mob.simulation.streams import Streams
from mob.simulation.trace import Line, Trace, digest
from mob.simulation.world import Failure, World

__all__ = [
    "CRASH_POINTS",
    "INVARIANTS",
    "Commit",
    "Counterexample",
    "CrashPoint",
    "Failure",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "Faults",
    "Invariant",
    "Ledger",
    "Line",
    "Moment",
    "Oracle",
    "Process",
    "ProcessDied",
    "RealWorldRefused",
    "Run",
    "SimDisk",
    "Streams",
    "Trace",
    "Violation",
    "World",
    "attempt",
    "digest",
    "invariant",
    "simulate",
]
