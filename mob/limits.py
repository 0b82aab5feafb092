"""Limits of a mob: how many members, how many turns, how many at the same time.

Owns: the table ``[limits]``, refusing what goes beyond it, and the slots for turns. Must not: bound
what things cost (budgets do), how long a mailbox is or what children a session has.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import attrs
import trio

from mob.tables import TableReader
from runtime.errors import LimitExceeded, RecordUnreadable
from runtime.records import TurnEnded
from stores import Damaged

if TYPE_CHECKING:
    from mob.activation import Activations
    from mob.jobs import Job, LiveMember
    from mob.roster import Member
    from runtime.ids import SessionId
    from runtime.realm import Realm
    from runtime.session import SessionHead


@attrs.frozen
class LimitsDefinition:
    """The table ``[limits]``; None: no limit. No part of the blueprint.

    `members` at the same time; `concurrent_turns` of members (those that answer a question from
    inside another turn do not count: that one waits for them); `turns_per_member` of one session,
    and `turns` of all members, ever.
    """

    members: int | None = None
    concurrent_turns: int | None = None
    turns_per_member: int | None = None
    turns: int | None = None


NO_LIMITS: Final = LimitsDefinition()


def read_limits(top: TableReader) -> LimitsDefinition:
    """The table ``[limits]``."""
    table = top.table("limits")
    limits = LimitsDefinition(*[table.take(each, int) for each in _KEYS])
    table.done()
    return limits


_KEYS: Final = tuple(field.name for field in attrs.fields(LimitsDefinition))


def bounded_limits(limits: LimitsDefinition) -> Iterable[tuple[str, float | None, float, float]]:
    """Every number with its bounds, as `mob.checks` asks for them."""
    for key in _KEYS:
        yield f"limits.{key}", getattr(limits, key), 1, float("inf")


class Limits:
    """The limits of one mob, enforced."""

    def __init__(self, limits: LimitsDefinition, activations: Activations, realm: Realm) -> None:
        self._limits = limits
        self._activations = activations
        self._realm = realm
        self._turns = 0
        self._slots: trio.CapacityLimiter | None = None
        #: Sessions that their members have left in a turn that runs on.
        self._cut: dict[SessionId, None] = {}
        #: Members that wait for a slot, and what ends that.
        self._waiting: dict[LiveMember, trio.CancelScope] = {}
        if limits.concurrent_turns is not None:
            self._slots = trio.CapacityLimiter(limits.concurrent_turns)

    def recall(self) -> None:
        """Count the turns that the journal knows of: each once, not again for the forks that came
        with them."""
        heads = self._realm.state.heads.values()
        own = (head for head in heads if head.lineage.parent is None)
        self._turns = sum(max(head.turns - self._brought(head), 0) for head in own)

    def _brought(self, head: SessionHead) -> int:
        """How many turns the session began with."""
        base = head.lineage.fork_seq if head.lineage.forked_from is not None else None
        if not base:
            return 0
        try:
            return self._realm.turn(base).turn
        except (Damaged, RecordUnreadable):
            return 0  # nobody can say; too many are counted rather than too few

    def ended(self, record: TurnEnded) -> None:
        """A turn is on disk."""
        head = self._realm.state.heads[record.session_id]
        if head.lineage.parent is not None:
            return
        self._turns += 1
        self._cut.pop(record.session_id, None)
        live = self._activations.members.get(head.agent_id or "")
        if live is None or live.current is None:
            return
        # Until the member's task runs on, its queue has what the turn has done.
        jobs = live.jobs if live.steered or live.told else (live.current,)
        live.current.landed += sum(job.pending.input_id in record.input_ids for job in jobs)

    def parted(self, session_id: SessionId) -> None:
        """The session is its member's no more, or will not be when what is queued is on disk. A
        turn in it counts until it has ended, or has unwound without that."""
        if self._limits.turns is not None and self._realm.running(session_id) is not None:
            self._cut[session_id] = None

    def check_members(self, there: int, more: int) -> None:
        """Raise `LimitExceeded` if `more` members are too many beside those that are there."""
        most = self._limits.members
        if most is not None and there + more > most:
            raise _exceeded("members", most, f"there are {there}, and {more} more were to join")

    def check_turn(self, row: Member, others: int = 0) -> None:
        """Raise `LimitExceeded` if a further message of the member's would begin a turn too many;
        those that wait count, and those of so many `others` that come with it."""
        most = self._limits.turns_per_member
        members = self._activations.members
        if most is not None:
            head = self._realm.state.heads.get(row.session_id)
            live = members.get(row.name)
            count = (0 if head is None else head.turns) + (0 if live is None else self._ahead(live))
            if count >= most:
                done = f"{row.name!r} has had, or has still to do, {count}"
                raise _exceeded("turns_per_member", most, done)
        most = self._limits.turns
        if most is not None:
            self._cut = {each: None for each in self._cut if self._realm.running(each) is not None}
            ahead = sum(self._ahead(live) for live in members.values())
            count = self._turns + others + ahead + len(self._cut)
            if count >= most:
                raise _exceeded(
                    "turns", most, f"the members have had, or have still to do, {count}"
                )

    @staticmethod
    def _ahead(live: LiveMember) -> int:
        """The turns that the member has still to do."""
        return len(live.jobs) - (0 if live.current is None else live.current.landed)

    def spent(self, row: Member) -> bool:
        """Whether the member may begin no further turn after the one that ends now."""
        try:
            self.check_turn(row)
        except LimitExceeded:
            return True
        return False

    async def work(self, live: LiveMember, job: Job) -> None:
        """Do the job once there is a slot for its turn. Slots are given in the order in which
        members come for them, one turn each, so nobody is passed over."""
        if self._slots is None or _is_asked(live):
            return await self._activations._work(live, job)
        with trio.CancelScope() as live.backoff:
            self._waiting[live] = live.backoff
            self._realm.decisions.stir()
            await self._slots.acquire_on_behalf_of(live)
        taken = not live.backoff.cancelled_caught
        live.backoff = None
        del self._waiting[live]
        if not taken:
            return None  # it leaves, the mob stops, or somebody who has a slot waits for it
        try:
            if self._activations._next(live) is job:
                await self._activations._work(live, job)
        finally:
            self.rest(live)
        return None

    def hasten(self, live: LiveMember) -> None:
        """Something was queued for the member: let it go on without a slot if the turn of somebody
        else waits for that."""
        waiting = self._waiting.get(live)
        if waiting is not None and _is_asked(live):
            waiting.cancel()

    def waits(self, live: LiveMember) -> bool:
        """Whether the member waits for a slot, which others have."""
        slots = self._slots
        return live in self._waiting and slots is not None and not slots.available_tokens

    def rest(self, live: LiveMember) -> None:
        """Give the slot back, if it has one: its turn is over, or waits to be restarted."""
        if self._slots is not None and live in self._slots.statistics().borrowers:
            self._slots.release_on_behalf_of(live)


def _is_asked(live: LiveMember) -> bool:
    """Whether a turn waits for the member's answer: what is queued before that holds it up too."""
    return any(job.nested for job in live.jobs)


def _exceeded(limit: str, allowed: int, found: str) -> LimitExceeded:
    return LimitExceeded(
        f"the mob's limit of {allowed} {limit.replace('_', ' ')} is reached: {found}; raise"
        f" {limit} in [limits] if that is meant",
        limit=limit,
        allowed=allowed,
    )
