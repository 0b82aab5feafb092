"""The files of an LMDB store: who may open them, and whether they are ours.

Owns: the lock of the owner, the opening of an environment, its `format` row, what an open that
fails means. Must not: read or write records and rows.

A store is a directory with ``data.mdb`` (the data), ``lock.mdb`` (LMDB's table of readers) and
``owner.lock``, on which the owner holds an `flock` for as long as it lives. The kernel lets go of
it with the process, however that ends, so no lock is ever stale; the number in the file is there
for messages. LMDB alone would let two processes write in turn, each with a stale idea of where
its streams end.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import lmdb

from stores.errors import StoreError, StoreFull, StoreInUse, StoreUnreadable

#: Version of the layout of the files, kept in the `format` row.
STORE_FORMAT: Final = 1

_FORMAT_KEY: Final = b"format"
_FORMAT_NAME: Final = b"trio-mob store"

#: The smallest map that holds an empty store with room for its first commits, in bytes.
_MIN_MAP_SIZE: Final = 64 << 10

#: What LMDB gives its table of readers with the default of 126 of them, in bytes.
_READER_TABLE_SIZE: Final = 8192

#: What the system calls a disk without room for this user.
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Files:
    """An open environment with its databases; `close` gives it back."""

    def __init__(self, path: str, env: lmdb.Environment, lock: OwnerLock | None = None) -> None:
        self.path = path
        self.env = env
        self.streams = env.open_db(b"streams", create=False)
        self.keys = env.open_db(b"keys", create=False)
        self._lock = lock

    def close(self) -> None:
        """Close the environment, then let the next owner in. No transaction may be open."""
        self.env.close()
        if self._lock is not None:
            self._lock.release()


class OwnerLock:
    """The right to write to the store at `path`, held until `release`."""

    def __init__(self, path: str) -> None:
        file = os.path.join(path, "owner.lock")
        self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            error = _in_use(path, os.pread(self._fd, 32, 0))
            os.close(self._fd)
            raise error from None
        except OSError:
            os.close(self._fd)
            raise
        # Padded, so that the next owner needs no new block of a disk that may be full; and if
        # it cannot be written at all, messages go without the number.
        with suppress(OSError):
            os.pwrite(self._fd, b"%-20d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Let the next owner in. The file stays: removing it would race with that owner."""
        os.close(self._fd)


def open_owned(path: str, map_size: int) -> Files:
    """Open the store at `path` for writing, creating it (and its parents) if it is missing.

    Raises:
        StoreInUse: another process, or another part of this one, has it open for writing.
        StoreUnreadable: no permission, or what is there is not a store of ours.
        StoreFull: the disk has no room for a new store.
    """
    path = os.path.abspath(path)
    try:
        with ExitStack() as undo:
            created = _make_directory(Path(path))
            lock = OwnerLock(path)
            undo.callback(lock.release)
            _reserve_reader_table(path)
            env = lmdb.open(
                path,
                map_size=_whole_pages(map_size),
                max_dbs=2,
                sync=True,
                metasync=True,
                writemap=False,
            )
            undo.callback(env.close)
            if not _is_ours(path, env):
                _create(env)
                for directory in created:
                    _sync_directory(directory)
            env.reader_check()  # the slots of killed readers would keep old pages from reuse
            files = Files(path, env, lock)
            undo.pop_all()
            return files
    except (OSError, lmdb.Error) as error:
        raise _unopened(path, error) from error


def open_shared(path: str) -> Files:
    """Open the store at `path` for reading, beside its owner.

    Raises:
        StoreInUse: this process has it open already.
        StoreUnreadable: missing, no permission, or not a store of ours.
    """
    path = os.path.abspath(path)
    try:
        with ExitStack() as undo:
            # A map of size 0 takes the size that the owner wrote into the file.
            env = lmdb.open(path, map_size=0, max_dbs=2, readonly=True, create=False)
            undo.callback(env.close)
            if not _is_ours(path, env):
                raise StoreUnreadable(
                    f"{path} holds a store that was never finished: open it for writing once",
                    path=path,
                )
            files = Files(path, env)
            undo.pop_all()
            return files
    except (OSError, lmdb.Error) as error:
        raise _unopened(path, error) from error


def _is_ours(path: str, env: lmdb.Environment) -> bool:
    """Whether the environment holds a store of this format; False if it is empty."""
    with env.begin() as txn:
        row = txn.get(_FORMAT_KEY)
        if row is None and not txn.stat()["entries"]:
            return False
    name, _, number = (row or b"").rpartition(b" ")
    if name != _FORMAT_NAME or not number.isdigit():
        raise StoreUnreadable(
            f"{path} holds an LMDB environment of another program: give another directory",
            path=path,
        )
    if int(number) > STORE_FORMAT:
        raise StoreUnreadable(
            f"the store at {path} has format {int(number)} and this version of trio-mob reads up"
            f" to {STORE_FORMAT}: upgrade trio-mob, or give another directory",
            path=path,
        )
    return True


def _create(env: lmdb.Environment) -> None:
    """Make an empty environment a store, in one transaction."""
    with env.begin(write=True) as txn:
        txn.put(_FORMAT_KEY, _FORMAT_NAME + b" %d" % STORE_FORMAT)
        env.open_db(b"streams", txn=txn)
        env.open_db(b"keys", txn=txn)


def _make_directory(path: Path) -> list[Path]:
    """Create `path` with its parents; return the directories that have a new entry or will."""
    changed = [path]
    while not path.exists():
        path = path.parent
        changed.append(path)
    changed[0].mkdir(parents=True, exist_ok=True)
    return changed


def _sync_directory(path: Path) -> None:
    """Make the names in `path` durable: LMDB syncs a file, not the entry that leads to it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _reserve_reader_table(path: str) -> None:
    """Give a new ``lock.mdb`` its blocks now.

    LMDB maps a sparse file and writes to it; on a full disk that is a SIGBUS, not an error.
    """
    try:
        fd = os.open(os.path.join(path, "lock.mdb"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return
    try:
        os.write(fd, bytes(_READER_TABLE_SIZE))
    finally:
        os.close(fd)


def _whole_pages(size: int) -> int:
    return -(-max(size, _MIN_MAP_SIZE) // mmap.PAGESIZE) * mmap.PAGESIZE


def _in_use(path: str, owner: bytes) -> StoreInUse:
    digits = owner.strip()
    pid = int(digits) if digits.isdigit() else None
    who = "another process" if pid is None else f"process {pid}"
    if pid == os.getpid():
        who = f"this process ({pid})"
    return StoreInUse(
        f"the store at {path} is in use by {who}: wait for it to end or stop it, or give this"
        " one another directory; to look into a store in use, open it for reading",
        path=path,
        pid=pid,
    )


def _unopened(path: str, error: OSError | lmdb.Error) -> StoreError:
    """What `error`, met while opening the store at `path`, means to our callers."""
    code = error.errno if isinstance(error, OSError) else error.code
    if code in FULL:
        return StoreFull(f"no room on the disk for a store at {path}: free some", path=path)
    if "already open in this process" in str(error):
        return _in_use(path, b"%d" % os.getpid())
    if code == errno.ENOENT:
        reason = "there is no store: check the path"
    elif code in (errno.EACCES, errno.EPERM, errno.EROFS):
        reason = "permission denied: check the owner and mode of the directory and its files"
    elif code in (errno.ENOTDIR, errno.EEXIST):
        reason = "a file is in the way: a store is a directory, give the path of one"
    elif isinstance(error, lmdb.InvalidError | lmdb.VersionMismatchError | lmdb.CorruptedError):
        reason = f"data.mdb is not a readable LMDB file ({error}): restore it from a backup"
    else:
        reason = f"it cannot be opened ({error})"
    return StoreUnreadable(f"cannot open the store at {path}: {reason}", path=path)
