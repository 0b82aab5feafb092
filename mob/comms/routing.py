"""Who may send to whom, as one decision. Pure.

Owns: `may_send`, the order in which layers are asked, and the words for each answer. Must not: keep
anything (the graph at run time is `mob.comms.graph`, what the file says `mob.comms.wiring`).

What is more particular counts before what is more general, and what was said later before what was
said first: `PRECEDENCE` is the whole of it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

from mob.helpers import is_helper


class Rule(enum.Enum):
    """Why one may send to another, or why not. The value says it in words."""

    ITSELF = "nobody sends to itself"
    NO_SENDER = "the sender is no member"
    NO_RECIPIENT = "the recipient is no member"
    HELPER = "helpers send to nobody but with their answer, and nobody sends to them"
    WIRED = "they were wired"
    UNWIRED = "they were unwired"
    DECLARED = "the mob file has an edge for it"
    ROLE_ALLOWS = "a rule about their profiles allows it"
    ROLE_DENIES = "a rule about their profiles denies it"
    DEFAULT_ALLOWS = "everybody may, by default"
    DEFAULT_DENIES = "there is no edge between them"

    @property
    def allows(self) -> bool:
        return self in _ALLOWING

    @property
    def by_name(self) -> bool:
        """Whether it is about these two members and not about their kind."""
        return self in (Rule.WIRED, Rule.UNWIRED, Rule.DECLARED)


_ALLOWING: Final = frozenset(
    {Rule.WIRED, Rule.DECLARED, Rule.ROLE_ALLOWS, Rule.DEFAULT_ALLOWS},
)


class Wires(Protocol):
    """What the decision is made from."""

    @property
    def declared(self) -> Mapping[str, Collection[str]]:
        """To whom the edges of the mob file lead, by sender."""
        ...

    @property
    def roles(self) -> Mapping[tuple[str, str], bool]:
        """What the rules say of messages from one profile to another."""
        ...

    @property
    def default(self) -> bool: ...

    def profile(self, name: str) -> str | None:
        """The profile of a member; None if there is no such member."""
        ...

    def changed(self, sender: str, recipient: str) -> bool | None:
        """What was last said of this pair at run time; None if nothing was."""
        ...


def _members(wires: Wires, sender: str, recipient: str) -> Rule | None:
    if wires.profile(sender) is None:
        return Rule.NO_SENDER
    if wires.profile(recipient) is None:
        return Rule.NO_RECIPIENT
    if is_helper(sender) or is_helper(recipient):
        return Rule.HELPER
    return Rule.ITSELF if sender == recipient else None


def _at_run_time(wires: Wires, sender: str, recipient: str) -> Rule | None:
    changed = wires.changed(sender, recipient)
    return None if changed is None else Rule.WIRED if changed else Rule.UNWIRED


def _in_the_file(wires: Wires, sender: str, recipient: str) -> Rule | None:
    return Rule.DECLARED if recipient in wires.declared.get(sender, ()) else None


def _by_role(wires: Wires, sender: str, recipient: str) -> Rule | None:
    if not wires.roles:
        return None
    said = wires.roles.get((wires.profile(sender) or "", wires.profile(recipient) or ""))
    return None if said is None else Rule.ROLE_ALLOWS if said else Rule.ROLE_DENIES


def _by_default(wires: Wires, sender: str, recipient: str) -> Rule | None:
    return Rule.DEFAULT_ALLOWS if wires.default else Rule.DEFAULT_DENIES


#: Asked in this order; the first that has something to say decides. The last always has.
PRECEDENCE: Final[tuple[Callable[[Wires, str, str], Rule | None], ...]] = (
    _members,
    _at_run_time,
    _in_the_file,
    _by_role,
    _by_default,
)


def may_send(wires: Wires, sender: str, recipient: str) -> Rule:
    """Whether the member `sender` may send to `recipient`, and why or why not."""
    for layer in PRECEDENCE:
        rule = layer(wires, sender, recipient)
        if rule is not None:
            return rule
    raise AssertionError("the default decides what nothing else does")
