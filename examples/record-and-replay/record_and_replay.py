"""A run recorded, and run again out of the recording, without the model.

Needs no key: sim:agent is recorded. Name another model to record that one:

    python examples/record-and-replay/record_and_replay.py --model anthropic:claude-haiku-4-5
"""

import argparse
import tempfile
from pathlib import Path

import trio

from mob import MobDefinition, open_mob
from runtime.errors import SessionError
from runtime.messages import Usage
from runtime.models.recording import RecordingModel, ReplayModel, load_recording
from runtime.models.registry import open_model

DEFINITION = MobDefinition.from_table(
    {
        "mob": {"id": "tides", "lead": "lead"},
        "models": {"main": {"model": "sim:agent", "price": {"input": 1, "output": 5}}},
        "profiles": {
            "lead": {"model": "main", "tool_choice": ["ask_expert"]},
            "expert": {
                "model": "main",
                "peer_description": "Knows the sea.",
                "tool_choice": ["none"],
            },
        },
        "members": {"lead": {"profile": "lead"}, "expert": {"profile": "expert"}},
        "wiring": {"edges": [["lead", "expert"]]},
    }
)
QUESTION = "How often does the tide rise in a day?"


async def ask(model: RecordingModel | ReplayModel, question: str) -> tuple[str, Usage]:
    """What a new mob on `model` answers, and what that cost."""
    async with open_mob(DEFINITION, models={"main": model}) as mob:
        result = await mob.ask("lead", question)
        return result.text, result.usage


async def main(reference: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calls.jsonl"
        model = RecordingModel(open_model(reference), path)
        try:
            answer, usage = await ask(model, QUESTION)
        finally:
            await model.aclose()
        print(f"recorded  {answer!r}, {len(load_recording(path).calls)} calls to {reference}")

        again, replayed = await ask(ReplayModel(path), QUESTION)
        print(f"replayed  {again!r}")
        assert (again, replayed) == (answer, usage)

        told = ""
        try:
            await ask(ReplayModel(path), "And in a week?")
        except SessionError as error:
            told = str(error)
        print(f"refused   {told}")
        assert "nearest is call" in told, "it was not recorded"


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="A run recorded, and replayed.")
    options.add_argument("--model", default="sim:agent", help="provider:id; default: sim:agent")
    trio.run(main, options.parse_args().model)
