"""The verbs about time: points, forks, going back, and what is different.

Owns: `snapshot`, `points`, `fork`, `rewind`, `diff` on the handle. Must not: know how a state is
kept or read (`runtime.travel` does).
"""

from __future__ import annotations

import trio

from mob.core import MobCore
from mob.errors import MobBusy, MobRewound
from mob.flows.runner import FlowRunner
from mob.handles import sole_handle
from mob.records import MobStateChanged
from mob.travel import MobDiff, beginning_in, called, diff, view, view_of
from runtime.ids import RealmId
from runtime.points import Point
from runtime.travel import Travel


class TravelVerbs(MobCore):
    """What `mob.mob.Mob` has of this module."""

    _flows: FlowRunner

    async def snapshot(self, label: str) -> Point:
        """Make a point of the mob as it is on disk now, to go back to and to fork from. One commit,
        as large as the mob is and not as its history is long; at any time.

        Raises:
            PointExists: the label is taken.
            Unusable: it cannot be one.
            VerbRefused: the mob's state does not allow it.
        """
        self._admit("snapshot")
        return await Travel(self.realm).make(label)

    def points(self) -> tuple[Point, ...]:
        """The points of this mob, oldest first; those with `kept` are what a rewind left."""
        return Travel(self.realm).points

    async def fork(self, new_id: str, *, at: str | int | None = None) -> int:
        """Make another mob that is what this one was at the point or record `at` (None: is now), in
        the same store, and return the number of that record. One commit; at any time.

        Open it with a definition whose id is `new_id`. Sessions keep their ids; histories are
        shared and part from there on. What was in flight is in flight in both. At a point the cost
        is that of the mob's size, at any other record that of reading the journal up to it.

        Raises:
            PointNotFound: there is no such point or record.
            RealmExists: there is a mob of this id.
            MobInUse: this process has `new_id` open.
            VerbRefused: the mob's state does not allow it.
        """
        self._admit("fork")
        with sole_handle(self.realm.store, new_id, f"mob {new_id!r}"):
            return await Travel(self.realm).fork(RealmId(new_id), at, called(new_id))

    async def rewind(self, at: str | int) -> Point:
        """Bring the mob back to what it was at the point or record `at`, in one commit, and return
        the point that it was at until now: going back to that one undoes it.

        Nobody may be at work. Whether the mob is running or stopped stays as it is. What was queued
        or waited for a decision at `at` is so again, and is worked on if the mob is running;
        whoever waits for an answer now is told `MobRewound`. Cancelling leaves it done or not done.

        Raises:
            MobBusy: members are at work, or flows under way; it names them.
            PointNotFound: there is no such point or record.
            VerbRefused: the mob's state does not allow it.
        """
        self._admit("rewind")
        self._changing = "rewind"
        try:
            self._check_idle()
            travel = Travel(self.realm)
            moment = travel.moment(at)
            state = self.state

            def still() -> list[MobStateChanged]:
                now = self.realm.ports.clock.now_ns()
                return [MobStateChanged(state.value, f"as it was before going back to {at!r}", now)]

            with trio.CancelScope(shield=True):
                # From here on nothing takes it back, and the handle must show what is on disk. No
                # deadline: the store settles every ticket.
                with self.realm.apart(tuple(self.realm.state.heads)):
                    self.realm.begin_anew()
                    left = await travel.rewind(moment, still)
                    self._forget_live(f"the mob was brought back to {at!r}")
        finally:
            self._changing = None
        await self._take_up()
        return left

    def diff(self, a: str | int, b: str | int | None = None) -> MobDiff:
        """How the mob at the point or record `b` (None: now) differs from what it was at `a`.

        Raises:
            PointNotFound: there is no such point or record.
        """
        travel, journal = Travel(self.realm), self.realm.journal
        one = view_of(travel.moment(a).rows, journal)
        if b is None:
            other = view(self.realm.state, self.folds, journal)
        else:
            other = view_of(travel.moment(b).rows, journal)
        return diff(one, other, beginning_in(journal, journal))

    # -- inside ----------------------------------------------------------------------------

    def _check_idle(self) -> None:
        at_work = [*self.at_work, *self._joining, *self._leaving, *self._renewing]
        at_work += [each.name for each in self._helping.values() if each.leaving]
        if self.realm.background.running:
            at_work.append("children in the background")
        at_work += [f"flow {run_id}" for run_id in self._flows.under_way()]
        at_work += [f"session {each}" for each in self.realm.state.heads if self.realm.busy(each)]
        if at_work:
            raise MobBusy(self.id, tuple(dict.fromkeys(at_work)))

    def _forget_live(self, why: str) -> None:
        """Let go of everything that belongs to what was left behind."""
        error = MobRewound(self.id, why)
        self._activations.close(error)
        self._activations.members.clear()
        self.mailboxes.refuse(error)
        self._asides.begin_anew()
        self._awaiting.begin_anew(error)
        self._flows.forget_all()
        self._harnesses.forget()
        heads = self.realm.state.heads.values()
        self._gate.begin_anew(heads)
        for hosts in self._hosts:
            hosts.gate.begin_anew([head for head in heads if head.spec.host_mode])
        self.realm.begin_anew()

    async def _take_up(self) -> None:
        """Take up the work that is unfinished. See `mob.life`."""
        raise NotImplementedError
