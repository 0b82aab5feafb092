"""Subscriptions to a journal: the past from the journal, then what is committed, bounded.

Owns: `Feed`, the events that wait for one reader; `subscribe`, its course; the marker in the place
of what a reader missed. Must not: slow whoever commits down: what a reader does not take in time is
dropped, counted, and can be had again from the journal.

A reader that is behind reads pages of the journal, at its own pace, and loses nothing. In the
instant in which nothing of the past is left it begins to listen, and its feed keeps the newest
events, so many at most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any, Final

import attrs
import trio

from runtime.journal import Event, Journal

#: Events kept for a reader that is behind: a long turn with its tools makes some dozens.
BACKLOG: Final = 1024


@attrs.frozen
class StreamTruncated:
    """The reader fell behind, and `dropped` events are missing here: those that it asked for of the
    records between `after`, the last one it was given, and `next`, the one it is given next. All of
    them are in the journal: a subscription with the cursor `after` has them again."""

    dropped: int
    after: int
    next: int


class Feed:
    """The events that wait for one reader that has caught up with the past."""

    def __init__(self, wanted: Callable[[Any], bool] = lambda _: True, backlog: int = BACKLOG):
        """`wanted` is asked about each record. Raises `ValueError` for a backlog below 1."""
        if backlog < 1:
            raise ValueError(f"a backlog of {backlog} events holds none: give 1 or more")
        self.wanted = wanted
        self._events: deque[Event] = deque(maxlen=backlog)
        self._dropped = 0
        self._filled = trio.Event()
        self._closed = False

    def put(self, seq: int, record: Any) -> None:
        """A record is committed. Never blocks."""
        if not self.wanted(record):
            return
        if len(self._events) == self._events.maxlen:
            self._dropped += 1
        self._events.append(Event(seq, record))
        self._filled.set()

    def close(self) -> None:
        """Nothing more will come; what waits is still read."""
        self._closed = True
        self._filled.set()

    async def next(self, told: int) -> Event | StreamTruncated | None:
        """What comes after the event `told`; None once the feed is closed and read."""
        while not self._events:
            if self._closed:
                return None
            self._filled = trio.Event()
            await self._filled.wait()
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            return StreamTruncated(dropped, told, self._events[0].seq)
        return self._events.popleft()


async def subscribe(
    journal: Journal, after: int, feed: Feed, begin: Callable[[], None]
) -> AsyncGenerator[Event | StreamTruncated, None]:
    """The events above `after` that `feed` wants: of the past, then, from `begin` on, its own."""
    while page := journal.read(after):
        for event in page:
            after = event.seq
            if feed.wanted(event.record):
                yield event
    begin()
    while (item := await feed.next(after)) is not None:
        if isinstance(item, Event):
            after = item.seq
        yield item


class Subscriptions:
    """The readers of all of a journal. It is listened to while there are any."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._feeds: list[Feed] = []
        self._closed = False

    def open(self, after: int | None, feed: Feed) -> AsyncGenerator[Event | StreamTruncated, None]:
        """As `subscribe`, with None from now on. Ends when `close` is called."""
        return self._read(self._journal.last if after is None else after, feed)

    async def _read(self, after: int, feed: Feed) -> AsyncGenerator[Event | StreamTruncated, None]:
        def begin() -> None:
            self._feeds.append(feed)
            if len(self._feeds) == 1:
                self._journal.listen(self._committed)
            if self._closed:
                feed.close()

        events = subscribe(self._journal, after, feed, begin)
        try:
            async for item in events:
                yield item
        finally:
            await events.aclose()
            if feed in self._feeds:
                self._feeds.remove(feed)
                if not self._feeds:
                    self._journal.unlisten(self._committed)

    def close(self) -> None:
        """End every subscription, and those that come later once they have read the past."""
        self._closed = True
        for feed in self._feeds:
            feed.close()

    def _committed(self, seq: int, record: Any) -> None:
        for feed in self._feeds:
            feed.put(seq, record)
