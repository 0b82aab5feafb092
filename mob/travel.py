"""What a mob was at some moment, and how two such moments differ.

Owns: `MobView`, what there is to say of a mob in one state, read from rows or from the folds, and
`MobDiff`. Must not: read a journal, change anything (`mob.traveling` has the verbs).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import attrs

from mob.board import BoardState
from mob.folds import MobFolds
from mob.roster import renamed
from runtime.ids import SessionId
from runtime.journal import Journal
from runtime.messages import NO_USAGE
from runtime.points import SESSIONS
from runtime.prices import cost_text
from runtime.state import RealmState
from runtime.travel import Change, StateRow


@attrs.frozen
class MemberView:
    """A member at a moment. `place` is where its latest turn is in the store, so that two histories
    of different mobs can be compared; None before the first. `tokens` and `cost` are those of its
    session and of everything below it."""

    profile: str
    session_id: SessionId
    generation: int
    turns: int
    tokens: int
    cost: str
    place: tuple[str, int] | None


@attrs.frozen
class MobView:
    """A mob at a moment: state, members by name, tasks on its board by id, what was said of pairs
    of members, and the flows under way by id."""

    state: str
    members: Mapping[str, MemberView]
    tasks: Mapping[str, tuple[BoardState, str | None, str]]
    wires: Mapping[tuple[str, str], bool]
    flows: Mapping[str, str]


def view(state: RealmState, folds: MobFolds, journal: Journal) -> MobView:
    """What the folds say now."""
    spent = dict.fromkeys(state.heads, NO_USAGE)
    for head in state.heads.values():
        above = head
        while above.lineage.parent is not None and above.lineage.parent in state.heads:
            above = state.heads[above.lineage.parent]
        spent[above.session_id] = spent[above.session_id] + head.usage
    members = {
        row.name: MemberView(
            row.profile,
            row.session_id,
            row.generation,
            state.heads[row.session_id].turns,
            spent[row.session_id].total_tokens,
            cost_text(spent[row.session_id]),
            journal.place(state.heads[row.session_id].head),
        )
        for row in folds.roster.members.values()
    }
    tasks = {
        task.task_id: (task.state, task.owner, task.title) for task in folds.board.tasks.values()
    }
    flows = {str(run.run_id): run.name for run in folds.flows.running.values()}
    return MobView(folds.roster.mob_state.value, members, tasks, folds.graph.pairs(), flows)


def folds_of(rows: Iterable[StateRow]) -> tuple[RealmState, MobFolds]:
    """A state that is there as rows, and the folds of a mob beside it."""
    state = RealmState()
    folds = MobFolds(state)
    for prefix, name, row in rows:
        if prefix == SESSIONS:
            state.restore(row)
            continue
        part = state.parts[prefix]
        assert part.load is not None
        part.load(name, row)
    state.restored()
    for part in state.parts.values():
        part.loaded()
    return state, folds


def view_of(rows: Iterable[StateRow], journal: Journal) -> MobView:
    """What a state that is there as rows says."""
    return view(*folds_of(rows), journal)


def called(mob_id: str) -> Change:
    """How the rows of a mob become those of a fork of it that is called `mob_id`."""

    def change(row: StateRow) -> StateRow:
        prefix, name, value = row
        return (prefix, name, renamed(value, mob_id)) if (prefix, name) == (b"r/", b"mob") else row

    return change


@attrs.frozen
class MemberDiff:
    """How a member differs: from and to, of turns and of tokens. `parted`: neither history is what
    the other was before."""

    turns: tuple[int, int]
    tokens: tuple[int, int]
    generation: tuple[int, int]
    parted: bool


@attrs.frozen
class MobDiff:
    """How one moment of a mob differs from another; empty if it does not. `str` says it in lines.

    `members` has those who are there at both and differ, `tasks` each that does with its two
    states (None: it is not on the board), `wires` what was said of pairs likewise.
    """

    joined: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    members: Mapping[str, MemberDiff] = attrs.field(factory=dict)
    tasks: Mapping[str, tuple[str | None, str | None]] = attrs.field(factory=dict)
    wires: Mapping[tuple[str, str], tuple[bool | None, bool | None]] = attrs.field(factory=dict)
    flows_begun: tuple[str, ...] = ()
    flows_ended: tuple[str, ...] = ()
    state: tuple[str, str] | None = None

    def __bool__(self) -> bool:
        return self != NO_DIFF

    def __str__(self) -> str:
        return "\n".join(_lines(self)) or "no difference"


NO_DIFF = MobDiff()

#: Whether the turn at one place is the other or comes before it in the other's history.
Before = Callable[[MemberView, MemberView], bool]


def diff(one: MobView, other: MobView, before: Before) -> MobDiff:
    """What is different in `other`. `before(a, b)`: a's history is the beginning of b's."""
    both = [name for name in other.members if name in one.members]
    members = {
        name: _member(one.members[name], other.members[name], before)
        for name in both
        if one.members[name] != other.members[name]
    }
    tasks = {
        each: (_task(one.tasks.get(each)), _task(other.tasks.get(each)))
        for each in {**one.tasks, **other.tasks}
        if one.tasks.get(each) != other.tasks.get(each)
    }
    wires = {
        each: (one.wires.get(each), other.wires.get(each))
        for each in {**one.wires, **other.wires}
        if one.wires.get(each) != other.wires.get(each)
    }
    return MobDiff(
        tuple([name for name in other.members if name not in one.members]),
        tuple([name for name in one.members if name not in other.members]),
        members,
        tasks,
        wires,
        tuple([run for run in other.flows if run not in one.flows]),
        tuple([run for run in one.flows if run not in other.flows]),
        None if one.state == other.state else (one.state, other.state),
    )


def _member(one: MemberView, other: MemberView, before: Before) -> MemberDiff:
    parted = one.place != other.place and not (before(one, other) or before(other, one))
    return MemberDiff(
        (one.turns, other.turns),
        (one.tokens, other.tokens),
        (one.generation, other.generation),
        parted,
    )


def _task(task: tuple[BoardState, str | None, str] | None) -> str | None:
    if task is None:
        return None
    state, owner, _ = task
    return state.value if owner is None else f"{state.value} by {owner}"


def _lines(found: MobDiff) -> Iterable[str]:
    if found.state is not None:
        yield f"mob: {found.state[0]} -> {found.state[1]}"
    for name in found.joined:
        yield f"+ member {name}"
    for name in found.left:
        yield f"- member {name}"
    for name, each in found.members.items():
        what = [f"turns {each.turns[0]} -> {each.turns[1]}"]
        what.append(f"tokens {each.tokens[0]} -> {each.tokens[1]}")
        if each.generation[0] != each.generation[1]:
            what.append(f"generation {each.generation[0]} -> {each.generation[1]}")
        if each.parted:
            what.append("histories part")
        yield f"~ member {name}: {', '.join(what)}"
    for task, (was, now) in found.tasks.items():
        yield f"~ task {task}: {was or 'not there'} -> {now or 'not there'}"
    for (sender, to), (was_open, is_open) in found.wires.items():
        yield f"~ wire {sender} -> {to}: {_wire(was_open)} -> {_wire(is_open)}"
    for run in found.flows_begun:
        yield f"+ flow {run}"
    for run in found.flows_ended:
        yield f"- flow {run}"


def _wire(said: bool | None) -> str:
    return "as defined" if said is None else "open" if said else "cut"


def beginning_in(mine: Journal, its: Journal) -> Before:
    """Tells whether one member's history, in the journal `mine`, is the beginning of another's, in
    `its`, or the other way round. Reads a number of records that is logarithmic in their length."""

    def before(one: MemberView, other: MemberView) -> bool:
        if one.place is None:
            return True
        if other.place is None or one.turns > other.turns:
            return False
        for journal in (its, mine):
            head = journal.number(other.place)
            if head is not None:
                return journal.place(journal.find_turn(head, one.turns)) == one.place
        return False

    return before
