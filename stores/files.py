"""The files of an LMDB store: opening them, whether they are ours, what an open that fails means.

Owns: the order of the steps of an opening, the `format` row, the environment and its databases.
Must not: read or write records and rows.

A store is a directory with ``data.mdb`` (the data), ``lock.mdb`` (LMDB's table of readers) and
``owner.lock`` (`stores.fence`). Opening for writing goes, in this order: claim the store; unless
the last owner closed it in order, look at every byte (`stores.verify`), because LMDB would die of
some of them; open the environment; write the next generation durably; migrate an older format.
"""

from __future__ import annotations

import errno
import mmap
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import attrs
import lmdb

from stores.codec import MARK_KEY, Mark
from stores.errors import Damaged, StoreDamaged, StoreError, StoreFull, StoreLost, StoreUnreadable
from stores.fence import (
    DATA,
    READERS,
    Claim,
    Note,
    claim,
    identity_of,
    in_use,
    last_note,
    owned,
    sync_directory,
)
from stores.migrations import HEADS_SINCE, STORE_FORMAT
from stores.pages import NotPages
from stores.upgrade import upgrade
from stores.verify import identity, later, walk, walk_apart

FORMAT_KEY: Final = b"format"
FORMAT_NAME: Final = b"trio-mob store"

#: Databases beside the unnamed one: records, rows, and where each stream ends.
DATABASES: Final = (b"streams", b"keys", b"heads")

#: The smallest map that holds an empty store with room for its first commits, in bytes.
_MIN_MAP_SIZE: Final = 128 << 10

#: What LMDB gives its table of readers with the default of 126 of them, in bytes.
_READER_TABLE_SIZE: Final = 8192

#: Bytes from which a file is looked at in a process of its own. Below, the look takes less time
#: than starting a process, and it cannot die: it does not map the file.
_APART: Final = 4 << 20

#: What the system calls a disk without room for this user.
FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Files:
    """An open environment with its databases; `close` gives it back."""

    def __init__(
        self,
        path: str,
        env: lmdb.Environment,
        owner: Claim | None,
        mark: Mark,
        form: int = STORE_FORMAT,
    ) -> None:
        self.path = path
        self._data = os.path.join(path, DATA)
        self._form = form
        self.claim = owner
        # Invariant: the mark in the file, as of our last commit; of a reader, as it was opened.
        self.mark = mark
        self.lost: StoreLost | None = None
        self._failed = False
        self._use(env)

    def _use(self, env: lmdb.Environment) -> None:
        self.env = env
        self._identity = identity_of(os.stat(self._data))
        self.streams = env.open_db(b"streams", create=False)
        self.keys = env.open_db(b"keys", create=False)
        #: None in a store of format 1, which only readers see: it has none, or not yet all.
        self.heads = env.open_db(b"heads", create=False) if self._form >= HEADS_SINCE else None

    def reopen(self, room: int) -> None:
        """Close the environment and open it again, with a map of `room` bytes at least.

        On the Trio thread, while no transaction is open. Should it fail, reads will say so.
        """
        self._failed = True
        size = max(self.env.info()["map_size"], _whole_pages(room))
        self.env.close()
        try:
            self._use(_open_environment(self.path, size))
        except (OSError, lmdb.Error) as error:
            raise _unopened(self.path, error) from error

    def follow(self) -> None:
        """Of a reader: go over to the file of a new owner if the store was taken over."""
        if identity_of(os.stat(self._data)) == self._identity:
            return
        self.env.close()
        self._use(_open_shared_environment(self.path))

    def lose(self, error: StoreLost) -> None:
        """From now on nothing may be read either: it would be what another has gone on from."""
        self.lost = error

    def settled(self) -> None:
        """What failed before has been made good."""
        self._failed = False

    def close(self) -> None:
        """Close the environment, then let the next owner in. No transaction may be open."""
        self.env.close()
        if self.claim is not None:
            if not self._failed and self.lost is None and self.claim.holds:
                self.claim.note("clean", self.mark.generation, self.mark.number)
            self.claim.release()


def open_owned(path: str, map_size: int, take_over: bool, verify: bool | None) -> Files:
    """Open the store at `path` for writing, creating it (and its parents) if it is missing.

    Raises: what `stores.lmdb.open_lmdb` says.
    """
    path = os.path.abspath(path)
    try:
        with ExitStack() as undo:
            created = _make_directory(Path(path))
            owner = claim(path, take_over=take_over)
            undo.callback(owner.release)
            mark = _inspect(path, owner.found, verify)
            _reserve_reader_table(path)
            env = _open_environment(path, map_size)
            undo.callback(env.close)
            if _format(path, env):
                mark = _advance(env, mark)
                upgrade(env, STORE_FORMAT, FORMAT_NAME)
                mark = _read_mark(env) or mark
            else:
                mark = create(env)
                for directory in created:
                    sync_directory(str(directory))
            owner.note("open", mark.generation, mark.number)
            env.reader_check()  # the slots of killed readers would keep old pages from reuse
            files = Files(path, env, owner, mark)
            undo.pop_all()
            return files
    except (OSError, lmdb.Error) as error:
        raise _unopened(path, error) from error


def open_shared(path: str) -> Files:
    """Open the store at `path` for reading, beside its owner.

    Raises: what `stores.lmdb.read_lmdb` says.
    """
    path = os.path.abspath(path)
    try:
        with ExitStack() as undo:
            if os.path.exists(os.path.join(path, DATA)) and not owned(path):
                _inspect(path, last_note(path), None)
            env = _open_shared_environment(path)
            undo.callback(env.close)
            form = _format(path, env)
            if not form:
                raise StoreUnreadable(
                    f"{path} holds a store that was never finished: open it for writing once",
                    path=path,
                )
            files = Files(path, env, None, _read_mark(env) or Mark(0, 0), form)
            undo.pop_all()
            return files
    except (OSError, lmdb.Error) as error:
        raise _unopened(path, error) from error


def create(env: lmdb.Environment) -> Mark:
    """Make an empty environment a store, in one transaction."""
    mark = Mark(1, 1)
    with env.begin(write=True) as txn:
        txn.put(FORMAT_KEY, FORMAT_NAME + b" %d" % STORE_FORMAT)
        txn.put(MARK_KEY, mark.encode())
        for database in DATABASES:
            env.open_db(database, txn=txn)
    return mark


def _inspect(path: str, found: Note, verify: bool | None) -> Mark | None:
    """Look at the store before LMDB does; return its mark.

    Raises:
        StoreDamaged: LMDB might die of it, or it has gone back in time.
    """
    try:
        form, mark, needed = identity(path)
    except FileNotFoundError:
        form, mark, needed = 0, None, 0
    except NotPages:
        if found.generation:
            raise _damaged(path, ("data.mdb has no sound meta page",)) from None
        return None  # LMDB says best what it is instead
    except Damaged as error:
        raise _damaged(path, (str(error),)) from error
    if not form and found.generation:
        raise _damaged(path, ("data.mdb is empty or gone, and once held a store",))
    if form > STORE_FORMAT or not form:
        return None
    if mark is not None and (mark.generation, mark.number) < (found.generation, found.number):
        raise StoreDamaged(
            f"data.mdb in {path} ends with commit {mark.generation}.{mark.number}, and its last"
            f" owner had written {found.generation}.{found.number}: it is an older copy, or lost"
            " its newest commit; if an older copy is what you want, remove owner.lock beside it",
            path=path,
        )
    size = os.path.getsize(os.path.join(path, DATA))
    clean = (
        mark is not None
        and found == Note(found.pid, "clean", mark.generation, mark.number)
        and size >= needed
    )
    if verify or (verify is None and not clean):
        report = walk_apart(path) if size > _APART else walk(path)
        if report.broken:
            raise _damaged(path, report.summary())
        if mark is not None and form >= HEADS_SINCE:
            mark = attrs.evolve(mark, digest=report.digest)  # it may have been unknown
    return mark


def _damaged(path: str, findings: tuple[str, ...]) -> StoreDamaged:
    return StoreDamaged(
        f"the store at {path} is damaged ({'; '.join(findings)}): run `mob doctor` on it, and `mob"
        " doctor --repair` to save what can be saved; do not delete it",
        path=path,
        findings=findings,
    )


def _advance(env: lmdb.Environment, mark: Mark | None) -> Mark:
    """Write the next generation, durably, before anything else is done with the store."""
    fresh = (mark or Mark(0, 0)).successor()
    with env.begin(write=True) as txn:
        txn.put(MARK_KEY, fresh.encode())
    return fresh


def _read_mark(env: lmdb.Environment) -> Mark | None:
    with env.begin() as txn:
        raw = txn.get(MARK_KEY)
    return None if raw is None else Mark.decode(raw)


def _open_environment(path: str, map_size: int) -> lmdb.Environment:
    return lmdb.open(
        path,
        map_size=_whole_pages(map_size),
        max_dbs=len(DATABASES),
        sync=True,
        metasync=True,
        writemap=False,
    )


def _open_shared_environment(path: str) -> lmdb.Environment:
    # A map of size 0 takes the size that the owner wrote into the file.
    return lmdb.open(path, map_size=0, max_dbs=len(DATABASES), readonly=True, create=False)


def _format(path: str, env: lmdb.Environment) -> int:
    """The format of the store in the environment; 0 if that is empty."""
    with env.begin() as txn:
        row = txn.get(FORMAT_KEY)
        if row is None and not txn.stat()["entries"]:
            return 0
    name, _, number = (row or b"").rpartition(b" ")
    if name != FORMAT_NAME or not number.isdigit() or not int(number):
        raise StoreUnreadable(
            f"{path} holds an LMDB environment of another program: give another directory",
            path=path,
        )
    if int(number) > STORE_FORMAT:
        raise later(path, int(number))
    return int(number)


def _make_directory(path: Path) -> list[Path]:
    """Create `path` with its parents; return the directories that have a new entry or will."""
    changed = [path]
    while not path.exists():
        path = path.parent
        changed.append(path)
    changed[0].mkdir(parents=True, exist_ok=True)
    return changed


def _reserve_reader_table(path: str) -> None:
    """Give a new ``lock.mdb`` its blocks now.

    LMDB maps a sparse file and writes to it; on a full disk that is a SIGBUS, not an error.
    """
    try:
        fd = os.open(os.path.join(path, READERS), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return
    try:
        os.write(fd, bytes(_READER_TABLE_SIZE))
    finally:
        os.close(fd)


def _whole_pages(size: int) -> int:
    return -(-max(size, _MIN_MAP_SIZE) // mmap.PAGESIZE) * mmap.PAGESIZE


def _unopened(path: str, error: OSError | lmdb.Error) -> StoreError:
    """What `error`, met while opening the store at `path`, means to our callers."""
    code = error.errno if isinstance(error, OSError) else error.code
    if code in FULL:
        return StoreFull(f"no room on the disk for a store at {path}: free some", path=path)
    if "already open in this process" in str(error):
        return in_use(path, os.getpid())
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
