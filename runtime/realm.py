"""A realm: the sessions of one journal, running.

Owns: creating, feeding, loading and ending sessions, and the live copies of those that are in use.
Must not: decide who runs when (a mob's activations or a service's callers do), know members.

Everything durable goes through `append`; everything known comes from the fold in
`runtime.state`. Admission is synchronous: what a caller is promised (a name, a slot, an input's
place in the order) is decided between two checkpoints, so no two callers can be promised the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import attrs

from runtime.checkpoint import CheckpointGate
from runtime.driver import LiveSession, SessionConfig, TurnDriver
from runtime.errors import LimitExceeded, RecordUnreadable, SessionBusy, SessionError
from runtime.ids import AgentId, HarnessId, InputId, RealmId, SessionId
from runtime.journal import Journal
from runtime.messages import Message
from runtime.ports import Ports
from runtime.records import (
    RUNTIME_RECORDS,
    InputAbandoned,
    InputAccepted,
    RecordType,
    SessionArchived,
    SessionCreated,
    TurnEnded,
)
from runtime.results import TurnResult, result_of
from runtime.runner import InProcessRunner, LocalSessionRunner
from runtime.session import (
    NO_SPEC,
    Lineage,
    PendingInput,
    Session,
    SessionHead,
    SessionSpec,
)
from runtime.state import KeyedInput, RealmState
from stores import Store, Ticket

#: Sessions whose messages stay in memory after their turn. Everything is in the journal, so the
#: rest are read back when next used; 4,096 of 20 short messages take about 30 MB.
LIVE_SESSIONS = 4096


@attrs.frozen
class SpawnLimits:
    """Bounds on a tree of child sessions (CONTRACTS 1.8).

    `max_depth` counts generations below the root, at most 16; `max_active` counts descendants of
    one root that are not archived, `max_total` all that were ever made.
    """

    max_depth: int = attrs.field(default=2)
    max_active: int = 16
    max_total: int = 200

    @max_depth.validator
    def _check_depth(self, _: Any, value: int) -> None:
        if not 0 <= value <= 16:
            raise ValueError(f"max_depth must be 0 to 16, not {value}")


@attrs.frozen
class Admission:
    """An input that was let in, or the earlier one with the same key that it joined.

    Exactly one of `pending` (work to do, or being done) and `settled` (already decided) is set.
    `ticket` is None when the input had been accepted before.
    """

    session_id: SessionId
    pending: PendingInput | None
    ticket: Ticket | None
    settled: KeyedInput | None = None


class Realm:
    """The sessions of one journal. One per journal and process; not safe across threads."""

    def __init__(
        self,
        store: Store,
        realm_id: RealmId,
        configure: Callable[[SessionHead], SessionConfig] | None = None,
        *,
        ports: Ports | None = None,
        record_types: Iterable[RecordType] = (),
        limits: SpawnLimits | None = None,
    ) -> None:
        self.store = store
        self.realm_id = realm_id
        self.ports = ports or Ports()
        self.limits = limits or SpawnLimits()
        self.state = RealmState()
        self.journal = Journal(store, realm_id, (*RUNTIME_RECORDS, *record_types), self.state.apply)
        self.runner: LocalSessionRunner = InProcessRunner(self)
        self.checkpoints: CheckpointGate | None = None
        #: What a session runs with; set by whoever owns the realm, before the first turn.
        self.configure = configure
        #: Least recently used first, so that dropping the surplus is a pop from the front.
        self._live: dict[SessionId, LiveSession] = {}
        #: Children being created and not yet in the fold, per root: they hold their slot already.
        self._reserved: dict[SessionId, int] = {}
        self._spawning: dict[str, tuple[SessionId, Ticket]] = {}
        self._keyed: dict[str, Admission] = {}

    # -- journal ---------------------------------------------------------------------------

    def append(self, *records: Any) -> Ticket:
        """Queue `records` as one batch. See `runtime.journal.Journal.append`."""
        return self.journal.append(*records)

    def recover(self) -> int:
        """Fold the journal from disk; return how many records there were. Call once, first."""
        return self.journal.replay()

    # -- creating and ending ---------------------------------------------------------------

    async def create(
        self,
        harness_id: HarnessId,
        *,
        agent_id: AgentId | None = None,
        title: str | None = None,
        locale: str | None = None,
        parent: SessionId | None = None,
        spec: SessionSpec = NO_SPEC,
        spawn_key: str | None = None,
    ) -> SessionHead:
        """Catalogue a session durably; run nothing.

        With a `spawn_key` that was used before, return the session made then. Cancelling may leave
        the session created or not, never half.

        Raises:
            SessionNotFound: there is no such parent.
            LimitExceeded: depth or count; nothing was created.
        """
        if spawn_key is not None:
            if spawn_key in self.state.spawned:
                return self.state.heads[self.state.spawned[spawn_key]]
            if spawn_key in self._spawning:
                session_id, ticket = self._spawning[spawn_key]
                await ticket.wait()
                return self.state.heads[session_id]
        record = self.describe_session(harness_id, agent_id, title, locale, parent, spec, spawn_key)
        root = self._reserve(record.lineage)
        try:
            ticket = self.append(record)
            if spawn_key is not None:
                self._spawning[spawn_key] = (record.session_id, ticket)
            await ticket.wait()
        finally:
            if root is not None:
                self._reserved[root] -= 1
            if spawn_key is not None:
                self._spawning.pop(spawn_key, None)
        return self.state.heads[record.session_id]

    def describe_session(
        self,
        harness_id: HarnessId,
        agent_id: AgentId | None,
        title: str | None,
        locale: str | None,
        parent: SessionId | None,
        spec: SessionSpec,
        spawn_key: str | None,
    ) -> SessionCreated:
        """The record that would create this session; for callers that commit it with others."""
        lineage = Lineage()
        if parent is not None:
            above = self.state.head(parent)
            root = above.lineage.budget_root or parent
            lineage = Lineage(parent=parent, budget_root=root, depth=above.lineage.depth + 1)
        return SessionCreated(
            SessionId(self.ports.ids.new()),
            harness_id,
            agent_id,
            title,
            locale,
            lineage,
            spec,
            spawn_key,
            self.ports.clock.now_ns(),
        )

    def _reserve(self, lineage: Lineage) -> SessionId | None:
        """Check the limits and take a slot, in one breath. Returns the root that was charged."""
        root = lineage.budget_root
        if root is None:
            return None
        limits = self.limits
        if lineage.depth > limits.max_depth:
            raise LimitExceeded(
                f"a child at depth {lineage.depth} is deeper than max_depth = {limits.max_depth}",
                limit="max_depth",
                allowed=limits.max_depth,
            )
        reserved = self._reserved.get(root, 0)
        active, total = self.state.descendants.get(root, (0, 0))
        for name, count, allowed in (
            ("max_active", active, limits.max_active),
            ("max_total", total, limits.max_total),
        ):
            if count + reserved >= allowed:
                raise LimitExceeded(
                    f"{count + reserved} children stand under session {root} and {name} is"
                    f" {allowed}; archive some or raise the limit",
                    limit=name,
                    allowed=allowed,
                )
        self._reserved[root] = reserved + 1
        return root

    async def archive(self, session_id: SessionId, reason: str) -> None:
        """End a session and everything below it, deepest first, in one commit. Idempotent.

        Turns in flight in the subtree are cancelled. Histories stay readable.

        Raises:
            SessionNotFound: there is no such session.
        """
        records = self.archive_records(session_id, reason)
        if records:
            await self.append(*records).wait()

    def archive_records(self, session_id: SessionId, reason: str) -> list[SessionArchived]:
        """Cancel the subtree's turns and return the records that end it, deepest first."""
        now = self.ports.clock.now_ns()
        records: list[SessionArchived] = []

        def visit(head: SessionHead) -> None:
            for child in head.children or ():
                visit(self.state.heads[child])
            if not head.archived:
                self._drop(head.session_id)
                records.append(SessionArchived(head.session_id, reason, now))

        visit(self.state.head(session_id))
        return records

    def _drop(self, session_id: SessionId) -> None:
        live = self._live.pop(session_id, None)
        if live is not None and live.scope is not None:
            live.interrupted = "the session was archived"
            live.scope.cancel()

    # -- inputs ----------------------------------------------------------------------------

    def accept(
        self,
        session_id: SessionId,
        text: str,
        *,
        sender: str | None = None,
        idempotency_key: str | None = None,
    ) -> Admission:
        """Let an input in: number it, queue its record, return at once.

        The input is durable when the admission's ticket is; work on it may begin before that,
        because nobody has been told yet. A key that was seen before joins the first input's fate.

        Raises:
            SessionNotFound: there is no such session.
            SessionError: the session is archived.
        """
        head = self.state.head(session_id)
        if idempotency_key is not None:
            known = self._join(idempotency_key)
            if known is not None:
                return known
        if head.archived:
            raise SessionError(f"session {session_id} is archived and takes no input", session_id)
        pending = PendingInput(InputId(self.ports.ids.new()), text, sender, idempotency_key)
        ticket = self.append(
            InputAccepted(
                session_id,
                pending.input_id,
                text,
                sender,
                idempotency_key,
                self.ports.clock.now_ns(),
            )
        )
        admission = Admission(session_id, pending, ticket)
        if idempotency_key is not None:
            if len(self._keyed) >= 64:  # forget those that the fold knows by now
                self._keyed = {k: a for k, a in self._keyed.items() if k not in self.state.keyed}
            self._keyed[idempotency_key] = admission
        return admission

    def _join(self, key: str) -> Admission | None:
        known = self.state.keyed.get(key)
        if known is None:
            return self._keyed.get(key)
        self._keyed.pop(key, None)
        if known.turn or known.abandoned is not None:
            return Admission(known.session_id, None, None, known)
        inputs = self.state.heads[known.session_id].inputs
        assert inputs is not None, "a keyed input that is not settled is pending"
        return Admission(known.session_id, inputs[known.input_id], None)

    async def abandon(self, session_id: SessionId, input_id: InputId, reason: str) -> None:
        """Give an accepted input up for good, durably."""
        now = self.ports.clock.now_ns()
        await self.append(InputAbandoned(session_id, input_id, reason, now)).wait()

    def settled_result(self, keyed: KeyedInput) -> TurnResult:
        """What became of an input whose fate is decided. Raises as `runtime.results.result_of`."""
        if keyed.abandoned is not None:
            raise SessionError(f"the input was abandoned: {keyed.abandoned}", keyed.session_id)
        return result_of(self.turn(keyed.turn))

    # -- turns -----------------------------------------------------------------------------

    def driver(self, session_id: SessionId, inputs: Sequence[PendingInput]) -> TurnDriver:
        """Admit a turn. From here on the session is busy and an interrupt will find the turn.

        Raises:
            SessionNotFound: there is no such session.
            SessionBusy: a turn is in flight.
        """
        live = self.live(session_id)
        if live.scope is not None:
            raise SessionBusy(session_id)
        assert self.configure is not None, "a realm that runs turns has an owner"
        return TurnDriver(self, live, self.configure(live.head), inputs)

    def running(self, session_id: SessionId) -> LiveSession | None:
        """The live copy of a session whose turn is in flight, else None."""
        live = self._live.get(session_id)
        return live if live is not None and live.scope is not None else None

    def interrupt(self, session_id: SessionId, reason: str = "interrupted") -> bool:
        """Cancel the turn in flight, if there is one; it ends as INTERRUPTED. True if there was."""
        live = self.running(session_id)
        if live is None or live.interrupted is not None:
            return live is not None
        assert live.scope is not None
        live.interrupted = reason
        live.scope.cancel()
        return True

    def abort(self, session_id: SessionId, cause: str) -> bool:
        """Cancel the turn in flight without ending it: its driver raises `TurnAborted`, and a new
        one continues it from the journal. False if there was none."""
        live = self.running(session_id)
        if live is None:
            return False
        assert live.scope is not None
        live.aborted = cause
        live.scope.cancel()
        return True

    # -- reading ---------------------------------------------------------------------------

    def live(self, session_id: SessionId) -> LiveSession:
        """The live copy of a session, read from the journal if it is not in memory.

        Raises:
            SessionNotFound: there is no such session.
        """
        found = self._live.pop(session_id, None)
        if found is None:
            head = self.state.head(session_id)
            found = LiveSession(head, self.history(head), self.key_of(head))
            if len(self._live) >= LIVE_SESSIONS:
                self._evict()
        self._live[session_id] = found
        return found

    def _evict(self) -> None:
        """Drop the least recently used live copy that has no turn in flight."""
        for session_id, live in self._live.items():
            if live.scope is None:
                del self._live[session_id]
                return

    def discard_live(self, session_id: SessionId) -> None:
        """Forget the live copy; the stored one is not touched. A turn in flight keeps it alive."""
        if self.running(session_id) is None:
            self._live.pop(session_id, None)

    def history(self, head: SessionHead) -> list[Message]:
        """The committed messages of a session, oldest first, read by walking its chain."""
        turns = []
        seq = head.head
        while seq:
            turn = self.turn(seq)
            turns.append(turn.messages)
            seq = turn.prev
        return [message for messages in reversed(turns) for message in messages]

    def messages(
        self,
        session_id: SessionId,
        limit: int | None = None,
        order: Literal["newest", "oldest"] = "newest",
    ) -> list[Message]:
        """The newest `limit` committed messages; newest first unless `order` is ``oldest``.

        Never waits for a turn in flight. Costs what is returned, not the length of the history.
        """
        wanted = limit if limit is not None else float("inf")
        found: list[Message] = []
        seq = self.state.head(session_id).head
        while seq and len(found) < wanted:
            turn = self.turn(seq)
            found.extend(reversed(turn.messages))
            seq = turn.prev
        if limit is not None:
            del found[limit:]
        return found if order == "newest" else found[::-1]

    def snapshot(self, session_id: SessionId) -> Session:
        """The session as a value at its last committed turn."""
        head = self.state.head(session_id)
        live = self._live.get(session_id)
        history = live.history if live is not None else self.history(head)
        return Session(
            head.session_id,
            head.harness_id,
            head.agent_id,
            head.title,
            head.locale,
            head.lineage,
            head.spec,
            head.created_at_ns,
            head.updated_at_ns,
            head.status,
            head.head,
            head.turns,
            head.usage,
            tuple(history[: head.message_count]),
        )

    def key_of(self, head: SessionHead) -> str:
        """A name for the session that is the same in every process and run of the same work."""
        parent = head.lineage.parent
        if parent is None:
            return f"{self.realm_id}/{head.agent_id or head.title or head.session_id}"
        made_by = self.state.spawn_keys.get(head.session_id, head.title or head.session_id)
        return f"{self.key_of(self.state.heads[parent])}/{made_by.rsplit('/', 1)[-1]}"

    def turn(self, seq: int) -> TurnEnded:
        """The turn recorded as `seq`. Raises `RecordUnreadable` if there is none."""
        record = self.journal.get(seq)
        if not isinstance(record, TurnEnded):
            raise RecordUnreadable(
                self.realm_id, seq, f"a turn was expected, found {type(record).__name__}"
            )
        return record
