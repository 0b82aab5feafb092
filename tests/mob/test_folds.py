"""The folds of a mob: each can be loaded, and cleared for other rows to be loaded."""

from __future__ import annotations

from mob.comms.records import MembersWired, RequestSent
from mob.folds import MobFolds
from mob.records import (
    BoardTaskAdded,
    BoardTaskMoved,
    MemberExited,
    MemberRetired,
    MemberSpawned,
    MobCreated,
    MobStateChanged,
    RunReported,
)
from runtime.ids import InputId, SessionId
from runtime.state import RealmState

RECORDS = (
    MobCreated("t", "{}", 1),
    MemberSpawned("a", "p", SessionId("s1"), 1, 1),
    MemberSpawned("b", "p", SessionId("s2"), 1, 1),
    MobStateChanged("running", "", 1),
    MemberExited("a", SessionId("s1"), "boom", 0.5, 5),
    MemberRetired("b", "", 2),
    RunReported("k", 3),
    BoardTaskAdded("t1", "dig", "", (), "k1", 4),
    BoardTaskMoved("t1", "claim", "claimed", "a", "", "k2", 4),
    MembersWired((("a", "b"),), 5),
    RequestSent(InputId("r-1"), "a", "a", 9, 6),
)


def filled(state: RealmState) -> MobFolds:
    folds = MobFolds(state)
    for seq, record in enumerate(RECORDS, 1):
        state.apply(seq, record)
    return folds


def test_every_part_that_is_loaded_can_be_made_anew_and_cleared() -> None:
    """CONTRACTS 6.9: what `runtime.parts` asks of a part, so that a mob can be brought back to an
    earlier point."""
    state = RealmState()
    MobFolds(state)
    for prefix, part in state.parts.items():
        assert part.prefix == prefix
        assert (part.load is None) == (part.clear is None) == (part.rebuild is None), prefix


def test_a_part_that_was_cleared_and_loaded_is_the_same() -> None:
    """CONTRACTS 6.9: nothing of what was there before is left."""
    state, other = RealmState(), RealmState()
    filled(state)
    theirs = filled(other)
    for prefix, part in other.parts.items():
        if part.load is None:
            continue
        rows = {name: row for name, row in part.changed() if row is not None}
        mine = state.parts[prefix]
        assert mine.clear is not None
        assert mine.load is not None
        mine.clear()
        assert list(mine.changed()) == []
        for name, row in rows.items():
            mine.load(name, row)
            mine.stale(name)
        mine.loaded()
        assert dict(mine.changed()) == rows
    assert theirs.roster.members
