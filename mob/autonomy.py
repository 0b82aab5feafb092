"""Members that go on by themselves: when one is told to continue, and when it rests. Pure.

Owns: the policy, the decision after each turn, and how a member's own prompts are told from
messages. Must not: import Trio, read a clock, run a turn.

After a turn that leaves its queue empty, an autonomous member is given a prompt of its own. The
prompt is accepted in the commit that ends the turn, so a crash loses none and makes none twice, and
nothing has to look whether there is one to give. It rests when it says so (the tool `rest`, or a
word), when it has had `max_turns` prompts in a row, and when a turn does not end with an answer.
Any message begins the count again.
"""

from __future__ import annotations

from typing import Final

import attrs

from runtime.ids import InputId
from runtime.messages import AssistantMessage
from runtime.records import TurnEnded, TurnOutcome
from runtime.results import last_text
from runtime.session import PendingInput

#: As whom a member prompts itself. No member is called that.
SELF: Final = "(itself)"

REST: Final = "rest"


@attrs.frozen
class Autonomy:
    """How a member goes on by itself: the prompt, the word in an answer that ends it (None: only
    the tool `rest` does), and how many prompts in a row it is given at most."""

    continue_with: str = "Continue."
    rest_word: str | None = None
    max_turns: int = 50


def prompt_id(fresh: str, count: int) -> InputId:
    """The id of the `count`-th prompt in a row. It says so, which makes the count durable."""
    return InputId(f"{fresh}+{count}")


def moved_id(fresh: str, pending: PendingInput) -> InputId:
    """The id of an input that waited and goes to another session: a prompt's says its count."""
    return prompt_id(fresh, count_of(pending)) if pending.sender == SELF else InputId(fresh)


def count_of(pending: PendingInput) -> int:
    """Which prompt in a row this input was; 0 for a message of somebody else's."""
    if pending.sender != SELF:
        return 0
    return int(pending.input_id.rpartition("+")[2])


def rests(policy: Autonomy, record: TurnEnded, count: int) -> str | None:
    """Why the member rests after this turn, begun by the `count`-th prompt; None if it goes on."""
    if record.outcome is not TurnOutcome.COMPLETED:
        return f"its turn ended as {record.outcome.name.lower()}"
    for message in record.messages:
        calls = message.tool_calls if isinstance(message, AssistantMessage) else ()
        if any(call.name == REST for call in calls):
            return "it has called rest"
    if policy.rest_word is not None and policy.rest_word in last_text(record):
        return f"it has said {policy.rest_word!r}"
    if count >= policy.max_turns:
        return f"it was prompted {count} times in a row, which is the limit"
    return None
