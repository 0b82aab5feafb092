"""The sessions that are in memory: so much of them, the least recently used go first.

Owns: `LiveCopies`. Must not: read a journal or run a turn.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import Final

from runtime.ids import SessionId
from runtime.live import LiveSession

#: Sessions that stay in memory after their turn. Everything is in the journal, so the rest are read
#: back when next used, which costs the more, the longer they are.
LIVE_SESSIONS = 32_768

#: Messages that they have together: some 200 MB if these are short. One alone may have more.
LIVE_MESSAGES = 500_000

#: Copies that are looked at for one to drop: more than one, so that a surplus goes again.
_LOOKS: Final = 4


class LiveCopies(OrderedDict[SessionId, LiveSession]):
    """Least recently used first. (Popping from the front of a plain dict takes the longer, the more
    of it was popped.) A copy is weighed when it is used: what its last turn brought counts then."""

    def __init__(self) -> None:
        super().__init__()
        self._messages = 0

    def use(self, session_id: SessionId) -> LiveSession | None:
        """The copy, which counts as just used; None if there is none."""
        found = self.get(session_id)
        if found is not None:
            self.move_to_end(session_id)
            self._weigh(found)
            if self._messages > LIVE_MESSAGES:
                self._make_room(session_id)
        return found

    def keep(self, live: LiveSession) -> None:
        """Add a copy, in the place of others if there are too many."""
        session_id = live.head.session_id
        self[session_id] = live
        live.weighed = 0
        self._weigh(live)
        self._make_room(session_id)

    def drop(self, session_id: SessionId) -> None:
        """Let go of a copy, if there is one."""
        live = self.pop(session_id, None)
        if live is not None:
            self._messages -= live.weighed

    def trim(self) -> None:
        """Let go of those that are too many, but for turns in flight: nobody is at work, so no new
        copy comes that would take their place."""
        if self._too_many():
            for session_id in [each for each, live in self.items() if live.scope is None]:
                if not self._too_many():
                    break
                self.drop(session_id)

    def clear(self) -> None:
        """Let go of all."""
        super().clear()
        self._messages = 0

    def _too_many(self) -> bool:
        there = len(self)
        return there > LIVE_SESSIONS or (self._messages > LIVE_MESSAGES and there > 1)

    def _weigh(self, live: LiveSession) -> None:
        messages = len(live.history)
        self._messages += messages - live.weighed
        live.weighed = messages

    def _make_room(self, newest: SessionId) -> None:
        """Let go of some, if there are too many; never of the newest.

        Those with a turn in flight stay: where more are in flight than copies should be kept, it
        would look at all of them in vain, so it looks at a few.
        """
        for session_id in list(islice(self, _LOOKS)):
            if not self._too_many():
                break
            if session_id == newest:
                continue
            if self[session_id].scope is None:
                self.drop(session_id)
            else:
                self.move_to_end(session_id)
        self.move_to_end(newest)
