"""A session: its identity, its lineage, its status, and its state as a fold of the journal.

Owns: `SessionHead` (the fold: what is known of a session without its messages), `Session` (head
and messages together, the value a `SessionStore` saves), lineage and status. Must not: read a
clock, make an id, touch a store.

A session is a named head over immutable turn records. The records form a chain in the realm's
journal (each names the one before it), so the head is all that has to be kept in memory for an
idle session, and a history is read by walking the chain back from it.
"""

from __future__ import annotations

import copy
import enum
from collections.abc import Sequence
from typing import Any

import attrs

from runtime.budget import Budget, Ledger
from runtime.ids import AgentId, HarnessId, InputId, RunId, SessionId
from runtime.messages import NO_USAGE, Message, Usage
from runtime.tools.policy import EVERY_TOOL, Patterns, ToolPolicy


class SessionStatus(enum.Enum):
    """A closed enumeration; an unknown stored value is an error, never a default."""

    #: Created, no turn yet.
    STARTED = "started"
    #: A turn is in flight.
    ACTIVE = "active"
    IDLE = "idle"
    #: A turn waits for something outside: an approval, a peer.
    WAITING = "waiting"
    PAUSED = "paused"
    #: The latest turn failed; the session is usable all the same.
    FAILED = "failed"
    ARCHIVED = "archived"


class Lifetime(enum.Enum):
    """What ends a background child besides itself. The values are stored."""

    #: The end of its parent: an interrupt, a failure, being retired or archived.
    LINKED = "linked"
    #: Nothing: it outlives its parent and stays charged to the budget root.
    DETACHED = "detached"


class TaskState(enum.Enum):
    """Where a background child stands. All but the first are terminal. The values are stored."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@attrs.frozen
class Task:
    """That a session is a background child, and how it ended (see `runtime.tasks`).

    `turn` is the sequence number of the turn that holds its answer, 0 if there is none; `error`
    says why it failed or was cancelled.
    """

    lifetime: Lifetime
    state: TaskState = TaskState.RUNNING
    turn: int = 0
    error: str | None = None
    ended_at_ns: int = 0

    @property
    def running(self) -> bool:
        """Whether it has not come to its end."""
        return self.state is TaskState.RUNNING


@attrs.frozen
class Lineage:
    """Where a session comes from: three links, kept apart.

    `parent` is nesting (who started it), `forked_from` and `fork_seq` are shared history, and
    `budget_root` is the session its spending is charged to (None: itself). `depth` counts parents.
    """

    parent: SessionId | None = None
    forked_from: SessionId | None = None
    fork_seq: int = 0
    budget_root: SessionId | None = None
    depth: int = 0


NO_LINEAGE = Lineage()


@attrs.frozen
class CompactionPolicy:
    """When a session's context is compacted: as soon as it has `at_tokens` tokens or `at_messages`
    messages (None: whatever it has). The newest `keep_turns` turns stay as they are. `model` writes
    the summary (None: the session's own)."""

    at_tokens: int | None = None
    at_messages: int | None = None
    keep_turns: int = 4
    model: str | None = None


@attrs.frozen
class Compaction:
    """A compaction that is in force: record `seq` has the summary of the first `turns` turns of the
    history, which have `total` messages. When it was made, the history had `made_at` turns."""

    seq: int
    made_at: int
    turns: int
    total: int


@attrs.frozen
class PeerCard:
    """What other sessions see of one (`name`, `description`, `labels`), and what it wants of them.

    A message with one of `silent_intents` is recorded without waking its model. It is told who
    joins and leaves while its peers number at most `inline_peers` (0: never, -1: always).
    """

    name: str
    description: str = ""
    labels: dict[str, str] = attrs.field(factory=dict)
    silent_intents: tuple[str, ...] = ()
    inline_peers: int | None = None


@attrs.frozen
class Provenance:
    """By whom and from what a session was made. Sessions of another `realm_id` are no peers."""

    realm_id: str | None = None
    instance_id: str | None = None
    backend: str | None = None
    config_generation: int | None = None


@attrs.frozen
class SessionSpec:
    """What a session was asked to be, beyond its harness. Persisted; secrets never go in.

    `model` is an alias or ``provider:id`` (None: the harness decides), `instructions` replace the
    harness's, `output_schema` is a JSON Schema as JSON text, `options` go to the provider.
    `fallback` are the models (as `model`) that are asked when that one cannot answer. `budget`
    bounds the session and everything it starts. `tools` is laid over what the harness permits, here
    and in the sessions below this one; calls of the tools in `approve` wait for a decision, also
    below. `preload_skills` are in its prompt. `overrides` force groups of built-in tools on or off.
    A session of `host_mode` works on messages of peers by itself. `price` are the fields of its
    model's `Price`, as text.
    """

    model: str | None = None
    instructions: str | None = None
    output_schema: str | None = None
    output_retries: int | None = None
    options: dict[str, Any] = attrs.field(factory=dict)
    fallback: tuple[str, ...] = ()
    budget: Budget | None = None
    tools: ToolPolicy = EVERY_TOOL
    preload_skills: tuple[str, ...] = ()
    compaction: CompactionPolicy | None = None
    peer: PeerCard | None = None
    provenance: Provenance | None = None
    overrides: dict[str, bool] = attrs.field(factory=dict)
    host_mode: bool = False
    price: dict[str, str] = attrs.field(factory=dict)
    approve: Patterns = ()

    def unnamed(self) -> SessionSpec:
        """This spec for a fork: its peers know the name as that of the one it came from."""
        return self if self.peer is None else attrs.evolve(self, peer=None)

    def below(self, parent: SessionSpec) -> SessionSpec:
        """This spec for a child of `parent`, which may call no tool that its parent may not, and
        asks wherever its parent must."""
        if parent.tools == EVERY_TOOL and not parent.approve:
            return self
        approve = (*parent.approve, *self.approve)
        return attrs.evolve(self, tools=parent.tools & self.tools, approve=approve)


NO_SPEC = SessionSpec()


@attrs.define
class PendingInput:
    """An accepted input that no turn has consumed yet."""

    input_id: InputId
    text: str
    sender: str | None
    idempotency_key: str | None
    #: Skills that are added to the prompt of its turn.
    skills: tuple[str, ...] = ()
    #: Whether a turn in flight takes it in (`runtime.addenda`).
    steer: bool = False


@attrs.define
class PartialTurn:
    """A turn in flight as far as it is journalled; recovery continues from here.

    `called_at_ns` is when its newest tool calls were made, or the last of them was decided about; 0
    in rows of older versions, which do not say.
    """

    run_id: RunId
    input_ids: tuple[InputId, ...]
    messages: list[Message]
    usage: Usage
    step: int
    started_at_ns: int
    called_at_ns: int = 0


@attrs.frozen
class CutTurn:
    """What is known of a turn that was in flight when its session ended: what it had spent and how
    long it took. It may still end, which then says the whole of it."""

    run_id: RunId
    usage: Usage
    active_ns: int


@attrs.frozen
class Branch:
    """Turns that a rewind put aside: `head` is the last of them; `turns` and `total` (messages)
    count from the beginning of the history, the shared part included."""

    head: int
    turns: int
    total: int
    at_ns: int
    compaction: Compaction | None = None


@attrs.define
class SessionHead:
    """The fold of a session's records, without its messages. One per known session.

    Invariant: changed only by `runtime.realm` when it applies a committed record, so it always
    shows committed state and equals what a reopened realm would compute.
    """

    session_id: SessionId
    harness_id: HarnessId
    agent_id: AgentId | None
    title: str | None
    locale: str | None
    lineage: Lineage
    spec: SessionSpec
    created_at_ns: int
    updated_at_ns: int
    #: What makes spawning it idempotent: parent session and tool call; None if nothing spawned it.
    spawn_key: str | None = None
    #: Sequence number of the latest turn record; 0 before the first turn.
    head: int = 0
    turns: int = 0
    message_count: int = 0
    usage: Usage = NO_USAGE
    status: SessionStatus = SessionStatus.STARTED
    #: Accepted and not consumed, in order of acceptance; None when empty (most sessions, mostly).
    inputs: dict[InputId, PendingInput] | None = None
    partial: PartialTurn | None = None
    #: Sessions whose `lineage.parent` is this one, in order of creation; None when childless.
    children: list[SessionId] | None = None
    #: Where the next turn's skip link goes (see `runtime.chain`).
    links: tuple[int, ...] = ()
    #: What rewinds put aside, oldest first.
    branches: tuple[Branch, ...] = ()
    #: Rewinds and restores so far: two values of it are two histories.
    branch: int = 0
    tags: tuple[str, ...] = ()
    #: What there is to say of it as a background child; None if it is none.
    task: Task | None = None
    #: Sequence number of the last record applied; records up to it are not applied again. It is
    #: also the session's revision: whoever holds another one holds something stale.
    applied: int = 0
    #: Nanoseconds of its ended turns, those in which nobody worked on one left out; and of `cut`.
    active_ns: int = 0
    #: What stands for the beginning of its history in a model's context, if anything does.
    compaction: Compaction | None = None
    #: What whoever tracks it elsewhere calls it.
    external_id: str | None = None
    #: The turn that was in flight when it was archived, until that has ended after all. Its usage
    #: is not in `usage`.
    cut: CutTurn | None = None
    #: Why it is quarantined, None if it is not (see `runtime.state`). Not part of its row.
    quarantined: str | None = None

    @property
    def archived(self) -> bool:
        return self.status is SessionStatus.ARCHIVED

    def cut_off(self, ledger: Ledger | None) -> None:
        """The session ends: the turn in flight, if there is one, is not gone on with. The ledger
        has counted what it has spent, but not how long it took."""
        partial, self.partial = self.partial, None
        if partial is None:
            return
        active_ns = max(self.updated_at_ns - partial.started_at_ns, 0)
        self.cut = CutTurn(partial.run_id, partial.usage, active_ns)
        self.active_ns += active_ns
        if ledger is not None:
            ledger.worked(self, active_ns)

    def spends_late(self, run_id: RunId, usage: Usage) -> bool:
        """Whether the session has ended; then its turn is known to have spent so much by now."""
        if self.archived:
            self.cut = CutTurn(run_id, usage, 0 if self.cut is None else self.cut.active_ns)
        return self.archived

    def ended_late(self) -> int:
        """The turn that was cut off has ended after all: return the nanoseconds that were counted
        of it."""
        cut, self.cut = self.cut, None
        return 0 if cut is None else cut.active_ns

    def whole(self, messages: Sequence[Message]) -> Session:
        """The session as a value, with these messages."""
        return Session(
            self.session_id,
            self.harness_id,
            self.agent_id,
            self.title,
            self.locale,
            self.lineage,
            attrs.evolve(self.spec, options=copy.deepcopy(self.spec.options)),
            self.created_at_ns,
            self.updated_at_ns,
            self.status,
            self.head,
            self.turns,
            self.usage,
            messages,
            self.tags,
            self.branch,
            self.applied,
            self.external_id,
        )

    def metadata(self) -> SessionMetadata:
        """What there is to say about the session now, as a value."""
        return SessionMetadata(
            self.session_id,
            self.harness_id,
            self.agent_id,
            self.title,
            self.locale,
            self.lineage,
            self.status,
            self.created_at_ns,
            self.updated_at_ns,
            self.turns,
            self.message_count,
            self.usage,
            self.tags,
            self.branches,
            self.quarantined,
            self.task,
            self.external_id,
        )


@attrs.frozen
class SessionMetadata:
    """A session without its messages: what lists and lookups return.

    `quarantined` says what is damaged of it, None if nothing is known to be. Of such a session the
    status is FAILED (or ARCHIVED) and the rest is what could be read, perhaps nothing but its id.
    """

    session_id: SessionId
    harness_id: HarnessId
    agent_id: AgentId | None
    title: str | None
    locale: str | None
    lineage: Lineage
    status: SessionStatus
    created_at_ns: int
    updated_at_ns: int
    turns: int
    message_count: int
    usage: Usage
    tags: tuple[str, ...] = ()
    branches: tuple[Branch, ...] = ()
    quarantined: str | None = None
    task: Task | None = None
    external_id: str | None = None


@attrs.frozen
class Session:
    """A session as a value: everything a `SessionStore` saves and loads.

    `messages` are whole turns, oldest first: an immutable sequence that is equal to a tuple of the
    same (a tuple, or a `runtime.history.History`). `head` is the journal position the value stands
    for, `branch` tells histories before and after a rewind apart, and `revision` is what a save
    checks. `external_id` is what whoever tracks the session elsewhere calls it.
    """

    session_id: SessionId
    harness_id: HarnessId
    agent_id: AgentId | None
    title: str | None
    locale: str | None
    lineage: Lineage
    spec: SessionSpec
    created_at_ns: int
    updated_at_ns: int
    status: SessionStatus
    head: int
    turns: int
    usage: Usage
    messages: Sequence[Message] = attrs.field(repr=False)
    tags: tuple[str, ...] = ()
    branch: int = 0
    revision: int = 0
    external_id: str | None = None
