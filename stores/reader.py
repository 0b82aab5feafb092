"""Reads of an LMDB store, shared by its owner and by readers in other processes.

Owns: the read half of the port, the verification of a stream's chain. Must not: write, keep a
transaction open: pages that an open one can see are not reused, and the file grows.

Each call is one read transaction of some microseconds, inline on the Trio thread, and sees the
latest commit whole. LMDB needs no lock for that: a commit never touches a page that a reader may
be looking at.
"""

from __future__ import annotations

from itertools import islice
from typing import Final, NoReturn

import lmdb
import trio

from stores.base import Batch, Committed, Entry, Ticket
from stores.codec import (
    CHAIN_START,
    check_key,
    decode_head,
    decode_record,
    decode_row,
    describe_record,
    record_crc,
    record_key,
    split_record_key,
    stream_prefix,
)
from stores.errors import Damaged, StoreClosed, StoreFailed, StoreMisuse
from stores.files import Files
from stores.writer import again

_LAST_SEQ: Final = (1 << 64) - 1


class LmdbReader:
    """The read half of `stores.base.Store`; the methods that write refuse.

    Reads raise `StoreFailed` when the operating system or LMDB fails them, and `StoreClosed`
    after `close`.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._closed = False

    @property
    def durable(self) -> bool:
        """True."""
        return True

    @property
    def generation(self) -> int:
        """How often the store has been opened for writing; a reader's is that of its opening."""
        return self._files.mark.generation

    @property
    def location(self) -> str:
        """The path of the store's directory."""
        return self._files.path

    def get(self, key: bytes) -> bytes | None:
        """See `stores.base.Store.get`."""
        check_key(key)
        try:
            with self._begin() as txn:
                raw = txn.get(key, db=self._files.keys)
        except lmdb.Error as error:
            self._refuse(error)
        return None if raw is None else decode_row(key, raw)

    def scan(
        self, prefix: bytes, *, after: bytes | None = None, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """See `stores.base.Store.scan`."""
        for bound in (prefix, after):
            if bound:
                check_key(bound)
        start = prefix if after is None else max(prefix, after)
        rows: list[tuple[bytes, bytes]] = []
        try:
            with self._begin() as txn:
                cursor = txn.cursor(self._files.keys)
                if not cursor.set_range(start):
                    return rows
                for key, raw in cursor:
                    if not key.startswith(prefix) or (limit is not None and len(rows) >= limit):
                        break
                    if key != after:
                        rows.append((key, decode_row(key, raw)))
        except lmdb.Error as error:
            self._refuse(error)
        return rows

    def last(self, stream: bytes) -> int:
        """See `stores.base.Store.last`."""
        check_key(stream)
        try:
            with self._begin() as txn:
                return stream_end(txn, self._files, stream_prefix(stream))[0]
        except lmdb.Error as error:
            self._refuse(error)

    def read(self, stream: bytes, *, after: int = 0, limit: int = 256) -> list[Entry]:
        """See `stores.base.Store.read`."""
        check_key(stream)
        try:
            with self._begin() as txn:
                prefix = stream_prefix(stream)
                after = max(after, 0)
                cursor = txn.cursor(self._files.streams)
                entries = read_entries(cursor, prefix, after, limit)
                if len(entries) < limit:
                    # It ended by itself: at the end, or where the newest records are missing.
                    end, next_one = (
                        stream_end(txn, self._files, prefix)[0],
                        after + len(entries) + 1,
                    )
                    if next_one <= end:
                        raise Damaged(
                            *_gone(record_key(prefix, next_one)), key=record_key(prefix, next_one)
                        )
                return entries
        except lmdb.Error as error:
            self._refuse(error)

    def entry(self, stream: bytes, seq: int) -> Entry | None:
        """See `stores.base.Store.entry`."""
        entries = self.read(stream, after=seq - 1, limit=1) if seq > 0 else []
        return entries[0] if entries else None

    def streams(self) -> list[bytes]:
        """See `stores.base.Store.streams`."""
        names: list[bytes] = []
        try:
            with self._begin() as txn:
                heads = self._files.heads
                cursor = txn.cursor(self._files.streams)
                more = cursor.first()
                while more:
                    name, _ = split_record_key(cursor.key())
                    names.append(name)
                    more = cursor.set_range(record_key(stream_prefix(name), _LAST_SEQ))
                ended = names
                if heads is not None:
                    ended = [prefix[2:] for prefix in txn.cursor(heads).iternext(values=False)]
        except lmdb.Error as error:
            self._refuse(error)
        if ended != names:
            odd = min(set(ended).symmetric_difference(names), default=b"")
            raise Damaged(f"stream {odd!r}", "it has records and no end, or an end and no records")
        return sorted(names)  # on disk the shorter names come first

    def close(self) -> None:
        """Give the files back; `open_lmdb` and `read_lmdb` do it. Idempotent."""
        if not self._closed:
            self._closed = True
            self._files.close()

    def submit(self, batch: Batch, committed: Committed | None = None) -> Ticket:
        """Refused.

        Raises:
            StoreMisuse: always; only the owner writes.
        """
        self._only_reads("submit a batch")

    async def commit(self, batch: Batch) -> tuple[int, ...]:
        """Refused as `submit` is."""
        self._only_reads("commit a batch")

    @property
    def crowded(self) -> bool:
        """False: nothing queues here."""
        return False

    async def room(self) -> None:
        """Return after a checkpoint: nothing queues here."""
        await trio.lowlevel.checkpoint()

    async def barrier(self) -> None:
        """Return after a checkpoint: nothing queues here."""
        await trio.lowlevel.checkpoint()

    async def wait_beyond(self, stream: bytes, seq: int) -> None:
        """Refused: nobody tells this process about commits, and it does not poll.

        Raises:
            StoreMisuse: always.
        """
        self._only_reads("wait for a stream to grow")

    def _begin(self) -> lmdb.Transaction[bytes]:
        files = self._files
        if files.lost is not None and not self._closed:
            raise again(files.lost) from files.lost
        try:
            if files.claim is None and not self._closed:
                files.follow()  # one system call
            return files.env.begin()
        except lmdb.MapResizedError:
            # The owner enlarged its map; 0 takes over the size it wrote into the file.
            files.env.set_mapsize(0)
            return files.env.begin()
        except OSError as error:
            raise StoreFailed(
                f"cannot read the store at {files.path}: {error}", path=files.path
            ) from error

    def _refuse(self, error: lmdb.Error) -> NoReturn:
        """Raise what `error`, met while reading, means to our callers."""
        path = self._files.path
        if self._closed:
            raise StoreClosed(f"the store at {path} was closed: open it again") from error
        if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError):
            raise Damaged(f"the store at {path}", f"its pages contradict it ({error})") from error
        raise StoreFailed(f"cannot read the store at {path}: {error}", path=path) from error

    def _only_reads(self, wish: str) -> NoReturn:
        raise StoreMisuse(
            f"cannot {wish}: {self._files.path} was opened for reading, use the handle of its owner"
        )


def stream_end(txn: lmdb.Transaction[bytes], files: Files, prefix: bytes) -> tuple[int, int]:
    """Number and checksum of the last record that was committed to the stream of `prefix`, as its
    head says; the newest records may be missing nevertheless. Without heads (format 1) the number
    is what the records say, and the checksum 0.

    Raises:
        Damaged: the head is damaged, or of an earlier commit: nobody knows where the stream ends.
    """
    seq = last_seq(txn.cursor(files.streams), prefix)
    if files.heads is None:
        return seq, 0
    raw = txn.get(prefix, db=files.heads)
    said, crc = (0, CHAIN_START) if raw is None else decode_head(prefix, raw)
    if said < seq:
        raise Damaged(
            f"the head of stream {prefix[2:]!r}", f"it says {said}, the records say {seq}"
        )
    return said, crc


def last_seq(cursor: lmdb.Cursor[bytes], prefix: bytes) -> int:
    """The number of the last record of the stream of `prefix`; 0 if it has none."""
    beyond = cursor.set_range(record_key(prefix, _LAST_SEQ))
    found = cursor.prev() if beyond else cursor.last()
    if not found or not cursor.key().startswith(prefix):
        return 0
    return split_record_key(cursor.key())[1]


def read_entries(cursor: lmdb.Cursor[bytes], prefix: bytes, after: int, limit: int) -> list[Entry]:
    """At most `limit` verified entries of the stream of `prefix`, from number `after + 1` on.

    Raises:
        Damaged: names the record that is not what was written, or is missing.
    """
    entries: list[Entry] = []
    crc = CHAIN_START
    if after:
        # The predecessor has what the first record's checksum continues from.
        key = record_key(prefix, min(after, _LAST_SEQ))
        if not cursor.set_range(key) or not cursor.key().startswith(prefix):
            return entries
        if cursor.key() != key:
            raise _missing(key)
        crc = record_crc(key, cursor.value())
    if not (cursor.next() if after else cursor.set_range(prefix)):
        return entries
    for seq, (key, raw) in enumerate(islice(cursor, max(limit, 0)), after + 1):
        if not key.startswith(prefix):
            break
        expected = record_key(prefix, seq)
        if key != expected:
            raise _missing(expected)
        try:
            crc, kind, version, payload = decode_record(key, crc, raw)
        except Damaged:
            if after and not entries:
                _check_one(cursor, prefix, after)  # if that one is to blame, name that one
            raise
        entries.append(Entry(seq, kind, version, payload))
    return entries


def _check_one(cursor: lmdb.Cursor[bytes], prefix: bytes, seq: int) -> None:
    """Raise `Damaged` if record `seq`, which is there, is not what was written behind the one
    before it. No further back: of a thousand in a row, each is told by itself."""
    crc = CHAIN_START
    if seq > 1:
        before = record_key(prefix, seq - 1)
        if not cursor.set_key(before):
            raise _missing(before)
        crc = record_crc(before, cursor.value())
    key = record_key(prefix, seq)
    cursor.set_key(key)
    decode_record(key, crc, cursor.value())


def _gone(key: bytes) -> tuple[str, str]:
    return describe_record(key), "it is missing, and was written"


def _missing(key: bytes) -> Damaged:
    return Damaged(describe_record(key), "it is missing, although later ones are there")
