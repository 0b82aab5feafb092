"""Mailboxes: how much may wait for a member, and who waits until there is room.

Owns: `Mailboxes`: looking whether a message fits, and the line of senders before each full one;
`Asides`, the same for messages that wake nobody. Must not: hold a message (they are inputs of the
member's session), or let one in.

A mailbox is the queue of a member's jobs (`mob.jobs`), which knows its length and its bytes, so
nothing is added up; after a crash the queue is built from what the journal says. A message counts
until the turn that consumes it is on disk.

Senders before a full mailbox stand in line. When a job leaves the queue the first of the line is
given the room, and when its message is in, the next, as far as it goes. Whoever is cancelled while
it waits leaves the line, or gives its room back. No task polls.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType

import attrs
import trio

from mob.comms.settings import MailboxDefinition
from mob.errors import MailboxFull
from mob.jobs import Jobs, size_of
from mob.roster import Member
from runtime import peering
from runtime.addenda import contexts_of, sender_of
from runtime.ids import InputId, SessionId
from runtime.records import TurnEnded
from runtime.session import SessionHead


@attrs.define(eq=False)
class Place:
    """A sender's place in the line, and then its room: `granted`, until the block is left."""

    mailboxes: Mailboxes
    row: Member
    size: int
    ready: trio.Event = attrs.field(factory=trio.Event)
    granted: bool = False
    error: Exception | None = None

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.mailboxes.leave(self)


class Mailboxes:
    """The mailboxes of one mob, by the names of their members."""

    def __init__(
        self,
        bounds: Callable[[str], MailboxDefinition],
        queue: Callable[[str], Jobs | None],
    ) -> None:
        self._bounds = bounds
        self._queue = queue
        #: Who waits before which mailbox, first come first. No mailbox is in it with an empty line.
        self._lines: dict[str, deque[Place]] = {}
        #: Who was given room and has not used it yet: one for each mailbox, so that messages go in
        #: in the order of the line, whatever order tasks run in.
        self._given: dict[str, Place] = {}

    def waits(self, row: Member) -> bool:
        """Whether a sender waits before this mailbox when it is full, unless it says otherwise."""
        return self._bounds(row.profile).when_full == "wait"

    def depth(self, name: str) -> tuple[int, int]:
        """How many messages and bytes are in a mailbox."""
        jobs = self._queue(name)
        return (0, 0) if jobs is None else (len(jobs), jobs.size)

    def giving(self, name: str) -> bool:
        """Whether somebody was given room in this mailbox and has not used it yet."""
        return name in self._given

    def check(self, row: Member, size: int) -> None:
        """Return if a message of so many bytes fits now.

        Raises:
            MailboxFull: it does not, or others wait before it.
        """
        name = row.name
        if name in self._lines or name in self._given or not self._fits(row, size):
            raise self._full(row, size)

    def fits_ever(self, row: Member, size: int) -> bool:
        """Whether a message of so many bytes fits into an empty mailbox."""
        most = self._bounds(row.profile).max_bytes
        return most is None or size <= most

    async def wait(self, row: Member, size: int) -> Place:
        """Stand in line until there is room, which is held in the block of what this returns.

        Raises:
            Exception: that of `refuse`.
        """
        place = Place(self, row, size)
        self._lines.setdefault(row.name, deque()).append(place)
        self.stir(row.name)
        try:
            await place.ready.wait()
        except trio.Cancelled:
            self.leave(place)
            raise
        if place.error is not None:
            self.leave(place)
            raise place.error
        return place

    def leave(self, place: Place) -> None:
        """The place is not needed any more, whether it was given room or not."""
        name = place.row.name
        if place.granted:
            place.granted = False
            del self._given[name]
        else:
            line = self._lines.get(name)
            if line is not None and place in line:
                line.remove(place)
        self.stir(name)

    def stir(self, name: str) -> None:
        """Give room to the first who waits, if there is enough and nobody has some to use."""
        line = self._lines.get(name)
        if line is None:
            return
        if line and name not in self._given and self._fits(line[0].row, line[0].size):
            place = self._given[name] = line.popleft()
            place.granted = True
            place.ready.set()
        if not line:
            del self._lines[name]
        jobs = self._queue(name)
        if jobs is not None:
            jobs.freed = partial(self.stir, name) if line else None

    def refuse(self, error: Exception) -> None:
        """Tell everybody in a line that it waits in vain, and whoever was given room and has not
        used it."""
        for place in self._given.values():
            place.error = error
        lines, self._lines = self._lines, {}
        for line in lines.values():
            for place in line:
                place.error = error
                place.ready.set()

    def _fits(self, row: Member, size: int) -> bool:
        bounds = self._bounds(row.profile)
        jobs = self._queue(row.name)
        most, most_bytes = bounds.max_messages, bounds.max_bytes
        assert most is not None
        assert most_bytes is not None
        if not jobs:
            return most > 0 and size <= most_bytes
        return len(jobs) < most and jobs.size + size <= most_bytes

    def _full(self, row: Member, size: int) -> MailboxFull:
        bounds = self._bounds(row.profile)
        count, used = self.depth(row.name)
        waiting = len(self._lines.get(row.name, ()))
        return MailboxFull(
            row.name, count, bounds.max_messages or 0, used, bounds.max_bytes or 0, size, waiting
        )


class Asides:
    """What was recorded for members without waking them, and no turn has taken in yet: so many
    messages and bytes for each session. They are bounded as a mailbox is, but nobody waits for
    room: by itself none would come."""

    def __init__(self) -> None:
        self._waiting: dict[SessionId, dict[InputId, int]] = {}
        self._sizes: dict[SessionId, int] = {}

    def add(self, session_id: SessionId, input_id: InputId, size: int) -> None:
        """One more waits."""
        self._waiting.setdefault(session_id, {})[input_id] = size
        self._sizes[session_id] = self._sizes.get(session_id, 0) + size

    def restore(self, head: SessionHead) -> None:
        """Take up what an earlier process left."""
        for each in contexts_of(head):
            if each.sender == sender_of(peering.SOURCE):
                continue  # nobody sent it
            self.add(head.session_id, each.input_id, size_of(each.text))

    def check(self, row: Member, size: int, bounds: MailboxDefinition) -> None:
        """Return if one of so many bytes fits. Raises `MailboxFull`."""
        count = len(self._waiting.get(row.session_id, ()))
        used = self._sizes.get(row.session_id, 0)
        most, most_bytes = bounds.max_messages or 0, bounds.max_bytes or 0
        if count >= most or used + size > most_bytes:
            raise MailboxFull(row.name, count, most, used, most_bytes, size)

    def turn_ended(self, record: TurnEnded) -> None:
        """What the turn took in waits no more."""
        waiting = self._waiting.get(record.session_id)
        if waiting is None:
            return
        for input_id in record.input_ids:
            self._sizes[record.session_id] -= waiting.pop(input_id, 0)
        if not waiting:
            self.forget(record.session_id)

    def forget(self, session_id: SessionId) -> None:
        """The session has ended."""
        self._waiting.pop(session_id, None)
        self._sizes.pop(session_id, None)

    def begin_anew(self) -> None:
        """All sessions were replaced by others."""
        self._waiting.clear()
        self._sizes.clear()
