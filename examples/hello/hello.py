"""A mob in Python: a tool, a member that joins later, a message nobody waits for, and the events.

    python examples/hello/hello.py [--model PROVIDER:ID]

It needs no key and keeps nothing; with `open_lmdb("state")` as the store it would all be on disk.
"""

import argparse
from pathlib import Path

import trio

from mob import MobDefinition, open_mob


def count_letters(text: str) -> int:
    """Count the letters of a text."""
    return sum(character.isalpha() for character in text)


MOB = {
    "mob": {"id": "hello", "lead": "ann"},
    "tools": {"count_letters": {"function": "hello.py:count_letters", "idempotent": True}},
    "profiles": {"helper": {"model": "any", "tools": ["count_letters"]}},
    "members": {"ann": {"profile": "helper"}},
}


async def main(model: str) -> None:
    table = {**MOB, "models": {"any": {"model": model}}}
    async with open_mob(MobDefinition.from_table(table, folder=Path(__file__).parent)) as mob:
        print((await mob.ask("ann", "How many letters has hello?")).text)
        bob = await mob.spawn("bob", profile="helper")
        await mob.send("bob", "And goodbye?")  # recorded when this returns, answered later
        async for event in mob.events():  # everything since the beginning, then what comes
            print(event.seq, kind := type(event.record).__name__)
            if kind == "TurnEnded" and event.record.session_id == bob:
                break


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="A mob in Python.")
    options.add_argument("--model", default="sim:agent", help="provider:id; default: sim:agent")
    trio.run(main, options.parse_args().model)
