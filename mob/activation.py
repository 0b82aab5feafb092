"""Activations: the tasks of members that have work, and their supervision.

Owns: working through a member's queue of jobs (`mob.jobs`), carrying out the supervisor's
decisions, and the count of members at work. Must not: decide who may send to whom, or the mob's
state.

An idle member has no task. Its first job starts its activation, in a task of `mob.workers`, and
it ends when the queue is empty. A history that is being rearranged is on disk first.

# Invariant: between "nothing left in the queue" and `active = False` there is no checkpoint, the
# exit of a nursery included; otherwise a job that arrives in between would wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

from mob.definition import WAKE
from mob.errors import MemberFailed
from mob.going import GoingOn
from mob.groups import NO_GROUPS, GroupTree
from mob.helpers import is_helper
from mob.jobs import Job, LiveMember, LiveMembers, waits_for
from mob.records import MemberExited
from mob.roster import Member, Roster
from mob.supervising import NO_FAILURE, Supervisors
from mob.supervision import Exit, GiveUp, decide
from mob.workers import Workers
from runtime.asking import TurnWaits
from runtime.containing import abandon
from runtime.driver import TurnAborted
from runtime.errors import (
    ModelError,
    SessionError,
    SessionQuarantined,
    TurnInterrupted,
    describe,
)
from runtime.ids import SessionId
from runtime.lanes import Lane
from runtime.live import Doing
from runtime.records import TurnEnded
from runtime.session import PendingInput, SessionHead
from runtime.tasks import is_notice, notices_of
from stores import StoreError

if TYPE_CHECKING:
    from mob.definition import ProfileDefinition
    from mob.limits import Limits
    from mob.watchdog import Watchdog
    from runtime.realm import Realm


class Activations:
    """The members at work. Lives as long as the mob's nursery."""

    def __init__(
        self,
        realm: Realm,
        nursery: trio.Nursery,
        roster: Roster,
        profile: Callable[[str], ProfileDefinition],
        groups: GroupTree = NO_GROUPS,
    ) -> None:
        self._realm = realm
        self._workers = Workers(nursery, self._run)
        self._roster = roster
        self.profile = profile
        realm.background.serve(nursery)
        realm.background.noticed = self._noticed
        realm.decisions.woken.append(self._decided)
        self.members = LiveMembers()
        self.supervisors = Supervisors(groups, self, realm, roster)
        #: How many activations and visits there are.
        self.active = 0
        self._visits: dict[trio.CancelScope, None] = {}
        self.watchdog: Watchdog | None = None
        self.limits: Limits | None = None
        self._quiet: trio.Event | None = None
        #: While draining, turns in flight go on and only nested jobs are begun, and what must come
        #: before them; while halted, none.
        self.draining = False
        self.halted = False
        #: While completing, nobody goes on by itself.
        self.completing = False
        #: Whether the nursery is being cancelled. Nothing can be done in it any more, and what was
        #: cut off in it has records on their way that nobody waits for.
        self._over = False

    def live(self, row: Member) -> LiveMember:
        """The running side of `row`, made if there is none."""
        return self.members.get(row.name) or self.members.setdefault(row.name, LiveMember(row))

    def restore(self, row: Member, head: SessionHead, inputs: list[PendingInput]) -> None:
        """Queue what an earlier process left to do, the turn in flight first: that one is continued
        and not begun. `wake` starts it."""
        live = self.live(row)
        first = head.partial.input_ids if head.partial is not None else ()
        if not self._wakes(row):  # what it is to be told of its children goes with any turn
            inputs = [each for each in inputs if each.input_id in first or not is_notice(each)]
        inputs.sort(key=lambda pending: (pending.input_id not in first, is_notice(pending)))
        live.told = any(map(is_notice, inputs))
        live.steered = any(each.steer for each in inputs)
        live.jobs.extend(Job(pending, nested=False) for pending in inputs)
        if head.partial is not None:
            live.current = live.jobs[0]
            live.parked = self._realm.decisions.parked(row.session_id)

    def enqueue(self, live: LiveMember, job: Job) -> None:
        """Queue `job`, and start the member's activation if it has none."""
        live.jobs.append(job)
        self.start(live)

    def wake(self, *, halted: bool = False) -> None:
        """Start an activation for every member that has work it may begin, and every child that
        works in the background; none if it is to stay `halted`."""
        self.halted = halted
        if not self.halted:
            self._realm.background.resume()
        for live in self.members.values():
            live.failed = False
            self.start(live)

    def kill(self, live: LiveMember, cause: str) -> bool:
        """Crash the turn in flight with this cause; False if there is none."""
        return self._realm.abort(live.row.session_id, cause)

    def withdraw(self, member: str, keys: Collection[str], reason: str) -> list[PendingInput]:
        """Take the jobs with these idempotency keys out of the member's queue, and return their
        inputs, for the caller to abandon durably. What has begun stays; see `cut_off`."""
        live = self.members.get(member)
        if live is None:
            return []
        gone = [
            job
            for job in live.jobs
            if job is not live.current and job.pending.idempotency_key in keys
        ]
        error = SessionError(f"the input was abandoned: {reason}", live.row.session_id)
        for job in gone:
            live.jobs.remove(job)
            job.settle(None, error)
        return [job.pending for job in gone]

    def cut_off(self, member: str, keys: Collection[str], reason: str) -> None:
        """End the turn that the member is in if it has begun on one of these idempotency keys."""
        live = self.members.get(member)
        job = None if live is None else live.current
        if live is None or job is None or job.pending.idempotency_key not in keys:
            return
        job.withdrawn = reason
        if self._realm.running(live.row.session_id) is not None:
            self._realm.interrupt(live.row.session_id, reason)
            return
        # It waits, for a decision or to be restarted: it is taken up, and interrupted then.
        live.parked = False
        if live.backoff is not None:
            live.backoff.cancel()
        self.start(live)

    @contextmanager
    def visit(self, session_id: SessionId) -> Iterator[None]:
        """Around a turn that a caller runs in a task of its own, beside the members: the mob is not
        quiet before it has ended, and halting cancels it; it stays in flight in the journal.

        Raises:
            TurnInterrupted: it was cancelled so.
        """
        scope = trio.CancelScope()
        self._visits[scope] = None
        self.begun()
        try:
            with scope:
                yield
        finally:
            del self._visits[scope]
            self.rested()
        if scope.cancelled_caught:
            raise TurnInterrupted("the mob stops; the turn stays in flight", session_id)

    def halt(self) -> None:
        """Cancel every activation; turns in flight stay in flight in the journal."""
        self.halted = True
        self._realm.background.halt()
        for scope in list(self._visits):
            scope.cancel()
        for live in self.members.values():
            if live.active:
                self.cut(live, "halted")

    def leave(self, name: str) -> None:
        """End the activation of a member that leaves; nothing of its queue is begun any more."""
        live = self.members.get(name)
        if live is not None:
            live.gone = True
            self.cut(live, "retired")

    def left(self, name: str, farewell: Exception) -> None:
        """Its leaving is on disk: forget the member and tell whoever waits for it `farewell`."""
        live = self.members.pop(name, None)
        if live is not None:
            live.gone = True
            live.farewell = farewell
            if not live.active:
                self._tell_all(live, farewell)

    def renewed(self, old: LiveMember, live: LiveMember, farewell: Exception) -> None:
        """The generation after `old` is on disk: it begins, and what was left of `old` is told."""
        old.farewell = farewell
        if not old.active:
            self._tell_all(old, farewell)
        self.start(live)

    def close(self, error: Exception) -> None:
        """Begin nothing any more and tell whoever still waits `error`."""
        self.halted = True
        for live in self.members.values():
            self._tell_all(live, error)

    def _tell_all(self, live: LiveMember, error: Exception) -> None:
        live.current = None
        while live.jobs:
            live.jobs.popleft().settle(None, error)

    def cut(self, live: LiveMember, cause: str) -> None:
        """Cut the member's turn off, and its wait for a restart."""
        self._realm.abort(live.row.session_id, cause)
        if live.backoff is not None:
            live.backoff.cancel()

    def at_work(self) -> list[str]:
        """The names of the members that have an activation."""
        return [name for name, live in self.members.items() if live.active]

    def in_flight(self) -> list[str]:
        """The names of the members at work whose turn has begun."""
        return [name for name, live in self.members.items() if live.active and live.current]

    @property
    def has_work(self) -> bool:
        """Whether any member has something left to do, also if it waits for a decision."""
        return any(live.jobs for live in self.members.values())

    async def quiet(self) -> None:
        """Park until no member is at work, and no child in the background."""
        while self.active or self._realm.background.running:
            await self._realm.background.quiet()
            if self.active:
                if self._quiet is None:
                    self._quiet = trio.Event()
                await self._quiet.wait()

    def give_up(self) -> tuple[str, ...]:
        """Give up on what was cut off and has not unwound: the names of members, and the sessions
        of children in the background."""
        stuck = [live for live in self.members.values() if live.active]
        for old in stuck:
            abandon(self._realm, old.row.session_id)
            self.members[old.row.name] = old.abandon()
            self.active -= 1
        for session_id in (children := self._realm.background.names()):
            abandon(self._realm, session_id)
        return (*[live.row.name for live in stuck], *children)

    def only_wait(self) -> bool:
        """Whether all who are at work wait for other sessions, and those for decisions."""
        running, limits = self._realm.running, self.limits
        idle = (e for e in self.members.values() if e.active and not running(e.row.session_id))
        if any(limits is None or not limits.waits(live) for live in idle):
            return False  # it begins, or is to be restarted
        return self._realm.background.only_wait() and self._realm.decisions.only_wait()

    def waits_for(self, name: str, target: str) -> bool:
        """Whether `name`'s turn waits, over however many others, for `target`."""
        return waits_for(self.members, name, target)

    def _wakes(self, row: Member) -> bool:
        """Whether the member is begun a turn when one of its children has ended."""
        subagents = self.profile(row.profile).subagents
        return subagents is not None and subagents.notify == WAKE

    def _noticed(self, session_id: SessionId) -> None:
        """Something has been put before a session about its children."""
        head = self._realm.state.heads.get(session_id)
        row = None if head is None else self._roster.members.get(head.agent_id or "")
        if head is None or row is None or row.session_id != session_id or not self._wakes(row):
            return
        live = self.live(row)
        queued = {job.pending.input_id for job in live.jobs}
        live.told = True
        for pending in notices_of(head):
            if pending.input_id not in queued:
                self.enqueue(live, Job(pending, nested=False))

    def _decided(self, session_id: SessionId) -> None:
        """The session's turn, which waited, has something to go on with."""
        head = self._realm.state.heads.get(session_id)
        row = None if head is None else self._roster.members.get(head.agent_id or "")
        live = None if row is None else self.members.get(row.name)
        if live is not None and live.row.session_id == session_id:
            live.parked = False
            self.start(live)

    def start(self, live: LiveMember) -> None:
        """Start the member's activation if it has none and there is work it may begin."""
        if live.active or self._next(live) is None:
            if self.limits is not None:
                self.limits.hasten(live)
            return
        live.active = True
        self.begun()
        self._workers.begin(live)

    def _next(self, live: LiveMember) -> Job | None:
        """The job to begin now, if there is one."""
        if self.halted or self._over or live.gone or live.held or live.failed:
            return None
        if live.current is not None:
            return None if live.parked else live.current
        if not self.draining:
            return live.jobs[0] if live.jobs else None
        # With a nested job goes what its sender sent before it: messages of one sender keep their
        # order (CONTRACTS 6.7).
        senders = {job.pending.sender for job in live.jobs if job.nested}
        return next((job for job in live.jobs if job.pending.sender in senders), None)

    async def _run(self, live: LiveMember, lane: Lane) -> None:
        whole = False
        live.lane = lane
        try:
            while (job := self._next(live)) is not None:
                await (self._work if self.limits is None else self.limits.work)(live, job)
            whole = True
        finally:
            self._over = self._over or not whole
            if not live.abandoned:
                live.active = False
            if live.farewell is not None:
                self._tell_all(live, live.farewell)
            if not live.abandoned:
                self.members.rest(live)
                self.rested()

    def begun(self) -> None:
        self.active += 1
        if self.active == 1 and self.watchdog is not None:
            self.watchdog.arm()

    def rested(self) -> None:
        self.active -= 1
        if not self.active and self.watchdog is not None:
            self.watchdog.disarm()
        if not self.active:
            self._realm.trim()
        if self._quiet is not None and not self.active:
            self._quiet.set()
            self._quiet = None
        self._realm.decisions.stir()

    async def _settled(self, live: LiveMember, job: Job) -> bool:
        """Park until the history is what the disk says; whether the job is the next one then."""
        await self._realm.trailing.landed(live.row.session_id)
        await self._realm.unchanging(live.row.session_id)
        return self._next(live) is job

    async def _work(self, live: LiveMember, job: Job) -> None:
        realm, session_id = self._realm, live.row.session_id
        unsettled = session_id in realm.trailing or realm.changing(session_id)
        if unsettled and not await self._settled(live, job):
            return
        live.current, live.together = job, False
        inputs = (job.pending,)
        run = None
        try:
            if self.profile(live.row.profile).autonomy is not None and not is_helper(live.row.name):
                run = GoingOn(self, live, job, realm)
            driver = realm.driver(session_id, inputs, run, live.lane)
            if job.withdrawn is not None:  # nobody was at the turn when it was cut off
                realm.interrupt(session_id, job.withdrawn)
            record = await driver.run(inputs)
        except StoreError:
            raise
        except SessionQuarantined as error:  # nothing to continue, and trying again cannot help
            self._tell_all(live, error)
        except TurnWaits:  # no checkpoint may come between this and the end of the activation
            live.parked = realm.decisions.parked(session_id)
        except TurnAborted as aborted:
            if not self.halted:
                together, live.together = live.together, False
                await self._exited(live, job, str(aborted), retryable=True, together=together)
        except Exception as error:  # noqa: BLE001 a member's crash is an exit record
            # A model's failure has been tried again where it happened, as often as it may be.
            retryable = not isinstance(error, ModelError)
            await self._exited(live, job, describe(error), retryable=retryable)
        else:
            self._finish(live, job, record)
        if run is not None and run.delay_s and job not in live.jobs:
            await self._back_off(live, run.delay_s)

    def _finish(
        self,
        live: LiveMember,
        job: Job,
        record: TurnEnded | None,
        error: Exception | None = None,
        ended: TurnEnded | None = None,
    ) -> None:
        ended = ended or record
        live.jobs.remove(job)
        live.current = None
        job.settle(record, error)
        # A turn takes all that waits to be told of children with it, and messages that steer it,
        # also what had jobs here.
        if live.told:
            left = self._realm.state.heads[live.row.session_id].inputs or {}
            for each in [each for each in live.jobs if is_notice(each.pending)]:
                if each.pending.input_id not in left:
                    live.jobs.remove(each)
        if live.steered:
            taken = () if ended is None else ended.input_ids
            for each in [each for each in live.jobs if each.pending.input_id in taken]:
                live.jobs.remove(each)
                each.settle(record, error)
            live.steered = any(each.pending.steer for each in live.jobs)

    async def _exited(
        self,
        live: LiveMember,
        job: Job,
        cause: str,
        *,
        retryable: bool,
        together: bool = False,
    ) -> None:
        """Record a bad exit and do what the supervisor decides.

        The barrier lets everything the dead activation queued reach the disk first, so that the
        next one starts from what is there and not from what was there a moment ago. One that was
        cut off for the sake of its group (`together`) is no failure that the group counts.
        """
        await self._realm.store.barrier()
        if live.leaves():
            return None
        if job.pending.input_id not in (self._realm.state.head(live.row.session_id).inputs or ()):
            return self._settle_from_disk(live, job)
        if self._realm.decisions.to_interrupt(live.row.session_id):
            return None  # somebody was told that it ends as interrupted: it is taken up for that
        decision = decide(
            self.profile(live.row.profile).restart,
            live.recent,
            Exit(cause, retryable, trio.current_time()),
        )
        above = NO_FAILURE if together else self.supervisors.failed(live, cause)
        if above.reason is not None:
            decision = GiveUp(above.reason)
        delay_s = None if isinstance(decision, GiveUp) else decision.delay_s
        session_id, now = live.row.session_id, self._realm.ports.clock.now_ns()
        record = MemberExited(live.row.name, session_id, cause, delay_s, now)
        told = self.supervisors.told(live, above, decision)
        with self._realm.decisions.giving_up(session_id if delay_s is None else None):
            live.exits = True
            await self._realm.append(record, *told).wait()
            live.failed = above.stops
            above.carry_out()
            if not (live.leaves() or above.stops) and isinstance(decision, GiveUp):
                await self._give_up(live, job, decision.reason)
            live.exits = False
            if live.leaves() or above.stops or isinstance(decision, GiveUp):
                return None
        live.recent = decision.recent
        self._realm.live(live.row.session_id).now_doing(Doing.RESTARTING, cause)
        await self._back_off(live, decision.delay_s)
        return None

    async def _back_off(self, live: LiveMember, delay_s: float) -> None:
        if self.limits is not None:
            self.limits.rest(live)
        with trio.CancelScope() as live.backoff:
            if not self.halted and not live.leaves():
                await trio.sleep(delay_s)
        live.backoff = None

    async def _give_up(self, live: LiveMember, job: Job, reason: str) -> None:
        ended = await self._realm.give_up(live.row.session_id, (job.pending,), reason)
        error = MemberFailed(live.row.name, reason, live.row.session_id)
        self._finish(live, job, None, error, ended)

    def _settle_from_disk(self, live: LiveMember, job: Job) -> None:
        """The input's fate was on disk when the activation ended: tell whoever waits."""
        head = self._realm.state.head(live.row.session_id)
        record = self._realm.turn(head.head) if head.head else None
        if record is not None and job.pending.input_id in record.input_ids:
            self._finish(live, job, record)
        else:
            self._finish(live, job, None, SessionError("the input was abandoned", head.session_id))
