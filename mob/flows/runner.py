"""The Trio shell of flows: one task for each run under way.

Owns: carrying out what `mob.flows.scheduler` decides: committing, asking members, collecting their
answers, waiting until a time, withdrawing what nobody waits for. Must not: decide what comes next.

A run's task keeps nothing that is not in the journal. Pausing cancels it; going on begins another,
which asks the same questions under the same keys and so joins the turns that are there. What a run
decides is on disk before anybody is asked or cut off because of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from mob.errors import MobClosed
from mob.flows.asks import Enough, Place, TooFew, place_of, wanted
from mob.flows.attempts import AskMember, Attempt
from mob.flows.book import FlowBook
from mob.flows.records import FlowEnded, FlowRecord, FlowRunId, FlowStarted, RunState
from mob.flows.scheduler import (
    Effect,
    Note,
    Now,
    Wake,
    Withdraw,
    Work,
    after_failure,
    after_success,
    cancelled,
    step,
)
from mob.flows.state import Run
from mob.helpers import is_helper
from runtime.errors import describe
from runtime.records import InputAbandoned

if TYPE_CHECKING:
    from mob.activation import Activations
    from mob.roster import Roster
    from runtime.driver import SessionConfig
    from runtime.realm import Realm
    from runtime.session import SessionHead
    from stores import Ticket

_NANO: Final = 1_000_000_000
_UNWANTED: Final = "nobody waits for the answer any more"


@attrs.frozen
class _Outcome:
    """An attempt at a step has come to its end."""

    work: Work
    verdict: Enough | TooFew


@attrs.frozen
class _Cancel:
    """Somebody wants the run to end."""

    reason: str


class _Active:
    """The running side of a run under way."""

    def __init__(self, run: Run) -> None:
        self.run_id = run.run_id
        self.scope = trio.CancelScope()
        self.done = trio.Event()
        # Never full: a step has one attempt at a time, and of cancellations one is enough.
        self.tell, self.told = trio.open_memory_channel[_Outcome | _Cancel](len(run.steps) + 1)
        self.cancelling = False
        self.at_work: dict[Work, Attempt] = {}
        #: Whether the run waits for its attempts and for nothing else.
        self.parked = False


class FlowRunner:
    """The runs of one mob, running."""

    def __init__(
        self,
        realm: Realm,
        nursery: trio.Nursery,
        book: FlowBook,
        roster: Roster,
        activations: Activations,
        ask: AskMember,
    ) -> None:
        self.book = book
        self._realm = realm
        self._nursery = nursery
        self._roster = roster
        self._activations = activations
        self._ask = ask
        self._active: dict[FlowRunId, _Active] = {}
        self._paused = False
        self._closed: MobClosed | None = None
        #: Those who wait for the end of a run.
        self._waiting: dict[FlowRunId, trio.Event] = {}
        self._quiet: trio.Event | None = None
        #: Runs with an idempotency key that are on their way to the disk.
        self.starting: dict[str, tuple[FlowStarted, Ticket]] = {}
        #: Runs that are being ended while no task follows them.
        self._ending: set[FlowRunId] = set()

    # -- what the mob calls ------------------------------------------------------------------

    def started(self, record: FlowStarted) -> None:
        """A run is on disk."""
        self.starting.pop(record.idempotency_key or "", None)
        self._start(record.run_id)

    def ended(self, record: FlowEnded) -> None:
        """A run's end is on disk."""
        event = self._waiting.pop(record.run_id, None)
        if event is not None:
            event.set()
        if self._quiet is not None and not self.book.running:
            self._quiet.set()
            self._quiet = None

    def under_way(self) -> tuple[FlowRunId, ...]:
        """The runs that somebody works on here."""
        return tuple(self._active)

    def forget_all(self) -> None:
        """The runs are others now: whoever waits for one looks again."""
        for event in self._waiting.values():
            event.set()
        self._waiting.clear()

    def pause(self) -> None:
        """Begin nothing more. What is on its way to the disk is carried out; see `paused`."""
        self._paused = True
        for active in self._active.values():
            active.scope.cancel()

    async def paused(self) -> None:
        """Park until nothing here is under way, after `pause`."""
        for active in list(self._active.values()):
            await active.done.wait()

    def go_on(self) -> None:
        """Take every run up that has not ended."""
        self._paused = False
        for run_id in self.book.running:
            self._start(run_id)

    async def sweep(self) -> None:
        """What an earlier process left with members and no run waits for: abandon what is queued,
        and have what has begun given up. Before any member is activated."""
        unwanted: dict[str, set[str]] = {}
        for name, live in self._activations.members.items():
            for job in live.jobs:
                key = job.pending.idempotency_key
                place = place_of(key)
                if key is None or place is None:
                    continue
                # A key of somebody's own may look like ours, and then there is no such run.
                run = self.book.find(place.run_id)
                if run is not None and not wanted(run, place):
                    unwanted.setdefault(name, set()).add(key)
        if unwanted:
            records = self._abandoned(unwanted)
            if records:
                await self._realm.append(*records).wait()
            for name, keys in unwanted.items():
                self._activations.cut_off(name, keys, _UNWANTED)

    def close(self, error: MobClosed) -> None:
        """Tell whoever still waits for a run `error`."""
        self._closed = error
        for event in self._waiting.values():
            event.set()

    async def quiet(self) -> None:
        """Park until no run is under way."""
        while self.book.running:
            if self._quiet is None:
                self._quiet = trio.Event()
            await self._quiet.wait()

    def only_wait(self) -> bool:
        """Whether no run does more than wait for answers of members."""
        return all(
            active.parked and all(each.only_waits() for each in active.at_work.values())
            for active in self._active.values()
        )

    def endings(self, reason: str) -> list[FlowEnded]:
        """The records that end every run under way, for a mob that is ended while it is stopped."""
        return [cancelled(run, reason, self._now()) for run in self.book.running.values()]

    def bend(self, config: SessionConfig, head: SessionHead) -> SessionConfig:
        """What a session's turn runs with, if it is a step's question that says what the answer is
        to fit."""
        schema = self._schema_of(head)
        if schema is None:
            return config
        return attrs.evolve(config, rules=attrs.evolve(config.rules, output_schema=schema))

    def _schema_of(self, head: SessionHead) -> dict[str, Any] | None:
        live = self._activations.members.get(head.agent_id or "")
        if live is None or live.row.session_id != head.session_id or live.current is None:
            return None
        place = place_of(live.current.pending.idempotency_key)
        run = None if place is None else self.book.running.get(place.run_id)
        definition = None if run is None or place is None else run.flow.steps.get(place.step)
        return None if definition is None else definition.output_schema

    # -- what handles call -------------------------------------------------------------------

    async def wait(self, run_id: FlowRunId) -> None:
        """Park until the run has ended and what it asked is withdrawn. Raises `MobClosed`."""
        while run_id in self.book.running:
            if self._closed is not None:
                raise self._closed
            await self._waiting.setdefault(run_id, trio.Event()).wait()
        if run_id in self._active:
            await self._active[run_id].done.wait()

    async def cancel(self, run_id: FlowRunId, reason: str) -> bool:
        """End the run, durably, unless it has ended; whether this did."""
        active = self._active.get(run_id)
        if active is None:  # the mob is stopped: nobody else decides about it
            await self._realm.store.barrier()
            active = self._active.get(run_id)
        run = self.book.running.get(run_id)
        if run is None:
            return False
        if active is None and run_id not in self._ending:
            self._ending.add(run_id)
            try:
                await self._carry_out(run, cancelled(run, reason, self._now()))
            finally:
                self._ending.discard(run_id)
        elif active is None:
            await self.wait(run_id)
        else:
            if not active.cancelling:
                active.cancelling = True
                active.tell.send_nowait(_Cancel(reason))
            await self.wait(run_id)
        ended = self.book.find(run_id)
        return ended is not None and ended.state is RunState.CANCELLED

    # -- a run -------------------------------------------------------------------------------

    def _start(self, run_id: FlowRunId) -> None:
        run = self.book.running[run_id]
        if not self._paused and run_id not in self._active:
            active = self._active[run_id] = _Active(run)
            self._nursery.start_soon(self._serve, active, name=f"flow {run.name}")

    async def _serve(self, active: _Active) -> None:
        try:
            with active.scope:
                async with trio.open_nursery() as nursery:
                    await self._follow(active, nursery)
                    nursery.cancel_scope.cancel()
        finally:
            del self._active[active.run_id]
            active.done.set()
            self._realm.decisions.stir()
            if active.scope.cancel_called and active.run_id in self.book.running:
                self._start(active.run_id)  # unless it is paused still

    async def _follow(self, active: _Active, nursery: trio.Nursery) -> None:
        event: FlowRecord | None = None
        now = self._now()
        while (run := self.book.running.get(active.run_id)) is not None:
            after, effects = await self._carry_out(run, event, now)
            wake: Wake | None = None
            for effect in effects:
                if isinstance(effect, Work) and effect not in active.at_work:
                    attempt = self._attempt_at(after, effect)
                    active.at_work[effect] = attempt
                    nursery.start_soon(self._attempt, active, effect, attempt)
                elif isinstance(effect, Wake):
                    wake = effect
            if after.ended:
                return
            event, now = await self._next(active, wake)

    async def _next(self, active: _Active, wake: Wake | None) -> tuple[FlowRecord | None, Now]:
        """What happens next in the run; None when the time to `wake` has come."""
        while True:
            now = self._now()
            left_s = float("inf")
            if wake is not None:
                left_s = min(max(0.0, (wake.at_ns - now.at_ns) / _NANO), wake.within_s)
            item: _Outcome | _Cancel | None = None
            active.parked = wake is None
            self._realm.decisions.stir()
            with trio.move_on_after(left_s):
                item = await active.told.receive()
            active.parked = False
            now = self._now()
            if item is None:
                # The wall clock may have been set back; the time has been waited for all the same.
                assert wake is not None
                return None, attrs.evolve(now, at_ns=max(now.at_ns, wake.at_ns))
            run = self.book.running[active.run_id]
            if isinstance(item, _Cancel):
                return cancelled(run, item.reason, now), now
            del active.at_work[item.work]
            verdict, name = item.verdict, item.work.step
            if isinstance(verdict, Enough):
                return after_success(run, name, verdict.output, now), now
            return after_failure(run, name, verdict.reason, now, final=verdict.final), now

    def _attempt_at(self, run: Run, work: Work) -> Attempt:
        return Attempt(self._realm, self._roster, self._activations, self._ask, run, work.step)

    async def _attempt(self, active: _Active, work: Work, attempt: Attempt) -> None:
        # That its step has begun was on its way to the disk, and nothing is begun any more.
        await trio.lowlevel.checkpoint_if_cancelled()
        active.tell.send_nowait(_Outcome(work, await attempt.verdict()))

    async def _carry_out(
        self, run: Run, event: FlowRecord | None, now: Now | None = None
    ) -> tuple[Run, Sequence[Effect]]:
        """Commit what `event` leads to, in one commit with the withdrawal of what is queued for
        nobody; then cut off what has begun. Returns the run after it, and its effects."""
        now = now or self._now()
        try:
            after, effects = step(run, event, now)
        except Exception as error:  # noqa: BLE001 a mistake of ours ends one run and not the mob
            event = FlowEnded(run.run_id, RunState.FAILED, describe(error), now.at_ns)
            after, effects = step(run, event, now)
        records: list[Any] = [] if event is None else [event]
        records += [each.record for each in effects if isinstance(each, Note)]
        if not records:
            return after, effects
        unwanted: dict[str, set[str]] = {}
        for each in effects:
            if isinstance(each, Withdraw):
                self._withdraw(run, each)
                for member, key in _keys(run, each):
                    unwanted.setdefault(member, set()).add(key)
        records += self._abandoned(unwanted)
        ticket = self._realm.append(*records)
        with trio.CancelScope(shield=True):
            # Nothing takes the records back, so what they lead to must be done by whoever queued
            # them. No deadline: the store settles every ticket.
            await ticket.wait()
        for member, keys in unwanted.items():
            self._activations.cut_off(member, keys, _UNWANTED)
        return after, effects

    def _withdraw(self, run: Run, which: Withdraw) -> None:
        """Keep an attempt that has no answer yet, and may not even have asked, from asking."""
        active = self._active.get(run.run_id)
        work = Work(which.step, which.round, which.attempt)
        if active is not None and work in active.at_work:
            active.at_work[work].withdrawn = True

    def _abandoned(self, unwanted: Mapping[str, set[str]]) -> list[InputAbandoned]:
        """Take these questions out of their members' queues; the records that say so."""
        now_ns = self._realm.ports.clock.now_ns()
        records: list[InputAbandoned] = []
        for member, keys in unwanted.items():
            live = self._activations.members.get(member)
            for pending in self._activations.withdraw(member, keys, _UNWANTED):
                assert live is not None
                session_id = live.row.session_id
                records.append(InputAbandoned(session_id, pending.input_id, _UNWANTED, now_ns))
        return records

    def _now(self) -> Now:
        return Now(self._realm.ports.clock.now_ns(), self._team)

    def _team(self, profile: str) -> tuple[str, ...]:
        rows = self._roster.members.values()
        return tuple(row.name for row in rows if row.profile == profile and not is_helper(row.name))


def _keys(run: Run, withdraw: Withdraw) -> Iterable[tuple[str, str]]:
    """The members that were asked in an attempt, and the key of each question."""
    members = run.steps[withdraw.step].members
    for index, member in enumerate(members):
        yield (
            member,
            Place(run.run_id, withdraw.step, withdraw.round, withdraw.attempt, index).key,
        )
