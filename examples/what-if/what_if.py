"""What if: a mob is brought to a point, and goes on from there twice, with different words.

    python examples/what-if/what_if.py
    python examples/what-if/what_if.py --model openai:gpt-5-mini

Two editors look at a draft. Then the day is told twice: once the lead is told to cut the draft,
once to add to it. Both days share what was said before; neither knows of the other. In the end the
first mob is brought back, and forward again.
"""

from __future__ import annotations

import argparse
import tempfile
import tomllib

import attrs
import trio

from mob import MobDefinition, open_mob
from mob.elsewhere import diff_mobs
from stores import Store, open_lmdb

MOB = """
[mob]
id = "desk"
lead = "editor"
[models.main]
model = "{model}"
[profiles.editor]
model = "main"
instructions = "You edit short texts. Answer in one sentence."
board = true
[members.editor]
profile = "editor"
[members.reader]
profile = "editor"
[wiring]
edges = [["editor", "reader"]]
"""


def told(definition: MobDefinition, mob_id: str) -> MobDefinition:
    """The same mob under another id: what a fork of it is opened with."""
    return attrs.evolve(definition, id=mob_id)


async def a_day(definition: MobDefinition, store: Store, words: str) -> None:
    """Tell a fork something that the others are not told."""
    async with open_mob(definition, store=store) as mob:
        answer = await mob.ask("editor", words)
        print(f"  {definition.id}: {answer.text}")


async def main(model: str) -> None:
    definition = MobDefinition.from_table(tomllib.loads(MOB.format(model=model)))
    with tempfile.TemporaryDirectory() as folder:
        async with open_lmdb(folder) as store:
            async with open_mob(definition, store=store) as mob:
                await mob.ask("editor", "The draft: A lighthouse is seen from far away.")
                await mob.board.add("decide what becomes of the draft")
                await mob.snapshot("the draft is read")
                for name in ("shorter", "longer"):
                    await mob.fork(name, at="the draft is read")

            print("Two days that begin alike:")
            await a_day(told(definition, "shorter"), store, "Cut it to three words.")
            await a_day(told(definition, "longer"), store, "Add how far away that is.")

            print("How they differ:")
            found = diff_mobs(store, ("shorter", None), ("longer", None))
            print("  " + str(found).replace("\n", "\n  "))
            assert found.members["editor"].parted
            assert "reader" not in found.members, "nobody asked the reader"

            async with open_mob(definition, store=store) as mob:
                await mob.ask("reader", "What do you think of the draft?")
                await mob.board.claim("t1", "reader")
                print("What the first mob did meanwhile:")
                print("  " + str(mob.diff("the draft is read")).replace("\n", "\n  "))
                left = await mob.rewind("the draft is read")
                assert not mob.diff("the draft is read")
                await mob.rewind(left.label)
                assert mob.board.get("t1").owner == "reader"
                print("It was brought back, and forward again.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Go on from one point twice.")
    parser.add_argument("--model", default="sim:echo", help="provider:id (sim:echo)")
    trio.run(main, parser.parse_args().model)
