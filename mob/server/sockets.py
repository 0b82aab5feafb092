"""Where the socket of a running mob is, and who may use it.

Owns: the runtime folder, the name of a socket, binding one, knowing one that nobody listens at.
Must not: know what is said over it.

A socket is found by the state folder and the id of the mob: its name is a hash of both, because a
path to a socket may have 107 bytes. Who owns the store is decided by the store's lock, never here:
whoever has opened it puts its socket in the place of one that is there, in one rename.
"""

from __future__ import annotations

import contextlib
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
    beside.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
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
            with contextlib.suppress(FileNotFoundError):
                if path.lstat().st_ino == ours:  # a later owner of the store has its own there
                    path.unlink()


def somebody_listens(path: Path) -> bool:
    """Whether a process listens there. A socket of one that has died is removed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return False
        except BlockingIOError:  # it listens, and its queue is full
            return True
        except OSError:
            return False
    return True
