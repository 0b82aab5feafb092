"""The durable engine: the life of a handle, batches, readers in other processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from stores import (
    Append,
    Conflict,
    Delete,
    Entry,
    Expect,
    Put,
    StoreClosed,
    StoreMisuse,
    open_lmdb,
    read_lmdb,
)
from tests.stores.processes import ask, start_python


async def test_an_exception_of_the_body_comes_out_as_itself(path: Path) -> None:
    error = ValueError("of the body")

    async def body() -> None:
        async with open_lmdb(path) as store:
            store.submit([Append(b"s", 1, b"submitted, not waited for")])
            raise error

    with pytest.raises(ValueError, match="of the body") as caught:
        await body()
    assert caught.value is error
    async with open_lmdb(path) as store:
        assert store.last(b"s") == 1


async def test_a_cancelled_body_is_cancelled_and_its_batches_are_kept(path: Path) -> None:
    with trio.CancelScope() as scope:
        async with open_lmdb(path) as store:
            for _ in range(10):
                store.submit([Append(b"s", 1, b"x")])
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    async with open_lmdb(path) as store:
        assert store.last(b"s") == 10


async def test_a_refused_queue_leaves_no_lock_behind(path: Path) -> None:
    for _ in range(2):
        with pytest.raises(StoreMisuse, match="give 1 or more"):
            async with open_lmdb(path, queue=0):
                pass


async def test_a_closed_store_says_so(path: Path) -> None:
    async with open_lmdb(path) as store:
        pass
    for use in (
        lambda: store.submit([]),
        lambda: store.get(b"k"),
        lambda: store.read(b"s"),
        lambda: store.scan(b""),
        lambda: store.last(b"s"),
        store.streams,
    ):
        with pytest.raises(StoreClosed):
            use()


async def test_an_expectation_sees_the_batches_before_it_in_its_group(path: Path) -> None:
    async with open_lmdb(path) as store:
        takes = [
            store.submit([Expect(b"owner", None), Put(b"owner", name), Append(b"s", 1, name)])
            for name in (b"first", b"second", b"third")
        ]
        release = store.submit([Expect(b"owner", b"first"), Delete(b"owner")])
        last = store.submit([Expect(b"owner", None), Append(b"s", 1, b"last")])
        assert await takes[0].wait() == (1,)
        for take in takes[1:]:
            with pytest.raises(Conflict) as caught:
                await take.wait()
            assert (caught.value.key, caught.value.found) == (b"owner", b"first")
        assert await release.wait() == ()
        assert await last.wait() == (2,)
        assert [entry.payload for entry in store.read(b"s")] == [b"first", b"last"]


async def test_many_streams_are_kept_apart_and_numbered_from_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stores.transactions._MAX_TAILS", 3)
    names = [b"%d" % index for index in range(12)]
    async with open_lmdb(path) as store:
        for turn in range(1, 4):
            for name in names:
                assert await store.commit([Append(name, 1, name)]) == (turn,)
        assert store.streams() == sorted(names)
        assert all(store.last(name) == 3 for name in names)


async def test_large_values_come_back_whole(path: Path) -> None:
    value = os.urandom(3 << 20)
    async with open_lmdb(path) as store:
        await store.commit([Append(b"s", 1, value), Put(b"k", value)])
        assert store.read(b"s") == [Entry(1, 1, 1, value)]
        assert store.get(b"k") == value


READ = """
import sys
from stores import StoreMisuse, read_lmdb
with read_lmdb(sys.argv[1]) as store:
    for line in sys.stdin:
        entries = store.read(b"s", limit=10_000)
        assert [entry.seq for entry in entries] == list(range(1, store.last(b"s") + 1))
        print(len(entries), len(store.scan(b"k")), store.get(b"k"), store.streams(), flush=True)
    try:
        store.submit([])
    except StoreMisuse as error:
        print(error)
"""


async def test_a_reader_in_another_process_follows_the_owner(path: Path) -> None:
    async with open_lmdb(path, map_size=1) as store:
        await store.commit([Append(b"s", 1, b"x")])
        with start_python(READ, path) as reader:
            assert ask(reader) == "1 0 None [b's']\n"
            for _ in range(100):  # beyond the map that the reader opened
                store.submit([Append(b"s", 1, bytes(20_000)), Put(b"k", b"v")])
            await store.barrier()
            assert ask(reader) == "101 1 b'v' [b's']\n"
            rest, _ = reader.communicate()
            assert "was opened for reading" in rest


async def test_a_reader_refuses_to_write_and_to_wait(path: Path) -> None:
    async with open_lmdb(path) as owner:
        await owner.commit([Append(b"s", 1, b"x")])
    with read_lmdb(path) as store:
        with pytest.raises(StoreMisuse):
            store.submit([])
        with pytest.raises(StoreMisuse):
            await store.commit([])
        with pytest.raises(StoreMisuse):
            await store.wait_beyond(b"s", 0)
        await store.room()
        await store.barrier()
        assert not store.crowded
        assert store.durable
        assert store.entry(b"s", 1) == Entry(1, 1, 1, b"x")
    with pytest.raises(StoreClosed):
        store.last(b"s")
