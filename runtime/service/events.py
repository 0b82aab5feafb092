"""Subscriptions to the events of sessions, and the channels of subtrees.

Owns: who hears of which committed record. Must not: slow whoever commits down: what a reader does
not take in time is dropped, counted, and can be had again from the journal.

The journal tells of every committed record in order (`Journal.listen`), and only while somebody
listens. How a subscriber comes from the past to what is committed now is in `runtime.subscribing`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from runtime.ids import SessionId
from runtime.journal import Event
from runtime.realm import Realm
from runtime.service.channel import Scope
from runtime.subscribing import BACKLOG, Feed, StreamTruncated, subscribe


class SessionEvents:
    """The listeners of one realm."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm
        self._subscribers: dict[SessionId, list[Feed]] = {}
        self._scopes: dict[SessionId, list[Scope]] = {}
        self._listening = False
        self._closed = False

    async def subscribe(
        self, session_id: SessionId, after: int = 0, backlog: int = BACKLOG
    ) -> AsyncGenerator[Event | StreamTruncated, None]:
        """See `SessionService.subscribe_session_events`. Ends when the service is closed."""
        self._realm.state.head(session_id)
        mine = Feed(lambda record: getattr(record, "session_id", None) == session_id, backlog)

        def begin() -> None:
            self._subscribers.setdefault(session_id, []).append(mine)
            self._listen()
            if self._closed:
                mine.close()

        events = subscribe(self._realm.journal, after, mine, begin)
        try:
            async for item in events:
                yield item
        finally:
            await events.aclose()
            theirs = self._subscribers.get(session_id, [])
            if mine in theirs:
                theirs.remove(mine)
            if not theirs:
                self._subscribers.pop(session_id, None)
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
                each.close()
        self._scopes.clear()
        self._listen()

    def _listen(self) -> None:
        """Hear of commits exactly while somebody wants to."""
        wanted = bool(self._subscribers or self._scopes) and not self._closed
        if wanted is not self._listening:
            self._listening = wanted
            journal = self._realm.journal
            (journal.listen if wanted else journal.unlisten)(self._committed)

    def _committed(self, seq: int, record: Any) -> None:
        session_id = getattr(record, "session_id", None)
        if session_id is None:
            return
        subscribers = self._subscribers.get(session_id)
        if subscribers is not None:
            for each in subscribers:
                each.put(seq, record)
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
