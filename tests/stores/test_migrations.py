"""An older store becomes a newer one, wherever it is killed on the way."""

from __future__ import annotations

import functools
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import attrs
import lmdb
import pytest

from stores import (
    Append,
    Damaged,
    StoreUnreadable,
    backup_lmdb,
    open_lmdb,
    read_lmdb,
    repair_lmdb,
    restore_lmdb,
    verify_lmdb,
)
from stores.codec import DIGEST_UNKNOWN, Mark
from stores.migrations import STEPS, STORE_FORMAT
from tests.stores import format1, format2
from tests.stores.processes import run_python

STREAMS = {
    b"a": [b"a %d" % index for index in range(1, 31)],
    b"b": [b"only one"],
    b"journal": [b"x" * 500 + b"%d" % index for index in range(1, 41)],
}
ROWS = {b"row/%02d" % index: b"value %d" % index for index in range(20)}


class Write(Protocol):
    def __call__(
        self, path: Path, streams: Mapping[bytes, Sequence[bytes]], rows: Mapping[bytes, bytes]
    ) -> None: ...


#: For every format before this one: how a store of it is written, and its generation.
PAST: dict[int, tuple[Write, int]] = {
    1: (format1.write_store, 0),
    2: (format2.write_store, format2.GENERATION),
}


@pytest.fixture(params=PAST, ids="format {}".format)
def form(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


def write(form: int, path: Path) -> None:
    PAST[form][0](path, STREAMS, ROWS)


@pytest.fixture
def old(path: Path) -> Path:
    write(1, path)
    return path


def test_there_is_a_step_from_every_format_and_a_store_of_it_here() -> None:
    assert [step.source for step in STEPS] == list(PAST) == list(range(1, STORE_FORMAT))


def test_the_steps_do_not_depend_on_where_batches_end() -> None:
    from stores.codec import CHAIN_START, encode_record, encode_row, record_key, stream_prefix

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


async def test_an_old_store_is_migrated_when_it_is_opened(form: int, path: Path) -> None:
    write(form, path)
    generation = PAST[form][1]
    assert (verify_lmdb(path).format, verify_lmdb(path).found) == (form, 0)
    with read_lmdb(path) as store:  # a reader takes it as it is
        assert store.last(b"journal") == 40
        assert store.generation == generation
    async with open_lmdb(path) as store:
        assert store.generation == generation + 1
        assert await store.commit([Append(b"a", 1, b"a 31")]) == (31,)
    await check(path, more=1)


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
def steps(form: int) -> int:
    """How many commits a migration in small batches has."""
    with tempfile.TemporaryDirectory() as folder:
        write(form, Path(folder) / "whole")
        done = run_python(KILLED, Path(folder) / "whole", 0, "never")
    assert done.stdout.startswith("done"), done.stderr
    return int(done.stdout.split()[1])


async def test_a_migration_killed_at_any_step_goes_on_or_begins_anew(
    form: int, tmp_path: Path
) -> None:
    path = tmp_path / "killed"
    write(form, path)
    # One store is killed at its first commit, the next opening at its second of what is left, ...
    for step in range(1, steps(form) + 1):
        when = ("before", "after")[step % 2]
        done = run_python(KILLED, path, min(step, 3), when)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        if format_of(path) == form:
            with read_lmdb(path) as store:
                assert store.last(b"journal") == 40
    await check(path)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("form", "commits"), [(1, 17), (2, 2)])
async def test_a_migration_killed_at_each_step_is_finished_by_the_next_opening(
    form: int, commits: int, tmp_path: Path, when: str
) -> None:
    assert steps(form) == commits
    for step in range(1, commits + 1):
        path = tmp_path / f"killed-{step}"
        write(form, path)
        done = run_python(KILLED, path, step, when)
        assert done.returncode == -signal.SIGKILL
        # The versions are flipped last, each in a commit of its own.
        done_for_good = step if when == "after" else step - 1
        flips = STORE_FORMAT - form
        assert format_of(path) == form + max(done_for_good - (commits - flips), 0)
        await check(path)


def format_of(path: Path) -> int:
    with lmdb.open(str(path), max_dbs=3, readonly=True) as env, env.begin() as txn:
        return int((txn.get(b"format") or b"").rpartition(b" ")[2])


async def test_what_the_older_program_wrote_in_between_is_not_forgotten(old: Path) -> None:
    done = run_python(KILLED, old, 9, "after")
    assert done.returncode == -signal.SIGKILL
    format1.add_record_as_format_1(old, b"a", b"a 31")
    await check(old, more=1)


async def test_a_sum_of_rows_that_nobody_knows_is_known_again_after_a_crash(path: Path) -> None:
    write(2, path)
    with lmdb.open(str(path), max_dbs=3) as env, env.begin(write=True) as txn:
        mark = Mark.decode(txn.get(b"mark") or b"")
        txn.put(b"mark", attrs.evolve(mark, digest=DIGEST_UNKNOWN).encode())
    async with open_lmdb(path):
        pass
    with lmdb.open(str(path), max_dbs=3) as env, env.begin() as txn:
        assert Mark.decode(txn.get(b"mark") or b"").digest == verify_lmdb(path).digest


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
    target = path.parent / "copy"
    for look in (
        read_lmdb,
        verify_lmdb,
        lambda path: backup_lmdb(path, target),
        lambda path: restore_lmdb(path, target),
        lambda path: repair_lmdb(path, target),
    ):
        with pytest.raises(StoreUnreadable, match="upgrade trio-mob"):
            look(path).__enter__()
    assert not target.exists()
    assert (path / "data.mdb").read_bytes() == before
