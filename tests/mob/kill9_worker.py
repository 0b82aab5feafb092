"""A mob that works on disk until it is killed. Run as ``python -m tests.mob.kill9_worker DIR N``.

Owns: the program that `test_kill9` kills. It tells on stdout, a JSON line each, what has been
acknowledged to it; run again on the same directory it goes on. `N` is how many rounds there are:
in each the lead is asked a question (it asks three researchers, each of which starts a child) and a
researcher is sent a note.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import trio

from mob import MobDefinition, open_mob
from mob.mob import Mob
from stores import open_lmdb

#: Seconds of a simulated model call: a round takes about eight of them in a row.
LATENCY_S = 0.004

DEFINITION: dict[str, Any] = {
    "mob": {"id": "kill9", "lead": "lead"},
    "models": {"m": {"model": "sim:agent", "options": {"latency_s": LATENCY_S}}},
    "profiles": {
        "lead": {"model": "m", "tool_choice": ["ask_researcher", "none"]},
        "researcher": {
            "model": "m",
            "tool_choice": ["spawn_agent", "none"],
            "subagents": {"profile": "helper", "max_depth": 1},
        },
        "helper": {"model": "m"},
    },
    "members": {
        "lead": {"profile": "lead"},
        "r": {"profile": "researcher", "replicas": 3},
    },
    "wiring": {"edges": [["lead", "r"]]},
    "checkpoint": {"every_turns": 4},
}


def tell(**what: Any) -> None:
    """Write one line that is either read whole or not at all."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def one_round(mob: Mob, index: int) -> None:
    """Ask and send, both under keys, so that whoever begins again joins what there is."""

    async def ask() -> None:
        key = f"ask {index}"
        result = await mob.ask("lead", f"What of topic {index}?", idempotency_key=key)
        tell(key=key, text=result.text)

    async def send() -> None:
        key = f"send {index}"
        await mob.send(f"r-{index % 3}", f"Note well {index}.", idempotency_key=key)
        tell(key=key)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(send)


async def main(directory: str, rounds: int) -> None:
    """Do the rounds, two at a time, and wait until nothing is left to do."""
    definition = MobDefinition.from_table(DEFINITION)
    async with open_lmdb(directory) as store, open_mob(definition, store=store) as mob:
        tell(ready=True)
        for index in range(0, rounds, 2):
            async with trio.open_nursery() as nursery:
                for each in range(index, min(index + 2, rounds)):
                    nursery.start_soon(one_round, mob, each)
        await mob.wait_idle()
        tell(done=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
