"""The running side of a session: its messages in memory, its turn in flight, what it is doing.

Owns: `LiveSession`, `Doing` and `Trailing`. Must not: run a turn (`runtime.driver` does) or keep
anything that a restart would need; that is in the journal.
"""

from __future__ import annotations

import enum
from typing import Final, final

import trio

from runtime.ids import InputId, SessionId
from runtime.messages import Message
from runtime.models.base import Emit
from runtime.session import SessionHead
from stores import Ticket

_NEVER: Final = float("inf")


class Doing(enum.Enum):
    """What a session does right now, for people who watch."""

    IDLE = "idle"
    MODEL = "model"
    #: A model call failed; it is made again, there or elsewhere, at `LiveSession.until_s`.
    RETRYING = "retrying"
    TOOL = "tool"
    SAVING = "saving"
    RESTARTING = "restarting"


class LiveSession:
    """The running side of a session: its messages in memory and its turn in flight.

    Invariant: `history` holds the committed messages behind the first `skipped`, followed, during a
    turn, by the turn's own; `base` is where the turn's begin. A turn that is abandoned cuts
    `history` back to `base`.
    """

    __slots__ = (
        "abandoned",
        "aborted",
        "activity",
        "base",
        "calls",
        "detail",
        "doing",
        "emit",
        "first",
        "head",
        "history",
        "input_ids",
        "interrupted",
        "key",
        "measured",
        "scope",
        "since",
        "skipped",
        "tokens",
        "until_s",
        "weighed",
    )

    def __init__(
        self,
        head: SessionHead,
        history: list[Message],
        key: str,
        first: tuple[Message, ...] = (),
        skipped: int = 0,
    ) -> None:
        self.head = head
        #: Names the session stably across processes; simulated models draw randomness from it.
        self.key = key
        self.history = history
        self.base = len(history)
        #: As how many messages it counts among the copies that are in memory.
        self.weighed = 0
        #: What a model is shown instead of the `skipped` first messages of the history.
        self.first = first
        self.skipped = skipped
        #: About how many tokens the context has, of which so many messages are counted.
        self.tokens = 0
        self.measured = 0
        self.scope: trio.CancelScope | None = None
        #: What the turn in flight is on, with what it has taken in since it began.
        self.input_ids: tuple[InputId, ...] = ()
        #: Why the turn in flight is to end as interrupted; None while nobody asked for that.
        self.interrupted: str | None = None
        #: Why its activation is to end, leaving the turn in flight; None likewise.
        self.aborted: str | None = None
        #: Whether its turn did not unwind and was given up on: nothing of it is written any more.
        self.abandoned = False
        #: Receives the text of model calls that begin from now on; None while nobody watches.
        self.emit: Emit | None = None
        self.doing = Doing.IDLE
        #: Tool calls that run now, but for those that only wait for other sessions.
        self.calls = 0
        self.detail = ""
        #: When it began what it does, and when it will end it if that is known, on Trio's clock.
        self.since = 0.0
        self.until_s = _NEVER
        #: Rises with everything it begins to do: tells one model call's text from the next one's.
        self.activity = 0

    def begin_with(self, first: tuple[Message, ...], skipped: int, history: list[Message]) -> None:
        """Hold `first` and what is behind the `skipped` first messages, between two turns. The list
        is another one: whoever looks at the old one sees what was there."""
        self.first = first
        self.skipped = skipped
        self.history = history
        self.base = len(history)
        self.tokens = self.measured = 0

    def cut(self) -> None:
        """Cancel the turn in flight. One whose end is on its way to the disk is not any more, and
        its scope may be that of the next turn already (`runtime.lanes`)."""
        if self.scope is not None and self.doing is not Doing.SAVING:
            self.scope.cancel()

    def now_doing(self, doing: Doing, detail: str = "", until_s: float = _NEVER) -> None:
        self.doing = doing
        self.detail = detail
        self.since = trio.current_time()
        self.until_s = until_s
        self.activity += 1


@final
class Trailing:
    """Records of turns that were cut off, on their way to the disk with nobody waiting for them.

    Until they are there the fold does not say what the session's history is.
    """

    def __init__(self) -> None:
        self._latest: dict[SessionId, Ticket] = {}

    def note(self, session_id: SessionId, ticket: Ticket | None) -> None:
        """A turn ends here; `ticket` is that of the last record it queued, if it queued any."""
        if ticket is not None and not ticket.done:
            known = self._latest.items()
            self._latest = {each: of for each, of in known if not of.done}
            self._latest[session_id] = ticket

    def __contains__(self, session_id: SessionId) -> bool:
        if not self._latest:
            return False
        ticket = self._latest.get(session_id)
        return ticket is not None and not ticket.done

    async def landed(self, session_id: SessionId) -> None:
        """Park until the session's are there; a checkpoint only if some are on their way.

        Raises:
            stores.StoreError: they will not be.
        """
        while session_id in self:
            await self._latest[session_id].wait()
