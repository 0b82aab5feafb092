"""`mob backup` and `mob restore-backup`, as processes, while another process runs the mob."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from mob.cli import copying
from stores import Report
from tests.cli.commands import ECHO, Running, finish_team, mob, refused, run_team


def ended(running: Running) -> str:
    """The last line of the run's stderr, once it was interrupted and has ended."""
    running.signal(signal.SIGKILL)
    return running.end()[2]


def test_a_backup_of_a_mob_at_work_is_continued_where_it_was(tmp_path: Path) -> None:
    with run_team(tmp_path, latency_s=1.0) as running:
        running.wait_for("is asked by lead")
        done = mob("backup", "copy", "--json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        repaired = mob("doctor", "--repair", "saved", cwd=tmp_path)
        refused(75, "in use by another process", done=repaired)
        assert running.process.poll() is None
        ended(running)
    told = json.loads(done.stdout)
    assert told["backup"] == "copy"
    assert told["state"] == ".mob"
    assert told["records"] > 0
    assert not list(tmp_path.glob("copy.*"))

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = mob("restore-backup", "../copy", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert "restored to .mob" in done.stdout
    finished = finish_team(elsewhere)
    assert finished.returncode == 0, finished.stderr
    assert "joining that run" in finished.stderr
    assert finished.stdout.strip()
    checked = mob("doctor", cwd=elsewhere)
    assert "DAMAGED" not in checked.stdout


def test_what_was_answered_before_the_backup_is_in_it_and_what_came_after_is_not(
    tmp_path: Path,
) -> None:
    (tmp_path / "mob.toml").write_text(ECHO)
    mob("run", "mob.toml", "--prompt", "before", cwd=tmp_path)
    assert mob("backup", "copy", cwd=tmp_path).returncode == 0
    mob("run", "mob.toml", "--prompt", "after", cwd=tmp_path)
    assert mob("restore-backup", "copy", "--state", "back", cwd=tmp_path).returncode == 0
    shown = mob("show", "echo/lead", "--state", "back", cwd=tmp_path).stdout
    assert "before" in shown
    assert "after" not in shown


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mob.toml").write_text(ECHO)
    mob("run", "mob.toml", "--prompt", "one", cwd=tmp_path)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "thesis.txt").write_text("mine")
    refused(7, "there", "exists", done=mob("backup", "there", cwd=tmp_path))
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["thesis.txt"]
    assert mob("backup", "copy", cwd=tmp_path).returncode == 0
    before = (tmp_path / ".mob" / "data.mdb").read_bytes()
    refused(7, ".mob", "exists", done=mob("restore-backup", "copy", cwd=tmp_path))
    assert (tmp_path / ".mob" / "data.mdb").read_bytes() == before


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    refused(4, "no store", "`mob run`", done=mob("backup", "copy", cwd=tmp_path))
    refused(4, "no backup", "`mob backup`", done=mob("restore-backup", "copy", cwd=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_a_store_or_hold_one_is_said(tmp_path: Path) -> None:
    (tmp_path / "mob.toml").write_text(ECHO)
    mob("run", "mob.toml", "--prompt", "one", cwd=tmp_path)
    for verb in (["backup", "copy"], ["gc"], ["ls"]):
        refused(1, "a store is a directory", done=mob(*verb, "--state", "mob.toml", cwd=tmp_path))
    done = mob("doctor", "--repair", "saved", "--state", "mob.toml", cwd=tmp_path)
    refused(1, "nothing can be read", done=done)
    done = mob("doctor", "--state", "mob.toml", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "mob: 1 problem found\n")
    assert "nothing can be read from" in done.stdout
    below = "mob.toml/below"
    refused(1, "cannot make", below, done=mob("backup", below, cwd=tmp_path))
    refused(1, "cannot make", below, done=mob("doctor", "--repair", below, cwd=tmp_path))
    refused(7, "exists", done=mob("doctor", "--repair", ".mob", cwd=tmp_path))
    assert mob("backup", "copy", cwd=tmp_path).returncode == 0
    done = mob("restore-backup", "copy", "--state", below, cwd=tmp_path)
    refused(1, "cannot make", below, done=done)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mob", "copy", "mob.toml"]


def test_a_damaged_backup_is_not_restored(tmp_path: Path) -> None:
    (tmp_path / "mob.toml").write_text(ECHO)
    mob("run", "mob.toml", "--prompt", "flip me", cwd=tmp_path)
    assert mob("backup", "copy", cwd=tmp_path).returncode == 0
    file = tmp_path / "copy" / "data.mdb"
    image = file.read_bytes()
    assert image.count(b"flip me") > 0
    file.write_bytes(image.replace(b"flip me", b"flap me"))
    done = mob("restore-backup", "copy", "--state", "back", cwd=tmp_path)
    refused(1, "not sound", "checksum", done=done)
    assert not (tmp_path / "back").exists()


def slow_copy(into: Path, go_on: threading.Event) -> Callable[[Callable[[str], None]], Report]:
    def work(began: Callable[[str], None]) -> Report:
        file = into / "copy" / "data.mdb"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x" * 1500)
        began(str(file))
        go_on.wait(60)
        return Report(path=str(into), bytes=1500)

    return work


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "data.mdb").write_bytes(b"x" * 3000)
    return tmp_path / "store"


async def test_a_long_copy_says_how_far_it_is(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    go_on = threading.Event()

    def narrate(text: str) -> None:
        said.append(text)
        go_on.set()

    monkeypatch.setattr(copying, "_EVERY_S", 0.001)
    monkeypatch.setattr(copying, "narrate", narrate)
    report = await copying.copy(slow_copy(tmp_path / "t.scratch", go_on), source)
    assert report.bytes == 1500
    assert "of at most 3.0 kB" in said[0]


async def test_an_interrupted_copy_leaves_nothing_behind(tmp_path: Path, source: Path) -> None:
    scratch, go_on = tmp_path / "t.scratch", threading.Event()
    begun = trio.Event()
    work = slow_copy(scratch, go_on)

    def told(began: Callable[[str], None]) -> Report:
        def both(file: str) -> None:
            began(file)
            trio.from_thread.run_sync(begun.set)

        return work(both)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(copying.copy, told, source)
        await begun.wait()
        nursery.cancel_scope.cancel()
    go_on.set()
    assert not scratch.exists()
