"""mob, through its public API and with its default settings: `mob.ask`, `mob.send`, `open_mob`.

Every turn is on disk, synced, before `ask` returns; there is no other setting. ``--tuned`` is the
application's own choice of `tuned_gc`, as `mob run` makes it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext

import trio
import trio.testing
from protocol import Heard, Peer, Turns, serve, text, trio_loop

from mob import Mob, MobDefinition, open_mob, tuned_gc
from runtime.messages import AssistantMessage
from runtime.models.base import Emit, ModelReply, ModelRequest
from stores import open_lmdb

#: Tasks that send at the same time; each waits for its receipt before it sends again.
SENDERS = 100


class Slow:
    """Answers with the last message after a while, or never."""

    name = "bench:slow"
    supports_tools = True

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        await trio.sleep(self._pause_s)
        return ModelReply(text(0))

    async def aclose(self) -> None:
        pass


def _definition(members: int) -> MobDefinition:
    return MobDefinition.from_table(
        {
            "mob": {"id": "swarm", "lead": "m-0"},
            "models": {"model": {"model": "sim:echo"}},
            "profiles": {"talker": {"model": "model"}},
            "members": {"m": {"profile": "talker", "replicas": members}},
            "wiring": {"edges": [["m-0", "m-1"]] if members == 2 else []},
        }
    )


@asynccontextmanager
async def _opened(
    members: int, folder: str | None, pause_s: float, grace_s: float = 1.0
) -> AsyncIterator[Mob]:
    models = {"model": Slow(pause_s)} if pause_s else {}
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_lmdb(folder)) if folder else None
        opening = open_mob(_definition(members), store=store, models=models, grace_s=grace_s)
        yield await stack.enter_async_context(opening)


@asynccontextmanager
async def team(
    members: int, folder: str | None, safest: bool, pause_s: float
) -> AsyncIterator[Turns]:
    async with _opened(members, folder, pause_s) as mob:

        async def turns(member: int, count: int, heard: Heard | None = None) -> None:
            for number in range(count):
                await mob.ask(f"m-{member}", text(number))
                if heard is not None:
                    heard(member)

        yield turns


async def stored(folder: str, members: int) -> list[int]:
    """Opens the mob and reads each session. Nothing is taken up meanwhile: no model answers."""
    found = []
    async with _opened(members, folder, float("inf"), grace_s=0) as mob:
        for index in range(members):
            session = await mob.sessions.resume(mob.session_of(f"m-{index}"))
            found.append(sum(isinstance(each, AssistantMessage) for each in session.messages))
    return found


@asynccontextmanager
async def pair(count: int) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Both are in a turn that never ends, so that messages are measured without their turns. By
    default 1,000 messages wait in a mailbox; the next sender would wait for room."""
    async with _opened(2, None, float("inf"), grace_s=0) as mob:
        for index in range(2):
            await mob.send(f"m-{index}", "begin")
        await trio.testing.wait_all_tasks_blocked(0.01)

        async def send(index: int) -> None:
            for number in range(count // SENDERS):
                sender = (index + number) % 2
                await mob.send(f"m-{1 - sender}", text(number), sender=f"m-{sender}")

        async def passing() -> None:
            await LOOP.together(SENDERS, send)

        yield passing


LOOP = trio_loop()
PEER = Peer(
    LOOP,
    team,
    stored,
    pair,
    notes={"messages": "checked, journalled, in the recipient's mailbox, receipt given"},
    around=tuned_gc if "--tuned" in sys.argv else nullcontext,
)

if __name__ == "__main__":
    serve(PEER)
