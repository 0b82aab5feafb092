"""Answers that fit a JSON Schema: one at once, one at the second attempt, one never.

    python examples/structured-output/structured_output.py [--model PROVIDER:ID]

It needs no key: without --model the answers are scripted, so that those that do not fit can be
shown. With a model the rest stays as it is.
"""

import argparse
import sys

import trio

from mob import MobDefinition, open_mob
from runtime.errors import OutputInvalid
from runtime.models.scripted import ScriptedModel

TICKET = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["bug", "question", "praise"]},
        "urgency": {"type": "integer", "minimum": 1, "maximum": 5},
    },
    "required": ["kind", "urgency"],
    "additionalProperties": False,
}

MOB = {
    "mob": {"id": "desk", "lead": "clerk"},
    "profiles": {"clerk": {"model": "reader", "output_schema": TICKET, "output_retries": 1}},
    "members": {"clerk": {"profile": "clerk"}},
}

SCRIPT = [
    '{"kind": "question", "urgency": 2}',
    # A good answer in a fence is a good answer; one outside of the schema is sent back.
    '```json\n{"kind": "bug", "urgency": 9}\n```',
    '{"kind": "bug", "urgency": 5}',
    "It is terribly urgent!",
    "Really!",
]


async def main(model: str | None) -> None:
    script = ScriptedModel(SCRIPT)
    stands_in = {"reader": script} if model is None else None
    table = {**MOB, "models": {"reader": {"model": model or "sim:agent"}}}
    async with open_mob(MobDefinition.from_table(table), models=stands_in) as mob:
        for text in ("How do I stop a mob?", "It lost my data!", "Help!"):
            try:
                result = await mob.ask("clerk", text)
            except OutputInvalid as error:
                print(f"no ticket: {error}; the model said {error.text!r}")
            else:
                print(f"{result.output['kind']}, urgency {result.output['urgency']}")
        if model is None:
            correction = script.requests[2].messages[-1].text
            print(f"what the model was told: {correction}", file=sys.stderr)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="Answers that fit a JSON Schema.")
    options.add_argument("--model", help="provider:id; default: a script, no key")
    trio.run(main, options.parse_args().model)
