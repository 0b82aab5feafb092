"""Events of a session and everything below it, for one bounded channel.

Owns: what goes through the channel and what is dropped. Must not: wait for a reader: the turn goes
on at its own pace.

A path says where in the tree an event happened, one frame for each session from the top:
``session:lead/sub:helper``; `scoped_event_path` stands in front of it, or instead of its first
frame.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

import attrs
import trio

from runtime.ids import SessionId
from runtime.journal import Event
from runtime.subscribing import StreamTruncated


@attrs.frozen
class ScopedEvent:
    """One committed record of a session, with the path of the session."""

    path: str
    session_id: SessionId
    event: Event


ScopedItem: TypeAlias = ScopedEvent | StreamTruncated


class ScopedEventSink(Protocol):
    """Where scoped events go; a `trio.MemorySendChannel` is one."""

    def send_nowait(self, value: ScopedItem) -> None:
        """Take the event, or raise `trio.WouldBlock` if there is no room."""
        ...


class Scope:
    """The channel of one subtree."""

    def __init__(self, sink: ScopedEventSink, root: SessionId, path: tuple[str, ...]) -> None:
        self._sink = sink
        self.root = root
        self.path = path
        self._dropped = 0
        #: The number of the last event that the reader was given.
        self._after = 0
        #: Whether nobody reads any more.
        self.closed = False

    def put(self, path: str, session_id: SessionId, event: Event) -> None:
        """Give the reader an event, or count it as dropped. Never blocks."""
        try:
            if self._dropped:
                self._sink.send_nowait(StreamTruncated(self._dropped, self._after, event.seq))
                self._dropped = 0
            self._sink.send_nowait(ScopedEvent(path, session_id, event))
            self._after = event.seq
        except trio.WouldBlock:
            self._dropped += 1
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.closed = True
