"""The task board, told a second time, and what must hold of it.

Owns: what is known of each task, the promises about tasks, and the invariants. Must not: share code
with `mob.board`: only the records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from mob.records import BoardTaskAdded, BoardTaskBlocked, BoardTaskMoved, MemberRetired

if TYPE_CHECKING:
    from mob.simulation.facts import Written
    from mob.simulation.ledger import Ledger

#: From which states each verb may move a task, and to which.
_MOVES: Final[Mapping[str, tuple[frozenset[str], str]]] = {
    "claim": (frozenset({"open"}), "claimed"),
    "release": (frozenset({"claimed"}), "open"),
    "finish": (frozenset({"claimed"}), "done"),
    "cancel": (frozenset({"open", "claimed"}), "cancelled"),
}


@attrs.frozen
class Stand:
    """How a task stands since a record."""

    seq: int
    state: str
    owner: str | None
    result: str
    blocked_by: tuple[str, ...]


@attrs.frozen
class BoardTold:
    """A promise: these tasks stand so, by a process whose fold had `applied` records then; `whole`:
    there are no others. Of each: id, state, owner, result and blockers."""

    tasks: Sequence[tuple[str, str, str | None, str, tuple[str, ...]]]
    applied: int
    whole: bool = False


@final
class KnownBoard:
    """The tasks of one mob, each with all that became of it."""

    def __init__(self) -> None:
        self.tasks: dict[str, list[Stand]] = {}
        #: Keys that were used, with the verb and the task.
        self.keys: dict[str, tuple[str, str]] = {}

    def table(self) -> Mapping[type, Callable[[Written, Any], None]]:
        """Which record is told to what."""
        return {
            BoardTaskAdded: self._added,
            BoardTaskMoved: self._moved,
            BoardTaskBlocked: self._blocked,
            MemberRetired: self._retired,
        }

    def _added(self, written: Written, record: BoardTaskAdded) -> None:
        self.tasks[record.task_id] = [Stand(written.seq, "open", None, "", record.blocked_by)]
        self._used(record.key, "add", record.task_id)

    def _moved(self, written: Written, record: BoardTaskMoved) -> None:
        stands = self.tasks[record.task_id]
        stands.append(
            Stand(written.seq, record.state, record.owner, record.result, stands[-1].blocked_by)
        )
        self._used(record.key, record.verb, record.task_id)

    def _blocked(self, written: Written, record: BoardTaskBlocked) -> None:
        stands = self.tasks[record.task_id]
        stands.append(attrs.evolve(stands[-1], seq=written.seq, blocked_by=record.blocked_by))
        self._used(record.key, "block", record.task_id)

    def _retired(self, written: Written, record: MemberRetired) -> None:
        for stands in self.tasks.values():
            if stands[-1].state == "claimed" and stands[-1].owner == record.name:
                freed = attrs.evolve(stands[-1], seq=written.seq, state="open", owner=None)
                stands.append(freed)

    def _used(self, key: str | None, verb: str, task_id: str) -> None:
        if key is not None:
            self.keys[key] = (verb, task_id)

    def at(self, task_id: str, applied: int) -> Stand | None:
        """How a task stood after so many records."""
        found = [each for each in self.tasks.get(task_id, ()) if each.seq <= applied]
        return found[-1] if found else None


def board_tasks_follow_their_table(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.11: tasks move as their table says, what is done or cancelled stays so; one is
    claimed when its blockers are done, by one member that is there; a key does one thing once."""
    record, board = written.record, ledger.board
    if record.key is not None and record.key in board.keys:
        return f"key {record.key!r} does something again: {record!r:.160}"
    stands = board.tasks.get(record.task_id)
    if isinstance(record, BoardTaskAdded):
        return _added(board, record)
    if stands is None:
        return f"there is no task {record.task_id}: {record!r:.160}"
    now = stands[-1]
    if isinstance(record, BoardTaskBlocked):
        if now.state != "open":
            return f"task {record.task_id} is {now.state} and gets other blockers"
        return _blockers(board, record)
    before, after = _MOVES[record.verb]
    if now.state not in before or record.state != after:
        return f"task {record.task_id} is {now.state}, and {record.verb} makes it {record.state}"
    if record.verb == "claim":
        return _claimed(ledger, record, now)
    kept = now.owner if record.verb == "finish" else None
    return None if record.owner == kept else f"task {record.task_id} comes to {record.owner!r}"


def _added(board: KnownBoard, record: BoardTaskAdded) -> str | None:
    if record.task_id in board.tasks:
        return f"task {record.task_id} is added again"
    return _blockers(board, record)


def _blockers(board: KnownBoard, record: BoardTaskAdded | BoardTaskBlocked) -> str | None:
    ahead, seen = list(record.blocked_by), set[str]()
    while ahead:
        each = ahead.pop()
        if each not in board.tasks:
            return f"task {record.task_id} waits for {each}, which is not there"
        if each == record.task_id:
            return f"task {record.task_id} waits for itself, by {record.blocked_by}"
        if each not in seen:
            seen.add(each)
            ahead += board.tasks[each][-1].blocked_by
    return None


def _claimed(ledger: Ledger, record: BoardTaskMoved, now: Stand) -> str | None:
    if record.owner not in ledger.members:
        return f"task {record.task_id} is claimed by {record.owner!r}, who is no member"
    for each in now.blocked_by:
        state = ledger.board.tasks[each][-1].state
        if state != "done":
            return f"task {record.task_id} is claimed, and {each}, which blocks it, is {state}"
    return None


def what_the_board_told_is_on_disk(ledger: Ledger, promise: object) -> str | None:
    """CONTRACTS 6.11: what somebody is told of a task is what its records say, in any process, also
    that its owner has left the mob."""
    if not isinstance(promise, BoardTold):
        return None
    board = ledger.board
    if promise.applied > ledger.last:
        return f"the board is told as of record {promise.applied}, and there are {ledger.last}"
    for task_id, *told, blocked_by in promise.tasks:
        stand = board.at(task_id, promise.applied)
        if stand is None:
            return f"task {task_id} was told of and is not on disk"
        known = [stand.state, stand.owner, stand.result, stand.blocked_by]
        if known != [*told, blocked_by]:
            return f"task {task_id} was told to be {told}, {blocked_by}, and is {known}"
    there = [each for each in board.tasks if board.at(each, promise.applied) is not None]
    if promise.whole and there != [each[0] for each in promise.tasks]:
        return f"the tasks are {there}, and {[each[0] for each in promise.tasks]} were listed"
    return None
