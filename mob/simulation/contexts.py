"""What must hold of compactions: that they are of the history they stand for, and stay with it.

Owns: the invariants. Must not: share code with `runtime.contexts` and `runtime.compaction`; they
are written from what `docs/compaction.md` promises.
"""

from __future__ import annotations

from mob.simulation.facts import Written
from mob.simulation.ledger import Ledger
from runtime.contexts import ContextCompacted
from runtime.messages import SystemMessage
from runtime.records import SessionForked, SessionRewound


def compactions_sum_up_what_was_said(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 2.8, 6.14: a compaction is of the session's history as it is, cuts it between two
    turns further on than the one before it, and keeps the system messages."""
    record: ContextCompacted = written.record
    session = ledger.sessions[record.session_id]
    if (record.head, record.turn) != (session.head, session.turns):
        return f"it is of turn {record.turn}, record {record.head}; the history ends elsewhere"
    if (record.before.seq if record.before is not None else 0) != session.compaction:
        return f"it follows {record.before}, in force is record {session.compaction}"
    last = ledger.turn_at(session.head, record.turns)
    if record.model is None and session.forked_from is not None:
        return _cut_short(ledger, record, last)
    before = ledger.compactions.get(session.compaction)
    if not last or (before is not None and record.turns <= before.turns):
        return f"it is of {record.turns} turns"
    if record.total != ledger.turns[last].total:
        return f"{record.turns} turns have {ledger.turns[last].total} messages, not {record.total}"
    said = ledger.history(last)
    system = tuple(each for each in said if isinstance(each, SystemMessage))
    if _was_cut_short(ledger, session.compaction):  # of what was left out it has none
        system = system[len(system) - len(record.kept) :]
    if record.kept != system:
        return f"it keeps {record.kept!r:.120}"
    return None if record.summary.strip() else "its summary is empty"


def _cut_short(ledger: Ledger, record: ContextCompacted, last: int) -> str | None:
    """CONTRACTS 6.2: a helper's fork may be shown the last turns only: nobody was asked for a
    summary, and nothing is read of what is left out."""
    if not last or record.total != ledger.turns[last].total or record.kept:
        return f"a fork is cut short after {record.turns} turns, {record.total} messages"
    return "a summary that nobody made was paid for" if record.usage.model_calls else None


def _was_cut_short(ledger: Ledger, seq: int) -> bool:
    """Whether the compaction `seq`, or one before it, is how a helper's fork began."""
    while seq:
        if ledger.written[seq - 1].record.model is None:
            return True
        seq = ledger.compactions[seq].before
    return False


def histories_keep_their_compactions(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 3.4, 3.5: a fork has a compaction of the history it shares, a rewind to before one
    undoes it, and a restore brings back what its branch had."""
    record: SessionForked | SessionRewound = written.record
    found = 0 if record.compaction is None else record.compaction.seq
    if found and found not in ledger.compactions:
        return f"record {found} is no compaction"
    if isinstance(record, SessionForked):
        known = ledger.compactions.get(found)
        if known is not None and ledger.turn_at(record.head, known.turn) != known.head:
            return f"compaction {found} is of another history"
        return None
    session = ledger.sessions[record.session_id]
    if record.restored is None:
        expected = ledger.compaction_at(session.compaction, record.turns)
    else:
        expected = session.aside[record.restored]
    return None if found == expected else f"compaction {found} is in force, not {expected}"
