"""Members that send on disk until they are killed: ``... tests.mob.comms.kill9_worker DIR N``.

Owns: the program that `test_kill9` kills. Two senders and a member's tool each send `N` numbered
messages to ``b``, whose mailbox is small, and ``b`` replies to requests. It tells on stdout, a JSON
line each, what was acknowledged; run again on the same directory it goes on.
"""

from __future__ import annotations

import json
import re
import sys

import trio

from mob import MobDefinition, open_mob
from mob.mob import Mob
from runtime.messages import SystemMessage, ToolResult, UserMessage
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import ScriptedModel, calling
from stores import open_lmdb

DEFINITION = MobDefinition.from_table(
    {
        "mob": {"id": "kill9", "lead": "a"},
        "models": {"m": {"model": "sim:echo"}},
        "profiles": {"p": {"model": "m", "comms": True, "restart": {"max": 1000}}},
        "members": {name: {"profile": "p"} for name in "abcd"},
        "wiring": {"edges": [["a", "b"]], "directed": ["c -> b", "d -> b"]},
        "mailbox": {"max_messages": 4},
        "checkpoint": {"every_turns": 3},
    }
)


async def answer(request: ModelRequest) -> ModelReply | str:
    """``go N`` is sent on with a tool, a request is replied to."""
    await trio.sleep(0.001)
    last = [each for each in request.messages if not isinstance(each, SystemMessage)][-1]
    if isinstance(last, ToolResult):
        return last.text
    assert isinstance(last, UserMessage)
    if last.text.startswith("go "):
        return calling(("send_message", {"to": "b", "text": f"a {last.text[3:]}"}))
    if asked := re.match(r"\[request (\S+)\] (.*)", last.text):
        return calling(("reply", {"request_id": asked[1], "text": f"to {asked[2]}"}))
    return "ok"


def tell(**what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def main(directory: str, count: int) -> None:
    """Send everything under keys, so that whoever begins again joins what there is."""
    models = {"m": ScriptedModel(answer)}
    async with (
        open_lmdb(directory) as store,
        open_mob(DEFINITION, store=store, models=models) as mob,
    ):
        tell(ready=True)
        async with trio.open_nursery() as nursery:
            for sender in "cd":
                nursery.start_soon(_stream, mob, sender, count)
            nursery.start_soon(_by_tool, mob, count)
            nursery.start_soon(_requests, mob, count)
        await mob.wait_idle()
        tell(done=True)


async def _stream(mob: Mob, sender: str, count: int) -> None:
    for index in range(count):
        key = f"{sender} {index}"
        await mob.send("b", key, sender=sender, idempotency_key=key)
        tell(key=key)


async def _by_tool(mob: Mob, count: int) -> None:
    for index in range(count):
        result = await mob.ask("a", f"go {index}", idempotency_key=f"go {index}")
        if result.text != "sent":  # there was no room, which is told to the model
            await mob.send("b", f"a {index}", sender="a", idempotency_key=f"a {index}")
        tell(key=f"a {index}")


async def _requests(mob: Mob, count: int) -> None:
    for index in range(count):
        reply = await mob.request(None, "b", f"r {index}", 600, idempotency_key=f"r {index}")
        assert reply == f"to r {index}"
        tell(key=f"r {index}")


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
