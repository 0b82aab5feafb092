"""Durable turns per CPU second of a swarm, beside a bare Trio and LMDB loop in the same run.

    python benchmarks/turns.py [--members N] [--turns T] [--repeats R] [--json]

One member is one task that asks its member T times, each time with 200 bytes of text which
``sim:echo`` sends back. Every turn is synced to disk before it is reported. The floor does the same
with no framework: tasks, one group-commit loop, one LMDB record a turn. Each figure is the median
of R runs; floor and swarm alternate, each run in a fresh process, because machines are noisy. The
ratio is what to trust.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial

import trio

MESSAGE = ("the quick brown fox jumps over the lazy dog " * 5)[:200]


async def _every(count: int, work: Callable[[int], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        for index in range(count):
            nursery.start_soon(work, index)


async def swarm(members: int, turns: int, folder: str) -> dict[str, float]:
    """The project's own turns, as a user would run them."""
    from mob import MobDefinition, open_mob
    from stores import open_lmdb

    definition = MobDefinition.from_table(
        {
            "mob": {"id": "swarm", "lead": "m-0"},
            "models": {"echo": {"model": "sim:echo"}},
            "profiles": {"talker": {"model": "echo"}},
            "members": {"m": {"profile": "talker", "replicas": members}},
        }
    )
    async with open_lmdb(folder) as store, open_mob(definition, store=store) as mob:

        async def drive(index: int) -> None:
            for _ in range(turns):
                result = await mob.ask(f"m-{index}", MESSAGE)
            assert result.text == MESSAGE

        cpu, wall = time.process_time(), time.perf_counter()
        await _every(members, drive)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"cpu_s": cpu, "wall_s": wall}


async def floor(members: int, turns: int, folder: str) -> dict[str, float]:
    """What Trio and LMDB cost without a framework: one record a turn, group commit, one wait."""
    import lmdb

    environment = lmdb.open(folder, map_size=4 << 30)
    queue: list[tuple[bytes, bytes]] = []
    filled, synced = trio.Event(), trio.Event()

    def commit(batch: list[tuple[bytes, bytes]]) -> None:
        with environment.begin(write=True) as transaction:
            for key, value in batch:
                transaction.put(key, value)

    async def writer() -> None:
        nonlocal filled, synced
        while True:
            await filled.wait()
            filled, done, synced = trio.Event(), synced, trio.Event()
            batch, queue[:] = queue[:], []
            await trio.to_thread.run_sync(commit, batch)
            done.set()

    async def drive(index: int) -> None:
        for turn in range(turns):
            await trio.lowlevel.checkpoint()  # the model call
            record = json.dumps([MESSAGE, MESSAGE]).encode()
            queue.append((b"%08d/%08d" % (index, turn), record))
            waiting = synced
            filled.set()
            await waiting.wait()

    cpu, wall = time.process_time(), time.perf_counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer)
        await _every(members, drive)
        nursery.cancel_scope.cancel()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    environment.close()
    return {"cpu_s": cpu, "wall_s": wall}


def _run_here(name: str, members: int, turns: int) -> None:
    work = {"swarm": swarm, "floor": floor}[name]
    with tempfile.TemporaryDirectory(prefix="mob-bench-") as folder:
        figures = trio.run(partial(work, members, turns, folder))
        figures["bytes"] = os.path.getsize(f"{folder}/data.mdb")
        print(json.dumps(figures))


def _measure(name: str, options: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, __file__, "--only", name]
    command += ["--members", str(options.members), "--turns", str(options.turns)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=10, help="turns of each member")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--only", choices=["swarm", "floor"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        _run_here(options.only, options.members, options.turns)
        return
    runs: dict[str, list[dict[str, float]]] = {"floor": [], "swarm": []}
    for repeat in range(options.repeats):
        for name, done in runs.items():
            print(f"{name} {repeat + 1}/{options.repeats}", end="\r", file=sys.stderr, flush=True)
            done.append(_measure(name, options))
    total = options.members * options.turns
    report: dict[str, dict[str, float]] = {}
    for name, done in runs.items():
        report[name] = {
            "turns_per_cpu_s": total / statistics.median(run["cpu_s"] for run in done),
            "turns_per_s": total / statistics.median(run["wall_s"] for run in done),
            "bytes_per_turn": statistics.median(run["bytes"] for run in done) / total,
        }
    ratio = report["floor"]["turns_per_cpu_s"] / report["swarm"]["turns_per_cpu_s"]
    if options.json:
        print(json.dumps({"members": options.members, "turns": total, **report, "ratio": ratio}))
        return
    print(f"{options.members} members, {options.turns} durable turns each,")
    print(f"medians of {options.repeats} runs, each in a fresh process")
    for name, figures in report.items():
        per_cpu, per_s = figures["turns_per_cpu_s"], figures["turns_per_s"]
        size = figures["bytes_per_turn"]
        print(
            f"  {name:5} {per_cpu:9,.0f} turns/CPU s {per_s:9,.0f} turns/s {size:7,.0f} bytes/turn"
        )
    print(f"  a turn costs {ratio:.2f} times the CPU of the floor")


if __name__ == "__main__":
    main()
