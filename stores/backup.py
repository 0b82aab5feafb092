"""Copies of a store: taken while its owner works, and put back.

Owns: the compact copy, its atomic appearance, the checks before one is put back. Must not: write
to the store that it copies, overwrite anything.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack

import lmdb

from stores.errors import StoreDamaged, StoreFull, StoreMisuse, StoreUnreadable
from stores.fence import DATA, sync_directory
from stores.files import FULL, open_shared
from stores.reader import LmdbReader
from stores.verify import Report, walk_apart


def backup_lmdb(
    store: LmdbReader | str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    began: Callable[[str], None] = lambda _: None,
) -> Report:
    """Copy the store as of one commit, compacted, to the new directory `target`.

    Give the path, or the open store if this process has it open; its owner goes on writing (the
    file grows meanwhile, as the copied commit's pages are not reused). The copy is synced and
    verified before the directory gets its name, so `target` is whole or absent. It is a store of
    its own: it can be opened, read or restored. Blocks; call it in a thread. `began` is told the
    path of the file that is being written, for whoever wants to watch it grow.

    Raises:
        StoreMisuse: `target` exists.
        StoreFull: no room for the copy.
        StoreDamaged: the copy is not sound, because the store is not; nothing is left behind.
        StoreUnreadable: there is no store, or no directory can be made at `target`.
    """
    into = os.path.abspath(os.fspath(target))
    refuse_existing(into)
    with ExitStack() as undo:
        if isinstance(store, LmdbReader):
            env, path = store._files.env, store.location
        else:
            files = open_shared(os.fspath(store))
            undo.callback(files.close)
            env, path = files.env, files.path
        return _appear(into, lambda where: env.copy(where, compact=True), path, began)


def restore_lmdb(
    backup: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    began: Callable[[str], None] = lambda _: None,
) -> Report:
    """Put the backup in directory `backup` to the new directory `target`.

    It is verified before and after. `began` is as for `backup_lmdb`.

    Raises: as `backup_lmdb`; an existing store is never overwritten.
    """
    source, into = os.path.abspath(os.fspath(backup)), os.path.abspath(os.fspath(target))
    refuse_existing(into)
    _check(walk_apart(source), source)

    def copy(where: str) -> None:
        shutil.copyfile(os.path.join(source, DATA), os.path.join(where, DATA))

    return _appear(into, copy, source, began)


def _appear(
    into: str, copy: Callable[[str], None], path: str, began: Callable[[str], None]
) -> Report:
    """Have `copy` fill a hidden directory; sync and verify it; give it the name `into`."""
    parent = os.path.dirname(into)
    with ExitStack() as undo:
        try:
            os.makedirs(parent, exist_ok=True)
            hidden = tempfile.TemporaryDirectory(prefix=os.path.basename(into) + ".", dir=parent)
        except OSError as error:
            raise unmade(into, error) from error
        scratch = undo.enter_context(hidden)
        where = os.path.join(scratch, "copy")
        os.mkdir(where)
        began(os.path.join(where, DATA))
        try:
            copy(where)
            _sync_file(os.path.join(where, DATA))
            sync_directory(where)
        except (OSError, lmdb.Error) as error:
            code = error.errno if isinstance(error, OSError) else error.code
            if code in FULL:
                raise StoreFull(f"no room for a copy of {path} at {into}", path=into) from error
            raise StoreUnreadable(f"cannot copy {path} to {into}: {error}", path=path) from error
        report = walk_apart(where)
        _check(report, path)
        refuse_existing(into)
        os.rename(where, into)
        sync_directory(parent)
    report.path = into
    return report


def _check(report: Report, path: str) -> None:
    if not report.sound:
        raise StoreDamaged(
            f"the copy of {path} is not sound ({'; '.join(report.summary())}): run `mob doctor` on"
            f" {path}",
            path=path,
            findings=report.summary(),
        )


def refuse_existing(into: str) -> None:
    """Raise `StoreMisuse` if there is anything at `into` but an empty directory."""
    if os.path.lexists(into) and not (os.path.isdir(into) and not os.listdir(into)):
        raise StoreMisuse(f"{into} exists: nothing is overwritten, give a new directory")


def unmade(into: str, error: OSError) -> StoreFull | StoreUnreadable:
    """The error for a directory `into` that could not be made because of `error`."""
    if error.errno in FULL:
        return StoreFull(f"no room on the disk for {into}: free some", path=into)
    return StoreUnreadable(
        f"cannot make the directory {into} ({error.strerror}): give a path whose parents are"
        " directories that can be written to",
        path=into,
    )


def _sync_file(file: str) -> None:
    fd = os.open(file, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
