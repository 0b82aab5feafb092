"""Deciding about tool calls that wait: listing them, approving, denying, and who is woken by it.

Owns: the verbs over `runtime.approvals` in a realm that runs, those who wait for a decision, and
interrupts of turns that nobody works on. Must not: run a turn or a call.

The first decision wins. It is decided in the process that owns the store, between two checkpoints:
a second one is refused also while the first is on its way to the disk, and the same one again is
answered as the first was. Nothing is done with a decision before it is on disk.

A turn that waits holds no model call, and a member's holds no task: its driver ends with
`TurnWaits`, the turn stays in flight in the journal, and the record that decides wakes whoever
drives it (`woken` for those without a task, `wait` for callers that keep one).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import trio

from runtime.approvals import Approval, ApprovalDecided, Verdict
from runtime.errors import ApprovalNotFound, ApprovalRefused, encodable
from runtime.ids import RunId, SessionId, ToolCallId
from runtime.live import Doing, LiveSession
from runtime.messages import open_calls
from runtime.records import SessionArchived
from runtime.tools.base import mistake_in
from stores import Ticket

if TYPE_CHECKING:
    from runtime.realm import Realm


class Decisions:
    """The decisions of one realm."""

    def __init__(self, realm: Realm, live: Mapping[SessionId, LiveSession]) -> None:
        self._realm = realm
        self._live = live
        self._book = realm.state.approvals
        #: Decisions on their way to the disk.
        self._deciding: dict[str, tuple[ApprovalDecided, Ticket]] = {}
        self._parked: dict[SessionId, trio.Event] = {}
        #: Turns to be interrupted as soon as a driver takes them up.
        self._interrupted: dict[SessionId, str] = {}
        #: Of those, the ones that whoever was admitted left in flight: it is this run that ends.
        self._kept: dict[SessionId, RunId] = {}
        #: Sessions whose turn is being given up.
        self._given_up: set[SessionId] = set()
        #: Told of a session whose turn is to be taken up again.
        self.woken: list[Callable[[SessionId], None]] = []
        #: Whoever looks whether all wait for decisions; see `watch`.
        self._watchers: list[_Watcher] = []
        transitions = realm.state.transitions
        decide, archive = transitions[ApprovalDecided], transitions[SessionArchived]

        def decided(seq: int, record: ApprovalDecided) -> None:
            decide(seq, record)
            self.wake(record.session_id)  # also if others wait: what is decided runs at once

        def archived(seq: int, record: SessionArchived) -> None:
            archive(seq, record)
            self._interrupted.pop(record.session_id, None)
            self._kept.pop(record.session_id, None)
            if record.session_id in self._parked:
                self.wake(record.session_id)

        transitions[ApprovalDecided] = decided
        transitions[SessionArchived] = archived

    # -- verbs -----------------------------------------------------------------------------

    def waiting(self) -> tuple[Approval, ...]:
        """The calls that wait for a decision, the oldest question first."""
        return tuple([each for each in self._book if each.waits])

    def __bool__(self) -> bool:
        """Whether any call waits."""
        return bool(len(self._book)) and any(each.waits for each in self._book)

    async def approve(
        self, key: str, *, by: str, arguments: str | dict[str, Any] | None = None
    ) -> Approval:
        """Let the call run, with these `arguments` instead of the model's if they are given.
        Returns once that is on disk; cancelling may leave it decided or not.

        Raises:
            ApprovalNotFound: no call of a turn in flight was asked about under this key.
            ApprovalRefused: it was decided otherwise, or the arguments do not fit their schema.
        """
        text = arguments
        if text is not None and not isinstance(text, str):
            text = json.dumps(text, ensure_ascii=False)
        if text is not None:
            text = encodable(text)
            mistake = mistake_in(json.loads(self._find(key).parameters), text)
            if mistake is not None:
                raise ApprovalRefused(key, mistake)
        return await self._decide(key, Verdict.APPROVED, by, "", text)

    async def deny(self, key: str, *, by: str, reason: str) -> Approval:
        """Let the call not run; its model reads the reason. Returns and raises as `approve`."""
        return await self._decide(key, Verdict.DENIED, by, reason, None)

    async def _decide(
        self, key: str, verdict: Verdict, by: str, reason: str, arguments: str | None
    ) -> Approval:
        known = self._find(key)
        wanted = (verdict, encodable(by), encodable(reason), arguments)
        if key not in self._deciding and known.waits:
            record = ApprovalDecided(
                known.session_id,
                known.run_id,
                known.call_id,
                *wanted,
                self._realm.ports.clock.now_ns(),
            )
            self._deciding[key] = (record, self._realm.append(record))
        under_way = self._deciding.get(key)
        first = known if under_way is None else known.decided(under_way[0])
        if (first.verdict, first.by, first.reason, first.edited) != wanted:
            assert first.verdict is not None
            raise ApprovalRefused(
                key, f"{first.by} has {first.verdict.value} it already, and the first one counts"
            )
        if under_way is None:
            await self._realm.store.barrier()
            return known
        ticket = under_way[1]
        try:
            await ticket.wait()
        finally:
            if ticket.done:
                self._deciding.pop(key, None)
        return first

    def _find(self, key: str) -> Approval:
        session_id, _, rest = key.partition(":")
        run_id, _, call_id = rest.partition(":")
        known = self._book.of(SessionId(session_id), RunId(run_id)).get(ToolCallId(call_id))
        if known is None or known not in self._book.current(known.session_id):
            raise ApprovalNotFound(key, tuple([each.key for each in self.waiting()]))
        return known

    # -- waiting ---------------------------------------------------------------------------

    async def wait(self, session_id: SessionId) -> None:
        """Park until the session's turn has something to go on with: a decision, an interrupt, or
        its end. One waiter for each session, which holds it."""
        event = self._parked[session_id] = trio.Event()
        self.stir()
        try:
            await event.wait()
        finally:
            del self._parked[session_id]

    def wake(self, session_id: SessionId) -> None:
        """Something happened to the session that its waiting turn must know."""
        event = self._parked.get(session_id)
        if event is not None:
            event.set()
            return
        for tell in self.woken:
            tell(session_id)

    def parked(self, session_id: SessionId) -> bool:
        """Whether the session's turn in flight has nothing to go on with but decisions."""
        if session_id in self._interrupted:
            return False
        head = self._realm.state.heads.get(session_id)
        if head is None or head.partial is None or not self._book.waits(session_id):
            return False
        asked = self._book.of(session_id, head.partial.run_id)
        open_now = open_calls(head.partial.messages)
        return all(call.id in asked and asked[call.id].waits for call in open_now)

    def interrupt(self, session_id: SessionId, reason: str, *, held: bool) -> bool:
        """Interrupt the session's turn, which no driver is at, if there will be one: somebody was
        admitted to it (`held`), or it waits. Whether there will."""
        if session_id in self._given_up or not (held or self._book.waits(session_id)):
            return False
        self._interrupted.setdefault(session_id, reason)
        self._kept.pop(session_id, None)
        self.wake(session_id)
        return True

    def keep(self, session_id: SessionId, reason: str) -> None:
        """Have whoever takes the turn up interrupt it: its driver, which was to, is given up on."""
        self._interrupted.setdefault(session_id, reason)

    def interrupted(self, session_id: SessionId) -> str | None:
        """Why the turn that is being taken up is to be interrupted. Forgets it."""
        if not self._interrupted:
            return None
        over = session_id in self._kept and not self.kept(session_id)
        self._kept.pop(session_id, None)
        reason = self._interrupted.pop(session_id, None)
        return None if over else reason

    def kept(self, session_id: SessionId) -> bool:
        """Whether the turn in flight is to end as interrupted because somebody was told so before
        whoever was at it went away: that is not about what comes behind it."""
        head = self._realm.state.heads.get(session_id)
        partial = None if head is None else head.partial
        return partial is not None and self._kept.get(session_id) == partial.run_id

    def to_interrupt(self, session_id: SessionId) -> bool:
        """Whether somebody was told that the turn is interrupted, and no driver knows of it yet."""
        return session_id in self._interrupted

    @contextmanager
    def giving_up(self, session_id: SessionId | None) -> Iterator[None]:
        """In a block: the session's turn is being ended as failed, so it cannot be interrupted.
        None: no session's is."""
        if session_id is None:
            yield
            return
        self._given_up.add(session_id)
        try:
            yield
        finally:
            self._given_up.discard(session_id)

    def begin_anew(self) -> None:
        """The turns that waited are others now."""
        self._interrupted.clear()
        self._deciding.clear()

    def left(self, session_id: SessionId) -> None:
        """Whoever was admitted to the session has left it. If its turn is in flight, whoever takes
        it up ends it."""
        if session_id not in self._interrupted or self._book.waits(session_id):
            return
        head = self._realm.state.heads.get(session_id)
        if head is None or head.partial is None:
            self._interrupted.pop(session_id, None)
            self._kept.pop(session_id, None)
        else:
            self._kept[session_id] = head.partial.run_id

    def stir(self) -> None:
        """Somebody begins to wait, or has ended working."""
        for watcher in self._watchers:
            watcher.stirred.set()

    @contextmanager
    def watch(self) -> Iterator[Callable[[], Awaitable[None]]]:
        """In a block: a wait for the next time that somebody begins to wait or has ended working,
        counted from the one before."""
        watcher = _Watcher()
        self._watchers.append(watcher)
        try:
            yield watcher.wait
        finally:
            self._watchers.remove(watcher)

    def only_wait(self) -> bool:
        """Whether no turn that somebody works on does more than wait for other sessions."""
        return all(
            live.doing is Doing.TOOL and not live.calls
            for live in self._live.values()
            if live.scope is not None
        )


class _Watcher:
    """One who looks again whenever something may have changed."""

    def __init__(self) -> None:
        self.stirred = trio.Event()

    async def wait(self) -> None:
        await self.stirred.wait()
        self.stirred = trio.Event()
