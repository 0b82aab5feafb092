"""openai-agents: an `Agent` for each member, run by `Runner.run`, tracing off.

In memory the application passes the items of the last result on; what is stored is the package's
own `SQLiteSession`, all sessions in one file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agents import (
    Agent,
    Model,
    ModelResponse,
    RunConfig,
    Runner,
    SQLiteSession,
    Usage,
    set_tracing_disabled,
)
from openai.types.responses import ResponseOutputMessage, ResponseOutputText
from protocol import ASYNCIO, Heard, Peer, Turns, serve, text

set_tracing_disabled(True)
SETTINGS = RunConfig(tracing_disabled=True)


class NoOp(Model):
    """Answers at once, or after a while."""

    def __init__(self, pause_s: float) -> None:
        self._pause_s = pause_s

    async def get_response(self, *_: Any, **__: Any) -> ModelResponse:
        if self._pause_s:
            await asyncio.sleep(self._pause_s)
        said = ResponseOutputText(text=text(0), type="output_text", annotations=[])
        message = ResponseOutputMessage(
            id="message", type="message", role="assistant", status="completed", content=[said]
        )
        return ModelResponse(output=[message], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def _session(folder: str, member: int) -> SQLiteSession:
    return SQLiteSession(str(member), f"{folder}/kept.db")


@asynccontextmanager
async def team(
    members: int, folder: str | None, safest: bool, pause_s: float
) -> AsyncIterator[Turns]:
    agents = [Agent(name=f"m-{member}", model=NoOp(pause_s)) for member in range(members)]
    sessions = [_session(folder, member) for member in range(members)] if folder else []
    histories: list[list[Any]] = [[] for _ in range(members)]

    async def turns(member: int, count: int, heard: Heard | None = None) -> None:
        agent = agents[member]
        for number in range(count):
            if sessions:
                await Runner.run(agent, text(number), session=sessions[member], run_config=SETTINGS)
            else:
                asked = {"role": "user", "content": text(number)}
                result = await Runner.run(agent, [*histories[member], asked], run_config=SETTINGS)
                histories[member] = result.to_input_list()
            if heard is not None:
                heard(member)

    yield turns
    for session in sessions:
        session.close()


async def stored(folder: str, members: int) -> list[int]:
    found = []
    for member in range(members):
        session = _session(folder, member)
        items = await session.get_items()
        found.append(sum(each.get("role") == "assistant" for each in items))
        session.close()
    return found


PEER = Peer(
    ASYNCIO,
    team,
    stored,
    notes={"durable": "SQLiteSession", "kill": "SQLiteSession"},
    absent={
        "messages": "agents hand over to each other, they do not send",
        "kill_default": "one setting, that above",
    },
)

if __name__ == "__main__":
    serve(PEER)
