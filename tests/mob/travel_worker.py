"""A mob that travels on disk until it is killed. Run as ``python -m tests.mob.travel_worker DIR``.

Owns: the program that `test_travel_kill9` kills: point, fork and rewind in turns, each told on
stdout once it is acknowledged. Run again on the same directory it goes on.
"""

from __future__ import annotations

import sys

import trio

from mob import open_mob
from mob.definition import MobDefinition
from stores import open_lmdb
from tests.mob.mobs import table


async def main(directory: str) -> None:
    """Never ends by itself."""
    definition = MobDefinition.from_table(table(("a", "b")))
    async with open_lmdb(directory) as store, open_mob(definition, store=store) as mob:
        number = len(store.streams())
        while True:
            number += 1
            text = f"round {number}"
            await mob.ask("a", text)
            label = f"p{len(mob.points())}"
            await mob.snapshot(label)
            await mob.ask("b", text)
            if f"realm/f{number}".encode() not in store.streams():
                await mob.fork(f"f{number}", at=label)
                sys.stdout.write(f"fork f{number} {text}\n")
                sys.stdout.flush()
            left = await mob.rewind(label)
            if number % 2:
                await mob.rewind(left.label)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
