"""The life of a mob as one literal table. Pure.

Owns: the states, which verb leads from which state to which, and which verbs a state admits.
Must not: import Trio or do anything: `mob.mob` carries verbs out.

    creating --start--> running --stop--> stopped --resume--> running
                        running --complete--> completed
                        stopped, completed --destroy--> destroyed

What the table does not list raises `VerbRefused`, which names the state and the verb. The pictures
in docs/lifecycle.md are drawn from here.
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
    #: Everything that was asked of it is done, and nothing more is taken. Final but for `destroy`.
    COMPLETED = "completed"
    #: Its sessions are archived. Final; what is in the store can be read.
    DESTROYED = "destroyed"


#: The verbs that change the state.
TRANSITIONS: Final[dict[tuple[MobState, str], MobState]] = {
    (MobState.CREATING, "start"): MobState.RUNNING,
    (MobState.RUNNING, "stop"): MobState.STOPPED,
    (MobState.STOPPED, "resume"): MobState.RUNNING,
    (MobState.RUNNING, "complete"): MobState.COMPLETED,
    (MobState.STOPPED, "destroy"): MobState.DESTROYED,
    (MobState.COMPLETED, "destroy"): MobState.DESTROYED,
}

#: The verbs that leave the state alone, by the states that admit them.
ADMITS: Final[dict[MobState, frozenset[str]]] = {
    MobState.CREATING: frozenset({"spawn"}),
    MobState.RUNNING: frozenset(
        {
            "ask",
            "send",
            "spawn",
            "retire",
            "respawn",
            "interrupt",
            "kill",
            "work",
            "decide",
            "board",
            *("broadcast", "request", "reply", "wire", "unwire", "flow", "cancel-flow"),
            "compact",
            *("snapshot", "fork", "rewind"),
        }
    ),
    MobState.STOPPED: frozenset(
        {
            *("retire", "decide", "board", "wire", "unwire", "cancel-flow"),
            *("snapshot", "fork", "rewind"),
        }
    ),
    MobState.COMPLETED: frozenset({"snapshot", "fork"}),
    MobState.DESTROYED: frozenset({"fork"}),
}

#: What a mob is called while a verb that changes its state is under way, and the verbs that are
#: admitted meanwhile: a mob that is being completed waits for turns, which may wait for people; and
#: turns that are drained work over the board still.
UNDER_WAY: Final[dict[str, tuple[str, frozenset[str]]]] = {
    "start": ("being started", frozenset()),
    "stop": ("being stopped", frozenset({"board"})),
    "resume": ("being resumed", frozenset()),
    "complete": (
        "being completed",
        frozenset({"decide", "interrupt", "kill", "board", "cancel-flow"}),
    ),
    "destroy": ("being destroyed", frozenset()),
    "rewind": ("being brought back to a point", frozenset()),
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


def diagram() -> str:
    """The states and what leads from one to the other, as a Mermaid diagram."""
    begin, *_ = MobState
    arrows = [
        f"    {state.value} --> {to.value}: {verb}" for (state, verb), to in TRANSITIONS.items()
    ]
    left = {state for state, _ in TRANSITIONS}
    ends = [f"    {state.value} --> [*]" for state in MobState if state not in left]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {begin.value}", *arrows, *ends])


def table() -> str:
    """Which verbs each state admits, as a Markdown table."""
    rows = ["| state | leads on | allows |", "|---|---|---|"]
    for state in MobState:
        leads = [f"`{verb}`" for here, verb in TRANSITIONS if here is state]
        may = [f"`{verb}`" for verb in sorted(ADMITS[state])]
        rows.append(f"| {state.value} | {', '.join(leads) or '-'} | {', '.join(may) or '-'} |")
    return "\n".join(rows)
