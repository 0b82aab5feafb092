"""System context: what an application says to a session's model beside the conversation. Pure.

Owns: how such a text is told from a message among a session's inputs, and what becomes of it in a
turn. Must not: decide when a model is called.

A text is an input of its own kind: on disk before anybody is told that it was taken, consumed by
the turn that holds it. It begins no turn. Whichever turn makes the session's next model call takes
it in just before that, as a `SystemMessage`, and names it among the inputs it consumes; so the same
record that puts it into the history takes it off the list, and no crash applies it twice or never
(CONTRACTS 4.11).

A message to *steer* is taken in likewise, as the `UserMessage` that it is; where no turn is in
flight it begins one. It overtakes no earlier message of the same sender (CONTRACTS 6.7).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from runtime.ids import InputId
from runtime.messages import CONTEXT, SystemMessage, UserMessage
from runtime.session import PendingInput, SessionHead

_BEHIND = f"{CONTEXT}: "


def sender_of(source: str | None) -> str:
    """As whom a text of `source` is an input. No member is called that."""
    return CONTEXT if source is None else f"{_BEHIND}{source}"


def is_context(pending: PendingInput) -> bool:
    """Whether the input is system context and no message."""
    sender = pending.sender
    return sender is not None and (sender == CONTEXT or sender.startswith(_BEHIND))


def contexts_of(head: SessionHead, taken: Collection[InputId] = ()) -> list[PendingInput]:
    """The texts that no turn has consumed, in order, without those that are `taken`."""
    if head.inputs is None:
        return []
    return [
        each for each in head.inputs.values() if is_context(each) and each.input_id not in taken
    ]


def addenda_of(head: SessionHead, taken: Collection[InputId]) -> list[PendingInput]:
    """What the turn that has `taken` these inputs takes in now, in order of acceptance."""
    found: list[PendingInput] = []
    waiting: set[str | None] = set()
    for each in (head.inputs or {}).values():
        if each.input_id in taken:
            continue
        if is_context(each) or (each.steer and each.sender not in waiting):
            found.append(each)
        else:
            waiting.add(each.sender)
    return found


def message_of(pending: PendingInput) -> SystemMessage | UserMessage:
    """The text as the model gets it."""
    if not is_context(pending):
        return UserMessage(pending.text, pending.sender)
    sender = pending.sender or ""
    return SystemMessage(pending.text, sender[len(_BEHIND) :] if sender != CONTEXT else None)


def id_for(text: str, fresh: str) -> InputId:
    """An input id that says what the text was, long after the text is gone from the inputs."""
    return InputId(f"{fresh}-{_digest(text)}")


def is_of(input_id: InputId, text: str) -> bool:
    """Whether the input with this id, from `id_for`, was this text."""
    return input_id.endswith(f"-{_digest(text)}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
