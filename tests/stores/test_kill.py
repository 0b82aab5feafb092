"""`kill -9` of a process that writes: what it acknowledged is there, whole and in order."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stores import open_lmdb

# Every member appends a record and counts it in a row, in one batch; it says so on stdout only
# after its ticket. One write per line, smaller than a pipe's atomic size, so lines are whole.
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
        [sys.executable, "-c", WRITER, str(path)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
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
        entries = store.read(b"journal", limit=last)
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
            own = store.read(b"own/" + name, limit=count)
            assert [(e.kind, e.version, e.payload) for e in own] == [
                (2, 3, payload_of(name, index)) for index in range(1, count + 1)
            ]
        assert acknowledged.keys() <= counts.keys()
    return last


@pytest.mark.parametrize(
    "kills", [10, pytest.param(200, marks=pytest.mark.long)], ids=lambda kills: f"{kills}-kills"
)
async def test_every_acknowledged_record_outlives_kill_9(tmp_path: Path, kills: int) -> None:
    moments = random.Random(kills)
    path = tmp_path / "state"
    acknowledged: dict[bytes, int] = {}
    journal: dict[int, bytes] = {}
    for kill in range(kills):
        if kill % 20 == 0:
            path = tmp_path / f"state-{kill}"
            acknowledged, journal = {}, {}
        for name, count, seq, own in write_until_killed(path, moments.uniform(0, 0.05)):
            assert int(count) == int(own) > acknowledged.get(name, 0)
            acknowledged[name] = int(count)
            journal[int(seq)] = payload_of(name, int(count))
        await check(path, acknowledged, journal)
