"""One store, one writer: whoever lost the store writes nothing more, and says so."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import lmdb
import pytest
import trio

from stores import (
    Append,
    CommitUnknown,
    LmdbStore,
    MemoryDisk,
    Put,
    StoreInUse,
    StoreLost,
    open_lmdb,
    open_memory,
    read_lmdb,
    verify_lmdb,
)
from stores.codec import MARK_KEY, Mark
from tests.stores.processes import ask, start_python, stop, wait_until_stopped

# Twenty members append and say so; at the end of the store each says what it was told, and the
# process ends by itself once all of them are through.
OWNER = """
import os, sys, trio
from stores import Append, CommitUnknown, StoreError, StoreLost, open_lmdb

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

async def member(store, name):
    count = 0
    while True:
        count += 1
        payload = b"%s %d " % (name, count) + b"x" * 500
        try:
            await store.submit([Append(b"journal", 1, payload)]).wait()
        except (StoreLost, CommitUnknown) as error:
            say("told", type(error).__name__, name.decode(), count)
            return
        say("ack", name.decode(), count)

async def main():
    async with open_lmdb(sys.argv[1]) as store:
        say("generation", store.generation)
        async with trio.open_nursery() as nursery:
            for index in range(20):
                nursery.start_soon(member, store, b"m%d" % index)
        for look in (lambda: store.submit([]), lambda: store.last(b"journal")):
            try:
                look()
            except StoreLost as error:
                say("lost", error.generation, error)

trio.run(main)
"""


def read_while(process: subprocess.Popen[str], lines: list[list[str]]) -> threading.Thread:
    """Collect what `process` says, so that a full pipe never stops it; return once it writes."""
    begun = threading.Event()

    def collect() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.split())
            if len(lines) > 1:
                begun.set()

    thread = threading.Thread(target=collect)
    thread.start()
    assert begun.wait(20)
    return thread


@pytest.mark.parametrize(
    "rounds", [4, pytest.param(100, marks=pytest.mark.long)], ids=lambda rounds: f"{rounds}-rounds"
)
async def test_a_stopped_owner_that_wakes_up_writes_nothing_more(
    tmp_path: Path, rounds: int
) -> None:
    """CONTRACTS 6.4."""
    moments = random.Random(rounds)
    for number in range(rounds):
        path = tmp_path / f"state-{number}"
        lines: list[list[str]] = []
        with start_python(OWNER, path) as owner:
            reader = read_while(owner, lines)
            await trio.sleep(moments.uniform(0, 0.05))
            stop(owner)
            with pytest.raises(StoreInUse) as caught:
                async with open_lmdb(path):
                    pass
            assert caught.value.pid == owner.pid
            async with open_lmdb(path, take_over=True) as store:
                assert store.generation == 2
                found = store.last(b"journal")
                assert await store.commit([Append(b"journal", 2, b"ours")]) == (found + 1,)
                owner.send_signal(signal.SIGCONT)
                for _ in range(20):
                    await store.commit([Append(b"journal", 2, b"ours")])
                await trio.to_thread.run_sync(owner.wait)
                await trio.to_thread.run_sync(reader.join)
            assert owner.returncode == 0
        check_rounds(path, lines, found)


def check_rounds(path: Path, lines: list[list[str]], found: int) -> None:
    """Compare what the old owner was told with what the new one went on from."""
    with read_lmdb(path) as store:
        entries = store.read(b"journal", limit=1_000_000)
    assert [entry.payload for entry in entries[found:]] == [b"ours"] * 21
    kept = {tuple(entry.payload.decode().split()[:2]) for entry in entries[:found]}
    acknowledged = {(name, count) for word, name, count, *_ in by_word(lines, "ack")}
    assert acknowledged <= kept
    told = by_word(lines, "told")
    assert len(told) == 20
    for _, kind, name, count in told:
        if kind == "StoreLost":  # and not CommitUnknown: then it must not be there
            assert (name, count) not in kept
    lost = by_word(lines, "lost")
    assert len(lost) == 2
    assert all("took the store" in " ".join(words) for words in lost)
    assert verify_lmdb(path).sound


def by_word(lines: list[list[str]], word: str) -> list[list[str]]:
    return [line for line in lines if line[0] == word]


async def test_a_takeover_of_a_living_owner_in_this_process_fences_it(path: Path) -> None:
    """CONTRACTS 6.4."""
    async with open_lmdb(path) as old:
        await old.commit([Append(b"s", 1, b"old"), Put(b"k", b"old")])
        async with open_lmdb(path, take_over=True) as new:
            assert (old.generation, new.generation) == (1, 2)
            assert await new.commit([Append(b"s", 1, b"new"), Put(b"k", b"new")]) == (2,)
            with pytest.raises(StoreLost, match=r"took the store .* over.*nothing was written"):
                await old.commit([Append(b"s", 1, b"late"), Put(b"k", b"late")])
            for use in (lambda: old.submit([]), lambda: old.last(b"s"), lambda: old.get(b"k")):
                with pytest.raises(StoreLost):
                    use()
            with pytest.raises(StoreLost):
                await old.wait_beyond(b"s", 0)
            assert [entry.payload for entry in new.read(b"s")] == [b"old", b"new"]
            assert new.get(b"k") == b"new"
    async with open_lmdb(path) as store:
        assert store.generation == 3
        assert store.last(b"s") == 2


async def test_every_opening_for_writing_is_a_generation(path: Path) -> None:
    """CONTRACTS 6.4."""
    for generation in (1, 2, 3):
        async with open_lmdb(path) as store:
            assert store.generation == generation
        with read_lmdb(path) as reader:
            assert reader.generation == generation


async def test_a_takeover_without_an_owner_opens_as_usual(path: Path) -> None:
    for generation in (1, 2):
        async with open_lmdb(path, take_over=True) as store:
            assert store.generation == generation
            assert await store.commit([Append(b"s", 1, b"x")]) == (generation,)
    assert sorted(os.listdir(path)) == ["data.mdb", "lock.mdb", "owner.lock"]


async def test_a_generation_changed_behind_the_lock_is_noticed_in_the_transaction(
    path: Path,
) -> None:
    """As where locks do not work: the other one has the same file."""
    async with open_lmdb(path) as store:
        assert isinstance(store, LmdbStore)
        await store.commit([Append(b"s", 1, b"x")])
        with store._files.env.begin(write=True) as txn:
            txn.put(MARK_KEY, Mark(7, 1, (1, 2)).encode())
        with pytest.raises(StoreLost, match="at generation 7") as caught:
            await store.commit([Append(b"s", 1, b"late")])
        assert caught.value.generation == 7


@pytest.mark.parametrize("kept", [True, False])
async def test_a_takeover_during_a_commit_is_resolved_from_the_successors_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """The commit is on its way when the claim goes; what the successor found decides."""
    async with open_lmdb(path) as store:
        await store.commit([Append(b"s", 1, b"x")])
        mark = store._files.mark
        found = Mark(2, 1, (mark.generation, mark.number + kept))
        claim = store._files.claim
        assert claim is not None
        answers = [True, False, False]
        monkeypatch.setattr(type(claim), "holds", property(lambda _: answers.pop(0)))
        monkeypatch.setattr("stores.transactions.identity", lambda _: (2, found, 0))
        ticket = store.submit([Append(b"s", 1, b"in flight")])
        if kept:
            assert await ticket.wait() == (2,)
        else:
            with pytest.raises(StoreLost):
                await ticket.wait()
        answers.extend([False] * 5)
        with pytest.raises(StoreLost):
            await store.commit([Append(b"s", 1, b"late")])
        answers.extend([False] * 5)


async def test_a_takeover_during_a_commit_that_says_nothing_leaves_it_unknown(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_lmdb(path) as store:
        claim = store._files.claim
        assert claim is not None
        answers = [True] + [False] * 10
        monkeypatch.setattr(type(claim), "holds", property(lambda _: answers.pop(0)))
        with pytest.raises(CommitUnknown, match="read it back there"):
            await store.commit([Append(b"s", 1, b"in flight")])


HANG_IN_COMMIT = """
import os, signal, sys, trio
import stores.transactions as transactions
from stores import Append, StoreError, open_lmdb

async def main():
    async with open_lmdb(sys.argv[1]) as store:
        await store.commit([Append(b"s", 1, b"first")])
        write = transactions.Transactions._write
        def hang(self, attempt, fresh):
            write(self, attempt, fresh)
            os.write(1, b"inside\\n")
            os.kill(os.getpid(), signal.SIGSTOP)
        transactions.Transactions._write = hang
        try:
            await store.commit([Append(b"s", 1, b"second")])
            print("acknowledged", flush=True)
        except StoreError as error:
            print(type(error).__name__, flush=True)

trio.run(main)
"""


async def test_an_owner_stopped_inside_a_commit_holds_nobody_up(path: Path) -> None:
    """It has LMDB's own lock and wakes up behind its check of the claim."""
    with start_python(HANG_IN_COMMIT, path) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "inside\n"
        wait_until_stopped(owner)
        with trio.fail_after(5):
            async with open_lmdb(path, take_over=True) as store:
                assert await store.commit([Append(b"s", 1, b"ours")]) == (2,)
                owner.send_signal(signal.SIGCONT)
                assert owner.stdout.readline() == "StoreLost\n"
                assert await store.commit([Append(b"s", 1, b"ours")]) == (3,)
                assert [e.payload for e in store.read(b"s")] == [b"first", b"ours", b"ours"]
    assert verify_lmdb(path).sound


DIE_TAKING = """
import os, sys, trio
import stores.fence
from stores import open_lmdb
stores.fence._copy_over = lambda path: os._exit(9)
async def main():
    async with open_lmdb(sys.argv[1], take_over=True):
        pass
trio.run(main)
"""


async def test_a_takeover_that_dies_is_finished_by_the_next_opening(path: Path) -> None:
    with start_python(HANG_IN_COMMIT, path) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "inside\n"
        wait_until_stopped(owner)
        with start_python(DIE_TAKING, path) as taker:
            taker.communicate(timeout=20)
        assert taker.returncode == 9
        with trio.fail_after(5):
            async with open_lmdb(path) as store:
                assert await store.commit([Append(b"s", 1, b"ours")]) == (2,)
                owner.send_signal(signal.SIGCONT)
                assert owner.stdout.readline() == "StoreLost\n"
    assert verify_lmdb(path).sound


async def test_handles_of_one_memory_disk_fence_each_other() -> None:
    disk = MemoryDisk()
    async with open_memory(disk) as old:
        await old.commit([Append(b"s", 1, b"old"), Put(b"k", b"v")])
        async with open_memory(disk) as new:
            assert (old.generation, new.generation) == (1, 2)
            assert (new.last(b"s"), new.get(b"k")) == (1, b"v")
            assert await new.commit([Append(b"s", 1, b"new")]) == (2,)
            for use in (lambda: old.submit([]), lambda: old.last(b"s"), lambda: old.get(b"k")):
                with pytest.raises(StoreLost) as caught:
                    use()
                assert caught.value.generation == 2
    async with open_memory(disk) as again:
        assert [entry.payload for entry in again.read(b"s")] == [b"old", b"new"]
    async with open_memory() as other:
        assert (other.generation, other.streams()) == (1, [])


def test_a_memory_handle_that_waits_for_growth_is_told_when_it_looks() -> None:
    async def main() -> None:
        disk = MemoryDisk()
        async with open_memory(disk) as old, open_memory(disk):
            with pytest.raises(StoreLost):
                await old.wait_beyond(b"s", 0)

    started = time.monotonic()
    trio.run(main)
    assert time.monotonic() - started < 5


def test_lmdb_is_as_this_was_written_for() -> None:
    assert lmdb.version()[:2] == (0, 9), "stores.pages reads the files of LMDB 0.9"


async def test_a_reader_goes_over_to_the_new_owners_file(path: Path) -> None:
    async with open_lmdb(path) as old:
        await old.commit([Append(b"s", 1, b"old")])
        with start_python(LOOK, path) as reader:
            assert ask(reader) == "1 1 [b's']\n"
            async with open_lmdb(path, take_over=True) as new:
                await new.commit([Append(b"s", 1, b"new"), Append(b"t", 1, b"new")])
                assert ask(reader) == "2 2 [b's', b't']\n"
            reader.communicate()


LOOK = """
import sys
from stores import read_lmdb
with read_lmdb(sys.argv[1]) as store:
    for line in sys.stdin:
        print(store.last(b"s"), len(store.read(b"s")), store.streams(), flush=True)
"""
