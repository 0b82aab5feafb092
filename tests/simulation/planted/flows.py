"""Bugs in runs of flows and in the task board.

Owns: the patches. Must not: know a workload.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import attrs

from mob.board import Board, BoardTask
from mob.boarding import BoardVerbs
from mob.flows import book, runner, scheduler
from mob.flows.asks import Collection, Enough, TooFew
from mob.flows.attempts import Attempt
from mob.flows.book import FlowBook
from mob.flows.runner import FlowRunner
from mob.flows.verbs import FlowVerbs
from mob.records import MemberRetired
from runtime.points import ALWAYS, marked
from tests.simulation.planted.table import planted

_ERAS = (
    "Mark what is read one by one with the record that it stands for, and call it otherwise in each"
    " era: a rewind to a record before the last checkpoint forgot runs that had ended, their keys"
    " and replies"
)


@planted("flows_start_and_end_once", within=300)
def a_key_starts_another_run() -> Iterator[None]:
    """A key that is on its way to the disk is not known yet. Breaks CONTRACTS 6.10: whoever comes
    with the same key is given the same run."""

    async def unknown(self: FlowVerbs, *_: Any) -> None:
        return None

    with patch.object(FlowVerbs, "_joined", unknown):
        yield


@planted("steps_wait_for_what_they_need", within=300)
def what_failed_is_as_good_as_done() -> Iterator[None]:
    """A step begins when what it needs has ended, however it did. Breaks CONTRACTS 6.10: needs must
    have succeeded."""
    pending = scheduler._of_pending

    def lenient(run: Any, name: str, now: Any) -> Any:
        plain = run.flow.steps[name]
        eased = attrs.evolve(plain, needs=(), after=(*plain.needs, *plain.after))
        flow = attrs.evolve(run.flow, steps={**run.flow.steps, name: eased})
        return pending(attrs.evolve(run, flow=flow), name, now)

    with patch.object(scheduler, "_of_pending", lenient):
        yield


@planted("outputs_are_what_members_answered", within=400)
def a_quorum_takes_what_there_is() -> Iterator[None]:
    """A quorum is content with one answer. Breaks CONTRACTS 6.10: as many as were asked for."""
    verdict = Collection.verdict

    def content(self: Collection) -> Enough | TooFew | None:
        self._needed = min(self._needed, 1)
        return verdict(self)

    with patch.object(Collection, "verdict", content):
        yield


@planted("withdrawn_questions_rest", "steps_ask_once", within=500)
def nobody_is_told_that_it_is_withdrawn() -> Iterator[None]:
    """Questions that nobody waits for any more stay in the queues of members. Breaks CONTRACTS
    6.10: they are abandoned or interrupted."""
    with (
        patch.object(FlowRunner, "_abandoned", lambda *_: []),
        patch.object(runner, "_keys", lambda *_: ()),
    ):
        yield


@planted("steps_end_once_and_as_they_may", "steps_wait_for_what_they_need", within=500)
def deadlines_come_early() -> Iterator[None]:
    """An attempt is given half of its time. Breaks CONTRACTS 6.10: a deadline never fires early."""
    left = Attempt._left_s

    def hasty(self: Attempt) -> float:
        return left(self) / 2

    with patch.object(Attempt, "_left_s", hasty):
        yield


@planted("what_flows_told_is_on_disk", within=600)
def ended_runs_are_forgotten() -> Iterator[None]:
    """The rows of runs that have ended are not written. Breaks CONTRACTS 6.9: the next process
    knows of flows what the last commit says."""
    ended = FlowBook.ended

    def forgets(self: FlowBook) -> Iterator[tuple[bytes, bytes | None]]:
        for _ in ended(self):
            pass
        return iter(())

    with patch.object(FlowBook, "ended", forgets):
        yield


@planted("board_tasks_follow_their_table", within=400)
def blockers_are_not_looked_at() -> Iterator[None]:
    """A task is claimed before what blocks it is done. Breaks CONTRACTS 6.11: an owner is set only
    when the blockers are done."""

    def nothing(_: Board, __: BoardTask) -> tuple[BoardTask, ...]:
        return ()

    with patch.object(Board, "waits_for", nothing):
        yield


@planted("what_the_board_told_is_on_disk", "board_tasks_follow_their_table", within=500)
def who_leaves_keeps_its_claims() -> Iterator[None]:
    """The tasks of a member that leaves stay its own. Breaks CONTRACTS 6.11: it loses its claims in
    that commit."""

    def keeps(_: Board, __: int, ___: MemberRetired) -> None:
        return None

    with patch.object(Board, "_retired", keeps):
        yield


@planted("board_tasks_follow_their_table", within=600)
def claims_are_decided_at_once() -> Iterator[None]:
    """Two verbs decide on the same state of the board, before either is on disk. Breaks CONTRACTS
    6.11: one of those who ask at once."""

    async def at_once(self: BoardVerbs, verb: str, task: Any, key: Any, decide: Any) -> Any:
        self.mob._admit("board")
        known = self._board.keyed(key, verb, task)
        if known is not None:
            return known
        record = decide(self.mob.realm.ports.clock.now_ns())
        await self.mob.realm.append(record).wait()
        return self._board.tasks[record.task_id]

    with patch.object(BoardVerbs, "_do", at_once):
        yield


@planted("what_flows_told_is_on_disk", "flows_start_and_end_once", within=600, mended=_ERAS)
def runs_are_of_the_era_in_which_they_are_written() -> Iterator[None]:
    """A run that had ended is gone after a rewind to a record before its row was written, and its
    key with it. Breaks CONTRACTS 6.12: what comes back is all that was."""
    with patch.object(book, "marked", lambda row, _: marked(row, ALWAYS - 1)):
        yield
