"""Bugs planted in the production code, to see that the simulation finds them.

Each is a patch that stands for as long as a block does, in the modules beside this one; production
code has no switch for any of them. `BUGS` is the table: importing this package fills it. Nothing
here is aimed at: the default workload, under the plans that CI uses, must come by each.

    python -m tests.simulation.planted            every bug, and after how many seeds it was found
    python -m tests.simulation.planted --only gate_ignored --seeds 500
"""

from __future__ import annotations

from tests.simulation.planted import (
    approvals,
    bounds,
    comms,
    company,
    flows,
    guests,
    hosts,
    members,
    sessions,
    staff,
    stores,
    turns,
    voyages,
)
from tests.simulation.planted.table import BUGS, Bug

__all__ = [
    "BUGS",
    "Bug",
    "approvals",
    "bounds",
    "comms",
    "company",
    "flows",
    "guests",
    "hosts",
    "members",
    "sessions",
    "staff",
    "stores",
    "turns",
    "voyages",
]
