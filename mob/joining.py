"""Members that join together with the first message for them.

Owns: `Newcomer`, a member to be, and letting it in: its records go before the message's, in one
commit. Must not: say who may join (`mob.spawndefs` does) or what is asked of whom.

A newcomer takes messages from the moment in which its records are queued, and begins when they are
on disk. If its message is refused there never was one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import trio

from mob.checks import NAME
from mob.comms.announcing import Announcing
from mob.errors import MemberNotFound
from mob.helpers import is_helper
from mob.receipts import MemberHandle
from mob.records import MemberSpawned
from mob.roster import Member
from runtime.errors import MobError
from runtime.ids import AgentId, HarnessId
from runtime.session import NO_SPEC


@attrs.define
class Newcomer(Member):
    """The row of a member that joins with a message. `records` make it, in this order."""

    records: tuple[Any, ...] = ()


class Joining(Announcing):
    """What `mob.mob.Mob` has of this module."""

    def _row_or_newcomer(self, name: str, fence: MemberHandle | None = None) -> Member:
        """The row of a member; of one that is not there, if the mob file has it join with its first
        message, its row to be. Raises as `_row`, `LimitExceeded`, and `MobError` for a helper, to
        whom nobody sends."""
        try:
            row = self._row(name, fence)
            if is_helper(name):
                raise MobError(f"{name!r} is a helper, and nobody sends to those")
            return row
        except MemberNotFound:
            profile = self.definition.spawn.profile_for(name)
            comes_or_goes = name in self._leaving or name in self._joining
            if profile is None or fence is not None or comes_or_goes:
                raise
            if not NAME.fullmatch(name):
                raise
        return self._newcomer(name, profile)

    def _newcomer(self, name: str, profile: str) -> Newcomer:
        created = self.realm.describe_session(
            HarnessId(profile), AgentId(name), name, None, None, NO_SPEC, None
        )
        joined = MemberSpawned(name, profile, created.session_id, 1, created.at_ns)
        told = self._joined_notices([joined])
        return Newcomer(name, profile, created.session_id, 1, records=(created, joined, *told))

    def _check_newcomers(self, rows: Sequence[Member]) -> None:
        """Raises `LimitExceeded` if there are too many newcomers among `rows`."""
        new = sum(isinstance(row, Newcomer) for row in rows)
        if new and self._limits is not None:
            there = len(self.roster.members) + len(self._joining)
            self._limits.check_members(there, new)

    @contextmanager
    def _entering(self, rows: Sequence[Member]) -> Iterator[tuple[Any, ...]]:
        """In this block the newcomers among `rows` are let in with a commit, whose first records
        are handed out. What the block raises takes them back. Raises `LimitExceeded`."""
        self._check_newcomers(rows)
        new = [row for row in rows if isinstance(row, Newcomer)]
        for row in new:
            name = row.name
            coming = Member(name, row.profile, row.session_id, row.generation)
            self._joining.add(name)
            self._renewing[name] = trio.Event()
            self._coming[name] = coming
            self.realm.inputs.coming.add(row.session_id)
            self._activations.live(coming).held = True
        try:
            yield tuple(record for row in new for record in row.records)
        except Exception:
            for row in new:
                self._activations.members.pop(row.name, None)
                self._entered(row.name)
            raise

    def _entered(self, name: str) -> None:
        """The member is in the roster, or never will be."""
        self._joining.discard(name)
        coming = self._coming.pop(name, None)
        if coming is None:
            return
        self.realm.inputs.coming.discard(coming.session_id)
        live = self._activations.members.get(name)
        if live is not None and name in self.roster.members:
            live.row, live.held = self.roster.members[name], False
            self._activations.start(live)
        done = self._renewing.pop(name, None)
        if done is not None:
            done.set()
