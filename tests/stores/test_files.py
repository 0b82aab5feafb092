"""Who may open a store, and what opening says when it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import lmdb
import pytest

from stores import (
    Append,
    Entry,
    StoreInUse,
    StoreUnreadable,
    open_lmdb,
    read_lmdb,
)
from tests.stores.processes import run_python, start_python


@pytest.fixture
def foreign(path: Path) -> Path:
    """A directory with an empty environment of LMDB in it."""
    path.mkdir()
    lmdb.open(str(path)).close()
    return path


async def test_a_missing_store_is_created_with_its_parents(tmp_path: Path) -> None:
    async with open_lmdb(tmp_path / "a" / "b") as store:
        assert store.durable
        assert store.location == str(tmp_path / "a" / "b")
        await store.commit([Append(b"s", 7, b"x", 3)])
    async with open_lmdb(tmp_path / "a" / "b") as store:
        assert store.read(b"s") == [Entry(1, 7, 3, b"x")]


async def test_a_relative_path_survives_a_change_of_directory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    async with open_lmdb("state") as store:
        monkeypatch.chdir("/")
        await store.commit([Append(b"s", 1, b"x")])
        assert store.location == str(path)


async def test_a_second_owner_in_this_process_is_refused(path: Path) -> None:
    async with open_lmdb(path) as store:
        with pytest.raises(
            StoreInUse, match=r"in use by this process .* use the handle .* another directory"
        ) as caught:
            async with open_lmdb(path):
                pass
        assert (caught.value.pid, caught.value.path) == (os.getpid(), str(path))
        with pytest.raises(StoreInUse, match="this process"), read_lmdb(path):
            pass
        await store.commit([Append(b"s", 1, b"still works")])


OPEN = """
import sys, trio
from stores import StoreError, open_lmdb
async def main():
    try:
        async with open_lmdb(sys.argv[1]) as store:
            print("open", flush=True)
            sys.stdin.read()
    except StoreError as error:
        print(type(error).__name__, getattr(error, "pid", None), error)
trio.run(main)
"""


async def test_a_second_process_is_told_who_owns_the_store(path: Path) -> None:
    async with open_lmdb(path):
        done = run_python(OPEN, path)
    assert done.stdout.startswith(f"StoreInUse {os.getpid()} ")
    assert f"in use by process {os.getpid()}" in done.stdout
    assert run_python(OPEN, path).stdout == "open\n"


async def test_a_killed_owner_leaves_no_lock_behind(path: Path) -> None:
    with start_python(OPEN, path) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        with pytest.raises(StoreInUse) as caught:
            async with open_lmdb(path):
                pass
        assert caught.value.pid == owner.pid
        owner.kill()
    async with open_lmdb(path) as store:
        await store.commit([Append(b"s", 1, b"x")])


def test_reading_a_missing_store_creates_nothing(path: Path) -> None:
    with pytest.raises(StoreUnreadable, match="there is no store") as caught, read_lmdb(path):
        pass
    assert caught.value.path == str(path)
    assert not path.exists()


def write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


async def opening_fails(path: Path, words: str) -> None:
    """Neither way of opening works, and both say why; a lock is not left behind."""
    for _ in range(2):
        with pytest.raises(StoreUnreadable, match=words):
            async with open_lmdb(path):
                pass
        with pytest.raises(StoreUnreadable, match=words), read_lmdb(path):
            pass


async def test_garbage_is_not_a_store(foreign: Path) -> None:
    write(foreign / "data.mdb", b"this is a letter to my aunt\n" * 1000)
    await opening_fails(
        foreign, r"data.mdb is not a readable LMDB file .* restore it from a backup"
    )


async def test_a_file_in_the_way_is_named(path: Path) -> None:
    write(path, b"x")
    await opening_fails(path, "a file is in the way")
    with pytest.raises(StoreUnreadable, match="a file is in the way"):
        async with open_lmdb(path / "below"):
            pass


async def test_the_environment_of_another_program_is_refused(foreign: Path) -> None:
    with lmdb.open(str(foreign)) as env, env.begin(write=True) as txn:
        txn.put(b"theirs", b"1")
    await opening_fails(foreign, "of another program")
    with lmdb.open(str(foreign)) as env, env.begin() as txn:
        assert dict(txn.cursor()) == {b"theirs": b"1"}


async def test_an_unfinished_store_is_finished_by_its_owner_only(foreign: Path) -> None:
    with pytest.raises(StoreUnreadable, match="never finished"), read_lmdb(foreign):
        pass
    async with open_lmdb(foreign) as store:
        await store.commit([Append(b"s", 1, b"x")])


async def test_a_store_from_the_future_is_refused(path: Path) -> None:
    async with open_lmdb(path):
        pass
    with lmdb.open(str(path), max_dbs=2) as env, env.begin(write=True) as txn:
        assert txn.get(b"format") == b"trio-mob store 3"
        txn.put(b"format", b"trio-mob store 4")
    await opening_fails(path, "has format 4 .* upgrade trio-mob")


# Root may open everything, so it becomes a user who may not.
OPEN_WITHOUT_PERMISSION = """
import os, sys, tempfile
from stores import StoreError, open_lmdb, read_lmdb
import trio
async def once(folder):
    async with open_lmdb(folder):
        pass
    with read_lmdb(folder):
        pass
with tempfile.TemporaryDirectory() as folder:
    trio.run(once, folder)  # so that everything is imported while it may still be read
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    with read_lmdb(sys.argv[1]):
        print("open")
except StoreError as error:
    print(type(error).__name__, error)
async def main():
    try:
        async with open_lmdb(sys.argv[1]):
            print("open")
    except StoreError as error:
        print(type(error).__name__, error)
trio.run(main)
"""


def test_a_store_without_permission_is_unreadable(path: Path) -> None:
    run_python(OPEN, path)
    path.chmod(0)
    done = run_python(OPEN_WITHOUT_PERMISSION, path)
    path.chmod(0o700)
    said = f"StoreUnreadable cannot open the store at {path}: permission denied: check the owner"
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done
    assert lines[0].startswith(said)
    assert lines[1].startswith(said)
