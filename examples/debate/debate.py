"""A debate: a moderator asks two sides in turn, hands each what the other said, and sums up.

    python examples/debate/debate.py [--model PROVIDER:ID]

The sides may only talk to the moderator, not to each other: that is the wiring. The moderator asks
with `send_request` and the sides answer with `reply`; when all rounds are over it sends both a
message. Needs no key: without --model scripts stand in for the models. With a key,
`--model openai:gpt-5-mini` runs the same mob on a real one.
"""

from __future__ import annotations

import argparse
import re
import sys
from typing import Any, Final

import trio

from mob import MobDefinition, open_mob
from runtime.messages import ToolResult, UserMessage
from runtime.models.base import ModelReply, ModelRequest
from runtime.models.scripted import ScriptedModel, calling

QUESTION: Final = "Should a lighthouse be kept by people?"
ROUNDS: Final = 2
SIDES: Final = ("pro", "con")

DEFINITION: Final[dict[str, Any]] = {
    "mob": {"id": "debate", "lead": "moderator"},
    "models": {"moderator": {"model": "sim:echo"}, "side": {"model": "sim:echo"}},
    "profiles": {
        "moderator": {
            "model": "moderator",
            "instructions": f"You moderate a debate of {ROUNDS} rounds between pro and con. In each"
            " round ask first pro, then con, with send_request, and tell each what the other said"
            " last. Then thank both with send_message, and report what was said, line by line.",
            "comms": ["send_request", "send_message"],
        },
        "side": {
            "model": "side",
            "instructions": "You take part in a debate. Answer each request with one argument, with"
            " reply.",
            "comms": ["reply"],
        },
    },
    "members": {
        "moderator": {"profile": "moderator"},
        "pro": {"profile": "side", "instructions": "You are for it."},
        "con": {"profile": "side", "instructions": "You are against it."},
    },
    "wiring": {"rules": {"moderator -> side": "allow"}},
}

ARGUMENTS: Final = {
    "pro": ("A keeper sees what a sensor does not.", "A keeper mends a lamp before it fails."),
    "con": ("A sensor never sleeps.", "A spare lamp costs less than a keeper."),
}


def _turn(request: ModelRequest) -> tuple[str, list[str]]:
    """What the turn was begun with, and what its tools have said."""
    begun = max(i for i, each in enumerate(request.messages) if isinstance(each, UserMessage))
    said = [each.text for each in request.messages[begun:] if isinstance(each, ToolResult)]
    return request.messages[begun].text, said


def scripted_moderator(request: ModelRequest) -> ModelReply | str:
    """What a model would do that follows the instructions."""
    question, said = _turn(request)
    if len(said) < ROUNDS * len(SIDES):
        text = f"{question} Round {len(said) // len(SIDES) + 1} of {ROUNDS}."
        if said:
            text += f" The other side says: {said[-1]}"
        side = SIDES[len(said) % len(SIDES)]
        return calling(("send_request", {"to": side, "text": text, "deadline_s": 120}))
    if len(said) == ROUNDS * len(SIDES):
        thanks = [{"to": side, "text": "Thank you, the debate is over."} for side in SIDES]
        return calling(*[("send_message", each) for each in thanks])
    spoken = zip(SIDES * ROUNDS, said, strict=False)
    return "\n".join(f"{side}: {text}" for side, text in spoken)


def scripted_side(request: ModelRequest) -> ModelReply | str:
    """An argument for each round."""
    text, said = _turn(request)
    asked = re.match(r"\[request (\S+)\].* Round (\d+) of", text)
    if asked is None or said:
        return "Done."
    side = request.key.split("/")[1]
    argument = ARGUMENTS[side][int(asked[2]) - 1]
    return calling(("reply", {"request_id": asked[1], "text": argument}))


async def main(model: str | None) -> None:
    """Hold the debate; show who could talk to whom, and what was said."""
    table = {**DEFINITION}
    models = {}
    if model is None:
        models = {
            "moderator": ScriptedModel(scripted_moderator),
            "side": ScriptedModel(scripted_side),
        }
    else:
        table["models"] = {alias: {"model": model} for alias in table["models"]}
    async with open_mob(MobDefinition.from_table(table), models=models) as mob:
        for name in mob.members:
            peers = ", ".join(mob.peers_of(name)) or "nobody"
            print(f"{name} may send to {peers}", file=sys.stderr)
        result = await mob.ask("moderator", QUESTION)
        await mob.wait_idle()
        print(result.text)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="A debate with a moderator.")
    options.add_argument("--model", help="provider:id for everybody; default: scripts, no key")
    trio.run(main, options.parse_args().model)
