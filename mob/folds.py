"""The folds of a mob: what its journal says beyond its sessions, in one place.

Owns: which folds there are, and that they are written, loaded and rebuilt as rows. Must not: know
what a record means.

Whoever reads a mob's journal makes one of these over the realm's state before anything is read; so
the running mob, its recovery and other processes that only look can never disagree on the folds.
"""

from __future__ import annotations

from mob.board import Board
from mob.comms.graph import Graph
from mob.comms.requests import RequestBook
from mob.flows.book import ENDED, KEYS, RUNNING, FlowBook
from mob.roster import Roster
from runtime.parts import WholeRows, part_of
from runtime.recovery import Recovery
from runtime.state import RealmState


class MobFolds:
    """The folds of one mob over the state of its realm."""

    def __init__(self, state: RealmState) -> None:
        self.roster = Roster(state)
        self.board = Board(state)
        self.graph = Graph(state)
        self.requests = RequestBook(state)
        self.flows = FlowBook(state)
        state.parts.update((each.prefix, each) for each in self.parts())

    def parts(self) -> tuple[WholeRows, ...]:
        """All of them, as rows."""
        return (
            part_of(b"r/", self.roster, Roster),
            part_of(b"b/", self.board, Board),
            part_of(b"w/", self.graph, Graph),
            part_of(b"wq/", self.requests, RequestBook),
            part_of(RUNNING, self.flows, FlowBook),
        )

    def keep(self, recovery: Recovery) -> None:
        """Have all of them written and loaded with the sessions."""
        for part in self.parts():
            recovery.add(part)
        recovery.add(WholeRows(b"wd/", self.requests.ends))
        self.requests.lookup = lambda name: recovery.key_row(b"wd/", name.encode())
        # Read one by one when they are asked for.
        self.flows.lookup, self.flows.scan = recovery.key_row, recovery.key_rows
        recovery.add(WholeRows(ENDED, self.flows.ended))
        recovery.add(WholeRows(KEYS, self.flows.keys))
