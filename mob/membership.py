"""The verbs about members: who joins and who leaves.

Owns: `spawn`, `spawn_many`, `retire` on the handle, and the records they commit. Must not: run a
member's turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import trio

from mob.checks import NAME
from mob.errors import MemberExists, ProfileNotFound
from mob.helpers import is_helper
from mob.joining import Joining
from mob.receipts import MemberHandle
from mob.records import MemberRetired, MemberSpawned
from runtime.errors import SessionError, Unusable
from runtime.ids import AgentId, HarnessId, SessionId
from runtime.records import SessionCreated
from runtime.session import NO_SPEC
from stores import StoreError


class MemberVerbs(Joining):
    """What `mob.mob.Mob` has of this module."""

    def session_of(self, member: str) -> SessionId:
        """The member's session. Raises `MemberNotFound`."""
        return self._row(member).session_id

    async def spawn(self, name: str, *, profile: str, spawn_key: str | None = None) -> SessionId:
        """Add a member; return its session. Session and roster row are one commit. With a key that
        was used before nobody is added: the session made then is returned.

        Raises:
            MemberExists: the name is taken, also while another spawn of it is pending.
            Unusable: it is not a name.
            ProfileNotFound: there is no such profile.
            VerbRefused: the mob is not running.
        """
        self._admit("spawn")
        self._check_profile(profile)
        if spawn_key is not None and spawn_key in self.realm.state.spawned:
            return self.realm.state.spawned[spawn_key]
        (session_id,) = await self._spawn_all([(name, profile)], spawn_key)
        return session_id

    async def spawn_many(self, wanted: Iterable[tuple[str, str]]) -> list[SessionId]:
        """Add members, each a name and a profile, in one commit: all or none. Their sessions come
        in the order given, which is also that of joining.

        Raises:
            MemberExists: a name is taken, or given twice; nobody was added.
            Unusable: one is not a name; nobody was added.
            ProfileNotFound: there is no such profile; nobody was added.
            VerbRefused: the mob is not running.
        """
        self._admit("spawn")
        wanted = list(wanted)
        for _, profile in wanted:
            self._check_profile(profile)
        return await self._spawn_all(wanted) if wanted else []

    async def _spawn_all(
        self, wanted: Sequence[tuple[str, str]], spawn_key: str | None = None
    ) -> list[SessionId]:
        """Add members (name, profile) in one commit: all or none, in this order."""
        self._check_names(name for name, _ in wanted)
        names: set[str] = set()
        for name, _ in wanted:
            if name in self.roster.members or name in self._joining or name in names:
                raise MemberExists(name)
            names.add(name)
        if self._limits is not None:
            there = len(self.roster.members) + len(self._joining)
            self._limits.check_members(there, len(names))
        created, joined = self._spawn_records(wanted, spawn_key)
        ticket = self.realm.append(*created, *joined, *self._joined_notices(joined))
        if not ticket.done:
            self._joining.update(name for name, _ in wanted)
        await ticket.wait()
        return [record.session_id for record in created]

    def _spawn_records(
        self, wanted: Sequence[tuple[str, str]], spawn_key: str | None = None
    ) -> tuple[list[SessionCreated], list[MemberSpawned]]:
        created = [
            self.realm.describe_session(
                HarnessId(profile), AgentId(name), name, None, None, NO_SPEC, spawn_key
            )
            for name, profile in wanted
        ]
        joined = [
            MemberSpawned(name, profile, record.session_id, 1, record.at_ns)
            for (name, profile), record in zip(wanted, created, strict=True)
        ]
        return created, joined

    @staticmethod
    def _check_names(names: Iterable[str]) -> None:
        for name in names:
            if not NAME.fullmatch(name):
                raise Unusable(f"{name!r} is not a name: use letters, digits, - and _, at most 63")

    def _check_profile(self, profile: str) -> None:
        if profile not in self.definition.profiles:
            raise ProfileNotFound(profile, tuple(self.definition.profiles))

    async def retire(
        self, name: str, reason: str = "retired", *, fence: MemberHandle | None = None
    ) -> None:
        """Remove a member: unroutable at once, its turn and children cancelled, its history kept.

        Idempotent: retiring a member that has left already does nothing. Whoever waits for an
        answer is told `SessionError`, also if this call is cancelled.

        Raises:
            MemberNotFound: no member of this name was ever in the mob.
            StaleFence: it has another generation by now than `fence`.
            VerbRefused: the mob's state does not allow it.
        """
        self._admit("retire")
        while name in self._renewing:
            await self._renewing[name].wait()
            self._admit("retire")
        if name not in self._leaving:
            if name in self.roster.retired and name not in self.roster.members:
                return
            self._row(name, fence)
        await self._leave(name, reason)

    async def _leave(self, name: str, reason: str) -> None:
        """Remove a member that is there, or wait until it has gone if it leaves already."""
        if name in self._leaving:
            while name in self._leaving:
                await self._leaving[name].wait()
            return
        row = self._row(name)
        self._activations.leave(name)
        ended_below = self._leaving[name] = trio.Event()
        await self.realm.background.end(row.session_id)
        now = self.realm.ports.clock.now_ns()
        # Of a quarantined session nothing is recorded any more; the member goes all the same.
        damaged = row.session_id in self.realm.state.quarantined
        ended = [] if damaged else self.realm.archive_records(row.session_id, reason)
        told = () if is_helper(name) else self._left_notices(name)
        try:
            ticket = self.realm.append(*ended, MemberRetired(name, reason, now), *told)
            if name in self._leaving:
                self._leaving[name] = ticket
        except StoreError:
            del self._leaving[name]
            raise
        finally:
            ended_below.set()
        await ticket.wait()

    # -- inside ----------------------------------------------------------------------------

    def _member_spawned(self, record: MemberSpawned) -> None:
        self._entered(record.name)
        if not is_helper(record.name):
            self._harnesses.forget()

    def _member_retired(self, record: MemberRetired) -> None:
        self._leaving.pop(record.name, None)
        self._harnesses.forget()
        if self._limits is not None and record.name in self.roster.retired:
            self._limits.parted(self.roster.retired[record.name])
        why = f"member {record.name!r} was retired: {record.reason}"
        self._activations.left(record.name, SessionError(why, self.roster.retired.get(record.name)))
