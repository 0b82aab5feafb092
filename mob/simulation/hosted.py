"""Hosted sessions of a mob in the simulation, a model that refuses some inputs, and what must hold.

Owns: `Hosting`, which gives the hosted sessions of each process a place to work; `Refusing`; the
invariant that hosted sessions are saved. Must not: use a session (`mob.simulation.guests` does).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, final

import trio

from mob.errors import MobClosed
from mob.service import MobSessions
from mob.simulation.ledger import Ledger
from mob.simulation.process import Process
from runtime.errors import ModelRefused
from runtime.ids import SessionId
from runtime.messages import UserMessage
from runtime.models.base import Emit, Model, ModelReply, ModelRequest
from runtime.records import SessionCreated

if TYPE_CHECKING:
    from runtime.session import SessionHead

#: How an input begins of which no run succeeds.
REFUSED: Final = "refused"
#: Virtual seconds until a model says no.
_SAYS_NO_S: Final = 0.05


@final
class Refusing:
    """A model that declines every turn that is about a refused input, however often it is asked."""

    supports_tools = True

    def __init__(self, model: Model) -> None:
        self._model = model
        self.name = model.name

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        """As the model behind it. Raises `ModelRefused` for a refused input."""
        said = [each for each in request.messages if isinstance(each, UserMessage)]
        if said and said[-1].text.startswith(REFUSED):
            await trio.sleep(_SAYS_NO_S)
            raise ModelRefused("not this one", provider=self.name)
        return await self._model.generate(request, emit)

    async def aclose(self) -> None:
        """Holds nothing of its own."""
        await self._model.aclose()


@final
class Hosting:
    """Where the hosted sessions of the process at hand work."""

    def __init__(self, ready: Callable[[SessionId, Process], Awaitable[object]]) -> None:
        """`ready` gives a session its live objects again."""
        self._ready = ready
        self._served: Process | None = None
        self._serving = trio.Lock()

    async def serve(self, process: Process, service: MobSessions) -> None:
        """Let them work, once for each process. Raises whatever `ready` does, and
        `MobClosed`; then they do not."""
        async with self._serving:
            if self._served is process:
                return
            if process.leaving or not process.alive:
                raise MobClosed(process.mob.id)
            service.serve(process.mob._nursery)
            self._served = process
            for head in [each for each in service.realm.state.heads.values() if works(each)]:
                await self._ready(head.session_id, process)  # before any of them begins


def works(head: SessionHead) -> bool:
    """Whether the session begins turns by itself."""
    return head.spec.host_mode and not head.archived and head.quarantined is None


def hosted_sessions_are_saved(ledger: Ledger, _: object) -> str | None:
    """CONTRACTS 4.10: a hosted session is checkpointed after each interaction: once all has healed
    there is a snapshot of it with the last turn that the process at hand ran."""
    last = max(ledger.opened_s, default=0)
    for written in ledger.written:
        record = written.record
        if not (isinstance(record, SessionCreated) and record.spec.host_mode):
            continue
        session = ledger.sessions.get(record.session_id)
        if session is None:
            continue  # it is in a branch that was left behind
        process, turn = session.driven
        if session.deleted or session.archived or process != last:
            continue
        if ledger.saved.get(session.session_id, 0) < turn:
            return f"hosted session {session.session_id} has a turn that no snapshot has"
    return None
