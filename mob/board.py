"""The task board: shared tasks with owners and blockers, as a fold of the mob's journal. Pure.

Owns: the states of a task as one literal table, what each verb may do, the records it makes and
their fold. Must not: know who is a member (the verbs in `mob.boarding` ask the roster), run
anything.

    OPEN ----claim----> CLAIMED ----finish----> DONE
     | ^                 |    |
     | +-----release-----+    |
     +--------cancel----------+---------------> CANCELLED

What the table does not list is an error; the last two states have no way out. An owner is set only
when every blocker is done: one that is cancelled blocks until `block` takes it off the task.

Members that leave lose what they had claimed: the record of their leaving says it, so both are one
commit, also for a claim that was on its way to the disk.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from typing import Any, Final

import attrs

from mob.errors import BoardCycle, BoardKeyUsed, BoardMisuse, BoardTaskNotFound, TaskBlocked
from mob.folding import fold_on
from mob.records import BoardTaskAdded, BoardTaskBlocked, BoardTaskMoved, MemberRetired
from runtime.heads import pack_row, unpack_row
from runtime.state import RealmState

#: Characters of a title and of a detail or result: a board is read as a whole by models.
MAX_TITLE: Final = 200
MAX_TEXT: Final = 20_000


class BoardState(enum.Enum):
    """Where a task stands. The values are stored."""

    OPEN = "open"
    CLAIMED = "claimed"
    DONE = "done"
    CANCELLED = "cancelled"


_S = BoardState

#: The state that each verb leads to. Anything else is an error.
TRANSITIONS: Final[dict[tuple[BoardState, str], BoardState]] = {
    (_S.OPEN, "claim"): _S.CLAIMED,
    (_S.CLAIMED, "release"): _S.OPEN,
    (_S.CLAIMED, "finish"): _S.DONE,
    (_S.OPEN, "cancel"): _S.CANCELLED,
    (_S.CLAIMED, "cancel"): _S.CANCELLED,
    (_S.OPEN, "block"): _S.OPEN,
}


@attrs.frozen
class BoardTask:
    """One task. `owner` is the member that works on it, or has finished it; `result` is what came
    of it, or why it was cancelled. `keys` are the idempotency keys of what was done to it, each
    with the verb."""

    task_id: str
    title: str
    detail: str
    blocked_by: tuple[str, ...]
    state: BoardState
    owner: str | None
    result: str
    added_at_ns: int
    changed_at_ns: int
    keys: tuple[tuple[str, str], ...] = ()


class Board:
    """The tasks by id, in the order in which they were added."""

    def __init__(self, state: RealmState) -> None:
        self.tasks: dict[str, BoardTask] = {}
        #: The task and the verb that each idempotency key was used for.
        self._keyed: dict[str, tuple[str, str]] = {}
        #: What each member has claimed.
        self._claimed: dict[str, dict[str, None]] = {}
        self._changed: set[str] = set()
        fold_on(state, BoardTaskAdded, self._added)
        fold_on(state, BoardTaskMoved, self._moved)
        fold_on(state, BoardTaskBlocked, self._blocked)
        fold_on(state, MemberRetired, self._retired)

    # -- reading ---------------------------------------------------------------------------

    def task(self, task_id: str) -> BoardTask:
        """The task. Raises `BoardTaskNotFound`."""
        found = self.tasks.get(task_id)
        if found is None:
            raise BoardTaskNotFound(task_id, tuple(self.tasks))
        return found

    def keyed(self, key: str | None, verb: str, task_id: str | None = None) -> BoardTask | None:
        """The task that this key was used for before, None if it was not.

        Raises:
            BoardKeyUsed: it was used for another verb, or on another task than `task_id`.
        """
        known = self._keyed.get(key) if key is not None else None
        if known is None:
            return None
        if known[1] != verb or (task_id is not None and known[0] != task_id):
            raise BoardKeyUsed(str(key), known[1], known[0])
        return self.tasks[known[0]]

    def waits_for(self, task: BoardTask) -> tuple[BoardTask, ...]:
        """The blockers of `task` that are not done."""
        blockers = [self.tasks[each] for each in task.blocked_by if each in self.tasks]
        return tuple([each for each in blockers if each.state is not _S.DONE])

    # -- deciding --------------------------------------------------------------------------

    def add(
        self, title: str, detail: str, blocked_by: Sequence[str], key: str | None, at_ns: int
    ) -> BoardTaskAdded:
        """The record that adds a task. Raises `BoardMisuse`, `BoardTaskNotFound`."""
        if not title.strip() or len(title) > MAX_TITLE:
            raise BoardMisuse(f"a title has 1 to {MAX_TITLE} characters, this one {len(title)}")
        _check_text("detail", detail)
        blockers = tuple(dict.fromkeys(blocked_by))
        for each in blockers:
            self.task(each)
        newest = next(reversed(self.tasks), "t0")
        return BoardTaskAdded(_after(newest), title, detail, blockers, key, at_ns)

    def move(
        self,
        verb: str,
        task_id: str,
        owner: str | None,
        result: str,
        key: str | None,
        at_ns: int,
    ) -> BoardTaskMoved:
        """The record by which `verb` moves a task on.

        `owner` is who claims it; to other verbs, whose it must be (None: anybody's).

        Raises:
            BoardTaskNotFound: there is no such task.
            TaskBlocked: it is claimed, and blockers are not done.
            BoardMisuse: the table does not list it, or it is somebody else's.
        """
        task = self.task(task_id)
        state = self._after(task, verb)
        _check_text("result", result)
        if verb == "claim":
            if waiting := self.waits_for(task):
                told = tuple([(each.task_id, each.state.value) for each in waiting])
                raise TaskBlocked(task_id, told)
        elif owner is not None and task.owner != owner:
            whose = "to nobody" if task.owner is None else f"to {task.owner!r}"
            why = f"task {task_id} belongs {whose}, so {owner!r} cannot {verb} it"
            raise BoardMisuse(why, task_id)
        kept = {"claim": owner, "finish": task.owner}.get(verb)
        return BoardTaskMoved(task_id, verb, state.value, kept, result, key, at_ns)

    def block(
        self, task_id: str, blocked_by: Sequence[str], key: str | None, at_ns: int
    ) -> BoardTaskBlocked:
        """The record that gives an open task other blockers.

        Raises:
            BoardTaskNotFound: there is no such task, or no such blocker.
            BoardCycle: the task would wait for itself.
            BoardMisuse: it is not open.
        """
        self._after(self.task(task_id), "block")
        blockers = tuple(dict.fromkeys(blocked_by))
        for each in blockers:
            self.task(each)
            if way := self._way(each, task_id):
                raise BoardCycle((task_id, *way))
        return BoardTaskBlocked(task_id, blockers, key, at_ns)

    def _after(self, task: BoardTask, verb: str) -> BoardState:
        state = TRANSITIONS.get((task.state, verb))
        if state is None:
            whose = f" by {task.owner!r}" if task.owner is not None else ""
            possible = [each for at, each in TRANSITIONS if at is task.state]
            raise BoardMisuse(
                f"task {task.task_id} is {task.state.value}{whose}, which does not allow {verb!r};"
                f" it allows: {', '.join(possible) or 'nothing'}",
                task.task_id,
            )
        return state

    def _way(self, start: str, end: str) -> tuple[str, ...]:
        """Over which blockers `start` waits for `end`, both included; empty if it does not."""
        came: dict[str, str | None] = {start: None}
        ahead = [start]
        while ahead:
            here = ahead.pop()
            if here == end:
                way: list[str] = []
                step: str | None = here
                while step is not None:
                    way.append(step)
                    step = came[step]
                return tuple(reversed(way))
            for each in self.tasks[here].blocked_by:
                if each not in came and each in self.tasks:
                    came[each] = here
                    ahead.append(each)
        return ()

    # -- transitions -----------------------------------------------------------------------

    def _added(self, _: int, record: BoardTaskAdded) -> None:
        self._put(
            BoardTask(
                record.task_id,
                record.title,
                record.detail,
                record.blocked_by,
                _S.OPEN,
                None,
                "",
                record.at_ns,
                record.at_ns,
            ),
            record.key,
            "add",
        )

    def _moved(self, _: int, record: BoardTaskMoved) -> None:
        task = self.tasks.get(record.task_id)
        if task is None:  # what added it is lost
            return
        moved = attrs.evolve(
            task,
            state=BoardState(record.state),
            owner=record.owner,
            result=record.result,
            changed_at_ns=record.at_ns,
        )
        self._put(moved, record.key, record.verb)

    def _blocked(self, _: int, record: BoardTaskBlocked) -> None:
        task = self.tasks.get(record.task_id)
        if task is not None:
            blocked = attrs.evolve(task, blocked_by=record.blocked_by, changed_at_ns=record.at_ns)
            self._put(blocked, record.key, "block")

    def _retired(self, _: int, record: MemberRetired) -> None:
        for task_id in tuple(self._claimed.get(record.name, ())):
            freed = attrs.evolve(
                self.tasks[task_id], state=_S.OPEN, owner=None, changed_at_ns=record.at_ns
            )
            self._put(freed, None, "release")

    def _put(self, task: BoardTask, key: str | None, verb: str) -> None:
        if key is not None:
            task = attrs.evolve(task, keys=(*task.keys, (key, verb)))
            self._keyed[key] = (task.task_id, verb)
        before = self.tasks.get(task.task_id)
        if before is not None:
            self._index(before, claimed=False)
        self.tasks[task.task_id] = task
        self._index(task, claimed=True)
        self._changed.add(task.task_id)

    def _index(self, task: BoardTask, *, claimed: bool) -> None:
        if task.state is not _S.CLAIMED or task.owner is None:
            return
        theirs = self._claimed.setdefault(task.owner, {})
        if claimed:
            theirs[task.task_id] = None
        else:
            theirs.pop(task.task_id, None)
            if not theirs:
                del self._claimed[task.owner]

    # -- rows ------------------------------------------------------------------------------

    def changed(self) -> Iterator[tuple[bytes, bytes | None]]:
        """The rows to write, as `runtime.parts.WholeRows` asks for them."""
        changed, self._changed = self._changed, set()
        for task_id in sorted(changed):
            fields = attrs.astuple(self.tasks[task_id], recurse=False)
            yield task_id.encode(), pack_row(*_stored(fields))

    def load(self, _: bytes, row: bytes) -> None:
        """Take a row back. Raises `ValueError`, `TypeError` if it is none."""
        task_id, title, detail, blocked_by, state, *rest = unpack_row(row)
        task = BoardTask(task_id, title, detail, blocked_by, BoardState(state), *rest)
        self.tasks[task_id] = task
        self._keyed.update({key: (task_id, verb) for key, verb in task.keys})
        self._index(task, claimed=True)

    def loaded(self) -> None:
        """Call once after all rows: put the tasks in the order in which they were added."""
        self.tasks = dict(sorted(self.tasks.items(), key=lambda item: _number(item[0])))

    def stale(self, name: bytes) -> None:
        """The row was made anew and is to be written."""
        self._changed.add(name.decode())

    def clear(self) -> None:
        """Forget the tasks: others are loaded."""
        for each in (self.tasks, self._keyed, self._claimed, self._changed):
            each.clear()


def _stored(fields: Sequence[Any]) -> Iterator[Any]:
    return (each.value if isinstance(each, BoardState) else each for each in fields)


def _number(task_id: str) -> int:
    return int(task_id[1:])


def _after(task_id: str) -> str:
    return f"t{_number(task_id) + 1}"


def _check_text(what: str, text: str) -> None:
    if len(text) > MAX_TEXT:
        raise BoardMisuse(f"a {what} has at most {MAX_TEXT} characters, this one {len(text)}")
