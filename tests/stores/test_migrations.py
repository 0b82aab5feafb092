"""An older store becomes a newer one, wherever it is killed on the way."""

from __future__ import annotations

import functools
import os
import signal
import tempfile
from pathlib import Path

import lmdb
import pytest

from stores import Append, Damaged, StoreUnreadable, open_lmdb, read_lmdb, verify_lmdb
from stores.files import STORE_FORMAT
from stores.migrations import STEPS
from tests.stores.format1 import add_record_as_format_1, write_store
from tests.stores.processes import run_python

STREAMS = {
    b"a": [b"a %d" % index for index in range(1, 31)],
    b"b": [b"only one"],
    b"journal": [b"x" * 500 + b"%d" % index for index in range(1, 41)],
}
ROWS = {b"row/%02d" % index: b"value %d" % index for index in range(20)}


@pytest.fixture
def old(path: Path) -> Path:
    write_store(path, STREAMS, ROWS)
    return path


def test_there_is_a_step_from_every_format() -> None:
    assert [step.source for step in STEPS] == list(range(1, STORE_FORMAT))


def test_the_steps_do_not_depend_on_where_batches_end() -> None:
    from stores.codec import CHAIN_START, Mark, encode_record, encode_row, record_key, stream_prefix

    prefix, crc, records = stream_prefix(b"s"), CHAIN_START, []
    for seq in range(1, 8):
        key = record_key(prefix, seq)
        raw, crc = encode_record(key, crc, 1, 1, b"%d" % seq)
        records.append((key, raw))
    rows = [(b"k%d" % index, encode_row(b"k%d" % index, b"v")) for index in range(7)]
    results = []
    for size in (1, 2, 3, 7):
        state, written = b"", {}
        for database, items in ((b"streams", records), (b"keys", rows)):
            for start in range(0, 7, size):
                state, writes = STEPS[0].convert(state, database, items[start : start + size])
                written.update({(write.database, write.key): write.value for write in writes})
        results.append((written, STEPS[0].finish(state, Mark(1, 1))))
    assert all(result == results[0] for result in results)


async def test_an_old_store_is_migrated_when_it_is_opened(old: Path) -> None:
    with read_lmdb(old) as store:  # a reader takes it as it is
        assert store.last(b"journal") == 40
        assert store.generation == 0
    async with open_lmdb(old) as store:
        assert store.generation == 1
        assert await store.commit([Append(b"a", 1, b"a 31")]) == (31,)
    await check(old, more=1)


async def check(path: Path, more: int = 0) -> None:
    async with open_lmdb(path) as store:
        assert store.streams() == sorted(STREAMS)
        for name, payloads in STREAMS.items():
            entries = store.read(name, limit=1000)
            extra = more if name == b"a" else 0
            assert [entry.payload for entry in entries][: len(payloads)] == payloads
            assert store.last(name) == len(entries) == len(payloads) + extra
        assert dict(store.scan(b"")) == ROWS
    report = verify_lmdb(path)
    assert (report.format, report.findings) == (STORE_FORMAT, [])


# Every write transaction of the opening is a named step; the process kills itself right before or
# right after the commit of the chosen one.
KILLED = """
import os, signal, sys, lmdb, trio
import stores.files, stores.upgrade
from stores import open_lmdb
stores.upgrade.BATCH = 7
chosen, when = int(sys.argv[2]), sys.argv[3]
count = 0

class Counted:
    def __init__(self, env):
        self.env = env
    def __getattr__(self, name):
        return getattr(self.env, name)
    def begin(self, *args, **options):
        txn = self.env.begin(*args, **options)
        return Step(txn) if options.get("write") else txn

class Step:
    def __init__(self, txn):
        self.txn = txn
    def __enter__(self):
        return self.txn.__enter__()
    def __exit__(self, *details):
        global count
        count += 1
        if count == chosen and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        self.txn.__exit__(*details)
        if count == chosen:
            os.kill(os.getpid(), signal.SIGKILL)

def run(env, *rest, work):
    return work(Counted(env), *rest)

advance, upgrade = stores.files._advance, stores.files.upgrade
stores.files._advance = lambda *given: run(*given, work=advance)
stores.files.upgrade = lambda *given: run(*given, work=upgrade)

async def main():
    async with open_lmdb(sys.argv[1]):
        print("done", count)

trio.run(main)
"""


@functools.cache
def steps() -> int:
    with tempfile.TemporaryDirectory() as folder:
        write_store(Path(folder) / "whole", STREAMS, ROWS)
        return steps_of(Path(folder) / "whole")


def steps_of(path: Path) -> int:
    """How many commits a migration in small batches has."""
    done = run_python(KILLED, path, 0, "never")
    assert done.stdout.startswith("done"), done.stderr
    return int(done.stdout.split()[1])


async def test_a_migration_killed_at_any_step_goes_on_or_begins_anew(tmp_path: Path) -> None:
    assert steps() > 12
    path = tmp_path / "killed"
    write_store(path, STREAMS, ROWS)
    # One store is killed at its first commit, the next opening at its second of what is left, ...
    for step in range(1, steps() + 1):
        when = ("before", "after")[step % 2]
        done = run_python(KILLED, path, min(step, 3), when)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        if format_of(path) == 1:
            with read_lmdb(path) as store:
                assert store.last(b"journal") == 40
    await check(path)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", [1, 2, 9, "last but one", "last"])
async def test_a_migration_killed_once_is_finished_by_the_next_opening(
    tmp_path: Path, step: int | str, when: str
) -> None:
    names = {"last but one": 1, "last": 0}
    if isinstance(step, str):
        step = steps() - names[step]
    write_store(tmp_path / "killed", STREAMS, ROWS)
    done = run_python(KILLED, tmp_path / "killed", step, when)
    assert done.returncode == -signal.SIGKILL
    await check(tmp_path / "killed")


def format_of(path: Path) -> int:
    with lmdb.open(str(path), max_dbs=3, readonly=True) as env, env.begin() as txn:
        return int((txn.get(b"format") or b"").rpartition(b" ")[2])


async def test_what_the_older_program_wrote_in_between_is_not_forgotten(old: Path) -> None:
    done = run_python(KILLED, old, 9, "after")
    assert done.returncode == -signal.SIGKILL
    add_record_as_format_1(old, b"a", b"a 31")
    await check(old, more=1)


async def test_a_migration_does_not_repair_damage(old: Path) -> None:
    with lmdb.open(str(old), max_dbs=2) as env:
        records = env.open_db(b"streams")
        with env.begin(records, write=True) as txn:
            cursor = txn.cursor()
            cursor.last()
            key, raw = cursor.item()
            txn.put(key, raw[:-1] + b"?")
    async with open_lmdb(old) as store:
        with pytest.raises(Damaged):
            store.read(b"journal")
        assert store.last(b"a") == 30


async def test_a_store_from_the_future_is_refused_and_not_touched(path: Path) -> None:
    async with open_lmdb(path):
        pass
    with lmdb.open(str(path), max_dbs=3) as env, env.begin(write=True) as txn:
        txn.put(b"format", b"trio-mob store %d" % (STORE_FORMAT + 1))
    os.remove(path / "lock.mdb")
    before = (path / "data.mdb").read_bytes()
    for _ in range(2):
        with pytest.raises(StoreUnreadable, match="upgrade trio-mob"):
            async with open_lmdb(path):
                pass
    assert (path / "data.mdb").read_bytes() == before
