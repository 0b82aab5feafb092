"""What members have to do: one input each, and the queue of one member.

Owns: `Job` and `LiveMember`, the running side of a roster row. Must not: run anything
(`mob.activation` does) or keep anything that a restart would need; that is in the journal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import trio

from mob.roster import Member
from runtime.lanes import Lane
from runtime.records import TurnEnded
from runtime.results import TurnResult, result_of
from runtime.session import PendingInput

#: Running sides that stay when their member has nothing to do. One takes 1.4 KB, and 3 us to make,
#: a thirtieth of a turn; a mob of a million members cannot keep them all.
KEPT: Final = 4096


class Job:
    """One input on its way through a member, and whoever waits for the answer.

    `nested` marks a question asked from inside another member's turn: it is still worked on while
    the mob drains, because the turn that asked cannot end without it. `withdrawn` says why nobody
    wants the answer any more of a job whose turn has begun; None if somebody does. `then` is called
    once when it is settled. `landed` is how many of the queue its turn has done, itself among them;
    0 until that is on disk, and where nobody counts.
    """

    __slots__ = (
        "done",
        "error",
        "landed",
        "nested",
        "pending",
        "record",
        "size",
        "then",
        "withdrawn",
    )

    def __init__(self, pending: PendingInput, nested: bool) -> None:
        self.pending = pending
        #: The bytes of its text in the mailbox.
        self.size = size_of(pending.text)
        self.nested = nested
        self.landed = 0
        self.record: TurnEnded | None = None
        self.error: Exception | None = None
        self.done: trio.Event | None = None
        self.withdrawn: str | None = None
        self.then: Callable[[], None] | None = None

    @property
    def settled(self) -> bool:
        return self.record is not None or self.error is not None

    def settle(self, record: TurnEnded | None, error: Exception | None = None) -> None:
        self.record = record
        self.error = error
        if self.done is not None:
            self.done.set()
        if self.then is not None:
            then, self.then = self.then, None
            then()

    async def result(self) -> TurnResult:
        """Wait for the turn and return its result, or raise what it ended with."""
        if not self.settled:
            if self.done is None:
                self.done = trio.Event()
            await self.done.wait()
        if self.error is not None:
            raise self.error
        assert self.record is not None
        return result_of(self.record)


class Jobs(list[Job]):
    """The queue of one member, which knows how many bytes of text wait in it. A list, because most
    queues have one job or none, and an empty deque takes 600 bytes more."""

    __slots__ = ("freed", "size")

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        #: Called when there is more room; None while nobody waits for it.
        self.freed: Callable[[], None] | None = None

    def append(self, job: Job) -> None:
        list.append(self, job)
        self.size += job.size

    def extend(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self.append(job)

    def remove(self, job: Job) -> None:
        list.remove(self, job)
        self._less(job)

    def popleft(self) -> Job:
        job = self.pop(0)
        self._less(job)
        return job

    def _less(self, job: Job) -> None:
        self.size -= job.size
        if self.freed is not None:
            self.freed()


def size_of(text: str) -> int:
    """The bytes of a text as it is stored."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


class LiveMember:
    """The running side of a roster row; made when the member first gets work."""

    __slots__ = (
        "abandoned",
        "active",
        "backoff",
        "before",
        "current",
        "exits",
        "failed",
        "farewell",
        "gone",
        "held",
        "jobs",
        "lane",
        "parked",
        "recent",
        "row",
        "steered",
        "together",
        "told",
        "waiting_for",
    )

    def __init__(self, row: Member) -> None:
        self.row = row
        self.jobs = Jobs()
        #: The job whose turn has begun; one of `jobs`. Nothing else is begun before it has ended,
        #: because a session has one turn in flight, which may be there from an earlier activation.
        self.current: Job | None = None
        self.active = False
        #: Of the task that runs its activation, or ran the last one.
        self.lane: Lane | None = None
        #: Whether its task did not unwind and counts no more; another one has its queue.
        self.abandoned = False
        #: Whether its failure is decided about and waits for the disk alone.
        self.exits = False
        #: Whether its turn waits for a decision: it is left alone until there is one.
        self.parked = False
        #: Whether nothing is begun yet: its session is on its way to the disk.
        self.held = False
        #: Whether its failure stops the mob: its turn is left alone until the mob is resumed.
        self.failed = False
        #: Whether its turn is being cut off for the sake of its group, not for its own fault.
        self.together = False
        #: The generation that this one takes over from, until this one is on disk.
        self.before: LiveMember | None = None
        #: Whether the member leaves: its queue is not worked on any more.
        self.gone = False
        #: What its jobs are told; None until its leaving is on disk.
        self.farewell: Exception | None = None
        #: Around the wait before a restart; None at any other time.
        self.backoff: trio.CancelScope | None = None
        #: When it was restarted, on Trio's clock, ascending; bounded by the restart intensity.
        self.recent: tuple[float, ...] = ()
        #: Whether it was ever begun a turn, or is to be, for what it is told of its children.
        self.told = False
        #: Whether a turn may take in messages that have jobs here, to be steered by them.
        self.steered = False
        #: How many answers of which members this one's turn waits for.
        self.waiting_for: Counter[str] = Counter()

    @property
    def untouched(self) -> bool:
        """Whether nothing tells it from one that is made anew when there is work again."""
        return not (
            self.jobs
            or self.jobs.freed
            or self.current
            or self.active
            or self.abandoned
            or self.exits
            or self.parked
            or self.held
            or self.failed
            or self.together
            or self.before
            or self.gone
            or self.farewell
            or self.backoff
            or self.recent
            or self.told
            or self.steered
            or self.waiting_for
        )

    def leaves(self) -> bool:
        """`gone`, read again: it may have changed while a record was on its way to the disk."""
        return self.gone

    def succeed(self, row: Member, jobs: list[Job]) -> LiveMember:
        """The next generation of the member, with these jobs of this one's; it begins nothing while
        it is `held`. What this one has left is the turn in flight."""
        live = LiveMember(row)
        live.before, live.held, self.gone = self, True, True
        live.steered = self.steered
        live.jobs.extend(jobs)
        for job in jobs:
            self.jobs.remove(job)
        return live

    def abandon(self) -> LiveMember:
        """Give up on the task of this one, which does not unwind; return another that has its queue
        and continues its turn."""
        live = LiveMember(self.row)
        live.jobs, self.jobs = self.jobs, live.jobs
        live.current, self.current = self.current, None
        live.recent, live.told, live.steered = self.recent, self.told, self.steered
        self.gone = self.abandoned = True
        return live


class LiveMembers(dict[str, LiveMember]):
    """The running sides of members, by their names: of all that have something to do or to be
    remembered, and of the first so many that had."""

    def queue(self, name: str) -> Jobs | None:
        """What waits for the member; None if it never had work in this process."""
        live = self.get(name)
        return None if live is None else live.jobs

    def rest(self, live: LiveMember) -> None:
        """The member's activation has ended: where there are many, nothing is kept for it."""
        if len(self) > KEPT and live.untouched and self.get(live.row.name) is live:
            del self[live.row.name]


def waits_for(members: Mapping[str, LiveMember], name: str, target: str) -> bool:
    """Whether `name`'s turn waits, over however many others, for `target`."""
    seen: set[str] = set()
    ahead = [name]
    while ahead:
        name = ahead.pop()
        if name == target:
            return True
        live = members.get(name)
        if live is not None and name not in seen:
            ahead.extend(live.waiting_for)
        seen.add(name)
    return False
