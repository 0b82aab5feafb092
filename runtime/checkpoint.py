"""Checkpointers: when a session's snapshot is written, and the gate that stops it.

Owns: which sessions are dirty, the gate of one mob, the task that saves. Must not: decide what a
snapshot holds, or make anything durable that is not so already (the journal did that).

A gate belongs to one mob: closing one never silences another. `cancel` lets the save in flight
finish and makes every later checkpoint a no-op; what is turned away stays dirty, so `rearm` saves
it (CONTRACTS 5.9, 5.10). The task parks while nothing is due; there is no timer.

The same task keeps recovery short: when the journal has grown by `runtime.recovery.TAIL` records
since the rows were written, it writes those of the longest dirty sessions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import trio

from runtime.ids import SessionId
from runtime.recovery import TAIL, Recovery
from runtime.session import Session
from runtime.store import SessionStore

#: Turns of one session between its snapshots. Recovery reads at most this many turns beyond a
#: snapshot; at 64 the snapshots cost about 2 % of the bytes of the journal.
EVERY_TURNS = 64

#: Snapshots saved at the same time: the group commit of the store makes 64 cost 1/32 each.
TOGETHER = 64


class CheckpointGate:
    """The checkpointers of one mob: one gate, one saving task.

    `run` is started once, in a nursery that outlives every turn; `cancel` and `rearm` come and go
    with the mob's stop and resume.
    """

    def __init__(
        self,
        sessions: SessionStore,
        snapshot: Callable[[SessionId], Session],
        every_turns: int = EVERY_TURNS,
        recovery: Recovery | None = None,
    ) -> None:
        self._sessions = sessions
        self._recovery = recovery
        self._snapshot = snapshot
        self._every_turns = every_turns
        #: Turns since the last snapshot. Invariant: a session is in here exactly if its latest
        #: turn is in no snapshot.
        self._dirty: dict[SessionId, int] = {}
        self._due: dict[SessionId, None] = {}
        #: Sessions that ended, for good: a turn that is recorded after that changes nothing here.
        self._archived: set[SessionId] = set()
        #: Sessions whose latest save failed, and how.
        self.failures: dict[SessionId, Exception] = {}
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

    def turn_ended(self, session_id: SessionId) -> None:
        """Note a committed turn; cheap, called for every one."""
        if self._archived and session_id in self._archived:
            return
        turns = self._dirty.get(session_id, 0) + 1
        self._dirty[session_id] = turns
        if turns >= self._every_turns and session_id not in self._due:
            self._due[session_id] = None
            if self._open:
                self._wake.set()
        if self._recovery is not None and self._recovery.tail > TAIL and self._open:
            self._wake.set()

    def archived(self, session_id: SessionId) -> None:
        """The session ended: its last snapshot is due, and after that its gate is gone for good."""
        if session_id in self._archived:
            return
        self._archived.add(session_id)
        # Counted like a turn: a save in flight does not show the end and must not be the last.
        self._dirty[session_id] = self._dirty.get(session_id, 0) + 1
        self._due[session_id] = None
        if self._open:
            self._wake.set()

    def checkpoint_all(self) -> None:
        """Make every dirty session due."""
        self._due.update(dict.fromkeys(self._dirty))
        if self._open and self._due:
            self._wake.set()

    async def cancel(self) -> None:
        """Close the gate: the save in flight finishes first, nothing is saved after."""
        self._open = False
        async with self._saving:
            pass

    def rearm(self) -> None:
        """Open the gate again; whatever was turned away or failed meanwhile is due now."""
        self._due.update(dict.fromkeys(self.failures))
        self._open = True
        if self._due:
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
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            async with self._saving:
                while self._due and self._open:
                    await self._save_some()
            while self._open and self._recovery is not None and self._recovery.tail > TAIL // 2:
                async with self._saving:
                    await self._recovery.write()

    async def _save_some(self) -> dict[SessionId, Exception]:
        """Save up to `TOGETHER` due sessions at once, so that they share commits; returns what
        failed. Call it with the lock held."""
        failed: dict[SessionId, Exception] = {}
        async with trio.open_nursery() as nursery:
            for session_id in list(itertools.islice(self._due, TOGETHER)):
                nursery.start_soon(self._save, session_id, failed)
        return failed

    async def _save(self, session_id: SessionId, failed: dict[SessionId, Exception]) -> None:
        turns = self._dirty.get(session_id, 0)
        # What becomes due from here on is newer than this snapshot and due again.
        self._due.pop(session_id, None)
        if not turns:
            return
        saved = False
        try:
            await self._sessions.save(self._snapshot(session_id))
            saved = True
        except Exception as error:  # noqa: BLE001 the store may be a user's and raise anything
            self.failures[session_id] = failed[session_id] = error
        finally:
            if saved:
                self._saved(session_id, turns)
            elif session_id not in failed:  # cancelled
                self._due[session_id] = None

    def _saved(self, session_id: SessionId, turns: int) -> None:
        self.failures.pop(session_id, None)
        left = self._dirty[session_id] - turns
        if left:
            self._dirty[session_id] = left
        else:
            del self._dirty[session_id]
