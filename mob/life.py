"""The verbs about the life of a mob: it is made, recovered, stopped, resumed, completed, destroyed,
closed.

Owns: `stop`, `resume`, `complete`, `destroy` on the handle, what `open_mob` calls, and recording
the mob's state. Must not: have a say in who is a member or what is asked of whom.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Final

import attrs
import trio

from mob.approvals import ApprovalVerbs
from mob.errors import MobClosed, MobDestroyed
from mob.flows.records import FlowEnded
from mob.flows.runner import FlowRunner
from mob.helping import HelperVerbs
from mob.lifecycle import UNDER_WAY, MobState, VerbRefused, after
from mob.receipts import StopReport
from mob.records import MobCreated, MobStateChanged, RunReported
from mob.traveling import TravelVerbs
from runtime.addenda import is_context
from runtime.containing import ends
from runtime.records import SessionArchived

#: Seconds that `stop` lets turns in flight finish before it cancels them. A model call takes
#: seconds; what is cancelled is continued at `resume`, so nothing is lost either way.
DRAIN_S: Final = 10.0

#: Seconds that what was cancelled has to unwind before it is given up on.
UNWIND_S: Final = 5.0

_log: Final = logging.getLogger("mob")


@attrs.define(eq=False)
class Completing:
    """`complete`, under way: cancelling its scope ends it, `over` is set when it has left."""

    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    over: trio.Event = attrs.field(factory=trio.Event)
    done: bool = False


class LifeVerbs(TravelVerbs, HelperVerbs, ApprovalVerbs):
    """What `mob.mob.Mob` has of this module."""

    _flows: FlowRunner
    _completing: Completing | None = None

    async def create(self) -> None:
        """Record a new mob with the members of its definition, running, in one commit."""
        now = self.realm.ports.clock.now_ns()
        created, joined = self._spawn_records(list(self.definition.member_names().items()))
        state = after(self.state, "start")
        await self.realm.append(
            MobCreated(self.id, self.definition.blueprint(), now),
            *created,
            *joined,
            *self._joined_notices(joined),
            MobStateChanged(state.value, "created", now),
        ).wait()

    async def recover(self) -> None:
        """Take up the work the journal says is unfinished; when stopped, only close the gate."""
        await self._take_up()

    async def rest(self) -> None:
        """As `recover`, but begin nothing as long as this handle is open, also when it is resumed:
        for verbs over a store that nobody runs (`mob.resting`)."""
        self._rests = True
        await self._take_up()

    async def _take_up(self) -> None:
        self._activations.supervisors.recall()
        if self._limits is not None:
            self._limits.recall()
        self._awaiting.recover()
        for row in self.roster.members.values():
            head = self.realm.state.heads[row.session_id]
            if head.inputs:
                self._asides.restore(head)
                inputs = [each for each in head.inputs.values() if not is_context(each)]
                self._activations.restore(row, head, inputs)
        self._activations.halt()  # what is given up here begins nobody who waits for others
        if self.state is MobState.RUNNING and not self._rests:
            await self._flows.sweep()
            self._go_on()
        else:
            self._flows.pause()
            await self._close_gates(saved=False)

    async def stop(
        self, deadline_s: float = DRAIN_S, *, reason: str = "asked to stop"
    ) -> StopReport:
        """Stop durably: refuse work, drain turns in flight until the deadline, cancel the rest.

        What is cancelled stays in flight on disk and is continued at `resume`. A stopped mob stays
        stopped across restarts. What does not let itself be cancelled (a tool that shields itself)
        is given up on after `UNWIND_S` seconds: it is named in the report, what it still does is
        written nowhere, and its turn is continued at `resume` as after a crash. If a step fails,
        or this is cancelled before it is recorded, the checkpointers are armed again and the mob
        runs.

        Raises:
            VerbRefused: the mob is not running, or another change of its state is under way.
            MobClosed: the block of `open_mob` was left.
            stores.StoreError: it could not be saved or recorded; the mob runs.
        """
        self._begin_change("stop")
        activations = self._activations
        busy = activations.in_flight()
        activations.draining = True
        try:
            self._flows.pause()
            with trio.move_on_after(deadline_s):
                await self._settled()
            late = activations.in_flight()
            heads = self.realm.state.heads
            below = [
                each
                for each, head in heads.items()
                if head.lineage.parent is not None and self.realm.running(each) is not None
            ]
            await self._halt()
            stuck = await self._unwound()
            # What turns that were cut off had queued belongs to what is saved.
            await self.realm.store.barrier()
            await self._flows.paused()
            await self._close_gates(saved=True)
            await self._record_state("stop", reason)
        finally:
            self._changing = None
            activations.draining = self._closed
            if self.state is not MobState.STOPPED:
                self._open_gates()
                self._go_on()
        drained = tuple(name for name in busy if name not in late)
        return StopReport(drained, tuple(late), tuple(below), stuck)

    async def resume(self) -> None:
        """Run again after `stop`: arm the checkpointers, record it, take unfinished work up.

        Raises:
            VerbRefused: the mob is not stopped.
        """
        self._begin_change("resume")
        self._open_gates()
        try:
            await self._record_state("resume", "asked to resume")
        finally:
            self._changing = None
            if self.state is not MobState.RUNNING:
                await self._close_gates(saved=False)
        if not self._rests:
            await self._flows.sweep()
            self._go_on()

    async def complete(self, reason: str = "its work is done") -> None:
        """End the mob's work for good: refuse new work, wait for all there is, record `completed`.

        Turns in flight and all that is queued are worked off first, however long that takes;
        approvals are still decided meanwhile. Cancelling it, or a step that fails, leaves the mob
        running. A completed mob can be read, and be destroyed; it is never resumed.

        Raises:
            VerbRefused: the mob is not running, or is stopped meanwhile for a failure that no
                group puts up with.
        """
        self._begin_change("complete")
        activations = self._activations
        self._completing = completing = Completing()
        activations.completing = True
        try:
            with completing.scope:
                await self._worked_off()
                await self._close_gates(saved=True)
                await self._record_state("complete", reason)
                completing.done = True
        finally:
            self._changing = self._completing = None
            activations.completing = False
            if completing.done:
                activations.halt()
            else:
                self._open_gates()
            completing.over.set()
        if not completing.done:
            raise VerbRefused(self.state, "complete", UNDER_WAY["stop"][0])

    async def destroy(self, reason: str = "asked to destroy") -> None:
        """End the mob for good: all its sessions are archived, in one commit with the state.

        What was not done is given up, and whoever waits for it is told `MobDestroyed`. Histories
        stay in the store and can be read. Cancelling may leave the mob destroyed or as it was.

        Raises:
            VerbRefused: the mob is neither stopped nor completed.
        """
        self._begin_change("destroy")
        try:
            state = self.realm.state
            now = self.realm.ports.clock.now_ns()
            ended = [
                SessionArchived(head.session_id, reason, now)
                for head in sorted(state.heads.values(), key=lambda head: -head.lineage.depth)
                if not (head.archived or head.quarantined or head.session_id in state.leaving)
            ]
            for each in ended:
                self.realm.interrupt(each.session_id, reason)
                self.realm.discard_live(each.session_id)
            runs = self._flows.endings(f"the mob was destroyed: {reason}")
            await self._record_state("destroy", reason, *ended, *runs)
        finally:
            self._changing = None
        self._activations.close(MobDestroyed(self.id))

    async def close(self, grace_s: float) -> None:
        """End this handle, not the mob: let turns in flight finish for `grace_s`, then cancel.

        Nothing is recorded; the mob continues where it is when it is next opened. What was queued
        is on disk when this returns, since the next handle begins from what is there.
        """
        self._closed = self._activations.draining = True
        try:
            self._flows.pause()
            with trio.move_on_after(grace_s):
                await self._settled()
            await self._halt()
            for name in await self._unwound():
                _log.warning("%s does not let itself be cancelled, and leaving waits for it", name)
            await self._close_gates(saved=False)
        finally:
            self._activations.close(MobClosed(self.id))
            self._flows.close(MobClosed(self.id))
            self._awaiting.close(MobClosed(self.id))
            self.mailboxes.refuse(MobClosed(self.id))
            self.realm.decisions.stir()
        try:
            await self.realm.store.barrier()
        finally:
            self._subscriptions.close()

    async def report_run(self, key: str) -> None:
        """Record that the answer to the run with this idempotency key has been shown."""
        await self.realm.append(RunReported(key, self.realm.ports.clock.now_ns())).wait()

    # -- inside ----------------------------------------------------------------------------

    def _escalated(self, reason: str) -> None:
        """A failure that no group puts up with: the mob is stopped for it."""

        async def stop() -> None:
            while self._completing is not None:  # it waits for what has failed, and would for ever
                self._completing.scope.cancel()
                await self._completing.over.wait()
            with suppress(VerbRefused, MobClosed):  # it is being stopped, or ended, already
                await self.stop(reason=reason)

        self._nursery.start_soon(stop, name="escalation")

    async def _halt(self) -> None:
        """Cancel what is at work, dependents first."""
        activations = self._activations
        if activations.supervisors.dependencies is not None:
            activations.halted = True
            await activations.supervisors.dependencies.cut(UNWIND_S)
        activations.halt()

    async def _unwound(self) -> tuple[str, ...]:
        """Park until all that was cut off has unwound, for `UNWIND_S` seconds at most; then give up
        on the rest, and return whose it is. What has ended and waits for the disk has unwound."""
        activations, realm = self._activations, self.realm
        with trio.move_on_after(UNWIND_S):
            await activations.quiet()
            return ()
        with realm.decisions.watch() as stirred:
            while any(
                live.active and (live.exits or ends(realm, live.row.session_id))
                for live in activations.members.values()
            ):
                await stirred()
        return activations.give_up()

    def _go_on(self) -> None:
        """Begin, or go on with, all that there is to do."""
        if self._rests:
            return
        dependencies = self._activations.supervisors.dependencies
        if not self._closed:
            self._sweep_helpers()
            if dependencies is not None:
                dependencies.hold()
        self._activations.wake(halted=self._closed)
        if not self._closed:
            self._flows.go_on()
            for hosts in self._hosts:
                hosts.resume()

    def _begin_change(self, verb: str) -> None:
        """Admit a verb that changes the state; no other is admitted until it has ended."""
        if self._closed:
            raise MobClosed(self.id)
        after(self.state, verb)
        if self._changing is not None:
            raise VerbRefused(self.state, verb, UNDER_WAY[self._changing][0])
        self._changing = verb
        self.mailboxes.refuse(VerbRefused(self.state, "send", UNDER_WAY[verb][0]))

    async def _worked_off(self) -> None:
        """Park until nothing is left to do, not even behind a decision."""
        with self.realm.decisions.watch() as stirred:
            while True:
                await self._flows.quiet()
                await self._activations.quiet()
                await self.realm.store.barrier()
                hosted = any(hosts.at_work for hosts in self._hosts)
                if not (self._activations.has_work or hosted):
                    return
                await stirred()

    async def _record_state(
        self, verb: str, reason: str, *with_it: SessionArchived | FlowEnded
    ) -> None:
        if self._closed:
            raise MobClosed(self.id)
        state = after(self.state, verb)
        now = self.realm.ports.clock.now_ns()
        ticket = self.realm.append(*with_it, MobStateChanged(state.value, reason, now))
        with trio.CancelScope(shield=True):
            # Nothing takes the record back, so whoever is cancelled now must still leave the mob
            # as the record says. No deadline: the store settles every ticket, and a commit that
            # has begun cannot be hastened.
            await ticket.wait()
