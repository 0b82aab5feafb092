"""pydantic-ai: an `Agent` with a `FunctionModel` for each member.

The application passes the messages of the last result on. It can write them as JSON, and the one
store that it ships keeps them in memory: the application writes the file, and syncs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from protocol import ASYNCIO, Heard, Peer, Turns, kept, read_kept, replace_synced, serve, text
from pydantic_ai import Agent, ModelMessagesTypeAdapter
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel


def _agent(pause_s: float) -> Agent[None, str]:
    async def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if pause_s:
            await asyncio.sleep(pause_s)
        return ModelResponse(parts=[TextPart(text(len(messages)))])

    return Agent(FunctionModel(answer))


@asynccontextmanager
async def team(
    members: int, folder: str | None, safest: bool, pause_s: float
) -> AsyncIterator[Turns]:
    agents = [_agent(pause_s) for _ in range(members)]
    histories: list[list[ModelMessage]] = [[] for _ in range(members)]

    async def turns(member: int, count: int, heard: Heard | None = None) -> None:
        for number in range(count):
            result = await agents[member].run(text(number), message_history=histories[member])
            histories[member] = result.all_messages()
            if folder:
                messages = ModelMessagesTypeAdapter.dump_json(histories[member])
                replace_synced(kept(folder, member), messages)
            if heard is not None:
                heard(member)

    yield turns


async def stored(folder: str, members: int) -> list[int]:
    found = []
    for member in range(members):
        written = read_kept(folder, member)
        messages = ModelMessagesTypeAdapter.validate_json(written) if written is not None else []
        found.append(sum(isinstance(each, ModelResponse) for each in messages))
    return found


BY_THE_APPLICATION = "the application writes all messages to a synced file each turn"
PEER = Peer(
    ASYNCIO,
    team,
    stored,
    notes={"durable": BY_THE_APPLICATION, "kill": BY_THE_APPLICATION},
    absent={
        "messages": "an agent calls another as a tool, they do not send",
        "kill_default": "stores nothing on disk by itself",
    },
)

if __name__ == "__main__":
    serve(PEER)
