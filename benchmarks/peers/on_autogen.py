"""autogen: an `AssistantAgent` of agentchat for each member; messages go through autogen-core.

It can save an agent's state and has no store: the application writes that to a file of its own
after each turn, and syncs it.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import TextMessage
from autogen_core import (
    AgentId,
    CancellationToken,
    MessageContext,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    message_handler,
)
from autogen_core.models import ChatCompletionClient, CreateResult, ModelInfo, RequestUsage
from protocol import ASYNCIO, Heard, Peer, Turns, kept, read_kept, replace_synced, serve, text

logging.disable(logging.CRITICAL)  # it would write a line for each message


class Model(ChatCompletionClient):
    """Answers at once, or after a while."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self._pause_s = pause_s

    async def create(self, messages: Any, **_: Any) -> CreateResult:
        if self._pause_s:
            await asyncio.sleep(self._pause_s)
        return CreateResult(
            finish_reason="stop",
            content=text(len(messages)),
            usage=RequestUsage(prompt_tokens=0, completion_tokens=0),
            cached=False,
        )

    def create_stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    async def close(self) -> None:
        pass

    def actual_usage(self) -> RequestUsage:
        return RequestUsage(prompt_tokens=0, completion_tokens=0)

    total_usage = actual_usage

    def count_tokens(self, *_: Any, **__: Any) -> int:
        return 0

    def remaining_tokens(self, *_: Any, **__: Any) -> int:
        return 1_000_000

    @property
    def capabilities(self) -> Any:
        return self.model_info

    @property
    def model_info(self) -> ModelInfo:
        return ModelInfo(
            vision=False,
            function_calling=False,
            json_output=False,
            family="unknown",
            structured_output=False,
        )


def _agent(member: int, pause_s: float = 0.0) -> AssistantAgent:
    return AssistantAgent(f"m_{member}", model_client=Model(pause_s))


@asynccontextmanager
async def team(
    members: int, folder: str | None, safest: bool, pause_s: float
) -> AsyncIterator[Turns]:
    agents = [_agent(member, pause_s) for member in range(members)]

    async def turns(member: int, count: int, heard: Heard | None = None) -> None:
        agent = agents[member]
        for number in range(count):
            asked = TextMessage(content=text(number), source="user")
            await agent.on_messages([asked], CancellationToken())
            if folder:
                state = json.dumps(await agent.save_state()).encode()
                replace_synced(kept(folder, member), state)
            if heard is not None:
                heard(member)

    yield turns


async def stored(folder: str, members: int) -> list[int]:
    found = []
    for member in range(members):
        agent, state = _agent(member), read_kept(folder, member)
        if state is not None:
            await agent.load_state(json.loads(state))
        messages = await agent.model_context.get_messages()
        found.append(sum(each.type == "AssistantMessage" for each in messages))
    return found


@dataclass
class Note:
    content: str


class Answering(RoutedAgent):
    @message_handler
    async def on_note(self, message: Note, ctx: MessageContext) -> Note:
        return message


@asynccontextmanager
async def pair(count: int) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A message there, its answer back, between two agents of the runtime."""
    runtime = SingleThreadedAgentRuntime()
    for name in "ab":
        await Answering.register(runtime, name, lambda: Answering("answers"))
    runtime.start()

    async def passing() -> None:
        sender, recipient = AgentId("a", "one"), AgentId("b", "one")
        for number in range(count // 2):
            await runtime.send_message(Note(text(number)), recipient, sender=sender)

    yield passing
    await runtime.stop()


BY_THE_APPLICATION = "the application writes save_state() to a synced file each turn"
PEER = Peer(
    ASYNCIO,
    team,
    stored,
    pair,
    notes={
        "swarm": "AssistantAgent, called directly",
        "durable": BY_THE_APPLICATION,
        "kill": BY_THE_APPLICATION,
        "messages": "autogen-core, a message and its answer are two",
    },
    absent={"kill_default": "stores nothing by itself"},
)

if __name__ == "__main__":
    serve(PEER)
