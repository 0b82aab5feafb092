"""A lead that hires while it works, and a roster that is what somebody declares.

    python examples/dynamic/dynamic.py

Needs no key: a script stands in for the lead's model, `sim:echo` for the others'. The lead's tool
adds members to the mob in one commit; afterwards one of them begins anew, and the mob goes back to
the members that it is declared to have.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import trio

from mob import Mob, MobDefinition, open_mob
from mob.errors import StaleFence
from runtime.messages import ToolResult
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import ScriptedModel, calling
from runtime.tools.function import tool

TOPICS: Final = ("tides", "moon", "harbours")

DEFINITION: Final[dict[str, Any]] = {
    "mob": {"id": "dynamic", "lead": "lead"},
    "models": {"lead": {"model": "sim:echo"}, "researcher": {"model": "sim:echo"}},
    "tools": {"hire": {"function": "dynamic.py:hire", "idempotent": True}},
    "profiles": {
        "lead": {
            "model": "lead",
            "instructions": "Hire one researcher for each topic, then report what they say.",
            "tools": ["hire"],
        },
        "researcher": {"model": "researcher", "instructions": "Say what is known, in a sentence."},
    },
    "members": {"lead": {"profile": "lead"}},
    "limits": {"members": 8},
}


def scripted_lead(request: ModelRequest) -> ModelReply | str:
    """What a model would do that follows the instructions."""
    last = request.messages[-1]
    if isinstance(last, ToolResult):
        return "\n".join(f"{name}: {said}" for name, said in json.loads(last.text).items())
    return calling(("hire", {"topics": list(TOPICS)}))


async def main() -> None:
    """Let the lead hire and report; then change who is there."""
    hired: list[Mob] = []

    async def hire(topics: list[str]) -> dict[str, str]:
        """Add a researcher for each topic, ask them all, return what they say.

        Args:
            topics: What to find out about, a word each.
        """
        (mob,) = hired
        new = [topic for topic in topics if topic not in mob.members]
        await mob.spawn_many([(topic, "researcher") for topic in new])
        said: dict[str, str] = {}

        async def ask(topic: str) -> None:
            said[topic] = (await mob.ask(topic, f"What of the {topic}?")).text

        async with trio.open_nursery() as nursery:
            for topic in topics:
                nursery.start_soon(ask, topic)
        return {topic: said[topic] for topic in topics}

    models = {"lead": ScriptedModel(scripted_lead)}
    tools = {"hire": tool(hire, idempotent=True)}
    async with open_mob(MobDefinition.from_table(DEFINITION), models=models, tools=tools) as mob:
        hired.append(mob)
        print((await mob.ask("lead", "Report.")).text)
        seen = mob.fence("moon")
        now = await mob.respawn("moon", "begin anew", fence=seen)
        try:
            await mob.respawn("moon", "somebody else had the same idea", fence=seen)
        except StaleFence as error:
            print(f"refused: {error}", file=sys.stderr)
        print(f"moon is in generation {now.generation}", file=sys.stderr)
        report = await mob.ensure({"lead": "lead", "tides": "researcher"})
        print(f"retired: {', '.join(report.retired)}", file=sys.stderr)
        print(f"members: {', '.join(mob.members)}", file=sys.stderr)
        await mob.complete()


if __name__ == "__main__":
    trio.run(main)
