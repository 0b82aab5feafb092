"""A background swarm: a lead sends researchers out, goes on, and puts together what they find.

    python examples/swarm/swarm.py [--model PROVIDER:ID]

Needs no key: without --model a script stands in for the lead's model and `sim:echo` for the
researchers'. With a key, `--model openai:gpt-5-mini` runs the same mob on a real one.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Final

import trio

from mob import MobDefinition, open_mob
from mob.cli.tree import drawn
from mob.view import live_view
from runtime.messages import ToolResult, UserMessage
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import ScriptedModel, calling

TOPICS: Final = ("how bees navigate", "how bees talk", "how bees keep warm")

DEFINITION: Final[dict[str, Any]] = {
    "mob": {"id": "swarm", "lead": "lead"},
    "models": {"lead": {"model": "sim:echo"}, "researcher": {"model": "sim:echo"}},
    "profiles": {
        "lead": {
            "model": "lead",
            "instructions": "Start one researcher in the background for each topic, all at once."
            " Then wait for each with wait_task and report what they found.",
            "subagents": {"profile": "researcher", "max_children": 8, "background": True},
        },
        "researcher": {"model": "researcher", "instructions": "Say what is known, in a sentence."},
    },
    "members": {"lead": {"profile": "lead"}},
}


def scripted_lead(request: ModelRequest) -> ModelReply | str:
    """What a model would do that follows the instructions."""
    turn = list(request.messages)
    while not isinstance(turn[0], UserMessage) or any(
        isinstance(each, UserMessage) for each in turn[1:]
    ):
        turn.pop(0)  # earlier turns
    told = [json.loads(each.text) for each in turn if isinstance(each, ToolResult)]
    if not told:
        helpers = [
            {"name": topic.rsplit(" ", 1)[-1], "instructions": topic, "mode": "background"}
            for topic in TOPICS
        ]
        return calling(*[("spawn_agent", each) for each in helpers])
    if len(told) == len(TOPICS):
        waits = [{"task_id": each["task_id"], "timeout_s": 600} for each in told]
        return calling(*[("wait_task", each) for each in waits])
    return "\n".join(f"{each['name']}: {each['answer']}" for each in told[len(TOPICS) :])


async def main(model: str | None) -> None:
    """Ask the lead; show the tree while the swarm works, and the report."""
    table = {**DEFINITION}
    models = {}
    if model is None:
        models["lead"] = ScriptedModel(scripted_lead)
    else:
        table["models"] = {alias: {"model": model} for alias in table["models"]}
    async with open_mob(MobDefinition.from_table(table), models=models) as mob:
        result = await mob.ask("lead", f"Report on {', '.join(TOPICS)}.")
        for line in drawn(live_view(mob)):
            print(line, file=sys.stderr)
        print(result.text)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="A lead with a background swarm.")
    options.add_argument("--model", help="provider:id for everybody; default: a script, no key")
    trio.run(main, options.parse_args().model)
