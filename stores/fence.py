"""Who may write to a store: the owner's claim, and taking a store over from one that hangs.

Owns: the file ``owner.lock`` and what stands in it, the copy that a takeover works on. Must not:
open an environment, understand a record.

Theory. The owner holds an `flock` on ``owner.lock`` for as long as it lives. The kernel lets go of
it with the process, however that ends, so no lock is ever stale. What is left is an owner that
lives and does not move: stopped, swapped out, hung on a dead disk. It may wake at any instruction,
also inside a commit, with LMDB's own lock in its hands; so a successor must neither wait for it
nor share a file with it. A takeover therefore

1. puts a new, locked ``owner.lock`` in the old one's place (rename): from here on the old owner's
   *claim* is void, and it looks before and after each of its commits (Martin Kleppmann's fencing
   token, with an inode for the token);
2. copies the last committed tree into a new ``data.mdb`` and renames it over the old one. Whatever
   the old owner still writes goes to a file without a name.

An old owner that looked after its commit and still found its own claim had that commit on disk
before step 1, hence in the copy. LMDB's commit number N+1 never writes to a page of tree N, and
no N+2 can begin, so the copy of tree N is sound even while the old owner finishes N+1.

In the file, padded so that a full disk can still take it: process id, state (``open``, ``taking``
while a takeover is under way, ``clean`` after an orderly end), generation and commit number. The
`clean` mark counts only if it names the commit that `data.mdb` ends with, so it needs no sync.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from contextlib import ExitStack, suppress
from typing import Final

import attrs

from stores.errors import StoreInUse

#: The parts of an LMDB environment that a takeover replaces.
DATA: Final = "data.mdb"
READERS: Final = "lock.mdb"

_OWNER: Final = "owner.lock"
_COPY: Final = "data.taking"
_CHUNK: Final = 8 << 20

#: Bytes of the two meta pages at the beginning of the file.
_METAS: Final = 2 * min(mmap.PAGESIZE, 1 << 15)


@attrs.frozen
class Note:
    """What an owner wrote into ``owner.lock``; zeros and an empty state where nothing is known."""

    pid: int = 0
    state: str = ""
    generation: int = 0
    number: int = 0

    @classmethod
    def parse(cls, raw: bytes) -> Note:
        """The note in `raw`; what does not read as one is an empty note, never an error."""
        words = raw.decode("ascii", "replace").split()
        pid = int(words[0]) if words and words[0].isdigit() else 0
        if len(words) < 4 or not (words[2].isdigit() and words[3].isdigit()):
            return cls(pid)
        return cls(pid, words[1], int(words[2]), int(words[3]))

    def format(self) -> bytes:
        """The note as it stands in the file, of constant length."""
        return b"%-20d %-8s %-20d %-20d\n" % (
            self.pid,
            self.state.encode(),
            self.generation,
            self.number,
        )


class Claim:
    """The right to write to the store at `path`, held until `release` or until taken over."""

    def __init__(self, path: str, fd: int, found: Note) -> None:
        self.path = path
        #: What the owner before this one left.
        self.found = found
        self._fd = fd
        self._file = os.path.join(path, _OWNER)
        self._identity = identity_of(os.fstat(fd))

    @property
    def holds(self) -> bool:
        """Whether nobody has taken the store over. One system call, about a microsecond."""
        try:
            return identity_of(os.stat(self._file)) == self._identity
        except FileNotFoundError:
            return False

    def note(self, state: str, generation: int, number: int) -> None:
        """Write down who owns the store and how far it got; a disk that refuses it is let be."""
        with suppress(OSError):
            os.pwrite(self._fd, Note(os.getpid(), state, generation, number).format(), 0)

    def release(self) -> None:
        """Let the next owner in. The file stays: removing it would race with that owner."""
        os.close(self._fd)


def claim(path: str, *, take_over: bool = False) -> Claim:
    """Claim the store in the directory `path`; with `take_over` also from an owner that lives.

    Raises:
        StoreInUse: another owner holds it (or is taking it over right now).
    """
    file = os.path.join(path, _OWNER)
    with ExitStack() as undo:
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        undo.callback(os.close, fd)
        found = Note.parse(os.pread(fd, 128, 0))
        if not _lock(fd):
            if not take_over:
                raise in_use(path, found.pid)
            undo.close()
            fd = _replace(path, file, found)
            undo.callback(os.close, fd)
            _copy_over(path)
        elif identity_of(os.fstat(fd)) != identity_of(os.stat(file)):
            raise in_use(path, Note.parse(_content(file)).pid)  # taken over as we came
        elif found.state == "taking":
            _copy_over(path)  # a successor died on the way; the one before it may still live
        undo.pop_all()
    return Claim(path, fd, found)


def owned(path: str) -> bool:
    """Whether some process (this one too) holds the claim on the store in `path` right now."""
    try:
        fd = os.open(os.path.join(path, _OWNER), os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        # A shared lock, asked for an instant: two who ask at once do not see each other.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def last_note(path: str) -> Note:
    """What the present or the last owner of the store in `path` wrote down."""
    try:
        return Note.parse(_content(os.path.join(path, _OWNER)))
    except (FileNotFoundError, NotADirectoryError):
        return Note()


def sync_directory(path: str) -> None:
    """Make the names in `path` durable: a synced file may still have lost its name."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def in_use(path: str, pid: int) -> StoreInUse:
    """The error for a store that process `pid` (0: somebody) has open."""
    who = f"process {pid}" if pid else "another process"
    advice = (
        "wait for it to end or stop it, or give this one another directory; to look into a store"
        " in use, open it for reading; if its owner hangs, take it over (take_over=True)"
    )
    if pid == os.getpid():
        who = f"this process ({pid})"
        advice = "use the handle that has it open, or give this one another directory"
    return StoreInUse(
        f"the store at {path} is in use by {who}: {advice}",
        path=path,
        pid=pid or None,
    )


def _replace(path: str, file: str, found: Note) -> int:
    """Void the claim of the present owner with a locked file of our own; return it."""
    fresh = f"{file}.{os.getpid()}"
    with ExitStack() as undo:
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        undo.callback(os.close, fd)
        if not _lock(fd):
            raise in_use(path, os.getpid())
        os.pwrite(fd, Note(os.getpid(), "taking", found.generation, found.number).format(), 0)
        os.fsync(fd)
        os.rename(fresh, file)
        sync_directory(path)
        if identity_of(os.fstat(fd)) != identity_of(os.stat(file)):
            raise in_use(path, Note.parse(_content(file)).pid)  # two took over at once
        undo.pop_all()
    return fd


def _copy_over(path: str) -> None:
    """Give the environment a file that its earlier owner does not have open."""
    data, copy = os.path.join(path, DATA), os.path.join(path, _COPY)
    try:
        source = os.open(data, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # it stopped before it had created anything
    try:
        target = os.open(copy, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            copy_tree(source, target)
            os.fsync(target)
        finally:
            os.close(target)
    finally:
        os.close(source)
    # The table of readers first: one that comes in between must not lack in our table.
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(path, READERS))
    os.rename(copy, data)
    sync_directory(path)


def copy_tree(source: int, target: int) -> None:
    """Copy an LMDB file whose writer may still finish one commit, as of the one before.

    The two meta pages are read first and written last, so that the copy ends with a tree whose
    pages that commit cannot have touched.
    """
    heads = os.pread(source, _METAS, 0)
    while (again := os.pread(source, _METAS, 0)) != heads:
        heads = again
    size = os.fstat(source).st_size
    offset = 0
    while offset < size:
        piece = os.pread(source, min(_CHUNK, size - offset), offset)
        if not piece:
            break
        _write_all(target, piece, offset)
        offset += len(piece)
    _write_all(target, heads, 0)


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def _lock(fd: int) -> bool:
    for pause_s in (0.005, 0):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(pause_s)  # somebody may just be asking whether it is `owned`
        else:
            return True
    return False


def _content(file: str) -> bytes:
    with open(file, "rb") as stream:
        return stream.read(128)


def identity_of(status: os.stat_result) -> tuple[int, int]:
    """What tells a file from every other one that exists now, whatever their names."""
    return status.st_dev, status.st_ino
