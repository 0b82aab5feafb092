"""A swarm that heals itself: its members crash, are restarted, and every question is answered.

    python examples/self-healing/self_healing.py

Needs no key: a script stands in for the models, and fails now and then, as services do. Two members
form a group that is one for all: when one of them fails, both begin again from what is journalled.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any, Final

import trio

from mob import MobDefinition, open_mob
from runtime.messages import UserMessage
from runtime.models.base import ModelRequest
from runtime.models.scripted import ScriptedModel

DEFINITION: Final[dict[str, Any]] = {
    "mob": {"id": "self-healing", "lead": "scout-0"},
    "models": {"flaky": {"model": "sim:echo"}},
    "profiles": {
        "worker": {
            "model": "flaky",
            "restart": {"policy": "on-failure", "max": 5, "backoff_s": 0.05},
        }
    },
    "members": {
        "scout": {"profile": "worker", "replicas": 8},
        "pilot": {"profile": "worker"},
        "navigator": {"profile": "worker"},
    },
    "groups": {
        "scouts": {"members": ["scout"], "strategy": "one-for-one", "restart": {"max": 50}},
        "cockpit": {"members": ["pilot", "navigator"], "strategy": "one-for-all"},
    },
}


class Flaky:
    """A model whose first calls fail, for some members."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    async def __call__(self, request: ModelRequest) -> str:
        member = request.key.split("/")[1]
        self.calls[member] += 1
        failures = {"pilot": 1, "scout-3": 2}.get(member, int(member.endswith(("1", "5"))))
        await trio.sleep(
            0.02 if failures else 0.06
        )  # the navigator is at work when the pilot fails
        if self.calls[member] <= failures:
            raise RuntimeError(f"the service hung up on {member}")
        (*_, asked) = [each for each in request.messages if isinstance(each, UserMessage)]
        return f"{member}: {asked.text} - done"


async def main() -> None:
    """Ask everybody at once; show the answers, and what went wrong on the way."""
    definition = MobDefinition.from_table(DEFINITION)
    answers: dict[str, str] = {}
    async with open_mob(definition, models={"flaky": ScriptedModel(Flaky())}) as mob:

        async def ask(name: str) -> None:
            answers[name] = (await mob.ask(name, "report")).text

        async with trio.open_nursery() as nursery:
            for name in mob.members:
                nursery.start_soon(ask, name)
        for name in mob.members:
            print(answers[name])
        for each in mob.exits():
            print(
                f"{each.name} restarted in {each.restart_in_s:g} s: {each.cause}", file=sys.stderr
            )
        await mob.complete()


if __name__ == "__main__":
    trio.run(main)
