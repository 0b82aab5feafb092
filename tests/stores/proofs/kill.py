"""Proof: `kill -9` of a process that writes loses nothing it had acknowledged, and tears nothing.

    python -m tests.stores.proofs.kill [--kills N] [--seed S]

Twenty members append to a shared and an own stream and count in a row, in one batch each, and say
so only when their ticket is done. The process is killed at a random moment; the store is opened
and everything in it compared, record by record, with what each must hold; then the next process
goes on with the same store. Every twentieth kill begins a new one.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio

from stores import open_lmdb
from tests.stores.proofs.disk import ROOT
from tests.stores.proofs.script import say

#: Kills that one store lives through.
_LIVES = 20

# One write for each line, smaller than a pipe's atomic size, so lines are whole.
WRITER = """
import os, sys, trio
from stores import Append, Put, open_lmdb

async def member(store, name):
    count = int(store.get(b"count/" + name) or 0)
    while True:
        count += 1
        payload = b"%s %d " % (name, count) + name * (count * 37 % 3000)
        batch = [Append(b"journal", 1, payload), Append(b"own/" + name, 2, payload, 3),
                 Put(b"count/" + name, b"%d" % count)]
        journal, own = await store.submit(batch).wait()
        os.write(1, b"%s %d %d %d\\n" % (name, count, journal, own))

async def main():
    async with open_lmdb(sys.argv[1], map_size=1) as store, trio.open_nursery() as nursery:
        for index in range(20):
            nursery.start_soon(member, store, b"m%d" % index)

trio.run(main)
"""


def payload_of(name: bytes, count: int) -> bytes:
    return b"%s %d " % (name, count) + name * (count * 37 % 3000)


def write_until_killed(path: Path, after_s: float) -> list[list[bytes]]:
    """The acknowledgements of a process that is killed `after_s` seconds after its first."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        first = writer.stdout.readline()
        assert first, "the writer ended by itself"
        # The pipe is not read meanwhile: a full one stops the writer at some acknowledgement,
        # which is as good a moment as any.
        time.sleep(after_s)
        writer.kill()
        rest = writer.stdout.read()
    assert writer.returncode == -signal.SIGKILL
    lines = [first, *rest.splitlines(keepends=True)]
    return [line.split() for line in lines if line.endswith(b"\n")]


async def check(path: Path, acknowledged: dict[bytes, int], journal: dict[int, bytes]) -> int:
    """Every acknowledged record is there with its content; the unacknowledged are whole."""
    counts: dict[bytes, int] = {}
    async with open_lmdb(path) as store:
        last = store.last(b"journal")
        entries = store.read(b"journal", limit=last + 1)
        assert [entry.seq for entry in entries] == list(range(1, last + 1))
        for entry in entries:
            name = entry.payload.split(b" ", 1)[0]
            counts[name] = counts.get(name, 0) + 1
            assert entry.payload == payload_of(name, counts[name])
            assert journal.get(entry.seq, entry.payload) == entry.payload
        assert max(journal, default=0) <= last
        for name, count in counts.items():
            assert count >= acknowledged.get(name, 0)
            assert store.last(b"own/" + name) == count
            assert store.get(b"count/" + name) == b"%d" % count
            own = store.read(b"own/" + name, limit=count + 1)
            assert [(e.kind, e.version, e.payload) for e in own] == [
                (2, 3, payload_of(name, index)) for index in range(1, count + 1)
            ]
        assert acknowledged.keys() <= counts.keys()
    return last


def prove(kills: int, seed: int) -> str:
    """Kill that often; a line of figures. Raises `AssertionError` at the first thing wrong."""
    moments = random.Random(seed)
    told = kept = 0
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch)
        acknowledged: dict[bytes, int] = {}
        journal: dict[int, bytes] = {}
        for kill in range(kills):
            if kill % _LIVES == 0:
                path = Path(scratch) / f"state-{kill}"
                acknowledged, journal = {}, {}
            before = len(journal)
            for name, count, seq, own in write_until_killed(path, moments.uniform(0, 0.05)):
                assert int(count) == int(own) > acknowledged.get(name, 0)
                acknowledged[name] = int(count)
                journal[int(seq)] = payload_of(name, int(count))
            told += len(journal) - before
            last = trio.run(check, path, acknowledged, journal)
            kept += last if kill % _LIVES == _LIVES - 1 or kill == kills - 1 else 0
    return (
        f"kill -9: {kills} kills, {told} acknowledged batches, {kept} found, 0 lost, 0 torn,"
        f" seed {seed}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    say(prove(options.kills, options.seed))


if __name__ == "__main__":
    main()
