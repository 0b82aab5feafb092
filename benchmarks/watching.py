"""What the live view costs: the CPU of the same work with nobody looking, and drawn on a terminal.

Owns: the measurement of docs/watching.md. Must not: judge; it prints a ratio.

    python -m benchmarks.watching --members 5000 --events 1000 --seconds 10
"""

from __future__ import annotations

import argparse
import os
import pty
import threading
import time
from typing import Any

import trio

from mob import MobDefinition, open_mob
from mob.cli.live import LiveTree
from mob.cli.screen import Screen
from mob.mob import Mob
from stores import open_memory

#: Records of a question and its answer.
_RECORDS = 2


def _definition(members: int) -> MobDefinition:
    shape: dict[str, Any] = {
        "mob": {"id": "swarm", "lead": "lead"},
        "models": {"main": {"model": "sim:echo", "options": {"latency_s": 0.5}}},
        "profiles": {"lead": {"model": "main"}, "worker": {"model": "main"}},
        "members": {
            "lead": {"profile": "lead"},
            "worker": {"profile": "worker", "replicas": members - 1},
        },
    }
    return MobDefinition.from_table(shape)


async def _work(mob: Mob, events: int, seconds: float) -> None:
    """Put questions to the members in turn, so many that `events` records a second come of them."""
    names = mob.members
    began = trio.current_time()
    asked = 0
    async with trio.open_nursery() as nursery:
        while (passed := trio.current_time() - began) < seconds:
            while asked < passed * events / _RECORDS:
                nursery.start_soon(mob.ask, names[asked % len(names)], "hello")
                asked += 1
            await trio.sleep(0.01)


async def _measured(members: int, events: int, seconds: float, *, shown: bool) -> tuple[float, int]:
    """CPU seconds of the work, and the records that came of it."""
    async with open_memory() as store, open_mob(_definition(members), store=store) as mob:
        ours, theirs = pty.openpty()
        reader = threading.Thread(target=_drain, args=(ours,), daemon=True)
        reader.start()
        before = mob.realm.journal.last
        async with trio.open_nursery() as nursery:
            if shown:
                display = LiveTree(Screen(os.fdopen(theirs, "w")))
                nursery.start_soon(display.run, mob, 0)
                await trio.sleep(1.0)  # the first frame has every row: the price of beginning
            began = time.process_time()
            await _work(mob, events, seconds)
            spent = time.process_time() - began
            nursery.cancel_scope.cancel()
        return spent, mob.realm.journal.last - before


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 65536):
            pass
    except OSError:
        pass


def main() -> None:
    """Measure both, and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=5000)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10.0)
    asked = parser.parse_args()
    found = []
    for shown in (False, True):
        cpu_s, records = trio.run(
            lambda shown=shown: _measured(asked.members, asked.events, asked.seconds, shown=shown)
        )
        found.append(cpu_s)
        what = "drawn" if shown else "alone"
        print(f"{what}: {cpu_s:.2f} s of CPU in {asked.seconds:g} s, {records} records")
    more = (found[1] - found[0]) / asked.seconds
    print(f"ratio {found[1] / found[0]:.3f}; the view took {more:.1%} of a core")


if __name__ == "__main__":
    main()
