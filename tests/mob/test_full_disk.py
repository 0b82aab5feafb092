"""A disk that is full, under a mob at work: a clear error, nothing acknowledged is lost.

A real small file system where the test may mount one, and for everybody a limit on the size of
files, which LMDB meets as a write that comes back short.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from mob.app import open_mob, stored_mob
from mob.lifecycle import MobState
from runtime.messages import AssistantMessage
from stores import StoreError, StoreFull, open_lmdb, read_lmdb, verify_lmdb
from tests.mob.mobs import define
from tests.stores.processes import run_python

#: Asks until the disk is full; says what was acknowledged, and what ended it.
WORK = """
import resource, sys, trio
from mob import open_mob
from stores import StoreError, open_lmdb
from tests.mob.mobs import define

async def main():
    if sys.argv[2] != "0":
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
    number = 0
    async with open_lmdb(sys.argv[1]) as store, open_mob(define("a", "b"), store=store) as mob:
        while True:
            await mob.ask("ab"[number % 2], f"{number} " + "x" * 5000)
            print("acknowledged", number, flush=True)
            number += 1

def leaves(error):
    return sum(map(leaves, getattr(error, "exceptions", ())), []) or [error]

try:
    trio.run(main)
except BaseException as error:
    for leaf in leaves(error):
        print("ended", type(leaf).__name__, str(leaf).replace("\\n", " "))
"""


def work(path: Path, limit: int = 0) -> tuple[int, list[str]]:
    """How many answers were acknowledged, and the errors that ended it."""
    done = run_python(WORK, path, limit)
    assert done.returncode == 0, done.stderr
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    acknowledged = [int(rest) for word, rest in lines if word == "acknowledged"]
    assert acknowledged == list(range(len(acknowledged)))
    return len(acknowledged), [rest for word, rest in lines if word == "ended"]


async def assert_all_there(path: Path, count: int) -> None:
    """Each answer once, in order; and the mob goes on."""
    assert verify_lmdb(path).sound
    async with open_lmdb(path) as store, open_mob(define("a", "b"), store=store) as mob:
        with trio.fail_after(10):
            await mob.wait_idle()
        assert mob.state is MobState.RUNNING
        assert mob.realm.state.quarantined == {}
        for place, name in enumerate("ab"):
            messages = mob.realm.messages(mob.session_of(name), order="oldest")
            texts = [each.text for each in messages if isinstance(each, AssistantMessage)]
            numbers = [int(text.split(" ")[0]) for text in texts]
            wanted = list(range(place, count, 2))
            # The one that was being answered was accepted before; it may have been answered now.
            assert numbers[: len(wanted)] == wanted
            assert numbers[len(wanted) :] in ([], [count])
        assert (await mob.ask("a", "more")).text == "more"


async def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """CONTRACTS 6.9."""
    count, errors = work(tmp_path / "state", 400_000)
    assert count > 5
    assert errors
    assert all(str(tmp_path) in error and "open the store again" in error for error in errors)
    await assert_all_there(tmp_path / "state", count)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        pytest.skip(f"cannot mount a file system here: {error}")
    if done.returncode:
        pytest.skip(f"may not mount a file system here: {done.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


async def test_a_disk_without_room(small_disk: Path, tmp_path: Path) -> None:
    """CONTRACTS 6.9: said as what it is; readable as it is; all there once there is room."""
    count, errors = work(small_disk / "state")
    assert count > 5
    assert errors
    assert all(error.startswith("StoreFull no room on the disk of") for error in errors)
    with read_lmdb(small_disk / "state") as store:
        assert len(stored_mob(store, "t").roster.members) == 2
    try:  # while it is full, it is opened or refused, and stays as it is
        async with open_lmdb(small_disk / "state"):
            pass
    except StoreError as error:
        assert isinstance(error, StoreFull)  # noqa: PT017 either will do
    shutil.copytree(small_disk / "state", tmp_path / "roomy")
    await assert_all_there(tmp_path / "roomy", count)
