"""A realm: the sessions of one journal, running.

Owns: creating, feeding, loading and ending sessions, and the live copies of those that are in use.
Must not: decide who runs when (a mob's activations or a service's callers do), know members.

Everything durable goes through `append`; everything known comes from the fold in
`runtime.state`. Admission is synchronous: what a caller is promised (a name, a slot, an input's
place in the order) is decided between two checkpoints, so no two callers can be promised the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import trio

from runtime.background import BackgroundChildren
from runtime.checkpoint import CheckpointGate
from runtime.compaction import beginning
from runtime.copies import LiveCopies
from runtime.damage import broken_turn
from runtime.deciding import Decisions
from runtime.driver import SessionConfig, TurnDriver, to_give_up
from runtime.errors import MobError, RecordUnreadable, SessionBusy, SessionError, SessionQuarantined
from runtime.history import History
from runtime.ids import AgentId, HarnessId, InputId, RealmId, SessionId
from runtime.inputs import Inputs
from runtime.journal import Journal
from runtime.lanes import Lane
from runtime.ledger import AppliedRun
from runtime.live import Doing, LiveSession, Trailing
from runtime.messages import Message
from runtime.ports import Ports
from runtime.records import (
    RUNTIME_RECORDS,
    RecordType,
    SessionArchived,
    SessionCreated,
    TurnEnded,
)
from runtime.recovery import Recovery
from runtime.runner import InProcessRunner, LocalSessionRunner
from runtime.session import (
    NO_SPEC,
    Lifetime,
    Lineage,
    PendingInput,
    Session,
    SessionHead,
    SessionSpec,
)
from runtime.spawning import LimitsFor, Spawning, SpawnLimits
from runtime.spending import Budgets
from runtime.state import RealmState
from runtime.tasks import NewTask, outlives
from runtime.watching import Watches
from stores import Damaged, Store, StoreError, Ticket


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
        limits: SpawnLimits | LimitsFor | None = None,
    ) -> None:
        if not realm_id or "/" in realm_id:
            raise MobError(f"{realm_id!r} cannot name a realm: it is a part of keys, give no '/'")
        self.store = store
        self.realm_id = realm_id
        self.ports = ports or Ports()
        self.state = RealmState()
        self.spawning = Spawning(self.state, limits or SpawnLimits())
        self.journal = Journal(store, realm_id, (*RUNTIME_RECORDS, *record_types), self.state.apply)
        self.recovery = Recovery(store, realm_id, self.state, self.journal)
        self.inputs = Inputs(self.journal, self.recovery, self.state, self.ports)
        self.runner: LocalSessionRunner = InProcessRunner(self)
        self.checkpoints: CheckpointGate | None = None
        #: None as long as nothing here is bounded by a budget.
        self.budgets: Budgets | None = None
        #: What a session runs with; set by whoever owns the realm, before the first turn.
        self.configure = configure
        self._live = LiveCopies()
        self.trim = self._live.trim
        self.trailing = Trailing()
        #: What the store failed with under a call of a tool's. The tool may make of that what it
        #: likes, but no result: what it had begun is in flight, and the next process continues it.
        self.failed: StoreError | None = None
        #: Who sees what models say while they say it: `with realm.watches.open(session_id)`.
        self.watches = Watches(self._live)
        #: Sessions that a caller was admitted to, driver or not. See `hold`.
        self._held: set[SessionId] = set()
        #: Sessions whose history is being rearranged: set once that is on disk. See `change`.
        self._changing: dict[SessionId, trio.Event] = {}
        self._fold_created = self.state.transitions[SessionCreated]
        self.state.transitions[SessionCreated] = self._session_created
        self.decisions = Decisions(self, self._live)
        self.background = BackgroundChildren(self)

    # -- journal ---------------------------------------------------------------------------

    def append(self, *records: Any) -> Ticket:
        """Queue `records` as one batch. See `runtime.journal.Journal.append`."""
        return self.journal.append(*records)

    def recover(self) -> int:
        """Fold what is on disk; return how many records the journal has. Call once, first."""
        records = self.recovery.load()
        # Rows are read in the order of their ids, which is to be that of their making: also if the
        # clock was set back since the last process.
        self.ports.ids.rise_above(self.state.heads)
        return records

    async def checkpoint(self) -> None:
        """Write everything that recovery would have to replay; opening is then quickest."""
        while await self.recovery.write():
            pass

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
        task: NewTask | None = None,
    ) -> SessionHead:
        """Catalogue a session durably; run nothing. With a `task` it is one, in the same commit.

        With a `spawn_key` that was used before, return the session made then. Cancelling may leave
        the session created or not, never half.

        Raises:
            SessionNotFound: there is no such parent.
            SessionError: the parent is archived.
            LimitExceeded: depth or count; nothing was created.
        """
        if spawn_key is not None:
            if spawn_key in self.state.spawned:
                return self.state.heads[self.state.spawned[spawn_key]]
            if spawn_key in self.spawning.keyed:
                session_id, ticket = self.spawning.keyed[spawn_key]
                await ticket.wait()
                return self.state.heads[session_id]
        record = self.describe_session(harness_id, agent_id, title, locale, parent, spec, spawn_key)
        begun = () if task is None else task.records(record, InputId(self.ports.ids.new()))
        detached = task is not None and task.lifetime is Lifetime.DETACHED
        ticket = self.spawning.made(record, lambda: self.append(record, *begun), detached=detached)
        await ticket.wait()
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
            if above.archived:
                raise SessionError(f"session {parent} is archived and takes no children", parent)
            root = above.lineage.budget_root or parent
            lineage = Lineage(parent=parent, budget_root=root, depth=above.lineage.depth + 1)
            spec = spec.below(above.spec)
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

    def _session_created(self, seq: int, record: SessionCreated) -> None:
        self._fold_created(seq, record)
        self.spawning.release(record.session_id)

    async def archive(self, session_id: SessionId, reason: str, *, tell: bool = True) -> None:
        """End a session and what is below it and linked, deepest first, in one commit.
        Idempotent.

        Turns in flight in the subtree are cancelled. Histories stay readable. The parent of a
        background child that had not ended is told, unless it is who says so (`tell`).

        Raises:
            SessionNotFound: there is no such session.
        """
        await self.background.end(session_id)
        told = self.background.told_of(session_id, reason) if tell else ()
        records = self.archive_records(session_id, reason)
        if records:
            await self.append(*told, *records).wait()

    def archive_records(self, session_id: SessionId, reason: str) -> list[SessionArchived]:
        """Cancel the subtree's turns and return the records that end it, deepest first."""
        return self._archive_below(session_id, reason, itself=True)

    def end_children(self, session_id: SessionId, reason: str) -> list[SessionArchived]:
        """As `archive_records`, for what is below the session only (CONTRACTS 1.10)."""
        head = self.state.head(session_id)
        if not head.children and not self.spawning.creating:
            return []
        return self._archive_below(session_id, reason, itself=False)

    def _archive_below(
        self, session_id: SessionId, reason: str, *, itself: bool
    ) -> list[SessionArchived]:
        now = self.ports.clock.now_ns()
        records: list[SessionArchived] = []

        def visit(head: SessionHead) -> None:
            for child in head.children or ():
                if child not in self.state.leaving and not outlives(self.state.heads[child]):
                    visit(self.state.heads[child])
            records.extend(
                SessionArchived(made, reason, now) for made in self.spawning.linked(head.session_id)
            )
            if not head.archived and (itself or head.session_id != session_id):
                self._drop(head.session_id)
                records.append(SessionArchived(head.session_id, reason, now))

        visit(self.state.head(session_id))
        return records

    def _drop(self, session_id: SessionId) -> None:
        live = self.running(session_id)
        if live is None:
            self._live.drop(session_id)
            return
        # It stays until its turn has ended, which may take a while: nobody may delete it before.
        if live.aborted is None:
            live.interrupted = "the session was archived"
        live.cut()

    # -- turns -----------------------------------------------------------------------------

    def driver(
        self,
        session_id: SessionId,
        inputs: Sequence[PendingInput],
        run: AppliedRun | None = None,
        lane: Lane | None = None,
    ) -> TurnDriver:
        """Admit a turn. From here on the session is busy and an interrupt will find the turn.

        Raises:
            SessionNotFound: there is no such session.
            SessionBusy: a turn is in flight.
        """
        live = self.live(session_id)
        if live.scope is not None or session_id in self._changing:
            raise SessionBusy(session_id)
        assert self.configure is not None, "a realm that runs turns has an owner"
        driver = TurnDriver(self, live, self.configure(live.head), inputs, run, lane)
        if (reason := self.decisions.interrupted(session_id)) is not None:
            self.interrupt(session_id, reason)  # it came while the turn had no driver
        return driver

    async def give_up(
        self, session_id: SessionId, inputs: Sequence[PendingInput], reason: str
    ) -> TurnEnded:
        """Commit the turn on `inputs`, or the one in flight, as failed. Needs no model: also for a
        session whose configuration is what failed.

        Raises:
            SessionNotFound: there is no such session.
            SessionBusy: a turn is in flight.
        """
        live = self.live(session_id)
        if live.scope is not None:
            raise SessionBusy(session_id)
        config = to_give_up(self, live.head)
        return await TurnDriver(self, live, config, inputs).fail(reason, inputs)

    @contextmanager
    def hold(self, session_id: SessionId) -> Iterator[None]:
        """Keep others out of the session, also between turns; an interrupt is remembered for the
        next driver.

        Raises:
            SessionBusy: somebody else is in.
        """
        if self.busy(session_id):
            raise SessionBusy(session_id)
        self._held.add(session_id)
        try:
            yield
        finally:
            if session_id in self._held:  # else somebody has given up on this one
                self._held.remove(session_id)
                self.decisions.left(session_id)

    async def change(self, session_ids: Sequence[SessionId], ticket: Callable[[], Ticket]) -> None:
        """Rearrange the histories of sessions at rest: submit `ticket` and wait for it with turns
        kept out, because a turn that began meanwhile would continue the history as it was.

        Their live copies are let go before the record can land: what it leaves behind is known in
        the instant in which it lands, and a copy that was made before shows something else.

        Raises:
            SessionBusy: somebody is in one of them.
        """
        with self.apart(session_ids):
            for session_id in session_ids:
                self.discard_live(session_id)
            with trio.CancelScope(shield=True):
                # Nothing takes the record back, so turns must be kept out until it is there. No
                # deadline: the store settles every ticket.
                await ticket().wait()

    @contextmanager
    def apart(self, session_ids: Sequence[SessionId]) -> Iterator[None]:
        """Keep turns out of sessions at rest; those that are due wait. Raises `SessionBusy`."""
        for session_id in session_ids:
            if self.busy(session_id):
                raise SessionBusy(session_id)
        changed = trio.Event()
        self._changing.update(dict.fromkeys(session_ids, changed))
        try:
            yield
        finally:
            for session_id in session_ids:
                del self._changing[session_id]
            changed.set()

    def changing(self, session_id: SessionId) -> bool:
        """Whether the session's history is being rearranged."""
        return session_id in self._changing

    async def unchanging(self, session_id: SessionId) -> None:
        """Park while the session's history is being rearranged; a checkpoint only if it is."""
        while session_id in self._changing:
            await self._changing[session_id].wait()

    def busy(self, session_id: SessionId) -> bool:
        """Whether a turn of the session would be refused now."""
        busy = session_id in self._held or session_id in self._changing
        return busy or self.running(session_id) is not None

    def running(self, session_id: SessionId) -> LiveSession | None:
        """The live copy of a session whose turn is in flight, else None."""
        live = self._live.get(session_id)
        return live if live is not None and live.scope is not None else None

    def interrupt(self, session_id: SessionId, reason: str = "interrupted") -> bool:
        """Cancel the turn in flight, if there is one; it ends as INTERRUPTED. True if there was.

        A turn whose end is on its way to the disk is not in flight any more.
        """
        live = self.running(session_id)
        if live is None:
            return self.decisions.interrupt(session_id, reason, held=session_id in self._held)
        if live.doing is Doing.SAVING:
            return False
        if live.interrupted is not None:
            return True
        live.interrupted = reason
        live.cut()
        return True

    def abort(self, session_id: SessionId, cause: str) -> bool:
        """Cancel the turn in flight without ending it: its driver raises `TurnAborted`, and a new
        one continues it from the journal. False if there was none, as for `interrupt`."""
        live = self.running(session_id)
        if live is None or live.doing is Doing.SAVING:
            return False
        live.aborted = cause
        live.cut()
        return True

    # -- reading ---------------------------------------------------------------------------

    def live(self, session_id: SessionId) -> LiveSession:
        """The live copy of a session, read from the journal if it is not in memory. One that is
        made while the history is being rearranged is the caller's alone.

        Raises:
            SessionNotFound: there is no such session.
        """
        if self.state.quarantined:
            self.state.head(session_id)
        found = self._live.use(session_id)
        if found is None:
            head = self.state.head(session_id)
            first, skipped = beginning(self.journal, head)
            history = self.history(head, skipped)
            found = LiveSession(head, history, self.key_of(head), first, skipped)
            found.emit = self.watches.emit_for(found)
            if session_id in self._changing:
                return found
            self._live.keep(found)
        return found

    def begin_anew(self) -> None:
        """The whole state is being replaced, with nobody at work: let go of all live copies, and of
        what was to be done to turns and was spent by them."""
        self._live.clear()
        self.decisions.begin_anew()
        if self.budgets is not None:
            self.budgets.begin_anew()

    def discard_live(self, session_id: SessionId) -> None:
        """Forget the live copy; the stored one is not touched. A turn in flight keeps it alive."""
        if self.running(session_id) is None:
            self._live.drop(session_id)

    def history(self, head: SessionHead, skipped: int = 0) -> list[Message]:
        """The committed messages of a session, oldest first, without the first `skipped`. Raises
        `SessionQuarantined`."""
        with self.reading(head.session_id):
            limit = head.message_count - skipped if skipped else None
            return self.journal.messages(head.head, limit)

    @contextmanager
    def reading(self, session_id: SessionId) -> Iterator[None]:
        """Read the session's history in this block: if it is damaged, the session is quarantined.

        Raises:
            SessionNotFound: there is no such session.
            SessionQuarantined: it is quarantined, or was by this.
        """
        self.state.head(session_id)
        try:
            yield
        except (Damaged, RecordUnreadable) as error:
            if isinstance(error, RecordUnreadable) and not error.damaged:
                raise
            reason = f"its history cannot be read: {error}"
            turn = broken_turn(self.journal, self.state.heads[session_id].head)
            self.state.quarantine(session_id, reason, turn)
            if self.checkpoints is not None:
                self.checkpoints.deleted(session_id)
            raise SessionQuarantined(session_id, reason) from error

    def messages(
        self,
        session_id: SessionId,
        limit: int | None = None,
        order: Literal["newest", "oldest"] = "newest",
    ) -> list[Message]:
        """The newest `limit` committed messages; newest first unless `order` is ``oldest``.

        Never waits for a turn in flight. Costs what is returned, not the length of the history.
        """
        with self.reading(session_id):
            found = self.journal.messages(self.state.head(session_id).head, limit)
        return found[::-1] if order == "newest" else found

    def snapshot(self, session_id: SessionId) -> Session:
        """The session as a value at its last committed turn. Constant work: its messages are a view
        of the live copy; if there is none, they are read when they are looked at.

        Raises:
            SessionNotFound, SessionQuarantined: also later, by looking at the messages.
        """
        head = self.state.head(session_id)
        live = self._live.get(session_id)
        held = None if live is None or live.skipped else live.history
        end = head.head

        def newest(limit: int) -> list[Message]:
            with self.reading(session_id):
                return self.journal.messages(end, limit)

        history = History(head.message_count, held, newest)
        return head.whole(history)

    def key_of(self, head: SessionHead) -> str:
        """A name for the session that is the same in every process and run of the same work."""
        parent = head.lineage.parent
        if parent is None:
            return f"{self.realm_id}/{head.agent_id or head.title or head.session_id}"
        made_by = head.spawn_key or head.title or head.session_id
        return f"{self.key_of(self.state.heads[parent])}/{made_by.rsplit('/', 1)[-1]}"

    def turn(self, seq: int) -> TurnEnded:
        """The turn recorded as `seq`. Raises `RecordUnreadable` if there is none."""
        return self.journal.turn(seq)
