"""Subscriptions to the events of sessions, and the channels of subtrees.

Owns: who hears of which committed record. Must not: slow whoever commits down: what a reader does
not take in time is dropped, counted, and can be had again from the journal.

The journal tells of every committed record in order (`Journal.tap`), and only while somebody
listens. A subscriber reads the past from the journal itself; in the instant in which nothing of it
is left, it begins to listen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from typing import Any, Final

import trio

from runtime.ids import SessionId
from runtime.journal import Event
from runtime.realm import Realm
from runtime.service.channel import Scope, StreamTruncated

#: Events kept for a subscriber that is behind: a long turn with its tools makes some dozens.
BACKLOG: Final = 1024


class _Subscriber:
    """Somebody who has caught up with the past of one session."""

    def __init__(self, backlog: int) -> None:
        self.events: deque[Event] = deque(maxlen=backlog)
        self.dropped = 0
        self.filled = trio.Event()

    def put(self, event: Event) -> None:
        if len(self.events) == self.events.maxlen:
            self.dropped += 1
        self.events.append(event)
        self.filled.set()


class SessionEvents:
    """The listeners of one realm."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm
        self._subscribers: dict[SessionId, list[_Subscriber]] = {}
        self._scopes: dict[SessionId, list[Scope]] = {}
        self._listening = False
        self._closed = False

    async def subscribe(
        self, session_id: SessionId, after: int = 0, backlog: int = BACKLOG
    ) -> AsyncGenerator[Event | StreamTruncated, None]:
        """See `SessionService.subscribe_session_events`. Ends when the service is closed."""
        self._realm.state.head(session_id)
        while page := self._realm.journal.read(after):
            for event in page:
                after = event.seq
                if getattr(event.record, "session_id", None) == session_id:
                    yield event
        told = after
        mine = _Subscriber(backlog)
        self._subscribers.setdefault(session_id, []).append(mine)
        self._listen()
        try:
            while True:
                if mine.dropped:
                    dropped, mine.dropped = mine.dropped, 0
                    yield StreamTruncated(dropped, told)
                elif mine.events:
                    event = mine.events.popleft()
                    told = event.seq
                    yield event
                elif self._closed:
                    return
                else:
                    mine.filled = trio.Event()
                    await mine.filled.wait()
        finally:
            self._subscribers[session_id].remove(mine)
            if not self._subscribers[session_id]:
                del self._subscribers[session_id]
            self._listen()

    def scope(self, scope: Scope) -> None:
        """Give the events of `scope.root` and everything below it to the scope's channel, until
        nobody reads there any more."""
        self._scopes.setdefault(scope.root, []).append(scope)
        self._listen()

    def unscope(self, root: SessionId) -> None:
        """Forget the channels of this session."""
        self._scopes.pop(root, None)
        self._listen()

    def close(self) -> None:
        """End every subscription."""
        self._closed = True
        for subscribers in self._subscribers.values():
            for each in subscribers:
                each.filled.set()
        self._scopes.clear()
        self._listen()

    def _listen(self) -> None:
        """Hear of commits exactly while somebody wants to."""
        wanted = bool(self._subscribers or self._scopes) and not self._closed
        if wanted is not self._listening:
            self._listening = wanted
            self._realm.journal.tap(self._committed if wanted else None)

    def _committed(self, seq: int, record: Any) -> None:
        session_id = getattr(record, "session_id", None)
        if session_id is None:
            return
        subscribers = self._subscribers.get(session_id)
        if subscribers is not None:
            event = Event(seq, record)
            for each in subscribers:
                each.put(event)
        if self._scopes:
            self._scoped(session_id, Event(seq, record))

    def _scoped(self, session_id: SessionId, event: Event) -> None:
        """Hand the event to the scopes of the session and of those above it."""
        below: list[str] = []
        here: SessionId | None = session_id
        heads = self._realm.state.heads
        while here is not None:
            head = heads.get(here)
            name = here if head is None else head.title or here
            for scope in self._scopes.get(here, ()):
                frames = scope.path or (f"session:{name}",)
                scope.put("/".join((*frames, *reversed(below))), session_id, event)
            below.append(f"sub:{name}")
            here = None if head is None else head.lineage.parent
        self._forget_closed()

    def _forget_closed(self) -> None:
        for root, scopes in list(self._scopes.items()):
            left = [scope for scope in scopes if not scope.closed]
            if len(left) < len(scopes):
                self._scopes[root] = left
                if not left:
                    self.unscope(root)
