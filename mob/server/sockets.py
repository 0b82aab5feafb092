"""Where the socket of a running mob is, and who may use it.

Owns: the runtime folder, the name of a socket, binding one, removing those that nobody listens at.
Must not: know what is said over it.

A socket is found by the state folder and the id of the mob: its name is a hash of both, because a
path to a socket may have 107 bytes. Who owns the store is decided by the store's lock, never here:
whoever has opened it puts its socket in the place of one that is there, in one rename.

A process that was killed leaves its socket. Whoever makes, moves or removes one does so in its turn
(a lock on the folder), so one that refuses meanwhile belongs to nobody who is just beginning.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mob.errors import FolderUnsafe

#: The most bytes that the kernel takes as the path of a socket: `sun_path` with its final zero.
LONGEST: Final = 107


def runtime_folder() -> Path:
    """The folder for sockets, made if it is not there; only its user can use it.

    ``$XDG_RUNTIME_DIR/mob``, or ``mob-UID`` in the folder for temporary files.

    Raises:
        FolderUnsafe: it is another's, or open to others.
        OSError: it cannot be made.
    """
    given = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(given) / "mob" if given else Path(tempfile.gettempdir()) / f"mob-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()  # a link that somebody else has put there is not followed
    if not stat.S_ISDIR(found.st_mode):
        raise FolderUnsafe(str(folder), "it is no folder")
    if found.st_uid != os.geteuid():
        raise FolderUnsafe(str(folder), f"it belongs to user {found.st_uid}")
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise FolderUnsafe(str(folder), f"its mode is {stat.S_IMODE(found.st_mode):04o}, not 0700")
    return folder


def socket_of(state: str | os.PathLike[str], mob_id: str) -> Path:
    """The socket of the mob `mob_id` in the state folder `state`, whether or not it is there.

    Raises as `runtime_folder`.
    """
    place = os.fsencode(os.path.realpath(state)) + b"\0" + mob_id.encode()
    name = hashlib.blake2s(place, digest_size=8).hexdigest()
    return runtime_folder() / f"{name}.sock"


@contextmanager
def listening(path: Path, backlog: int = 64) -> Iterator[socket.socket]:
    """A socket that listens at `path` with mode 0600 in this block, in the place of any other.

    Raises:
        FolderUnsafe: the path is too long for a socket.
        OSError: it cannot be made.
    """
    beside = path.with_suffix(f".{os.getpid()}")
    if len(os.fsencode(beside)) > LONGEST:
        raise FolderUnsafe(str(path.parent), f"a socket's path may have {LONGEST} bytes")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        with _turn(path.parent):
            beside.unlink(missing_ok=True)
            try:
                made.bind(os.fspath(beside))
                beside.chmod(0o600)
                made.listen(backlog)
                ours = beside.stat().st_ino
                beside.rename(path)
            finally:
                beside.unlink(missing_ok=True)
        try:
            yield made
        finally:
            with contextlib.suppress(FileNotFoundError), _turn(path.parent):
                if path.lstat().st_ino == ours:  # a later owner of the store has its own there
                    path.unlink()


def somebody_listens(path: Path) -> bool:
    """Whether a process listens there. A socket of one that has died is removed."""
    there = _listens(path)
    if there is False:
        _remove(path.parent, [path])
    return bool(there)


def remove_dead() -> int:
    """Remove the sockets of processes that have died, whatever mob they ran, and return how many
    there were. Raises as `runtime_folder`."""
    folder = runtime_folder()
    return _remove(folder, [each for each in folder.iterdir() if _listens(each) is False])


def _listens(path: Path) -> bool | None:
    """Whether a process listens there; None if there is no socket, or nobody can tell."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:  # what is no socket refuses, too
            with contextlib.suppress(OSError):
                return False if stat.S_ISSOCK(path.lstat().st_mode) else None
            return None
        except BlockingIOError:  # it listens, and its queue is full
            return True
        except OSError:
            return None
    return True


def _remove(folder: Path, dead: list[Path]) -> int:
    """Remove those of `dead` that still refuse now that nobody is making one."""
    count = 0
    with contextlib.suppress(OSError), _turn(folder, wait=False):
        for path in dead:
            if _listens(path) is False:
                path.unlink()
                count += 1
    return count


@contextmanager
def _turn(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """In this block nobody else makes, moves or removes a socket in `folder`: some microseconds.
    Without `wait`, raises `BlockingIOError` if somebody is at it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks: whoever makes one does, nobody removes any
            if not wait:
                raise BlockingIOError from None
        yield
    finally:
        os.close(descriptor)
