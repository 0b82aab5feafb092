"""The parts of the ledger that have a file of their own.

Owns: which there are. Must not: read a record (each part does).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mob.simulation.accounts import Accounts
from mob.simulation.attendance import Attendance
from mob.simulation.boards import KnownBoard
from mob.simulation.exchange import Exchange
from mob.simulation.facts import Written
from mob.simulation.failures import Failures
from mob.simulation.flowing import KnownFlows
from mob.simulation.questions import Questions
from mob.simulation.receipts import Receipts
from mob.simulation.rounds import Rounds
from mob.simulation.tenures import Tenures
from mob.simulation.voyages import Voyages


class Parts:
    """What `mob.simulation.ledger.Ledger` has of this module."""

    def __init__(self) -> None:
        #: Calls that were asked about, and runs with their receipts.
        self.questions, self.receipts = Questions(), Receipts()
        #: What was spent, and what hooks were asked and said.
        self.accounts = Accounts()
        self.rounds = Rounds()
        #: Who may send to whom, what waits for whom, and requests.
        self.exchange = Exchange()
        #: Points, and what rewinds left behind.
        self.voyages = Voyages()
        #: Members that come, begin anew and are limited, and how they failed.
        self.tenures, self.failures = Tenures(), Failures()
        #: Who comes for a word, and who waits for whom.
        self.attendance = Attendance()
        #: Runs of flows, and the task board.
        self.flows, self.board = KnownFlows(), KnownBoard()
        #: Which record is told to which parts, beside what the ledger itself makes of it.
        self.listeners: tuple[Mapping[type, Callable[[Written, Any], None]], ...] = (
            self.exchange.table,
            self.voyages.table(),
            self.tenures.table(),
            self.failures.table(),
            self.attendance.table(),
            self.flows.table(),
            self.board.table(),
        )
