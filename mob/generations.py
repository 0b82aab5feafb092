"""The verbs by which a member gets another session, and those that say who should be there.

Owns: `fence`, `respawn`, `ensure` on the handle, and the records they commit. Must not: run a
member's turns.

A member is a name; its session may wear out: a history that leads nowhere, a model that will not be
talked out of something, a profile that has changed. `respawn` gives the name a new one. What waits
for the member goes with the name, in the same commit; the turn in flight stays with the session
that is in it, which is archived: whatever it still writes can only end up there.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs
import trio

from mob.autonomy import moved_id
from mob.definition import MemberDefinition
from mob.helpers import is_helper
from mob.jobs import Job
from mob.membership import MemberVerbs
from mob.receipts import EnsureReport, MemberHandle
from mob.records import MemberRespawned
from mob.roster import Member
from runtime.addenda import is_context
from runtime.errors import SessionError
from runtime.ids import AgentId, HarnessId, InputId
from runtime.records import InputAbandoned, InputAccepted
from runtime.session import NO_SPEC, PendingInput
from runtime.tasks import is_notice
from stores import Ticket


class GenerationVerbs(MemberVerbs):
    """What `mob.mob.Mob` has of this module."""

    def fence(self, name: str) -> MemberHandle:
        """The present generation of a member, for verbs that are to act on no other.

        Raises:
            MemberNotFound: there is no such member.
        """
        row = self._row(name)
        return MemberHandle(name, row.generation, row.session_id)

    async def respawn(
        self,
        name: str,
        reason: str = "respawned",
        *,
        profile: str | None = None,
        fence: MemberHandle | None = None,
    ) -> MemberHandle:
        """Give a member a new session, and the next generation, in one commit; return its fence.

        What waits for the member goes to the new session in its order. The turn in flight ends as
        interrupted, and whoever waits for it is told; background children that are linked end
        first. The old session is archived and can be read. With a `profile` the member runs on
        that from here on. Cancelling may leave the member respawned or as it was, but for its
        turn in flight.

        Raises:
            MemberNotFound, VerbRefused: nothing was done.
            StaleFence: it has another generation by now than `fence`; nothing was done.
            ProfileNotFound: there is no such profile.
        """
        self._admit("respawn")
        if profile is not None:
            self._check_profile(profile)
        while name in self._renewing:
            await self._renewing[name].wait()
            self._admit("respawn")
        row = self._row(name, fence)
        live = self._activations.live(row)
        done = self._renewing[name] = trio.Event()
        queued = False
        live.gone = True  # nothing more is begun in the old session
        try:
            self.realm.interrupt(row.session_id, reason)
            if live.backoff is not None:
                live.backoff.cancel()
            await self.realm.background.end(row.session_id)
            self._admit("respawn")
            new, ticket = self._renew(row, profile or row.profile, reason)
            queued = True
        finally:
            if not queued:
                live.gone = False
                self._renewing.pop(name, None)
                done.set()
                self._activations.start(live)
        await ticket.wait()
        return MemberHandle(name, new.generation, new.session_id)

    async def ensure(self, wanted: Mapping[str, str | MemberDefinition]) -> EnsureReport:
        """Make the members those that are `wanted`, each name with a profile or a definition (with
        ``replicas`` it stands for several); say what that took.

        Who is not wanted is retired, who has another profile is respawned with that one, who is
        missing joins (all of them in one commit, last). Those who are right are left alone, so a
        second call does nothing; one that was cut off is taken up by the next.

        Raises:
            Unusable, ProfileNotFound: as `spawn`; nothing was done.
            VerbRefused: the mob is not running.
        """
        self._admit("spawn")
        profiles: dict[str, str] = {}
        for base, given in wanted.items():
            member = MemberDefinition(given) if isinstance(given, str) else given
            self._check_profile(member.profile)
            profiles.update(dict.fromkeys(member.names(base), member.profile))
        self._check_names(profiles)
        rows = self.roster.members
        retired = tuple(n for n in self.members if n not in profiles and not is_helper(n))
        changed = tuple(n for n, p in profiles.items() if n in rows and rows[n].profile != p)
        missing = tuple(name for name in profiles if name not in rows)
        for name in retired:
            await self.retire(name, "not declared any more")
        for name in changed:
            await self.respawn(name, "declared with another profile", profile=profiles[name])
        await self.spawn_many([(name, profiles[name]) for name in missing])
        kept = tuple(n for n in profiles if n not in changed and n not in missing)
        return EnsureReport(missing, changed, retired, kept)

    # -- inside ----------------------------------------------------------------------------

    def _renew(self, row: Member, profile: str, reason: str) -> tuple[Member, Ticket]:
        """Queue the records of the next generation; everything sent from here on is for it."""
        realm, name = self.realm, row.name
        now = realm.ports.clock.now_ns()
        created = realm.describe_session(
            HarnessId(profile), AgentId(name), name, None, None, NO_SPEC, None
        )
        new = Member(name, profile, created.session_id, row.generation + 1, first=row.joined)
        live = self._activations.live(row)
        waiting = self._waiting(row)
        jobs = [job for job in live.jobs if job.pending.input_id in waiting]
        moved = {
            old: attrs.evolve(each, input_id=moved_id(realm.ports.ids.new(), each))
            for old, each in waiting.items()
        }
        abandoned = [
            InputAbandoned(row.session_id, old, f"superseded by input {each.input_id}", now)
            for old, each in moved.items()
        ]
        accepted = [
            InputAccepted(
                new.session_id,
                each.input_id,
                each.text,
                each.sender,
                each.idempotency_key,
                now,
                each.skills,
                each.steer,
            )
            for each in moved.values()
        ]
        # Of a quarantined session nothing is recorded any more; the member is rid of it.
        damaged = row.session_id in realm.state.quarantined
        ended = [] if damaged else [*abandoned, *realm.archive_records(row.session_id, reason)]
        self._coming[name] = new
        realm.inputs.coming.add(new.session_id)
        for job in jobs:
            job.pending = moved[job.pending.input_id]
        fresh = self._activations.members[name] = live.succeed(new, jobs)
        known = {job.pending.input_id for job in jobs}
        fresh.jobs.extend(
            Job(each, nested=False) for each in moved.values() if each.input_id not in known
        )
        if self._limits is not None:
            self._limits.parted(row.session_id)
        told = self._respawned_notices(new)
        # A store in memory has it at once, so everything is in place before.
        ticket = realm.append(
            created,
            *ended,
            MemberRespawned(name, profile, new.session_id, new.generation, reason, now),
            *accepted,
            *told,
        )
        return new, ticket

    def _waiting(self, row: Member) -> dict[InputId, PendingInput]:
        """What waits for the member in its order, but for what is about its old session alone."""
        begun = self._begun(row)
        waiting = dict(self.realm.state.heads[row.session_id].inputs or {})
        waiting.update(
            {job.pending.input_id: job.pending for job in self._activations.live(row).jobs}
        )
        return {
            input_id: each
            for input_id, each in waiting.items()
            if not (input_id in begun or is_context(each) or is_notice(each))
        }

    def _begun(self, row: Member) -> set[InputId]:
        """The inputs of the member's turn in flight, also of one that is not being worked on: with
        those that it was steered by, on disk or not."""
        partial = self.realm.state.heads[row.session_id].partial
        begun = set(partial.input_ids if partial is not None else ())
        current = self._activations.live(row).current
        if current is not None:
            begun.add(current.pending.input_id)
        running = self.realm.running(row.session_id)
        if running is not None:
            begun.update(running.input_ids)
        return begun

    def _member_respawned(self, record: MemberRespawned) -> None:
        name = record.name
        self._coming.pop(name, None)
        self.realm.inputs.coming.discard(record.session_id)
        self._harnesses.forget()
        live = self._activations.members.get(name)
        if live is not None and live.before is not None:
            old, live.before = live.before, None
            told = SessionError(f"member {name!r} was respawned: {record.reason}", None)
            live.row, live.held = self.roster.members[name], False
            self._activations.renewed(old, live, told)
        done = self._renewing.pop(name, None)
        if done is not None:
            done.set()
