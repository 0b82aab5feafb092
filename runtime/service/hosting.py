"""Hosting: sessions that stay alive between turns and work on what their peers send.

Owns: the tasks of `host_mode` sessions that have work, and when they are checkpointed. Must not:
hold a task for a session that is idle, or run a turn beside another one.

The tasks run in the nursery of whoever serves the sessions. An input that arrives starts the task
of its session, if it has none; the task ends when nothing is left. Each turn's end makes the
session's snapshot due, which the gate saves in its own time: a slow checkpointer slows no turn.

# Invariant: between "nothing left" and not being active there is no checkpoint; otherwise a message
# that arrives in between would wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Final

import trio

from runtime.checkpoint import CheckpointGate, CheckpointPolicy
from runtime.driver import TurnAborted
from runtime.errors import AgentError, SessionBusy, SessionNotFound, SessionQuarantined
from runtime.ids import SessionId
from runtime.realm import Realm
from runtime.runner import turn_through
from runtime.service.checkpointer import SessionCheckpointer
from runtime.session import Session
from runtime.store import StoredSessions
from runtime.tasks import due
from stores import StoreError

#: A hosted session is saved after each of its turns (CONTRACTS 4.10).
POLICY: Final = CheckpointPolicy(every_turns=1)


class HostSnapshots(StoredSessions):
    """Where hosted sessions are saved: with their own checkpointer, or in the realm's store."""

    def __init__(
        self, realm: Realm, own: Callable[[SessionId], SessionCheckpointer | None]
    ) -> None:
        super().__init__(realm.store, realm.realm_id)
        self._own = own

    async def save(self, session: Session) -> None:
        own = self._own(session.session_id)
        if own is None:
            await super().save(session)
        else:
            await own.checkpoint(session)


class SessionHosts:
    """The hosted sessions of one realm, at work."""

    def __init__(
        self,
        realm: Realm,
        own: Callable[[SessionId], SessionCheckpointer | None],
        begins: Callable[[], bool] = lambda: True,
        visiting: Callable[[SessionId], AbstractContextManager[None]] = lambda _: nullcontext(),
    ) -> None:
        """`begins` says whether turns may begin now, and `visiting` is around each of them; whoever
        has a say in that calls `resume` when they may again."""
        self._realm = realm
        self._begins = begins
        self._visiting = visiting
        self.snapshots = HostSnapshots(realm, own)
        self.gate = CheckpointGate(self.snapshots, realm.snapshot, POLICY, realm.recovery)
        self._nursery: trio.Nursery | None = None
        self._active: set[SessionId] = set()
        #: Sessions that may have to be woken by what is on its way to the disk.
        self._left: set[SessionId] = set()

    @property
    def served(self) -> bool:
        """Whether there is a place for hosted sessions to work in."""
        return self._nursery is not None

    @property
    def failures(self) -> dict[SessionId, Exception]:
        """Sessions whose latest checkpoint failed, and how."""
        return self.gate.failures

    @property
    def at_work(self) -> bool:
        """Whether any hosted session has a task."""
        return bool(self._active)

    def serve(self, nursery: trio.Nursery) -> None:
        """Work in `nursery` from now on, also on what an earlier process left."""
        self._nursery = nursery
        nursery.start_soon(self.gate.run, name="checkpointer of hosted sessions")
        self.resume()

    async def save(self) -> None:
        """Save what is in no snapshot yet. What fails is in `failures`; the journal has it."""
        with suppress(Exception):
            await self.gate.flush()

    def resume(self) -> None:
        """Start the task of every hosted session that has work."""
        for session_id in list(self._realm.state.heads):
            self.wake(session_id)

    def wake(self, session_id: SessionId) -> None:
        """Start the task of a hosted session that has work and no task. Cheap for all others."""
        head = self._realm.state.heads.get(session_id)
        if head is None or not head.spec.host_mode or self._nursery is None:
            return
        if session_id in self._active or not self._next(session_id):
            return
        if self._realm.busy(session_id) and not self._realm.changing(session_id):
            return  # whoever is in wakes it when they leave
        self._active.add(session_id)
        self._nursery.start_soon(self._run, session_id, name=f"host {session_id}")

    @contextmanager
    def entered(self, session_id: SessionId) -> Iterator[None]:
        """Around whatever gives a session something to do; it is woken behind that. Of whoever is
        cancelled in here an input may be on its way to the disk: then it is woken by that."""
        cancelled = True
        try:
            yield
            cancelled = False
        except Exception:
            cancelled = False
            raise
        finally:
            self.wake(session_id)
            head = self._realm.state.heads.get(session_id)
            if cancelled and head is not None and head.spec.host_mode:
                self._left.add(session_id)
                self._settle(session_id)

    def accepted(self, session_id: SessionId) -> None:
        """An input of the session is on disk."""
        if session_id in self._left:
            self.wake(session_id)
            self._settle(session_id)

    def _settle(self, session_id: SessionId) -> None:
        # What its task writes comes behind all that was on its way: until it ends, that is known.
        if session_id in self._active:
            self._left.discard(session_id)

    async def _run(self, session_id: SessionId) -> None:
        try:
            while self._next(session_id):
                try:
                    with self._visiting(session_id):
                        await self._turn(session_id)
                except AgentError:
                    continue  # it is in the journal, and blocks nothing behind it
        except (SessionBusy, SessionQuarantined, SessionNotFound, TurnAborted, StoreError):
            pass  # somebody else is in, or there is nothing left to do it with; each was told
        finally:
            self._active.discard(session_id)

    def _next(self, session_id: SessionId) -> bool:
        """Whether there is something that the session may begin now."""
        head = self._realm.state.heads.get(session_id)
        if head is None or head.archived or head.quarantined is not None:
            return False
        return self._begins() and due(head) is not None

    async def _turn(self, session_id: SessionId) -> None:
        realm = self._realm
        await realm.unchanging(session_id)
        with realm.hold(session_id):
            # What a turn that was cut off had queued must be known before the next one begins.
            await realm.trailing.landed(session_id)
            head = realm.state.head(session_id)
            if head.partial is not None:
                # To continue is to believe the fold, which does not know what is on disk of a
                # commit that failed: then the store says so here.
                await realm.store.barrier()
            inputs = due(head)
            if inputs is not None:
                await turn_through(realm, session_id, inputs)
