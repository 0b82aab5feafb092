"""The mob: the handle users hold, and the shell that carries its verbs out.

Owns: admission, members' sessions, stop and resume. Must not: choose an engine or open models (the
composition root `mob.app` does), run turns itself (activations do).

Every verb is admitted synchronously against the literal table of `mob.lifecycle`, so two verbs can
never both believe that they were first.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import trio

from mob.activation import Activations, Job
from mob.approvals import ApprovalVerbs
from mob.checks import NAME
from mob.definition import MobDefinition
from mob.errors import AskCycle, MemberExists, MemberNotFound, MobClosed
from mob.harness import Harnesses
from mob.lifecycle import MobState, VerbRefused, admit, after
from mob.receipts import Receipt, StopReport
from mob.records import MemberRetired, MemberSpawned, MobCreated, MobStateChanged, RunReported
from mob.roster import Member, Roster
from mob.sessions import mob_sessions
from runtime.addenda import is_context
from runtime.budget import Budget
from runtime.checkpoint import CheckpointGate
from runtime.driver import SessionConfig
from runtime.errors import MobError, SessionError
from runtime.ids import AgentId, HarnessId, SessionId
from runtime.inputs import Admission
from runtime.journal import Event
from runtime.manager import SessionManager
from runtime.memory import Found
from runtime.realm import Realm
from runtime.records import SessionArchived, SessionCreated, SessionDeleted, TurnEnded
from runtime.results import TurnResult
from runtime.session import NO_SPEC, SessionHead
from runtime.store import SessionStore
from runtime.watching import Watch
from stores import StoreError, Ticket

#: Seconds that `stop` lets turns in flight finish before it cancels them. A model call takes
#: seconds; what is cancelled is continued at `resume`, so nothing is lost either way.
DRAIN_S: Final = 10.0


class Mob(ApprovalVerbs):
    """A supervised team of members. Get one from `mob.open_mob`; not safe across threads."""

    def __init__(
        self,
        definition: MobDefinition,
        realm: Realm,
        roster: Roster,
        harnesses: Harnesses,
        gate: CheckpointGate,
        snapshots: SessionStore,
        nursery: trio.Nursery,
    ) -> None:
        self.definition = definition
        self.realm = realm
        self.roster = roster
        self._harnesses = harnesses
        self._gate = gate
        self._activations = Activations(realm, nursery, roster, harnesses.profile)
        #: The sessions of this mob, for looking after them: history, labels, forks, deletion.
        self.sessions: SessionManager = mob_sessions(realm, snapshots, roster, self._activations)
        #: Names whose joining is queued, and those whose leaving is: until the roster knows.
        self._joining: set[str] = set()
        self._leaving: dict[str, Ticket | trio.Event] = {}
        #: What is under way instead of the recorded state, for people; None at rest.
        self._changing: str | None = None
        self._closed = False
        realm.configure = self.configure
        for kind, then in (
            (TurnEnded, self._turn_ended),
            (SessionArchived, self._session_archived),
            (SessionDeleted, self._session_deleted),
            (MemberSpawned, self._member_spawned),
            (MemberRetired, self._member_retired),
        ):
            self._after_fold(kind, then)

    # -- what it is ------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return self.definition.id

    @property
    def state(self) -> MobState:
        """The recorded state."""
        return self.roster.mob_state

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the members, in order of joining."""
        return tuple(self.roster.members)

    @property
    def at_work(self) -> tuple[str, ...]:
        """The names of the members that have a task now."""
        return tuple(self._activations.at_work())

    def session_of(self, member: str) -> SessionId:
        """The member's session. Raises `MemberNotFound`."""
        return self._row(member).session_id

    def configure(self, head: SessionHead) -> SessionConfig:
        """What a session of this mob runs with."""
        return self._harnesses.configure(self, head)

    def budget_of(self, head: SessionHead) -> tuple[str, Budget] | None:
        """The budget of one session of this mob, and whose it is in words."""
        return self._harnesses.budget_of(head)

    async def search(self, query: str, member: str | None = None, limit: int = 5) -> Found:
        """The past turns that fit `query`, best first: of those a member may read, or of all."""
        asker = None if member is None else self.session_of(member)
        return await self._harnesses.search(self, query, asker, limit)

    def events(self, after: int = 0) -> AsyncGenerator[Event, None]:
        """Every committed record above the cursor `after`, then the future, without end.

        A slow consumer loses nothing and slows nobody down: it reads the journal at its own pace.
        One that leaves the loop early closes the generator (`contextlib.aclosing`).
        """
        return self.realm.journal.follow(after)

    def watch(self, member: str | None = None) -> AbstractContextManager[Watch]:
        """In a block: what the member's model says while it says it, or everybody's (children's
        too). Sees calls that begin in the block; bounded, and slows nobody down.

        Raises:
            MemberNotFound: there is no such member.
        """
        return self.realm.watches.open(None if member is None else self.session_of(member))

    # -- messages --------------------------------------------------------------------------

    async def ask(
        self, member: str, text: str, *, idempotency_key: str | None = None
    ) -> TurnResult:
        """Send `text` to a member, wait for its turn, return the answer.

        The turn is on disk before this returns. Cancelling the wait does not cancel the turn. A
        key that was used before joins that question's answer, also across restarts.

        Raises:
            MemberNotFound, VerbRefused: nothing was sent.
            MemberFailed: the supervisor gave the turn up.
            AgentError: the turn failed or was interrupted.
        """
        self._admit("ask")
        return await self._question(self._row(member), text, None, idempotency_key, nested=False)()

    async def send(self, member: str, text: str, *, idempotency_key: str | None = None) -> Receipt:
        """Send `text` to a member and return once it is on disk; the answer is not waited for.

        Raises:
            MemberNotFound, VerbRefused: nothing was sent.
        """
        self._admit("send")
        row = self._row(member)
        admission, _ = self._accept(row, text, None, idempotency_key, nested=False)
        if admission.ticket is not None:
            await admission.ticket.wait()
        else:
            await self.realm.store.barrier()
        accepted = admission.pending or admission.settled
        assert accepted is not None
        return Receipt(accepted.input_id, row.session_id, member)

    def question(
        self, asker: str, names: Sequence[str], text: str, key: str
    ) -> dict[str, Callable[[], Awaitable[TurnResult]]]:
        """Send a question from inside `asker`'s turn to `names`; return their answers-to-be.

        All are sent or none. Raises `AskCycle` if one of them waits for `asker` already.
        """
        for name in names:
            if self._activations.waits_for(name, asker):
                raise AskCycle(asker, name)
        rows = [self._row(name) for name in names]
        return {
            row.name: self._question(row, text, asker, f"{key}:{row.name}", nested=True)
            for row in rows
        }

    @contextmanager
    def waiting(self, asker: str, names: Sequence[str]) -> Iterator[None]:
        """Note that `asker`'s turn waits for `names`, so that a circle of questions is refused."""
        waiting_for = self._activations.live(self._row(asker)).waiting_for
        waiting_for.update(names)
        try:
            yield
        finally:
            waiting_for.subtract(names)
            for name in names:
                if not waiting_for[name]:
                    del waiting_for[name]

    def interrupt(self, member: str) -> bool:
        """Cancel the member's turn in flight; it ends as interrupted. False if it had none."""
        self._admit("interrupt")
        return self.realm.interrupt(self._row(member).session_id)

    def kill(self, member: str, cause: str = "killed") -> bool:
        """Crash the member's turn in flight; its supervisor decides what follows. False if idle.

        The turn in flight is continued by the restarted activation from what is journalled.
        """
        self._admit("kill")
        return self._activations.kill(self._activations.live(self._row(member)), cause)

    async def wait_idle(self) -> None:
        """Park until no member is at work, and no child in the background."""
        await self._activations.quiet()

    # -- members ---------------------------------------------------------------------------

    async def spawn(self, name: str, *, profile: str) -> SessionId:
        """Add a member; return its session. Session and roster row are one commit.

        Raises:
            MemberExists: the name is taken, also while another spawn of it is pending.
            MobError: the name or the profile is not usable.
            VerbRefused: the mob is not running.
        """
        self._admit("spawn")
        if profile not in self.definition.profiles:
            known = ", ".join(self.definition.profiles)
            raise MobError(f"there is no profile {profile!r}; the profiles are: {known}")
        (session_id,) = await self._spawn_all([(name, profile)])
        return session_id

    async def _spawn_all(self, wanted: Sequence[tuple[str, str]]) -> list[SessionId]:
        """Add members (name, profile) in one commit: all or none, in this order."""
        for name, _ in wanted:
            if not NAME.fullmatch(name):
                raise MobError(f"{name!r} is not a name: use letters, digits, - and _, at most 63")
            if name in self.roster.members or name in self._joining:
                raise MemberExists(name)
        created, joined = self._spawn_records(wanted)
        ticket = self.realm.append(*created, *joined)
        if not ticket.done:
            self._joining.update(name for name, _ in wanted)
        await ticket.wait()
        return [record.session_id for record in created]

    def _spawn_records(
        self, wanted: Sequence[tuple[str, str]]
    ) -> tuple[list[SessionCreated], list[MemberSpawned]]:
        created = [
            self.realm.describe_session(
                HarnessId(profile), AgentId(name), name, None, None, NO_SPEC, None
            )
            for name, profile in wanted
        ]
        joined = [
            MemberSpawned(name, profile, record.session_id, 1, record.at_ns)
            for (name, profile), record in zip(wanted, created, strict=True)
        ]
        return created, joined

    async def retire(self, name: str, reason: str = "retired") -> None:
        """Remove a member: unroutable at once, its turn and children cancelled, its history kept.

        Idempotent: retiring a member that has left already does nothing. Whoever waits for an
        answer is told `SessionError`, also if this call is cancelled.

        Raises:
            MemberNotFound: no member of this name was ever in the mob.
            VerbRefused: the mob's state does not allow it.
        """
        self._admit("retire")
        if name in self._leaving:
            while name in self._leaving:
                await self._leaving[name].wait()
            return
        if name in self.roster.retired and name not in self.roster.members:
            return
        row = self._row(name)
        self._activations.leave(name)
        ended_below = self._leaving[name] = trio.Event()
        await self.realm.background.end(row.session_id)
        now = self.realm.ports.clock.now_ns()
        # Of a quarantined session nothing is recorded any more; the member goes all the same.
        damaged = row.session_id in self.realm.state.quarantined
        ended = [] if damaged else self.realm.archive_records(row.session_id, reason)
        try:
            ticket = self.realm.append(*ended, MemberRetired(name, reason, now))
            if name in self._leaving:
                self._leaving[name] = ticket
        except StoreError:
            del self._leaving[name]
            raise
        finally:
            ended_below.set()
        await ticket.wait()

    # -- life ------------------------------------------------------------------------------

    async def create(self) -> None:
        """Record a new mob with the members of its definition, running, in one commit."""
        now = self.realm.ports.clock.now_ns()
        created, joined = self._spawn_records(list(self.definition.member_names().items()))
        state = after(self.state, "start")
        await self.realm.append(
            MobCreated(self.id, self.definition.blueprint(), now),
            *created,
            *joined,
            MobStateChanged(state.value, "created", now),
        ).wait()

    async def recover(self) -> None:
        """Take up the work the journal says is unfinished; when stopped, only close the gate."""
        for row in self.roster.members.values():
            head = self.realm.state.heads[row.session_id]
            if head.inputs:
                inputs = [each for each in head.inputs.values() if not is_context(each)]
                self._activations.restore(row, head, inputs)
        if self.state is MobState.RUNNING:
            self._activations.wake()
        else:
            self._activations.halt()
            await self._gate.cancel()

    async def stop(self, deadline_s: float = DRAIN_S) -> StopReport:
        """Stop durably: refuse work, drain turns in flight until the deadline, cancel the rest.

        What is cancelled stays in flight on disk and is continued at `resume`. A stopped mob stays
        stopped across restarts. If a step fails the checkpointers are armed again and the mob runs.
        """
        self._begin_change("stop", "being stopped")
        activations = self._activations
        busy = activations.in_flight()
        activations.draining = True
        try:
            with trio.move_on_after(deadline_s):
                await self._settled()
            late = activations.in_flight()
            activations.halt()
            await activations.quiet()
            # What turns that were cut off had queued belongs to what is saved.
            await self.realm.store.barrier()
            await self._gate.flush()
            await self._gate.cancel()
            await self._record_state("stop", "asked to stop")
        finally:
            self._changing = None
            activations.draining = self._closed
            if self.state is not MobState.STOPPED:
                self._gate.rearm()
                activations.wake(halted=self._closed)
        return StopReport(tuple(name for name in busy if name not in late), tuple(late))

    async def resume(self) -> None:
        """Run again after `stop`: arm the checkpointers, record it, take unfinished work up.

        Raises:
            VerbRefused: the mob is not stopped.
        """
        self._begin_change("resume", "being resumed")
        self._gate.rearm()
        try:
            await self._record_state("resume", "asked to resume")
        finally:
            self._changing = None
            if self.state is not MobState.RUNNING:
                await self._gate.cancel()
        self._activations.wake(halted=self._closed)

    async def close(self, grace_s: float) -> None:
        """End this handle, not the mob: let turns in flight finish for `grace_s`, then cancel.

        Nothing is recorded; the mob continues where it is when it is next opened. What was queued
        is on disk when this returns, since the next handle begins from what is there.
        """
        self._closed = self._activations.draining = True
        try:
            with trio.move_on_after(grace_s):
                await self._settled()
            self._activations.halt()
            await self._activations.quiet()
            await self._gate.cancel()
        finally:
            self._activations.close(MobClosed(self.id))
        await self.realm.store.barrier()

    async def report_run(self, key: str) -> None:
        """Record that the answer to the run with this idempotency key has been shown."""
        await self.realm.append(RunReported(key, self.realm.ports.clock.now_ns())).wait()

    # -- inside ----------------------------------------------------------------------------

    def _admit(self, verb: str) -> None:
        if self._closed:
            raise MobClosed(self.id)
        if self._changing is not None:
            raise VerbRefused(self.state, verb, self._changing)
        admit(self.state, verb)

    def _begin_change(self, verb: str, doing: str) -> None:
        """Admit a verb that changes the state; no other is admitted until it has ended."""
        if self._closed:
            raise MobClosed(self.id)
        after(self.state, verb)
        if self._changing is not None:
            raise VerbRefused(self.state, verb, self._changing)
        self._changing = doing

    def _row(self, name: str) -> Member:
        row = self.roster.members.get(name)
        if row is None or name in self._leaving:
            known = tuple(other for other in self.members if other not in self._leaving)
            raise MemberNotFound(name, known)
        return row

    def _accept(
        self, row: Member, text: str, sender: str | None, key: str | None, *, nested: bool
    ) -> tuple[Admission, Job | None]:
        """Let an input in and queue its job, or find the job of the input it joins."""
        admission = self.realm.inputs.accept(
            row.session_id, text, sender=sender, idempotency_key=key
        )
        pending = admission.pending
        if pending is None:
            return admission, None
        live = self._activations.live(row)
        if key is not None:
            for job in live.jobs:
                if job.pending.input_id == pending.input_id:
                    job.nested = job.nested or nested
                    self._activations.start(live)
                    return admission, job
        job = Job(pending, nested)
        self._activations.enqueue(live, job)
        return admission, job

    def _question(
        self, row: Member, text: str, sender: str | None, key: str | None, *, nested: bool
    ) -> Callable[[], Awaitable[TurnResult]]:
        admission, job = self._accept(row, text, sender, key, nested=nested)
        if job is not None:
            return job.result
        settled = admission.settled
        assert settled is not None

        async def recorded() -> TurnResult:
            await trio.lowlevel.checkpoint()
            return self.realm.inputs.result(settled)

        return recorded

    async def _record_state(self, verb: str, reason: str) -> None:
        if self._closed:
            raise MobClosed(self.id)
        state = after(self.state, verb)
        now = self.realm.ports.clock.now_ns()
        ticket = self.realm.append(MobStateChanged(state.value, reason, now))
        with trio.CancelScope(shield=True):
            # Nothing takes the record back, so whoever is cancelled now must still leave the mob
            # as the record says. No deadline: the store settles every ticket, and a commit that
            # has begun cannot be hastened.
            await ticket.wait()

    def _after_fold(self, kind: type, then: Callable[[Any], None]) -> None:
        """Call `then` with every record of `kind` that is committed from now on."""
        fold = self.realm.state.transitions[kind]

        def both(seq: int, record: Any) -> None:
            fold(seq, record)
            then(record)

        self.realm.state.transitions[kind] = both

    def _turn_ended(self, record: TurnEnded) -> None:
        self._gate.turn_ended(record)

    def _session_archived(self, record: SessionArchived) -> None:
        self._gate.archived(record.session_id)

    def _session_deleted(self, record: SessionDeleted) -> None:
        self._gate.deleted(record.session_id)

    def _member_spawned(self, record: MemberSpawned) -> None:
        self._joining.discard(record.name)
        self._harnesses.forget()

    def _member_retired(self, record: MemberRetired) -> None:
        self._leaving.pop(record.name, None)
        self._harnesses.forget()
        why = f"member {record.name!r} was retired: {record.reason}"
        self._activations.left(record.name, SessionError(why, self.roster.retired.get(record.name)))
