"""agent-framework: an `Agent` and a session for each member; messages between two executors.

In memory the session has the history; what is stored is the package's own `FileHistoryProvider`,
one file of JSON lines for each session, written and not synced.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count as counting
from typing import Any

from protocol import ASYNCIO, Heard, Peer, Turns, serve, text

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # parts of it say that they are experimental
    from agent_framework import (
        Agent,
        BaseChatClient,
        ChatResponse,
        Executor,
        FileHistoryProvider,
        Message,
        WorkflowBuilder,
        WorkflowContext,
        handler,
    )

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

#: Its history drops a message that is as one before it, so that none may be.
NUMBERS = counting()


class Client(BaseChatClient):
    """Answers at once, or after a while."""

    def __init__(self, pause_s: float) -> None:
        super().__init__()
        self._pause_s = pause_s

    def _inner_get_response(self, **_: Any) -> Any:
        return self._answered()

    async def _answered(self) -> ChatResponse:
        if self._pause_s:
            await asyncio.sleep(self._pause_s)
        number = next(NUMBERS)
        answer = Message(role="assistant", contents=[text(number)])
        return ChatResponse(messages=[answer], response_id=str(number))


@asynccontextmanager
async def team(
    members: int, folder: str | None, safest: bool, pause_s: float
) -> AsyncIterator[Turns]:
    stores = {"context_providers": [FileHistoryProvider(folder)]} if folder else {}
    agents = [
        Agent(client=Client(pause_s), name=f"m-{member}", **stores) for member in range(members)
    ]
    sessions = [
        agent.create_session(session_id=f"m-{member}") for member, agent in enumerate(agents)
    ]

    async def turns(member: int, count: int, heard: Heard | None = None) -> None:
        for _ in range(count):
            await agents[member].run(text(next(NUMBERS)), session=sessions[member])
            if heard is not None:
                heard(member)

    yield turns


async def stored(folder: str, members: int) -> list[int]:
    provider = FileHistoryProvider(folder)
    found = []
    for member in range(members):
        messages = await provider.get_messages(f"m-{member}")
        found.append(sum(str(each.role) == "assistant" for each in messages))
    return found


class Player(Executor):
    """Sends what it got to the other one, until it got as many as it should."""

    def __init__(self, name: str, most: int) -> None:
        super().__init__(id=name)
        self._left = most

    @handler
    async def on_message(self, message: str, ctx: WorkflowContext[str, str]) -> None:
        self._left -= 1
        if self._left:
            await ctx.send_message(message)
        else:
            await ctx.yield_output(message)


@asynccontextmanager
async def pair(count: int) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    first, second = Player("a", count // 2 + 1), Player("b", count)
    builder = WorkflowBuilder(start_executor=first, max_iterations=count + 10)
    workflow = builder.add_edge(first, second).add_edge(second, first).build()

    async def passing() -> None:
        result = await workflow.run(text(0))
        assert result.get_outputs(), "it ended before all messages were sent"

    yield passing


PEER = Peer(
    ASYNCIO,
    team,
    stored,
    pair,
    notes={
        "durable": "FileHistoryProvider, not synced",
        "kill": "FileHistoryProvider; not synced, which a kill does not show",
        "messages": "executors of a workflow, a step each",
    },
    absent={"kill_default": "one setting, that above"},
)

if __name__ == "__main__":
    serve(PEER)
