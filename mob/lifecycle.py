"""The life of a mob as one literal table. Pure.

Owns: the states, which verb leads from which state to which, and which verbs a state admits.
Must not: import Trio or do anything: `mob.mob` carries verbs out.

    creating --start--> running --stop--> stopped --resume--> running

What the table does not list raises `VerbRefused`, which names the state and the verb.
"""

from __future__ import annotations

import enum
from typing import Final

from runtime.errors import MobError


class MobState(enum.Enum):
    """Where a mob stands. The values are stored."""

    CREATING = "creating"
    RUNNING = "running"
    STOPPED = "stopped"


#: The verbs that change the state.
TRANSITIONS: Final[dict[tuple[MobState, str], MobState]] = {
    (MobState.CREATING, "start"): MobState.RUNNING,
    (MobState.RUNNING, "stop"): MobState.STOPPED,
    (MobState.STOPPED, "resume"): MobState.RUNNING,
}

#: The verbs that leave the state alone, by the states that admit them.
ADMITS: Final[dict[MobState, frozenset[str]]] = {
    MobState.CREATING: frozenset({"spawn"}),
    MobState.RUNNING: frozenset(
        {"ask", "send", "spawn", "retire", "interrupt", "kill", "work", "decide"}
    ),
    MobState.STOPPED: frozenset({"retire", "decide"}),
}


class VerbRefused(MobError):
    """The mob's state does not allow the verb; both are fields.

    `doing` says what is under way if that is why, such as ``being stopped``.
    """

    def __init__(self, state: MobState, verb: str, doing: str = "") -> None:
        wanted = [
            other.value
            for other in MobState
            if verb in ADMITS[other] or (other, verb) in TRANSITIONS
        ]
        super().__init__(
            f"a mob that is {doing or state.value} does not allow {verb!r}; it is allowed when the"
            f" mob is {' or '.join(wanted) or 'in no state'}"
        )
        self.state = state
        self.verb = verb


def after(state: MobState, verb: str) -> MobState:
    """The state that `verb` leads to. Raises `VerbRefused` if the table does not list it."""
    try:
        return TRANSITIONS[state, verb]
    except KeyError:
        raise VerbRefused(state, verb) from None


def admit(state: MobState, verb: str) -> None:
    """Return if `state` admits `verb`, else raise `VerbRefused`."""
    if verb not in ADMITS[state]:
        raise VerbRefused(state, verb)
