"""A map that grows, a disk that is full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stores import Append, Store, StoreFull, open_lmdb


async def test_the_map_grows_from_next_to_nothing(path: Path) -> None:
    async with open_lmdb(path, map_size=1) as store:
        for size in (100, 10_000, 1_000_000):
            tickets = [store.submit([Append(b"s", 1, bytes(size))]) for _ in range(8)]
            for ticket in tickets:
                await ticket.wait()
        assert [len(entry.payload) for entry in store.read(b"s")] == (
            [100] * 8 + [10_000] * 8 + [1_000_000] * 8
        )
    async with open_lmdb(path, map_size=1) as store:
        assert await store.commit([Append(b"s", 1, b"x")]) == (25,)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(where)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting a small disk is not permitted here: {mounted.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def fill(disk: Path) -> Path:
    """Leave no room on `disk`; return the file that takes it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        with suppress(OSError):
            while True:
                file.write(bytes(512))
    return filler


async def commit_until_refused(store: Store, size: int) -> int:
    """Append records of `size` bytes for as long as the store takes them."""
    with pytest.raises(StoreFull, match="free some, then open the store again") as caught:
        await commit_for_ever(store, size)
    assert caught.value.path == store.location
    return store.last(b"s")


async def commit_for_ever(store: Store, size: int) -> None:
    while True:
        await store.commit([Append(b"s", 1, bytes(size))])


@pytest.mark.parametrize("size", [600, 5_000, 100_000])
async def test_a_full_disk_is_told_and_loses_nothing(small_disk: Path, size: int) -> None:
    async with open_lmdb(small_disk / "state") as store:
        kept = await commit_until_refused(store, size)
        assert kept > 1
        with pytest.raises(StoreFull):
            store.submit([])
    filler = fill(small_disk)
    async with open_lmdb(small_disk / "state") as store:
        assert len(store.read(b"s", limit=10_000)) == kept
        kept = await commit_until_refused(store, size)
    filler.unlink()
    async with open_lmdb(small_disk / "state") as store:
        assert await store.commit([Append(b"s", 1, b"again")]) == (kept + 1,)
        assert len(store.read(b"s", limit=10_000)) == kept + 1


async def test_a_new_store_on_a_full_disk_is_refused(small_disk: Path) -> None:
    filler = fill(small_disk)
    with pytest.raises(StoreFull, match="no room on the disk"):
        async with open_lmdb(small_disk / "state"):
            pass
    filler.unlink()
    async with open_lmdb(small_disk / "state") as store:
        await store.commit([Append(b"s", 1, b"x")])
