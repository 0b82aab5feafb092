"""Bugs in a mob: its members, their supervision, stop and resume.

Owns: the patches. Must not: know a workload.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import patch

import attrs
import trio

from mob import activation
from mob.activation import Activations
from mob.errors import MemberFailed
from mob.jobs import Job, LiveMember
from mob.life import DRAIN_S
from mob.lifecycle import MobState, after
from mob.mob import Mob
from mob.receipts import Receipt, StopReport
from mob.records import MobStateChanged
from mob.roster import Member
from mob.supervision import Decision, Exit, Restart, RestartPolicy, decide
from runtime.checkpoint import CheckpointGate
from runtime.ids import SessionId
from runtime.lanes import Lane
from runtime.live import Trailing
from runtime.realm import Realm
from runtime.records import SessionArchived
from runtime.session import PendingInput, SessionHead
from tests.simulation.planted.table import planted


@planted("acknowledged_means_durable", within=20)
def acknowledged_before_commit() -> Iterator[None]:
    """`send` returns when the message is queued. Breaks CONTRACTS 5.6, 6.6: a receipt is for what
    is on disk."""

    usual = Mob.send

    async def send(
        self: Mob, to: str, text: str, *, idempotency_key: str | None = None, **more: Any
    ) -> Receipt:
        if any(more.values()):  # between members, or steered
            return await usual(self, to, text, idempotency_key=idempotency_key, **more)
        self._admit("send")
        row = self._row(to)
        admission, _ = self._accept(row, text, None, idempotency_key, nested=False)
        await trio.lowlevel.checkpoint()
        accepted = admission.pending or admission.settled
        assert accepted is not None
        return Receipt(accepted.input_id, row.session_id, to)

    with patch.object(Mob, "send", send):
        yield


@planted("a_stopped_mob_does_nothing", within=500)
def gate_ignored_after_stop() -> Iterator[None]:
    """Checkpoints are written although the mob is stopped. Breaks CONTRACTS 5.9: once stopped,
    nothing is saved."""

    async def cancel(self: CheckpointGate) -> None:
        async with self._saving:
            pass

    with patch.object(CheckpointGate, "cancel", cancel):
        yield


@planted("a_stopped_mob_does_nothing", within=500)
def stopped_mob_wakes_when_reopened() -> Iterator[None]:
    """A mob that was stopped takes its work up when it is opened. Breaks CONTRACTS 5.13: it stays
    stopped until it is resumed."""
    recover = Mob.recover

    async def wake(self: Mob) -> None:
        await recover(self)
        self._activations.wake()

    with patch.object(Mob, "recover", wake):
        yield


@planted("a_mob_that_stops_is_saved", "a_stopped_mob_does_nothing", within=300)
def stop_is_recorded_while_turns_end() -> Iterator[None]:
    """`stop` says that the mob has stopped while turns it cut off are still unwinding. Breaks
    CONTRACTS 5.11: stopped means that nothing goes on."""

    async def stop(self: Mob, deadline_s: float = DRAIN_S) -> StopReport:
        self._begin_change("stop")
        activations = self._activations
        activations.draining = True
        try:
            with trio.move_on_after(deadline_s):
                await activations.quiet()
            activations.halt()
            await self._gate.flush()
            await self._gate.cancel()
            await self._record_state("stop", "asked to stop")
        finally:
            self._changing = None
            activations.draining = activations.halted = self._closed
            if self.state is not MobState.STOPPED:
                self._gate.rearm()
                activations.wake()
        return StopReport((), ())

    with patch.object(Mob, "stop", stop):
        yield


@planted(
    "a_mob_that_stops_is_saved",
    "acknowledged_means_durable",
    within=2000,
    mended="Know what turns that were cut off had queued before a stop saves: a child's last turn"
    " was in no snapshot when the mob was recorded as stopped",
)
def stop_saves_before_turns_have_landed() -> Iterator[None]:
    """`stop` saves what is known, while the ends of turns that it cut off are on their way. Breaks
    CONTRACTS 5.10: a mob that stops has saved the last turn of every session."""
    flush = CheckpointGate.flush
    stop = Mob.stop

    class Bare:
        """A store whose barrier is none."""

        def __init__(self, store: Any) -> None:
            self._store = store

        async def barrier(self) -> None:
            """Return at once."""

        def __getattr__(self, name: str) -> Any:
            return getattr(self._store, name)

    async def unfenced(self: Mob, deadline_s: float = DRAIN_S) -> StopReport:
        store = self.realm.store

        async def restore(gate: CheckpointGate) -> None:
            self.realm.store = store
            await flush(gate)

        self.realm.store = Bare(store)  # type: ignore[assignment]
        try:
            with patch.object(CheckpointGate, "flush", restore):
                return await stop(self, deadline_s)
        finally:
            self.realm.store = store

    with patch.object(Mob, "stop", unfenced):
        yield


@planted("a_mob_that_stops_is_saved", "what_nobody_can_fetch_rests", within=1000)
def resumed_before_rearmed() -> Iterator[None]:
    """`resume` records that the mob runs, and arms the checkpointers when its caller runs on.
    Breaks CONTRACTS 5.12: a mob that runs is checkpointed."""

    async def resume(self: Mob) -> None:
        self._begin_change("resume")
        try:
            await self._record_state("resume", "asked to resume")
        finally:
            self._changing = None
        self._activations.wake()
        await trio.lowlevel.checkpoint()
        self._gate.rearm()

    with patch.object(Mob, "resume", resume):
        yield


@planted("nothing_is_left_behind", "healed, everything finishes", "the scenario ends", within=300)
def lost_wake_up() -> Iterator[None]:
    """Between finding nothing left to do and being idle, a member lets others run: what they send
    waits for ever. Breaks CONTRACTS 5.6: what was accepted is worked on."""

    async def run(self: Activations, live: LiveMember, lane: Lane) -> None:
        whole = False
        live.lane = lane
        try:
            while (job := self._next(live)) is not None:
                await (self._work if self.limits is None else self.limits.work)(live, job)
            await trio.lowlevel.checkpoint()
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

    with patch.object(Activations, "_run", run):
        yield


@planted("an_input_has_one_fate", "turns_form_a_chain", within=100)
def delivered_again_after_a_restart() -> Iterator[None]:
    """What an earlier process left to do is queued twice. Breaks CONTRACTS 6.7: each message is
    delivered once."""
    restore = Activations.restore

    def twice(
        self: Activations, row: Member, head: SessionHead, inputs: list[PendingInput]
    ) -> None:
        restore(self, row, head, inputs)
        self.live(row).jobs.extend(Job(pending, nested=False) for pending in inputs)

    with patch.object(Activations, "restore", twice):
        yield


@planted("inputs_are_consumed_in_order", within=300)
def delivered_out_of_order() -> Iterator[None]:
    """What an earlier process left to do is worked on from its end. Breaks CONTRACTS 6.7: messages
    of one sender keep their order."""
    restore = Activations.restore

    def backwards(
        self: Activations, row: Member, head: SessionHead, inputs: list[PendingInput]
    ) -> None:
        restore(self, row, head, inputs[::-1])

    with patch.object(Activations, "restore", backwards):
        yield


@planted(
    "inputs_are_consumed_in_order",
    within=4000,
    mended="Begin nothing in a nursery that is being cancelled, and let no drained question"
    " overtake an earlier one of its sender",
)
def drained_question_overtakes() -> Iterator[None]:
    """While the mob drains, a question from inside a turn goes before an earlier one of the same
    sender. Breaks CONTRACTS 6.7."""

    def following(self: Activations, live: LiveMember) -> Job | None:
        if self.halted or self._over or live.gone or live.held or live.failed:
            return None
        if live.current is not None:
            return None if live.parked else live.current
        if not self.draining:
            return live.jobs[0] if live.jobs else None
        return next((job for job in live.jobs if job.nested), None)

    with patch.object(Activations, "_next", following):
        yield


@planted("giving_up_is_deserved", "restarts_back_off", within=1000)
def restart_counter_never_resets() -> Iterator[None]:
    """Restarts are never forgotten. Breaks CONTRACTS 6.8: a member that has been well for
    `within_s` starts afresh."""

    def counting(policy: RestartPolicy, recent: tuple[float, ...], exit_: Exit) -> Decision:
        return decide(attrs.evolve(policy, within_s=1e12), recent, exit_)

    with patch.object(activation, "decide", counting):
        yield


@planted("restart_intensity_holds", "restarts_back_off", within=100)
def restart_counter_always_resets() -> Iterator[None]:
    """Every restart counts as the first. Breaks CONTRACTS 6.8: at most `max_restarts` within
    `within_s`."""

    def afresh(policy: RestartPolicy, _recent: tuple[float, ...], exit_: Exit) -> Decision:
        return decide(policy, (), exit_)

    with patch.object(activation, "decide", afresh):
        yield


@planted("restarts_back_off", within=200)
def restarts_do_not_back_off() -> Iterator[None]:
    """Every restart comes after the shortest delay. Breaks CONTRACTS 6.8: delays double."""

    def hasty(policy: RestartPolicy, recent: tuple[float, ...], exit_: Exit) -> Decision:
        decision = decide(policy, recent, exit_)
        if isinstance(decision, Restart):
            return attrs.evolve(decision, delay_s=policy.backoff_s)
        return decision

    with patch.object(activation, "decide", hasty):
        yield


@planted(
    "acknowledged_means_durable",
    "a_failure_surfaces_once",
    "an_input_has_one_fate",
    "nothing_is_left_behind",
    within=200,
)
def given_up_in_silence() -> Iterator[None]:
    """The supervisor gives a turn up and tells the asker, and nothing is recorded. Breaks CONTRACTS
    5.8: a failure surfaces once, and is on disk."""

    async def give_up(self: Activations, live: LiveMember, job: Job, reason: str) -> None:
        await trio.lowlevel.checkpoint()
        error = MemberFailed(live.row.name, reason, live.row.session_id)
        self._finish(live, job, None, error)

    with patch.object(Activations, "_give_up", give_up):
        yield


@planted("members_and_sessions_come_and_go_together", within=50)
def member_joins_in_two_commits() -> Iterator[None]:
    """A member's session is made in one commit and its row in the next. Breaks CONTRACTS 6.2: both
    or neither."""

    async def spawn_all(
        self: Mob, wanted: Sequence[tuple[str, str]], spawn_key: str | None = None
    ) -> list[SessionId]:
        created, joined = self._spawn_records(wanted, spawn_key)
        await self.realm.append(*created).wait()
        await self.realm.append(*joined).wait()
        return [record.session_id for record in created]

    with patch.object(Mob, "_spawn_all", spawn_all):
        yield


@planted("no_orphans", within=1000)
def children_outlive_a_retired_member() -> Iterator[None]:
    """A member that leaves is archived without what is below it. Breaks CONTRACTS 3.7: a session
    takes its children with it."""

    def itself(self: Realm, session_id: SessionId, reason: str) -> list[SessionArchived]:
        head = self.state.head(session_id)
        self._drop(session_id)
        if head.archived:
            return []
        return [SessionArchived(session_id, reason, self.ports.clock.now_ns())]

    with patch.object(Realm, "archive_records", itself):
        yield


@planted("names_are_members_names", within=200)
def name_free_while_joining() -> Iterator[None]:
    """A name is taken only once its member is on disk: two may join under it. Breaks CONTRACTS
    6.2."""
    spawn_all = Mob._spawn_all

    async def forgetful(
        self: Mob, wanted: Sequence[tuple[str, str]], spawn_key: str | None = None
    ) -> list[SessionId]:
        self._joining.clear()
        return await spawn_all(self, wanted, spawn_key)

    with patch.object(Mob, "_spawn_all", forgetful):
        yield


@planted("acknowledged_means_durable", within=100)
def stopped_before_it_is_recorded() -> Iterator[None]:
    """`stop` returns when its record is queued. Breaks CONTRACTS 5.11: a mob that is said to be
    stopped stays so, whatever happens then."""

    async def record_state(self: Mob, verb: str, reason: str) -> None:
        state = after(self.state, verb)
        self.realm.append(MobStateChanged(state.value, reason, self.realm.ports.clock.now_ns()))
        await trio.lowlevel.checkpoint()

    with patch.object(Mob, "_record_state", record_state):
        yield


@planted(
    "progress_stays",
    "one_turn_is_in_flight",
    "messages_are_whole_turns",
    "tools_run_once",
    within=1000,
    mended="Continue a member's turn that was cut off from what it had queued: a stop whose caller"
    " went away let the member go on from before that",
)
def cut_turn_continued_too_soon() -> Iterator[None]:
    """A member whose turn was cut off by a stop that came to nothing goes on from what was on disk
    before what that turn had queued. Breaks CONTRACTS 6.9: nothing that was journalled of a turn
    is done again."""

    async def landed(self: Trailing, session_id: SessionId) -> None:
        """Wait for nothing that was queued."""
        await trio.lowlevel.checkpoint()

    with patch.object(Trailing, "landed", landed):
        yield


@planted(
    "snapshots_equal_the_fold",
    "snapshots_never_go_back",
    within=300,
    mended="Keep a session busy while the end of a turn that was cut off is on its way, and delete"
    " none while it is being saved",
)
def deleted_while_it_is_saved() -> Iterator[None]:
    """A session is deleted while a snapshot of it is on its way, which stays. Breaks CONTRACTS 3.7:
    nothing of a deleted session is left."""

    @asynccontextmanager
    async def still(self: CheckpointGate) -> AsyncIterator[None]:
        yield

    with patch.object(CheckpointGate, "still", still):
        yield
