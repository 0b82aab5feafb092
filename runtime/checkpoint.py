"""Checkpointers: when a session's snapshot is written, and the gate that stops it.

Owns: `CheckpointPolicy`, which sessions are dirty, the gate of one mob, the task that saves. Must
not: decide what a snapshot holds, or make anything durable that is not so already (the journal
did that).

A snapshot is due when any of the policy's limits is reached since the session's last one: turns,
messages, bytes or time. Time is measured from the first turn that the last snapshot has not, and
is the same for every session, so the sessions wait in the order in which their time comes: the
task parks until the first of them, and without a deadline when there is none.

A gate belongs to one mob: closing one never silences another. `cancel` lets the save in flight
finish and makes every later checkpoint a no-op; what is turned away stays dirty, so `rearm` saves
it (CONTRACTS 5.9, 5.10). While nothing is dirty, or the gate is closed, there is no timer.

The same task keeps recovery short: when the journal has grown by the policy's `max_tail` records
since the rows were written, it writes those of the longest dirty sessions.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from math import inf
from typing import Final

import attrs
import trio

from runtime.errors import SessionNotFound, SessionQuarantined
from runtime.ids import SessionId
from runtime.records import TurnEnded, turn_bytes
from runtime.recovery import TAIL, Recovery
from runtime.session import Session, SessionHead
from runtime.store import SessionStore

#: Turns of one session between its snapshots. Recovery reads at most this many turns beyond a
#: snapshot; at 64 the snapshots cost about 2 % of the bytes of the journal.
EVERY_TURNS: Final = 64

#: Snapshots saved at the same time: the group commit of the store makes 64 cost 1/32 each.
TOGETHER: Final = 64


@attrs.frozen
class CheckpointPolicy:
    """When a session's snapshot is due: when any of these is reached since its last one.

    `every_turns` and `every_messages` count committed ones, `every_bytes` the bytes of its turns in
    the journal, `every_s` seconds since the first turn that the last snapshot has not; None: does
    not count. `max_tail` is how many records whoever opens the mob may have to replay (None:
    `runtime.recovery.TAIL`): beyond it the longest dirty sessions are written.
    """

    every_turns: int = EVERY_TURNS
    every_messages: int | None = None
    every_bytes: int | None = None
    every_s: float | None = None
    max_tail: int | None = None


@attrs.define
class _Since:
    """What no snapshot of one session holds yet."""

    turns: int = 0
    messages: int = 0
    bytes: int = 0
    #: When the first turn that is in no snapshot, finished or on its way, ended; `trio` seconds.
    #: None if there is none, or if time does not count.
    at: float | None = None


class CheckpointGate:
    """The checkpointers of one mob: one gate, one saving task.

    `run` is started once, in a nursery that outlives every turn; `cancel` and `rearm` come and go
    with the mob's stop and resume.
    """

    def __init__(
        self,
        sessions: SessionStore,
        snapshot: Callable[[SessionId], Session],
        policy: CheckpointPolicy | None = None,
        recovery: Recovery | None = None,
    ) -> None:
        self._sessions = sessions
        self._recovery = recovery
        self._snapshot = snapshot
        self._policy = policy or CheckpointPolicy()
        self._max_tail = TAIL if self._policy.max_tail is None else self._policy.max_tail
        #: Invariant: a session is in here exactly if its latest turn is in no snapshot.
        self._dirty: dict[SessionId, _Since] = {}
        self._due: dict[SessionId, None] = {}
        #: When the time of a session comes, in the order in which it does.
        self._timed: dict[SessionId, float] = {}
        #: Sessions that ended, for good: a turn that is recorded after that changes nothing here.
        self._archived: set[SessionId] = set()
        #: Sessions whose latest save failed, and how.
        self.failures: dict[SessionId, Exception] = {}
        #: Whether a save was cancelled: what it had submitted may be on its way still.
        self.cut_off = False
        self._open = True
        self._wake = trio.Event()
        self._saving = trio.Lock()

    @property
    def open(self) -> bool:
        """Whether checkpoints are written now."""
        return self._open

    @property
    def dirty(self) -> int:
        """How many sessions have turns that no snapshot holds."""
        return len(self._dirty)

    def turn_ended(self, record: TurnEnded) -> None:
        """Note a committed turn; cheap, called for every one."""
        session_id = record.session_id
        if self._archived and session_id in self._archived:
            return
        since = self._dirty.get(session_id)
        if since is None:
            since = self._dirty[session_id] = _Since()
        since.turns += 1
        since.messages += len(record.messages)
        if self._reached(session_id, since, record) and session_id not in self._due:
            self._due[session_id] = None
            if self._open:
                self._wake.set()
        if self._recovery is not None and self._recovery.tail > self._max_tail and self._open:
            self._wake.set()

    def _reached(self, session_id: SessionId, since: _Since, record: TurnEnded) -> bool:
        """Count `record`; whether the session's snapshot is due now."""
        policy = self._policy
        if policy.every_bytes is not None:
            since.bytes += turn_bytes(record)
            if since.bytes >= policy.every_bytes:
                return True
        if policy.every_s is not None:
            now = trio.current_time()
            if since.at is None:
                since.at = now
                self._timed[session_id] = now + policy.every_s
                if self._open and len(self._timed) == 1:
                    self._wake.set()  # the task waits without a deadline: now there is one
            elif since.at + policy.every_s <= now:  # a save failed after its time had come
                return True
        if since.turns >= policy.every_turns:
            return True
        return policy.every_messages is not None and since.messages >= policy.every_messages

    def archived(self, session_id: SessionId) -> None:
        """The session ended: its last snapshot is due, and after that its gate is gone for good."""
        if session_id in self._archived:
            return
        self._archived.add(session_id)
        # Counted like a turn: a save in flight does not show the end and must not be the last.
        self._dirty.setdefault(session_id, _Since()).turns += 1
        self._due[session_id] = None
        if self._open:
            self._wake.set()

    def deleted(self, session_id: SessionId) -> None:
        """The session is gone, or quarantined: there is nothing to save any more."""
        for each in (self._dirty, self._due, self._timed, self.failures):
            each.pop(session_id, None)
        self._archived.discard(session_id)

    def begin_anew(self, heads: Iterable[SessionHead]) -> None:
        """All sessions were replaced by these: no snapshot holds any of them."""
        for each in (self._dirty, self._due, self._timed, self.failures, self._archived):
            each.clear()
        for head in heads:
            self._dirty[head.session_id] = _Since(turns=1)
            if head.archived:
                self._archived.add(head.session_id)

    def checkpoint_all(self) -> None:
        """Make every dirty session due."""
        self._due.update(dict.fromkeys(self._dirty))
        if self._open and self._due:
            self._wake.set()

    def shut(self) -> None:
        """Close the gate; a save in flight goes on."""
        self._open = False
        self._wake.set()  # for its timer

    async def cancel(self) -> None:
        """Close the gate: the save in flight finishes first, nothing is saved after."""
        self.shut()
        async with self._saving:
            pass

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """In this block no save is under way; what is due waits for its end."""
        async with self._saving:
            yield

    def rearm(self) -> None:
        """Open the gate again; whatever was turned away or failed meanwhile is due now."""
        self._due.update(dict.fromkeys(self.failures))
        self._open = True
        if self._due or self._timed:
            self._wake.set()

    async def flush(self) -> None:
        """Save everything that is dirty now and return when it is saved. A no-op when closed.

        Raises:
            Exception: what the first save that failed raised, once the others are done.
        """
        self.checkpoint_all()
        failed: dict[SessionId, Exception] = {}
        async with self._saving:  # a batch in flight may hold older turns of the same sessions
            self.checkpoint_all()
            while self._due and self._open:
                failed.update(await self._save_some())
        for error in failed.values():
            raise error

    async def run(self) -> None:
        """Save what is due, for ever; cancel it to end.

        A save that fails leaves the session dirty and is tried again when its next turn ends: a
        snapshot store takes no part in control flow, so its failure ends nothing here (`failures`
        says what is wrong).
        """
        recovery = self._recovery
        while True:
            with trio.CancelScope(deadline=self._deadline()):
                await self._wake.wait()
            self._wake = trio.Event()
            async with self._saving:
                self._time_out()
                while self._due and self._open:
                    await self._save_some()
            if recovery is None or recovery.tail <= self._max_tail:
                continue
            while self._open and recovery.tail > self._max_tail // 2:
                async with self._saving:
                    await recovery.write()

    def _deadline(self) -> float:
        """When the first session's time comes; infinite if there is none, or nothing is saved."""
        return next(iter(self._timed.values()), inf) if self._open else inf

    def _time_out(self) -> None:
        """Make due whose time has come."""
        now = trio.current_time()
        while self._open and self._deadline() <= now:
            session_id = next(iter(self._timed))
            del self._timed[session_id]
            self._due[session_id] = None

    async def _save_some(self) -> dict[SessionId, Exception]:
        """Save up to `TOGETHER` due sessions at once, so that they share commits; returns what
        failed. Call it with the lock held."""
        failed: dict[SessionId, Exception] = {}
        async with trio.open_nursery() as nursery:
            for session_id in list(itertools.islice(self._due, TOGETHER)):
                nursery.start_soon(self._save, session_id, failed)
        return failed

    async def _save(self, session_id: SessionId, failed: dict[SessionId, Exception]) -> None:
        since = self._dirty.get(session_id)
        # What becomes due from here on is newer than this snapshot and due again.
        self._due.pop(session_id, None)
        self._timed.pop(session_id, None)
        if since is None:
            return
        taken = attrs.evolve(since)
        since.at = None
        saved = False
        try:
            await self._sessions.save(self._snapshot(session_id))
            saved = True
        except trio.Cancelled:
            self.cut_off = True
            raise
        except (SessionQuarantined, SessionNotFound):  # damaged, or gone: no failure of the store
            self.deleted(session_id)
            return
        except Exception as error:  # noqa: BLE001 the store may be a user's and raise anything
            self.failures[session_id] = failed[session_id] = error
        finally:
            if self._dirty.get(session_id) is not since:
                pass  # it was deleted or quarantined meanwhile
            elif saved:
                self._saved(session_id, since, taken)
            else:
                since.at = taken.at
                self._timed.pop(session_id, None)
                if session_id not in failed:  # cancelled
                    self._due[session_id] = None

    def _saved(self, session_id: SessionId, since: _Since, taken: _Since) -> None:
        self.failures.pop(session_id, None)
        since.turns -= taken.turns
        since.messages -= taken.messages
        since.bytes -= taken.bytes
        if not since.turns:
            del self._dirty[session_id]
