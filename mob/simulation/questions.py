"""Questions: what the journal says of calls that wait for approval, told a second time, plainly.

Owns: `KnownQuestion`, and which there are. Must not: judge (`mob.simulation.decisions` does), share
code with `runtime.approvals` but its records.

Unlike the fold it forgets nothing: what was decided about a call of a turn that has long ended is
what shows that the call ran as somebody decided.
"""

from __future__ import annotations

from typing import final

import attrs

from runtime.approvals import ApprovalAsked, ApprovalDecided, ApprovalUsed


def key_of(session_id: str, run_id: str, call_id: str) -> str:
    """What people name a call by."""
    return f"{session_id}:{run_id}:{call_id}"


@attrs.define
class KnownQuestion:
    """A call that was asked about: in which record and by which process, what was decided first,
    and in which record it was begun."""

    asked: ApprovalAsked
    seq: int
    process: int
    decided: ApprovalDecided | None = None
    begun: int = 0

    @property
    def key(self) -> str:
        """What people name the call by."""
        return key_of(self.asked.session_id, self.asked.run_id, self.asked.call_id)


@final
class Questions:
    """Every call that was ever asked about, by key, in order."""

    def __init__(self) -> None:
        self.known: dict[str, KnownQuestion] = {}

    def tell(
        self, seq: int, process: int, record: ApprovalAsked | ApprovalDecided | ApprovalUsed
    ) -> None:
        """Take a record in. Of several decisions the first counts."""
        if isinstance(record, ApprovalAsked):
            question = KnownQuestion(record, seq, process)
            self.known[question.key] = question
        elif isinstance(record, ApprovalDecided):
            known = self.known.get(key_of(record.session_id, record.run_id, record.call_id))
            if known is not None and known.decided is None:
                known.decided = record
        else:
            for call_id in record.call_ids:
                known = self.known.get(key_of(record.session_id, record.run_id, call_id))
                if known is not None:
                    known.begun = known.begun or seq
