"""The people outside: they call the mob's verbs, go away, and remember what they were told.

Owns: `Client`: every verb with its expected refusals, and a promise to the oracle for each
acknowledgement. Must not: decide when anything is called (`mob.simulation.workload` does), judge.

An answer counts only if the process that gave it lives when it arrives (`Process.do`), and the
promise is made in that very step. An error that the documentation of a verb names is noted and
forgotten; any other one ends the run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, final

import attrs
import trio

from mob.errors import MobClosed
from mob.lifecycle import VerbRefused
from mob.mob import Mob
from mob.receipts import Receipt
from mob.simulation import promises
from mob.simulation.process import Process, ProcessDied
from mob.simulation.recall import LIMIT, Searched
from runtime.errors import MobError, SessionBusy, SessionError
from runtime.ids import SessionId
from runtime.messages import AssistantMessage, UserMessage
from runtime.session import SessionHead
from stores import StoreError

if TYPE_CHECKING:
    from mob.simulation.world import World

_Promised = TypeVar("_Promised", bound="promises.Promise")

#: Errors that say "not now" or "not that", and change nothing.
_REFUSALS: Final = (VerbRefused, MobClosed, SessionBusy)


#: Virtual seconds that a sender waits for room.
_PATIENCE_S: Final = 60.0


@final
class Client:
    """Callers of the world's newest process. Every verb returns None if there was no answer."""

    def __init__(self, world: World) -> None:
        self._world = world
        #: Sessions that somebody labels just now: whoever labels is to be alone.
        self._labelling: set[SessionId] = set()

    # -- messages --------------------------------------------------------------------------

    async def ask(
        self, member: str, text: str, *, key: str | None = None, patience_s: float = 60.0
    ) -> None:
        """Ask, and wait no longer than `patience_s`; the turn goes on without us."""

        async def call(mob: Mob) -> promises.Promise:
            try:
                result = await mob.ask(member, text, idempotency_key=key)
            except _REFUSALS:
                raise
            except SessionError as error:
                return promises.Failed(member, text, error)
            return promises.Answered(member, text, result, key)

        with trio.move_on_after(patience_s):
            await self._call("ask", call)

    async def send(self, member: str, text: str, *, key: str | None = None) -> Receipt | None:
        """Send, and wait until it is on disk."""

        async def call(mob: Mob) -> promises.Sent:
            return promises.Sent(await mob.send(member, text, idempotency_key=key), text, key)

        sent: promises.Sent | None = None
        with trio.move_on_after(_PATIENCE_S):  # it may have to wait for room
            sent = await self._call("send", call)
        return None if sent is None else sent.receipt

    async def send_again(self, member: str, text: str, *, key: str, times: int) -> None:
        """Send one message several times at once: it must be one input."""
        receipts: list[Receipt] = []
        before = self._world.oracle.ledger

        async def once() -> None:
            receipt = await self.send(member, text, key=key)
            if receipt is not None:
                receipts.append(receipt)

        async with trio.open_nursery() as nursery:
            for _ in range(times):
                nursery.start_soon(once)
        if len(set(receipts)) > 1 and self._world.oracle.ledger is before:
            self._world.fail("one key is one input", f"{key!r} came to {receipts}")

    # -- members ---------------------------------------------------------------------------

    async def spawn(self, name: str, profile: str) -> None:
        """Add a member."""

        async def call(mob: Mob) -> promises.Spawned:
            return promises.Spawned(name, profile, await mob.spawn(name, profile=profile))

        await self._call("spawn", call, "spawn.begun")

    async def retire(self, name: str) -> None:
        """Remove a member."""

        async def call(mob: Mob) -> promises.Retired:
            await mob.retire(name)
            return promises.Retired(name)

        await self._call("retire", call, "retire.begun")

    async def interrupt(self, name: str) -> None:
        """Cancel the member's turn in flight, if there is one."""

        async def call(mob: Mob) -> promises.Interrupted | None:
            session_id = mob.session_of(name)
            if not mob.interrupt(name):
                return None
            assert self._world.process is not None
            return promises.Interrupted(name, session_id, self._world.process.number)

        await self._call("interrupt", call)

    async def kill(self, name: str) -> None:
        """Crash the member's activation, if there is one."""

        async def call(mob: Mob) -> None:
            mob.kill(name, "killed by the workload")

        await self._call("kill", call)

    # -- life ------------------------------------------------------------------------------

    async def stop(self, deadline_s: float) -> bool:
        """Stop the mob; whether it did."""
        since = self._world.oracle.ledger.last

        async def call(mob: Mob) -> promises.Stopped:
            await mob.stop(deadline_s)
            return promises.Stopped(since)

        return await self._call("stop", call, "stop.begun", "stop.done") is not None

    async def resume(self) -> bool:
        """Resume the mob; whether it did."""
        since = self._world.oracle.ledger.last

        async def call(mob: Mob) -> promises.Resumed:
            await mob.resume()
            return promises.Resumed(since)

        return await self._call("resume", call, "resume.begun", "resume.done") is not None

    # -- sessions --------------------------------------------------------------------------

    def pick(
        self, draw: float, suits: Callable[[SessionHead], bool] = lambda _head: True
    ) -> SessionId | None:
        """A session of the mob that `suits`, by a number in [0, 1); None if there is none."""
        process = self._world.process
        if process is None or not process.alive or not process.opened:
            return None
        heads = [head for head in process.mob.realm.state.heads.values() if suits(head)]
        return heads[int(draw * len(heads))].session_id if heads else None

    def is_member(self, head: SessionHead) -> bool:
        """Whether this is the session of somebody who is a member now."""
        process = self._world.process
        if process is None or not process.opened:
            return False
        row = process.mob.roster.members.get(head.agent_id or "")
        return row is not None and row.session_id == head.session_id

    async def fork(self, session_id: SessionId) -> None:
        """Fork a session."""

        async def call(mob: Mob) -> promises.Forked:
            made = await mob.sessions.fork(session_id)
            return promises.Forked(session_id, made.session_id, made.turns)

        await self._call("fork", call)

    async def rewind(self, session_id: SessionId, draw: float) -> None:
        """Rewind a session to one of its turns."""

        async def call(mob: Mob) -> promises.Rewound | None:
            head = mob.realm.state.head(session_id)
            if not head.turns:
                return None
            session = await mob.sessions.rewind(session_id, int(draw * head.turns))
            return promises.Rewound(session_id, session.turns)

        await self._call("rewind", call)

    async def restore(self, session_id: SessionId) -> None:
        """Bring a session's latest branch back."""

        async def call(mob: Mob) -> promises.Restored:
            session = await mob.sessions.restore(session_id)
            return promises.Restored(session_id, session.turns)

        await self._call("restore", call)

    async def label(self, session_id: SessionId, title: str | None, tags: Sequence[str]) -> None:
        """Rename a session (or not), then tag it; alone, or not at all."""
        if session_id in self._labelling:
            return
        self._labelling.add(session_id)
        try:

            async def call(mob: Mob) -> promises.Labelled:
                if title is not None:
                    await mob.sessions.rename(session_id, title)
                await mob.sessions.tag(session_id, tags)
                head = mob.realm.state.head(session_id)
                return promises.Labelled(session_id, head.title, head.tags)

            await self._call("label", call)
        finally:
            self._labelling.discard(session_id)

    async def delete(self, session_id: SessionId) -> None:
        """Delete a session and what is below it."""

        async def call(mob: Mob) -> promises.Deleted:
            await mob.sessions.delete(session_id)
            return promises.Deleted(session_id)

        await self._call("delete", call)

    async def save(self, session_id: SessionId, text: str) -> None:
        """Write a turn into a session by hand."""
        if session_id in self._labelling:
            return

        async def call(mob: Mob) -> promises.SavedSession:
            session = await mob.sessions.resume(session_id)
            said = (UserMessage(text), AssistantMessage(f"noted: {text}"))
            session = attrs.evolve(session, messages=(*session.messages, *said))
            await mob.sessions.save(session)
            return promises.SavedSession(session_id, session.messages)

        await self._call("save", call)

    async def search(self, member: str, word: str) -> None:
        """Search the memory as a member would."""

        async def call(mob: Mob) -> Searched:
            session_id = mob.session_of(member)
            found = await mob.search(word, member, LIMIT)
            return Searched(session_id, word, found, mob.realm.state.applied)

        await self._call("search", call)

    # -- watching --------------------------------------------------------------------------

    async def watch(self, process: Process, name: str, after: int, pause_s: float) -> int:
        """Follow the events of `process` until it dies; return the cursor that was reached.

        Between two events it sleeps `pause_s`: a slow one must lose nothing either.
        """
        cursor = after

        async def follow() -> None:
            nonlocal cursor
            self._world.promised(promises.Subscribed(name, cursor))
            async with aclosing(process.mob.events(cursor)) as events:
                async for event in events:
                    if not process.alive:
                        return
                    self._world.promised(promises.Saw(name, event))
                    cursor = event.seq
                    await trio.sleep(pause_s)

        try:
            await process.do(follow)
        except (ProcessDied, StoreError) as error:
            self._world.trace.note("client", f"watch: {type(error).__name__} after {cursor}")
        return cursor

    # -- inside ----------------------------------------------------------------------------

    async def _call(
        self,
        verb: str,
        call: Callable[[Mob], Awaitable[_Promised | None]],
        begun: str | None = None,
        done: str | None = None,
    ) -> _Promised | None:
        """One call of a living process, and its promise."""
        world = self._world
        process = world.process
        if process is None or not process.opened:
            return None
        if begun is not None and world.faults.crashes_at(begun):
            process.crash(begun)
        asked = world.oracle.ledger
        try:
            answer = await process.do(partial(call, process.mob))
        except ProcessDied:
            told = "it died"
        except MobError as error:
            told = type(error).__name__
        except StoreError as error:
            # As a program does that meets a store which writes no more: it ends, and is restarted.
            told = type(error).__name__
            process.crash(f"{verb}: {told}")
        else:
            if answer is not None:
                world.promised(answer, None, asked)
            world.trace.note("client", f"{verb}: {_shown(answer)}")
            if done is not None and world.faults.crashes_at(done):
                process.crash(done)
            return answer
        world.trace.note("client", f"{verb}: {told}")
        return None


def _shown(answer: object) -> str:
    """What of an answer goes into the trace: its kind, and of a failure the error's."""
    if isinstance(answer, promises.Failed):
        error = answer.error
        return f"Failed {type(error).__name__}"
    return type(answer).__name__
