"""Facts: what the ledger keeps of inputs, turns, sessions and members.

Owns: the plain classes. Must not: decide how a record changes them (`mob.simulation.ledger` does),
share anything with the heads and rows of the folds they are compared with.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from mob.records import MOB_RECORDS, MemberExited
from mob.simulation.disk import Commit
from runtime.messages import CONTEXT, TASKS, AssistantMessage, Message, ToolResult, Usage
from runtime.records import HookReported, ModelRetried, SessionMended, TurnOutcome


@attrs.frozen
class Written:
    """One record where it stands: its number and the commit that brought it."""

    seq: int
    record: Any
    commit: Commit


@attrs.frozen
class Batch:
    """A commit, those of its records that are of one mob, and the mob's state before them."""

    commit: Commit
    written: tuple[Written, ...]
    state: str


@attrs.frozen
class ToolRan:
    """A tool began to run for this call; None: nobody compares its arguments."""

    session_id: str
    run_id: str
    call_id: str
    name: str
    idempotent: bool
    arguments: str | None = None


@attrs.define
class KnownInput:
    """An accepted input and what became of it: `turn` consumed it, or it was `abandoned`."""

    input_id: str
    session_id: str
    text: str
    sender: str | None
    key: str | None
    seq: int
    turn: int = 0
    abandoned: str | None = None

    @property
    def pending(self) -> bool:
        """Whether its fate is open."""
        return not self.turn and self.abandoned is None


@attrs.frozen
class KnownTurn:
    """A turn that ended; `place` counts from 1, `total` are the messages up to and with it. The
    beginning of every chain is the turn 0."""

    session_id: str = ""
    run_id: str = ""
    place: int = 0
    total: int = 0
    prev: int = 0
    skip: int = 0
    outcome: TurnOutcome = TurnOutcome.COMPLETED
    messages: tuple[Message, ...] = ()
    inputs: tuple[str, ...] = ()
    usage: Usage = Usage()
    output: str | None = None
    error: str | None = None


@attrs.frozen
class KnownCompaction:
    """A compaction of the first `turns` turns, made when the history had `turn` turns, the last of
    them `head`; `before` is the one before it, 0 for none."""

    head: int
    turn: int
    turns: int
    before: int


@attrs.define
class KnownPartial:
    """A turn in flight, as far as it is journalled."""

    run_id: str
    inputs: tuple[str, ...]
    started_at_ns: int
    messages: list[Message] = attrs.field(factory=list)
    usage: Usage = Usage()
    step: int = 0
    #: Calls that were asked about: ``waiting``, ``approved``, ``denied`` or ``begun``.
    asked: dict[str, str] = attrs.field(factory=dict)

    def open_calls(self) -> dict[str, str]:
        """The calls without a result: id and name of the tool."""
        found: dict[str, str] = {}
        for message in self.messages:
            if isinstance(message, AssistantMessage):
                found = {call.id: call.name for call in message.tool_calls}
            elif isinstance(message, ToolResult):
                found.pop(message.call_id, None)
        return found


def waits(sender: str | None) -> bool:
    """Whether an input of this sender goes with any turn and begins none by itself."""
    return sender == TASKS or is_context(sender)


def is_context(sender: str | None) -> bool:
    """Whether an input of this sender is what the application says to the model."""
    return sender is not None and sender.startswith(CONTEXT)


@attrs.define(eq=False)
class KnownSession:
    """What is known of a session, also of one that was deleted."""

    session_id: str
    harness: str
    agent: str | None
    title: str | None
    locale: str | None
    parent: str | None
    root: str | None
    depth: int
    spawn_key: str | None
    created_at_ns: int
    updated_at_ns: int
    revision: int
    forked_from: str | None = None
    archived: bool = False
    deleted: bool = False
    failed: bool = False
    head: int = 0
    turns: int = 0
    total: int = 0
    usage: Usage = Usage()
    #: Inputs whose fate is open: all in order of acceptance, and the same by sender.
    pending: dict[str, KnownInput] = attrs.field(factory=dict)
    waiting: dict[str | None, dict[str, None]] = attrs.field(factory=dict)
    partial: KnownPartial | None = None
    children: dict[str, None] = attrs.field(factory=dict)
    #: What rewinds put aside, oldest first: its last turn.
    branches: list[int] = attrs.field(factory=list)
    #: The compaction in force, 0 for none, and those of its branches.
    compaction: int = 0
    aside: list[int] = attrs.field(factory=list)
    rewinds: int = 0
    #: Rises with each of them, and when the mob is rewound to another history of it.
    branch: int = 0
    tags: tuple[str, ...] = ()
    external_id: str | None = None
    #: The inputs of the turn that was in flight when it was archived.
    cut: tuple[str, ...] = ()
    #: Every turn that its history ever ended with.
    heads: set[int] = attrs.field(factory=lambda: {0})
    #: Of a background child: whether it outlives its parent, how it stands, and the turn and the
    #: reason it ended with.
    detached: bool | None = None
    stands: str | None = None
    answer: int = 0
    reason: str | None = None
    #: The process and number of its last turn that was driven, and not saved by a caller.
    driven: tuple[int, int] = (0, 0)

    @property
    def outlives(self) -> bool:
        """Whether it goes on when its parent ends."""
        return self.detached is True and self.stands == "running"

    @property
    def status(self) -> str:
        """As `runtime.session.SessionStatus` spells it."""
        if self.archived:
            return "archived"
        if self.partial is not None:
            return "waiting" if "waiting" in self.partial.asked.values() else "active"
        if self.failed:
            return "failed"
        return "idle" if self.turns or self.rewinds else "started"


@attrs.define
class KnownMember:
    """A member in the roster."""

    name: str
    profile: str
    session_id: str
    generation: int
    restarts: int = 0
    last_exit: str | None = None


@attrs.define
class KnownExit:
    """A bad end of a member's activation: `earliest_s` to `commit.at_s` is when it was decided."""

    record: MemberExited
    commit: Commit
    earliest_s: float


def absolute(seq: int, link: int) -> int:
    """The record that `link` in record `seq` stands for: a negative one counts back."""
    return seq + link if link < 0 else link


#: The turn before the first.
BEGINNING: Final = KnownTurn()

#: The records of which nothing is kept here: those above are what a mob knows beyond its members.
UNTOLD: Final = (
    SessionMended,
    ModelRetried,
    HookReported,
    *(each.cls for each in MOB_RECORDS if each.kind > 39),
)
