"""What the LMDB store costs, each figure beside a floor measured in the same run.

    python benchmarks/store.py [commits|append|bytes|reopen|verify ...] [--repeats R] [--json]

commits   durable records per CPU second, 1,000 tasks that each wait for every record, beside a bare
          Trio and LMDB group-commit loop
append    CPU time of a record when its stream holds 100,000 records, beside one that holds 10
bytes     bytes written to disk and bytes kept for each record, beside its payload
reopen    time to open a store and read the newest record, with 100,000 records beside 100: after an
          orderly end, when nothing is looked at
verify    time to look at every byte after a crash, for each gigabyte, beside reading the file

Floor and store alternate, each run in a fresh process; figures are medians. CPU seconds and ratios
are what to trust: machines are shared, and disks differ.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import trio
from fresh import (
    Figures,
    Spent,
    Work,
    alternating,
    bytes_kept,
    bytes_written,
    in_fresh_process,
    parser,
    ran_here,
)

PAYLOAD = b"the quick brown fox " * 10


async def _in_tasks(tasks: int, work: Callable[[int], Awaitable[None]]) -> Figures:
    """CPU and wall seconds of `work` in `tasks` tasks at once."""
    with Spent() as spent:
        async with trio.open_nursery() as nursery:
            for index in range(tasks):
                nursery.start_soon(work, index)
    return spent.figures()


async def commits_store(folder: str, tasks: int = 1000, turns: int = 40) -> Figures:
    """Each task appends to the one stream and waits, `turns` times."""
    from stores import Append, open_lmdb

    async with open_lmdb(folder) as store:

        async def member(_: int) -> None:
            for _ in range(turns):
                await store.submit([Append(b"journal", 1, PAYLOAD)]).wait()

        figures = await _in_tasks(tasks, member)
    return {**figures, "records": tasks * turns}


async def commits_floor(folder: str, tasks: int = 1000, turns: int = 40) -> Figures:
    """The same with a list, an event and LMDB's own put."""
    import lmdb

    environment = lmdb.open(folder, map_size=4 << 30)
    queue: list[tuple[bytes, bytes]] = []
    filled, synced = trio.Event(), trio.Event()
    count = 0

    def commit(batch: list[tuple[bytes, bytes]]) -> None:
        with environment.begin(write=True) as transaction:
            transaction.cursor().putmulti(batch)

    async def writer() -> None:
        nonlocal filled, synced
        while True:
            await filled.wait()
            filled, done, synced = trio.Event(), synced, trio.Event()
            batch, queue[:] = queue[:], []
            await trio.to_thread.run_sync(commit, batch)
            done.set()

    async def member(_: int) -> None:
        nonlocal count
        for _ in range(turns):
            count += 1
            queue.append((b"%016d" % count, PAYLOAD))
            waiting = synced
            filled.set()
            await waiting.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer)
        figures = await _in_tasks(tasks, member)
        nursery.cancel_scope.cancel()
    environment.close()
    return {**figures, "records": tasks * turns}


async def append(folder: str, history: int) -> Figures:
    """2,000 appends, one waited for after the other, to a stream of `history` records."""
    from stores import Append, open_lmdb

    async with open_lmdb(folder) as store:
        for _ in range(history):
            store.submit([Append(b"s", 1, PAYLOAD)])
        await store.barrier()
        with Spent() as spent:
            for _ in range(2000):
                await store.commit([Append(b"s", 1, PAYLOAD)])
    return spent.figures(records=2000)


async def written(folder: str, tasks: int) -> Figures:
    """What 40,000 records of `tasks` tasks at once write and leave."""
    from stores import open_lmdb

    async with open_lmdb(folder):
        pass
    before, turns = bytes_written(), 40_000 // tasks
    figures = await commits_store(folder, tasks, turns if tasks > 1 else 2000)
    return {
        **figures,
        "written": (bytes_written() - before) / figures["records"],
        "kept": bytes_kept(folder) / figures["records"],
        "payload": len(PAYLOAD),
    }


_FILL = """
import sys, trio
from stores import Append, open_lmdb
async def main():
    async with open_lmdb(sys.argv[1]) as store:
        for index in range(int(sys.argv[2])):
            if store.crowded:
                await store.room()
            store.submit([Append(b"s%d" % (index % 100), 1, bytes(int(sys.argv[3])))])
trio.run(main)
"""


def _fill(folder: str, records: int, size: int) -> None:
    subprocess.run([sys.executable, "-c", _FILL, folder, str(records), str(size)], check=True)


async def reopen(folder: str, records: int) -> Figures:
    """Open, read the newest record of one stream, close."""
    from stores import open_lmdb

    _fill(folder, records, len(PAYLOAD))
    spent = Spent()
    async with AsyncExitStack() as opened:
        with spent:
            store = await opened.enter_async_context(open_lmdb(folder))
            assert store.entry(b"s0", store.last(b"s0"))
    return spent.figures(records=records)


async def verify(folder: str, size: int) -> Figures:
    """Look at every byte of records of `size` bytes."""
    from stores import verify_lmdb

    _fill(folder, (200 << 20) // size, size)
    wall = time.perf_counter()
    report = verify_lmdb(folder)
    wall = time.perf_counter() - wall
    assert report.sound
    return {"wall_s": wall, "cpu_s": wall, "gigabytes": report.bytes / (1 << 30)}


async def verify_floor(folder: str) -> Figures:
    """Read the same file and take one checksum of it."""
    import zlib

    _fill(folder, (200 << 20) // len(PAYLOAD), len(PAYLOAD))
    wall = time.perf_counter()
    size = crc = 0
    with open(f"{folder}/data.mdb", "rb") as file:  # noqa: ASYNC230  # nothing else runs
        while piece := file.read(1 << 20):
            crc, size = zlib.crc32(piece, crc), size + len(piece)
    return {"wall_s": time.perf_counter() - wall, "cpu_s": 0, "gigabytes": size / (1 << 30)}


WORKS: dict[str, Work] = {
    "commits_floor": commits_floor,
    "commits_store": commits_store,
    "append": append,
    "written": written,
    "reopen": reopen,
    "verify": verify,
    "verify_floor": verify_floor,
}

#: What is compared: a name for each piece of work, with what it is given.
RUNS: dict[str, dict[str, tuple[str, *tuple[int, ...]]]] = {
    "commits": {"floor": ("commits_floor",), "store": ("commits_store",)},
    "append": {"10": ("append", 10), "100000": ("append", 100_000)},
    "bytes": {"alone": ("written", 1), "1000 tasks": ("written", 1000)},
    "reopen": {"100": ("reopen", 100), "100000": ("reopen", 100_000)},
    "verify": {
        "floor": ("verify_floor",),
        "200 bytes": ("verify", 200),
        "4000 bytes": ("verify", 4000),
    },
}


def _line(name: str, medians: dict[str, Figures]) -> str:
    first, *_, last = medians.values()
    if name == "commits":
        rate = {which: each["records"] / each["cpu_s"] for which, each in medians.items()}
        return (
            f"durable records: {rate['store']:,.0f} a CPU second"
            f" ({1e6 / rate['store']:.1f} us each), {last['records'] / last['wall_s']:,.0f} a"
            f" second; {rate['floor'] / rate['store']:.2f} times the CPU of the floor"
        )
    if name == "append":
        cost = [each["cpu_s"] / each["records"] * 1e6 for each in medians.values()]
        return (
            f"append, waited for alone: {cost[0]:.0f} us of CPU with a history of 10,"
            f" {cost[1]:.0f} us with 100,000: ratio {cost[1] / cost[0]:.2f}"
        )
    if name == "bytes":
        return "; ".join(
            f"bytes a record, {which}: {each['written']:,.0f} written, {each['kept']:,.0f} kept,"
            f" {each['written'] / each['payload']:.2f} and {each['kept'] / each['payload']:.2f}"
            f" times the payload of {each['payload']:.0f}"
            for which, each in medians.items()
        )
    if name == "reopen":
        return (
            f"reopen after an orderly end: {first['wall_s'] * 1e3:.1f} ms with 100 records,"
            f" {last['wall_s'] * 1e3:.1f} ms with 100,000: ratio"
            f" {last['wall_s'] / first['wall_s']:.2f}"
        )
    pace = {which: each["wall_s"] / each["gigabytes"] for which, each in medians.items()}
    return (
        f"look at every byte: {pace['200 bytes']:.1f} s/GB with records of 200 bytes,"
        f" {pace['4000 bytes']:.1f} with 4,000; reading the file alone {pace['floor']:.2f} s/GB:"
        f" ratios {pace['200 bytes'] / pace['floor']:.1f} and"
        f" {pace['4000 bytes'] / pace['floor']:.1f}"
    )


def main() -> None:
    options_of = parser(__doc__, repeats=5)
    options_of.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(RUNS)}; all by default"
    )
    options = options_of.parse_args()
    if ran_here(options, WORKS):
        return
    unknown = [name for name in options.names if name not in RUNS]
    if unknown:
        options_of.error(f"{', '.join(unknown)}: give some of {', '.join(RUNS)}")
    report: dict[str, dict[str, Figures]] = {}
    for name in options.names or RUNS:
        report[name] = alternating(
            {which: partial(in_fresh_process, *run) for which, run in RUNS[name].items()},
            options.repeats,
            name,
        )
        if not options.json:
            print(_line(name, report[name]), flush=True)
    if options.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
