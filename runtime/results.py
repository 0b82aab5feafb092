"""What a caller gets for a turn.

Owns: `TurnResult` and how it is read from the turn's record. Must not: run anything.
"""

from __future__ import annotations

import json
from typing import Any

import attrs

from runtime.errors import BudgetExceeded, OutputInvalid, TurnFailed, TurnInterrupted
from runtime.ids import RunId, SessionId
from runtime.messages import (
    CONTINUED,
    NO_USAGE,
    AssistantMessage,
    SystemMessage,
    Usage,
    UserMessage,
)
from runtime.notebook import told
from runtime.prices import cost_text
from runtime.records import TurnEnded, TurnOutcome


@attrs.frozen
class TurnResult:
    """A finished turn, on disk by the time anybody holds this.

    `text` is the last reply, `output` the parsed JSON of a structured answer (None without a
    schema), `usage` what this turn spent (children not included). `truncated` is whether the answer
    was cut off at a length limit and still not at its end when it had been continued.
    """

    session_id: SessionId
    run_id: RunId | None
    text: str
    output: Any = None
    usage: Usage = NO_USAGE
    truncated: bool = False

    def _repr_html_(self) -> str:
        """For notebooks: what it cost, and the answer."""
        said = self.text if self.output is None else json.dumps(self.output, ensure_ascii=False)
        cut = ", cut off at a length limit" if self.truncated else ""
        spent = f"{self.usage.total_tokens:,} tokens, {cost_text(self.usage)}{cut}"
        return told(f"turn of session {self.session_id}: {spent}", said)


def result_of(record: TurnEnded) -> TurnResult:
    """The result of a completed turn.

    Raises:
        OutputInvalid: the answer never fitted its schema.
        TurnFailed: the turn failed for another reason.
        TurnInterrupted: it was interrupted.
        BudgetExceeded: a budget was used up.
    """
    text = last_text(record)
    if record.outcome is TurnOutcome.COMPLETED:
        output = None if record.output is None else json.loads(record.output)
        truncated = record.error is not None
        return TurnResult(record.session_id, record.run_id, text, output, record.usage, truncated)
    reason = record.error or "no reason was recorded"
    if record.outcome is TurnOutcome.INTERRUPTED:
        raise TurnInterrupted(f"the turn was interrupted: {reason}", record.session_id)
    if record.outcome is TurnOutcome.OVER_BUDGET:
        raise BudgetExceeded(reason, record.session_id, **json.loads(record.output or "{}"))
    if reason.startswith("the answer does not fit its schema"):
        raise OutputInvalid(reason, record.session_id, text=text)
    raise TurnFailed(reason, record.session_id)


def last_text(record: TurnEnded) -> str:
    """The text of the turn's last reply, empty if there was none. One that was continued because it
    had been cut off is one reply.
    """
    text = ""
    found = continued = False
    for message in reversed(record.messages):
        if type(message) is SystemMessage:
            continue
        if type(message) is AssistantMessage:
            if found and not continued:
                break
            text, found, continued = message.text + text, True, False
        elif found:
            continued = type(message) is UserMessage and message.sender == CONTINUED
            if not continued:
                break
    return text
