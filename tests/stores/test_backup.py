"""Copies taken while the owner works, and put back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio

from stores import (
    Append,
    Put,
    StoreDamaged,
    StoreMisuse,
    StoreUnreadable,
    backup_lmdb,
    open_lmdb,
    read_lmdb,
    restore_lmdb,
    verify_lmdb,
)
from tests.stores.processes import run_python
from tests.stores.test_damage import damage_record


async def a_store(path: Path) -> None:
    async with open_lmdb(path) as store:
        for index in range(1, 201):
            store.submit([Append(b"s", 1, b"payload %d" % index), Put(b"k", b"%d" % index)])


async def test_a_backup_is_one_commit_of_an_owner_at_work(path: Path, tmp_path: Path) -> None:
    copies = [tmp_path / f"copy-{index}" for index in range(3)]
    async with open_lmdb(path) as store, trio.open_nursery() as nursery:

        async def work() -> None:
            count = 0
            while True:
                count += 1
                await store.commit([Append(b"s", 1, b"%d" % count), Put(b"k", b"%d" % count)])

        nursery.start_soon(work)
        for copy in copies:
            await trio.to_thread.run_sync(backup_lmdb, store, copy)
        nursery.cancel_scope.cancel()
    ends = []
    for copy in copies:
        assert os.listdir(copy) == ["data.mdb"]
        with read_lmdb(copy) as store:
            ends.append(store.last(b"s"))
            assert store.get(b"k") in ((b"%d" % ends[-1]) if ends[-1] else None, None)
    assert ends == sorted(ends)
    assert sorted(os.listdir(tmp_path)) == ["copy-0", "copy-1", "copy-2", "state"]


BACKUP = "import sys; from stores import backup_lmdb; print(backup_lmdb(*sys.argv[1:]).records)"


async def test_a_backup_can_be_taken_from_another_process_and_put_back(
    path: Path, tmp_path: Path
) -> None:
    await a_store(path)
    async with open_lmdb(path) as store:
        done = run_python(BACKUP, path, tmp_path / "copy")
        assert done.stdout == "200\n", done.stderr
        await store.commit([Append(b"s", 1, b"after the backup")])
    assert restore_lmdb(tmp_path / "copy", tmp_path / "back").sound
    async with open_lmdb(tmp_path / "back") as store:
        assert store.last(b"s") == 200
        assert store.get(b"k") == b"200"
        assert await store.commit([Append(b"s", 1, b"goes on")]) == (201,)
    assert verify_lmdb(tmp_path / "back").sound
    async with open_lmdb(tmp_path / "copy") as store:  # a backup is a store, too
        assert store.last(b"s") == 200


def size(path: Path) -> int:
    return (path / "data.mdb").stat().st_size


async def test_a_backup_compacts(path: Path, tmp_path: Path) -> None:
    async with open_lmdb(path) as store:
        for _ in range(50):
            await store.commit([Put(b"k", os.urandom(50_000))])
        await store.commit([Put(b"k", b"small")])
        backup_lmdb(store, tmp_path / "copy")
    assert size(tmp_path / "copy") < size(path) / 3


async def test_a_copy_is_on_the_disk_before_it_has_its_name(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is synced: the file, the folder that it lies in, and then the name of that."""
    await a_store(path)
    done: list[str] = []
    sync, rename = os.fsync, os.rename

    def synced(fd: int) -> None:
        done.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        sync(fd)

    def renamed(old: str, new: str) -> None:
        done.append(f"renamed to {os.path.basename(new)}")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    for copy, source, target in ((backup_lmdb, path, "b"), (restore_lmdb, tmp_path / "b", "r")):
        done.clear()
        copy(source, tmp_path / target)
        assert done == ["data.mdb", "copy", f"renamed to {target}", tmp_path.name]


async def test_nothing_is_overwritten(path: Path, tmp_path: Path) -> None:
    await a_store(path)
    backup_lmdb(path, tmp_path / "copy")
    with pytest.raises(StoreMisuse, match="nothing is overwritten"):
        backup_lmdb(path, tmp_path / "copy")
    with pytest.raises(StoreMisuse, match="nothing is overwritten"):
        restore_lmdb(tmp_path / "copy", path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreMisuse, match="nothing is overwritten"):
        backup_lmdb(path, tmp_path / "file")
    for copy in (backup_lmdb, restore_lmdb):
        with pytest.raises(StoreUnreadable, match=r"cannot make the directory .*/file/below"):
            copy(tmp_path / "copy", tmp_path / "file" / "below")
    (tmp_path / "empty").mkdir()
    assert restore_lmdb(tmp_path / "copy", tmp_path / "empty").records == 200


async def test_a_damaged_store_is_not_taken_for_a_backup(path: Path, tmp_path: Path) -> None:
    await a_store(path)
    damage_record(path, 100, -1)
    with pytest.raises(StoreDamaged, match="record 100 of stream b's'"):
        backup_lmdb(path, tmp_path / "copy")
    assert os.listdir(tmp_path) == ["state"]
    with pytest.raises(StoreDamaged):
        restore_lmdb(path, tmp_path / "back")
    with pytest.raises(StoreUnreadable):
        backup_lmdb(tmp_path / "absent", tmp_path / "copy")
    with pytest.raises(StoreUnreadable):
        restore_lmdb(tmp_path / "absent", tmp_path / "copy")
    assert os.listdir(tmp_path) == ["state"]
