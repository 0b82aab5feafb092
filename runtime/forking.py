"""Forking a session for somebody new: whole, or with what its model is shown cut short.

Owns: the records of that. Must not: commit them, or copy a turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runtime.contexts import ContextCompacted
from runtime.ids import AgentId, SessionId
from runtime.messages import NO_USAGE
from runtime.records import SessionForked
from runtime.session import SessionHead

if TYPE_CHECKING:
    from runtime.realm import Realm

#: What a model is told that is shown the end of a history only.
CUT: Final = "{} earlier turns of this conversation are not shown to you."


def fork_records(
    realm: Realm, source: SessionHead, agent_id: AgentId, turns: int | None
) -> tuple[SessionForked] | tuple[SessionForked, ContextCompacted]:
    """The records that make a session of `agent_id` with the history of `source`, whose model is
    shown the last so many `turns` (None: what that of `source` is shown). They belong into one
    commit. Reads a number of records that is logarithmic in the history's length, and for the whole
    of it none.

    Raises:
        SessionQuarantined: the history cannot be read.
    """
    now = realm.ports.clock.now_ns()
    fork = SessionForked(
        SessionId(realm.ports.ids.new()),
        source.session_id,
        agent_id,
        source.head,
        source.turns,
        source.message_count,
        source.links,
        now,
        source.compaction,
        agent_id,
    )
    cut = 0 if turns is None else source.turns - turns
    if cut <= 0:
        return (fork,)
    with realm.reading(source.session_id):
        total = realm.turn(realm.journal.find_turn(source.head, cut)).total
    shown = ContextCompacted(
        fork.session_id,
        source.head,
        source.turns,
        cut,
        total,
        (),
        CUT.format(cut),
        None,
        NO_USAGE,
        source.compaction,
        now,
    )
    return (fork, shown)
