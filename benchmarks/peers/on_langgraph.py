"""langgraph: a graph of one node that calls the model. Ten turns are ten steps of one run.

What is stored is langgraph's own SQLite checkpointer. Its safest setting is ``durability="sync"``,
its default is "async".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from protocol import ASYNCIO, Heard, Peer, Turns, serve, text


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    left: int


def _compiled(saver: Any, pause_s: float) -> Any:
    async def call_model(state: State) -> dict[str, Any]:
        if pause_s:
            await asyncio.sleep(pause_s)
        number, left = len(state["messages"]), state["left"] - 1
        new: list[AnyMessage] = [AIMessage(text(number))]
        if left:
            new.append(HumanMessage(text(number + 1)))
        return {"messages": new, "left": left}

    graph = StateGraph(State)
    graph.add_node("model", call_model)
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", lambda state: "model" if state["left"] else END)
    return graph.compile(checkpointer=saver)


async def _saver(stack: AsyncExitStack, folder: str) -> AsyncSqliteSaver:
    return await stack.enter_async_context(AsyncSqliteSaver.from_conn_string(f"{folder}/kept.db"))


@asynccontextmanager
async def team(
    members: int, folder: str | None, safest: bool, pause_s: float
) -> AsyncIterator[Turns]:
    results: dict[int, Any] = {}
    async with AsyncExitStack() as stack:
        graph = _compiled(await _saver(stack, folder) if folder else None, pause_s)
        settings = {"durability": "sync"} if folder and safest else {}

        async def turns(member: int, count: int, heard: Heard | None = None) -> None:
            config = {"recursion_limit": count + 10, "configurable": {"thread_id": str(member)}}
            begin = {"messages": [HumanMessage(text(member))], "left": count}
            if heard is None:
                results[member] = await graph.ainvoke(begin, config, **settings)
                return
            streamed = graph.astream(begin, config, stream_mode="updates", **settings)
            async for _ in streamed:
                heard(member)

        yield turns


async def stored(folder: str, members: int) -> list[int]:
    found = []
    async with AsyncExitStack() as stack:
        graph = _compiled(await _saver(stack, folder), 0.0)
        for member in range(members):
            state = await graph.aget_state({"configurable": {"thread_id": str(member)}})
            messages = state.values.get("messages", [])
            found.append(sum(isinstance(each, AIMessage) for each in messages))
    return found


PEER = Peer(
    ASYNCIO,
    team,
    stored,
    notes={
        "durable": 'AsyncSqliteSaver, durability="sync"',
        "kill": 'durability="sync"; a turn is heard of as an update of the stream',
        "kill_default": 'durability="async", the same otherwise',
    },
    absent={"messages": "nodes share a state, they do not send to each other"},
)

if __name__ == "__main__":
    serve(PEER)
