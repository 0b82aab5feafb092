"""The chronicle of a mob: everything its ledger was told, so that there can be one of any moment.

Owns: what a ledger is after a rewind, and what that of a fork begins with. Must not: judge, know
what is told.

A ledger cannot be taken back, so another one is told all that led to the moment that a rewind goes
to, and nothing of what was left behind. What is of the world outside, such as what a subscriber has
seen, is handed over from the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias, final

import attrs

from mob.simulation.facts import KnownSession, Written
from mob.simulation.ledger import Ledger
from runtime.points import RealmForked, RealmRewound

#: Tells a ledger once more what the last one was told.
Told: TypeAlias = Callable[[Ledger], object]


@attrs.frozen
class _Jump:
    """From record `seq` on the state is what it was at `at`; `written` are the records before it,
    and `branches` the branch of each session that is another history than it was until then.
    """

    seq: int
    at: int
    at_s: float
    written: tuple[Written, ...]
    branches: dict[str, int]


@final
class Chronicle:
    """Of one mob."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        #: Those that rewinds have left, oldest first.
        self.left: list[Ledger] = []
        #: How many records are those of the mob that this is a fork of.
        self.base = 0
        self._told: list[tuple[int, Told]] = []
        self._jumps: list[_Jump] = []

    def note(self, told: Told) -> None:
        """Keep what the ledger was just told."""
        self._told.append((self.ledger.last, told))

    def since(self, ledger: Ledger) -> list[Ledger]:
        """`ledger` and those after it."""
        known = [*self.left, self.ledger]
        places = [place for place, each in enumerate(known) if each is ledger]
        return known[places[0] :] if places else [self.ledger]

    def known_at(self, seq: int) -> Ledger:
        """The ledger of whoever has heard of record `seq` and of none after it: one of before a
        rewind as long as the records of that are on disk and nobody has heard of them."""
        return next((each for each in self.left if seq <= each.last), self.ledger)

    def rewind(self, written: Written) -> Ledger:
        """The ledger that follows; it is to be told of the rewind in `written` next."""
        record: RealmRewound = written.record
        old = self.ledger
        new = self._at(record.at, Ledger(old.mob_id))
        branches = {
            each.session_id: max(each.branch, before.branch) + 1
            for each in new.living()
            if (before := _living(old, each.session_id)) is not None
            and (before.head, before.branch) != (each.head, each.branch)
        }
        seq, at_s = written.seq, written.commit.at_s
        self._jumps.append(_Jump(seq, record.at, at_s, tuple(old.written), branches))
        self._arrive(self._jumps[-1], new)
        new.cursors, new.saved, new.erased = old.cursors, old.saved, old.erased
        new.opened_s = old.opened_s
        voyages, before_it = new.voyages, old.voyages
        voyages.points, voyages.went = dict(before_it.points), dict(before_it.went)
        voyages.begun = dict(before_it.begun)
        voyages.bases, voyages.back = before_it.bases, (written.commit, old.state)
        voyages.turns = {**before_it.turns, **old.turns}
        voyages.keys = before_it.keys | old.keys.keys()
        new.accounts.opening(new, old.accounts.definition, at_s)
        new.rounds.opening(old.rounds.definition)
        self.left.append(old)
        self.ledger = new
        return new

    def fork(self, mob_id: str, written: Written) -> Chronicle:
        """That of a mob that begins with `written`, of which its ledger is to be told next."""
        record: RealmForked = written.record
        old, at = self.ledger, record.at
        made = Chronicle(self._at(at, Ledger(mob_id)))
        made.base = at
        made._told = [each for each in self._told if each[0] <= at]
        made._jumps = [each for each in self._jumps if each.seq <= at]
        made._jumps.append(_Jump(at + 1, at, written.commit.at_s, tuple(old.written[:at]), {}))
        new = made.ledger
        made._arrive(made._jumps[-1], new)
        new.opened_s = dict(old.opened_s)
        new.cursors.clear()
        new.saved.clear()
        voyages, before = new.voyages, old.voyages
        points = before.points.items()
        voyages.points = {name: each for name, each in points if each.made + each.rows <= at}
        voyages.went = {seq: to for seq, to in before.went.items() if seq <= at}
        voyages.begun = {last: seq for last, seq in before.begun.items() if last <= at}
        voyages.bases = (*[each for each in before.bases if each < at], at)
        voyages.turns = {**before.turns, **old.turns}
        voyages.keys = before.keys | old.keys.keys()
        return made

    def _at(self, at: int, ledger: Ledger) -> Ledger:
        """`ledger`, told all that led to record `at`."""
        for told in self._until(at):
            told(ledger)
        return ledger

    def _until(self, at: int) -> list[Told]:
        jump = next((each for each in reversed(self._jumps) if each.seq <= at), None)
        if jump is None:
            return [told for seq, told in self._told if seq <= at]
        later = [told for seq, told in self._told if jump.seq <= seq <= at]
        return [*self._until(jump.at), partial(self._arrive, jump), *later]

    def _arrive(self, jump: _Jump, ledger: Ledger) -> None:
        """Make the state at the record that `jump` goes to that behind it."""
        ledger.accounts.catch_up(ledger)
        ledger.written[:] = jump.written
        ledger.accounts.skip(ledger.last)
        for session in ledger.living():
            session.revision = jump.seq
            session.branch = jump.branches.get(session.session_id, session.branch)
            session.driven = (0, 0)
        # As after a restart: what a process remembers beyond its journal, it has forgotten.
        ledger.given_up.clear()
        ledger.interrupts.clear()
        ledger.attendance.begin_anew()
        for exits in ledger.exits.values():
            for each in exits:
                each.commit = attrs.evolve(each.commit, process=0)
        ledger.accounts.opening(ledger, ledger.accounts.definition, jump.at_s)
        ledger.rounds.opening(None)


def _living(ledger: Ledger, session_id: str) -> KnownSession | None:
    session = ledger.sessions.get(session_id)
    return None if session is None or session.deleted else session
