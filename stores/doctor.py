"""What `mob doctor` does to a store: look at every byte, save what can be saved.

Owns: holding a living store still while it is looked at, the copy of what is readable. Must not:
write to the store that it looks at; decide what to do about damage.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

import attrs
import lmdb

from stores.backup import refuse_existing, unmade
from stores.codec import (
    CHAIN_START,
    MARK_KEY,
    Mark,
    encode_gap,
    encode_head,
    encode_record,
    encode_row,
    record_key,
    row_crc,
    stream_prefix,
)
from stores.errors import StoreInUse, StoreUnreadable
from stores.fence import DATA, owned, sync_directory
from stores.files import DATABASES, create
from stores.reader import LmdbReader
from stores.verify import Report, Sink, walk, walk_apart

#: Bytes that a transaction of a repair gathers before it commits.
_BATCH = 8 << 20

#: Times that an attempt to hold a busy store still is repeated.
_TRIES = 10


def verify_lmdb(store: LmdbReader | str | os.PathLike[str]) -> Report:
    """Look at every page, record and row of a store; nothing is changed, and nothing can die.

    Give the path, or the open store if this process has it open. Blocks: about ten seconds for a
    gigabyte; call it in a thread. With an owner at work it sees the state of one commit; a store
    without one is walked in a process of its own.

    Raises:
        StoreUnreadable: there is no store, not even its first pages can be read, or a later
            version of trio-mob wrote it.
    """
    if not isinstance(store, LmdbReader):
        path = os.path.abspath(os.fspath(store))
        if not owned(path):
            return walk_apart(path)
        try:
            with lmdb.open(path, map_size=0, readonly=True, create=False) as env:
                return _walk_still(path, env)
        except lmdb.Error as error:
            raise StoreUnreadable(f"cannot look at {path}: {error}", path=path) from error
    return _walk_still(store.location, store._files.env)


def _walk_still(path: str, env: lmdb.Environment) -> Report:
    """Walk the commit that a read transaction holds on to, so that its pages are not reused."""
    error: StoreUnreadable | None = None
    for _ in range(_TRIES):
        with env.begin() as txn:
            try:
                return walk(path, txn=txn.id())
            except StoreUnreadable as gone:
                error = gone  # two commits came in between, and its meta page was overwritten
    assert error is not None
    raise error


def repair_lmdb(store: str | os.PathLike[str], target: str | os.PathLike[str]) -> Report:
    """Copy all that is readable in the store at path `store` into a new one at `target`.

    Records keep their numbers: in the place of one that is lost stands a gap, which reads as
    `Damaged` and says why, so that everything after it stays where others expect it. The newest
    records of a stream, if they are lost, leave a gap too. If pages are broken, records are also
    looked for on pages that the tree no longer leads to (in memory: it takes as much as the file);
    one that was on its way when the owner crashed may come back so. A lost row is absent in the
    copy. The
    original is not touched. Returns what was found; every loss is named in it, up to
    `stores.verify.MAX_FINDINGS`. Blocks, as `verify_lmdb`.

    Raises:
        StoreMisuse: `target` exists and is not an empty directory.
        StoreInUse: the store is open somewhere.
        StoreUnreadable: there is no store, not even its first pages can be read, a later version
            of trio-mob wrote it, or no directory can be made at `target`.
    """
    path, into = os.path.abspath(os.fspath(store)), os.path.abspath(os.fspath(target))
    if owned(path):
        raise StoreInUse(
            f"the store at {path} is open: stop its owner before repairing it", path=path
        )
    refuse_existing(into)
    size = max(os.path.getsize(os.path.join(path, DATA)), 1 << 20) if os.path.isdir(path) else 0
    # Refuses what cannot be read at all, before anything is created.
    broken = walk(path).broken
    try:
        os.makedirs(into, exist_ok=True)
    except OSError as error:
        raise unmade(into, error) from error
    with ExitStack() as undo:
        env = lmdb.open(into, map_size=4 * size, max_dbs=len(DATABASES), sync=False)
        undo.callback(env.close)
        sink = _Copy(env)
        report = walk(path, sink=sink, loose=broken)
        sink.end(Mark(report.generation + 1, 1))
        env.sync(True)
    sync_directory(into)
    sync_directory(os.path.dirname(into))
    return report


@attrs.define
class _Copy(Sink):
    """Writes what a walk hands out into a fresh store."""

    env: lmdb.Environment
    _prefix: bytes = b""
    _seq: int = 0
    _crc: int = CHAIN_START
    _digest: int = 0
    _size: int = 0
    _writes: list[tuple[bytes, bytes, bytes]] = attrs.Factory(list)

    def __attrs_post_init__(self) -> None:
        create(self.env)

    def record(self, key: bytes, kind: int, version: int, payload: bytes) -> None:
        """A sound record: its checksum is made anew, for the one before it may be a gap."""
        self._in_stream(key[:-8])
        raw, self._crc = encode_record(key, self._crc, kind, version, payload)
        self._put(b"streams", key, raw)
        self._seq += 1

    def lost(self, stream: bytes, seq: int, reason: str, raw: bytes = b"") -> None:
        """A gap. More of them than a report names are told in one."""
        prefix = stream_prefix(stream)
        self._in_stream(prefix)
        key = record_key(prefix, self._seq + 1)
        gap, self._crc = encode_gap(key, self._crc, reason, raw)
        self._put(b"streams", key, gap)
        self._seq += 1

    def row(self, key: bytes, value: bytes) -> None:
        """A sound row."""
        raw = encode_row(key, value)
        self._digest += row_crc(raw)
        self._put(b"keys", key, raw)

    def end(self, mark: Mark) -> None:
        """Write what is left, and the mark last."""
        self._in_stream(b"")
        self._flush()
        with self.env.begin(write=True) as txn:
            txn.put(MARK_KEY, attrs.evolve(mark, digest=self._digest & ((1 << 64) - 1)).encode())

    def _in_stream(self, prefix: bytes) -> None:
        if prefix == self._prefix:
            return
        if self._prefix:
            self._put(b"heads", self._prefix, encode_head(self._prefix, self._seq, self._crc))
        self._prefix, self._seq, self._crc = prefix, 0, CHAIN_START

    def _put(self, database: bytes, key: bytes, raw: bytes) -> None:
        self._writes.append((database, key, raw))
        self._size += len(key) + len(raw)
        if self._size > _BATCH:
            self._flush()

    def _flush(self) -> None:
        databases = {name: self.env.open_db(name, create=False) for name in DATABASES}
        with self.env.begin(write=True) as txn:
            for database, key, raw in self._writes:
                txn.put(key, raw, db=databases[database])
        self._writes.clear()
        self._size = 0
