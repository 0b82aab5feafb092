"""Bugs in points, forks and rewinds of a whole mob.

Owns: the patches. Must not: know a workload.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import attrs

from runtime.heads import unpack_head
from runtime.ids import RealmId
from runtime.inputs import Inputs
from runtime.points import ALWAYS, Era
from runtime.recovery import Recovery
from runtime.restoring import Restoring
from runtime.travel import Moment, Travel
from tests.simulation.planted.table import planted

_MENDED = (
    "Let people fork, snapshot and rewind the whole mob in the simulation, with a ledger for each"
    " branch: two points of one name were both made, and what was on its way to the disk at a"
    " rewind was in neither branch"
)


@planted("the_fold_agrees_with_the_ledger", within=600)
def inputs_of_what_was_left() -> Iterator[None]:
    """A rewind leaves the inputs of sessions as they are: those of the branch that was left wait.

    CONTRACTS 6.12.
    """
    honest = Restoring._session

    def session(self: Restoring, row: bytes) -> None:
        head = unpack_head(row)
        before = self._state.heads.get(head.session_id)
        honest(self, row)
        now = self._state.heads[head.session_id]
        if before is not None and now is not before and before.inputs:
            now.inputs = {**(now.inputs or {}), **before.inputs}

    with patch.object(Restoring, "_session", session):
        yield


@planted("what_comes_back_is_all_that_was", "the_fold_agrees_with_the_ledger", within=600)
def a_fork_of_now() -> Iterator[None]:
    """A fork at a point begins with what its parent has done since.

    CONTRACTS 6.12.
    """
    honest = Travel._beginning

    def beginning(self: Travel, new: RealmId, moment: Moment, change: Any) -> Any:
        now = attrs.evolve(moment, rows=tuple(self._recovery.rows()))
        return honest(self, new, now, change)

    with patch.object(Travel, "_beginning", beginning):
        yield


@planted("what_comes_back_is_all_that_was", within=600)
def a_fold_is_forgotten() -> Iterator[None]:
    """A point has no roster: whoever goes back to it has no members.

    CONTRACTS 6.12.
    """
    honest = Recovery.rows

    def rows(self: Recovery, unwritten: Any = ()) -> Any:
        return [each for each in honest(self, unwritten) if each[0] != b"r/"]

    with patch.object(Recovery, "rows", rows):
        yield


@planted("keys_of_what_was_left_are_free", "the_fold_agrees_with_the_ledger", within=1000)
def keys_of_all_branches() -> Iterator[None]:
    """A key joins an input of a branch that was left behind.

    CONTRACTS 5.7, 6.12.
    """
    honest = Inputs._of_era

    def of_era(self: Inputs, era: Era, key: str) -> Any:
        return honest(self, attrs.evolve(era, until=ALWAYS), key)

    with patch.object(Inputs, "_of_era", of_era):
        yield


@planted("points_are_of_what_is_on_disk", within=600, mended=_MENDED)
def two_points_of_one_name() -> Iterator[None]:
    """Whether the name of a point is taken is asked before others that are on their way.

    CONTRACTS 6.12.
    """
    honest = Travel._captured

    async def captured(self: Travel, submit: Any, _check: Any = None) -> None:
        await honest(self, submit)

    with patch.object(Travel, "_captured", captured):
        yield
