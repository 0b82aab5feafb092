"""Live text: what models say, piece by piece, for whoever watches while they say it.

Owns: subscriptions to text that is not on disk yet. Must not: slow a turn down, keep what nobody
reads, promise anything: what counts is in the journal, and a turn that is retried says it again.

A watcher has a bounded queue. When it is full the oldest piece goes, and the reader finds a `Gap`
in its place that says how many are missing; the model's task never waits. A session that nobody
watches has no callback at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeAlias

import attrs
import trio

from runtime.ids import SessionId
from runtime.live import LiveSession
from runtime.models.base import Emit

#: Pieces kept for a watcher that is behind: some seconds of one model's words.
PIECES: Final = 1024


@attrs.frozen
class TextDelta:
    """A piece of text of a model call. `call` differs from one call of the session to the next, and
    from one attempt at a call to the next: text of another one begins afresh."""

    session_id: SessionId
    call: int
    text: str


@attrs.frozen
class Gap:
    """The reader fell behind and `dropped` pieces are missing here."""

    dropped: int


Seen: TypeAlias = TextDelta | Gap


class Watch:
    """An asynchronous iterator over pieces, oldest first, without end. For one reader."""

    def __init__(self, session_id: SessionId | None, pieces: int) -> None:
        self.session_id = session_id
        self._pieces: deque[TextDelta] = deque(maxlen=pieces)
        self._dropped = 0
        self._filled = trio.Event()

    def put(self, delta: TextDelta) -> None:
        """Give the reader a piece. Never blocks."""
        if len(self._pieces) == self._pieces.maxlen:
            self._dropped += 1
        self._pieces.append(delta)
        self._filled.set()

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> Seen:
        while not self._pieces:
            self._filled = trio.Event()
            await self._filled.wait()
        await trio.lowlevel.checkpoint()
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            return Gap(dropped)
        return self._pieces.popleft()


class Watches:
    """The watchers of one realm."""

    def __init__(self, lives: Mapping[SessionId, LiveSession]) -> None:
        """`lives` are the realm's live copies, as they come and go."""
        self._lives = lives
        self._watches: list[Watch] = []

    def emit_for(self, live: LiveSession) -> Emit | None:
        """What model calls of this session emit to; None if nobody watches it."""
        session_id = live.head.session_id
        watches = [each for each in self._watches if each.session_id in (None, session_id)]
        if not watches:
            return None

        def emit(piece: str) -> None:
            if piece:
                delta = TextDelta(session_id, live.activity, piece)
                for watch in watches:
                    watch.put(delta)

        return emit

    @contextmanager
    def open(self, session_id: SessionId | None = None, *, pieces: int = PIECES) -> Iterator[Watch]:
        """Watch one session, or all of them, in this block: model calls that begin in it."""
        watch = Watch(session_id, pieces)
        self._watches.append(watch)
        self._renew(session_id)
        try:
            yield watch
        finally:
            self._watches.remove(watch)
            self._renew(session_id)

    def _renew(self, session_id: SessionId | None) -> None:
        for live in list(self._lives.values()):
            if session_id in (None, live.head.session_id):
                live.emit = self.emit_for(live)
