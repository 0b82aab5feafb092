"""The sessions that are in memory: so many, the least recently used go first.

Owns: `LiveCopies`. Must not: read a journal or run a turn.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import Final

from runtime.ids import SessionId
from runtime.live import LiveSession

#: Sessions whose messages stay in memory after their turn. Everything is in the journal, so the
#: rest are read back when next used; 4,096 of 20 short messages take about 30 MB.
LIVE_SESSIONS = 4096

#: Copies that are looked at for one to drop: more than one, so that a surplus goes again.
_LOOKS: Final = 4


class LiveCopies(OrderedDict[SessionId, LiveSession]):
    """Least recently used first. (Popping from the front of a plain dict takes the longer, the more
    of it was popped.)"""

    def use(self, session_id: SessionId) -> LiveSession | None:
        """The copy, which counts as just used; None if there is none."""
        found = self.get(session_id)
        if found is not None:
            self.move_to_end(session_id)
        return found

    def trim(self) -> None:
        """Let go of those that are too many, but for turns in flight: nobody is at work, so no new
        copy comes that would take their place."""
        if len(self) > LIVE_SESSIONS:
            for session_id in [each for each, live in self.items() if live.scope is None]:
                if len(self) <= LIVE_SESSIONS:
                    break
                del self[session_id]

    def keep(self, live: LiveSession) -> None:
        """Add a copy, in the place of others if there are too many.

        Those with a turn in flight stay: where more are in flight than copies should be kept, it
        would look at all of them in vain, so it looks at a few.
        """
        for session_id in list(islice(self, _LOOKS)):
            if len(self) < LIVE_SESSIONS:
                break
            if self[session_id].scope is None:
                del self[session_id]
            else:
                self.move_to_end(session_id)
        self[live.head.session_id] = live
