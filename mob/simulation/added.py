"""The additions to the default workload, in the order in which their steps are numbered.

Owns: the list. Must not: have any behaviour. New ones go to its end, so that the others stay as
they are for a given seed.
"""

from __future__ import annotations

from typing import Final

from mob.simulation.additions import Addition
from mob.simulation.company import COMPANY
from mob.simulation.leavers import LEAVERS
from mob.simulation.pipelines import PIPELINES
from mob.simulation.staff import STAFF
from mob.simulation.switchboard import COMMS
from mob.simulation.travelers import TRAVELLERS

ADDITIONS: Final[tuple[Addition, ...]] = (COMMS, TRAVELLERS, STAFF, LEAVERS, PIPELINES, COMPANY)
