"""The transaction of a group of batches, and what became of one that failed.

Owns: applying batches, the mark that every commit writes and checks, the recovery from a failed
commit. Must not: queue batches or wake anybody (`stores.writer` does), choose a thread.

Theory. Every commit writes the *mark* (`stores.codec.Mark`: generation and commit number) into
the transaction that it ends, after it found there the mark of our own last commit. So

* a handle that was overtaken by another owner notices inside its transaction and writes nothing;
* a commit whose call failed can be looked up: if the mark is the one it was about to write, it is
  on disk, whatever LMDB said; if it is the one before, it is not.

A commit that fails takes the environment with it: LMDB may have left a meta page half written,
and the kernel may have dropped the pages that it could not write. So the environment is closed
and opened again, the mark is read, and then one more commit is made durable (a new generation)
*before* anybody is told: what the reading found may have come from memory only. A group that is
found on disk needs nothing else. One that is found not to be there is applied in that same
commit, on the fresh environment: dropping it would break the promise that a later batch may rely
on an earlier one without waiting for it, and knowing that it is not there makes it safe. It is
not silent either: every such incident is kept and logged. If that commit fails as well, the disk
is given up: the group is told what is known, and the store only reads.

A write transaction begins and ends within one call, on one thread.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Sequence
from typing import Final, TypeAlias, final

import lmdb

from stores.base import Append, Batch, Delete, Erase, Expect, Put
from stores.codec import (
    CHAIN_START,
    MARK_KEY,
    Mark,
    decode_record,
    decode_row,
    describe_record,
    encode_gap,
    encode_head,
    encode_record,
    encode_row,
    encode_tombstone,
    record_crc,
    record_key,
    row_crc,
    stream_prefix,
    with_crc,
)
from stores.errors import (
    CommitUnknown,
    Conflict,
    Damaged,
    StoreError,
    StoreFailed,
    StoreFull,
    StoreLost,
)
from stores.files import FULL, Files
from stores.pages import NotPages
from stores.reader import last_seq, stream_end
from stores.verify import identity
from stores.writer import CommitFailed, MapFull, Outcome

#: Streams whose ends are remembered, before all are forgotten and looked up again.
_MAX_TAILS: Final = 1 << 16

#: Times that a successor's file is looked at for what became of our last commit.
_LOOKS: Final = 3

#: Sequence number and checksum of the last record of a stream.
_Tail: TypeAlias = tuple[int, int]


@final
class _Attempt:
    """What one transaction is about to change; adopted once its commit succeeded."""

    __slots__ = ("delta", "mark", "outcomes", "records", "tails", "txn")

    def __init__(self, txn: lmdb.Transaction[bytes]) -> None:
        self.txn = txn
        self.tails: dict[bytes, _Tail] = {}
        self.records: list[tuple[bytes, bytes]] = []
        # What the rows written so far change in the digest; None once a damaged one was among
        # them, for nobody knows what that had added.
        self.delta: int | None = 0
        self.outcomes: list[Outcome] = []
        self.mark: Mark | None = None


@final
class Transactions:
    """The `stores.writer.Engine` of an LMDB store."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._path = files.path
        # Invariant: as committed; an attempt works on its own overlay until its commit succeeded.
        self._tails: dict[bytes, _Tail] = {}
        # The attempt that failed last, and whether LMDB may have got to the meta page in it.
        self._failed: _Attempt | None = None
        self._unknown = False

    def commit(self, batches: Sequence[Batch]) -> tuple[list[Outcome], Collection[bytes]]:
        """See `stores.writer.Engine.commit`."""
        return self._attempt(batches, fresh=False)

    def grow(self, batches: Sequence[Batch]) -> None:
        """See `stores.writer.Engine.grow`."""
        # Doubled, so that growing is rare; and enough for the group even if every value takes
        # twice its size in pages, once in the old tree and once in the new.
        size: int = self._files.env.info()["map_size"]
        try:
            self._files.env.set_mapsize(max(2 * size, size + 4 * _size(batches)))
        except lmdb.Error as error:
            raise StoreFailed(
                f"cannot enlarge the map of {self._path} beyond {size} bytes ({error}): raise the"
                " limit of the process's address space",
                path=self._path,
            ) from error

    def reopen(self, batches: Sequence[Batch]) -> None:
        """See `stores.writer.Engine.reopen`."""
        self._files.reopen(self._files.env.info()["map_size"] + 4 * _size(batches) + (1 << 20))

    def recover(self, batches: Sequence[Batch]) -> tuple[bool, list[Outcome], Collection[bytes]]:
        """See `stores.writer.Engine.recover`."""
        failed, self._failed = self._failed, None
        try:
            with self._files.env.begin() as txn:
                found = Mark.decode(txn.get(MARK_KEY) or b"")
        except lmdb.Error as error:
            raise self._failure(error, batches) from error
        self._tails.clear()
        if failed is not None and found == failed.mark:
            self._files.mark = found
            self._attempt((), fresh=True)
            self._settled()
            return True, failed.outcomes, failed.tails
        outcomes, streams = self._attempt(batches, fresh=True)
        self._settled()
        return False, outcomes, streams

    def _settled(self) -> None:
        self._unknown = False
        self._files.settled()

    def _attempt(
        self, batches: Sequence[Batch], *, fresh: bool
    ) -> tuple[list[Outcome], Collection[bytes]]:
        """Commit `batches` in one transaction, as a new generation if `fresh`."""
        files = self._files
        attempt: _Attempt | None = None
        self._check_claim()
        try:
            with files.env.begin(write=True) as txn:
                attempt = _Attempt(txn)
                raw = txn.get(MARK_KEY)
                if raw is None or Mark.decode(raw) != files.mark:
                    raise self._lost(raw)
                apply = self._apply
                attempt.outcomes = [apply(attempt, batch) for batch in batches]
                self._write(attempt, fresh)
        except lmdb.MapFullError as error:
            raise MapFull(
                f"the map of {self._path} has no room: open the store with a larger one",
                path=self._path,
            ) from error
        except lmdb.Error as error:
            self._failed = attempt
            raise self._failure(error, batches) from error
        if attempt.mark is not None:
            files.mark = attempt.mark
        if len(self._tails) > _MAX_TAILS:
            self._tails.clear()
        self._tails.update(attempt.tails)
        if files.claim is not None and not files.claim.holds:
            told = self._lost_after(attempt)
            if told is not None:
                raise told
        return attempt.outcomes, attempt.tails

    def _write(self, attempt: _Attempt, fresh: bool) -> None:
        """Put what `attempt` gathered into its transaction: records, heads, the mark."""
        txn, files = attempt.txn, self._files
        if not (fresh or any(type(outcome) is tuple for outcome in attempt.outcomes)):
            return  # all were rejected: there is nothing to make durable
        self._write_records(attempt)
        heads = []
        for stream, (seq, crc) in attempt.tails.items():
            if seq:
                prefix = stream_prefix(stream)
                heads.append((prefix, encode_head(prefix, seq, crc)))
        if files.heads is not None:
            txn.cursor(files.heads).putmulti(heads)
        mark = files.mark
        attempt.mark = mark.successor(attempt.delta) if fresh else mark.next(attempt.delta)
        txn.put(MARK_KEY, attempt.mark.encode())

    def _write_records(self, attempt: _Attempt) -> None:
        """Put the records that `attempt` gathered so far into its transaction."""
        cursor = attempt.txn.cursor(self._files.streams)
        _, added = cursor.putmulti(attempt.records, overwrite=False)
        if added != len(attempt.records):
            raise StoreFailed(
                f"{self._path} has records that its owner did not write: another program"
                " wrote to data.mdb; stop it, then open the store again",
                path=self._path,
            )
        attempt.records.clear()

    def _apply(self, attempt: _Attempt, batch: Batch) -> Outcome:
        """Apply `batch` whole, or nothing of it; appends are left in `attempt`."""
        tails, txn = attempt.tails, attempt.txn
        tombstones: list[tuple[bytes, bytes]] = []
        try:
            for operation in batch:
                if type(operation) is Append:
                    if operation.stream not in tails:
                        tails[operation.stream] = self._tail(attempt, operation.stream)
                elif type(operation) is Expect:
                    self._check(txn, operation)
                elif type(operation) is Erase:
                    tombstones += self._tombstone(attempt, operation)
        except (Conflict, Damaged) as error:
            return error
        if tombstones:
            txn.cursor(self._files.streams).putmulti(tombstones)
        keys = self._files.keys
        sequences: list[int] = []
        for operation in batch:
            if type(operation) is Append:
                stream = operation.stream
                seq, crc = tails[stream]
                seq += 1
                key = record_key(stream_prefix(stream), seq)
                raw, crc = encode_record(
                    key, crc, operation.kind, operation.version, operation.payload
                )
                attempt.records.append((key, raw))
                tails[stream] = (seq, crc)
                sequences.append(seq)
            elif type(operation) is Put:
                row = encode_row(operation.key, operation.value)
                _exchange(attempt, operation.key, txn.get(operation.key, db=keys), row)
                txn.put(operation.key, row, db=keys)
            elif type(operation) is Delete:
                _exchange(attempt, operation.key, txn.pop(operation.key, db=keys), None)
        return tuple(sequences)

    def _check(self, txn: lmdb.Transaction[bytes], expect: Expect) -> None:
        raw = txn.get(expect.key, db=self._files.keys)
        found = None if raw is None else decode_row(expect.key, raw)
        if found != expect.value:
            raise Conflict(expect.key, expect.value, found)

    def _tombstone(self, attempt: _Attempt, erase: Erase) -> list[tuple[bytes, bytes]]:
        """What takes the record's place, if there is one to erase. It is verified before, so that
        damage does not go by unnoticed."""
        if attempt.records:
            self._write_records(attempt)  # of batches before this one: it may be among them
        txn, streams = attempt.txn, self._files.streams
        prefix = stream_prefix(erase.stream)
        key = record_key(prefix, erase.seq)
        raw = txn.get(key, db=streams)
        if raw is None:
            if erase.seq < last_seq(txn.cursor(streams), prefix):
                raise Damaged(describe_record(key), "it is missing, although later ones are there")
            return []
        previous = CHAIN_START
        if erase.seq > 1:
            before = record_key(prefix, erase.seq - 1)
            previous = record_crc(before, txn.get(before, db=streams) or b"")
        crc, _, _, _ = decode_record(key, previous, raw)
        return [(key, encode_tombstone(key, previous, crc))]

    def _tail(self, attempt: _Attempt, stream: bytes) -> _Tail:
        """The end of `stream`, as its head says when it is read from disk: a chain must go on
        sound, also behind a record that is damaged."""
        tail = self._tails.get(stream)
        if tail is None:
            prefix = stream_prefix(stream)
            seq, crc = stream_end(attempt.txn, self._files, prefix)
            tail = self._mended(attempt, prefix, seq, crc) if seq else (0, CHAIN_START)
        return tail

    def _mended(self, attempt: _Attempt, prefix: bytes, seq: int, crc: int) -> _Tail:
        """The end `seq`, `crc` of a stream, made such that the next record can be verified.

        What is damaged stays so, and goes on to be told: of a record that stands there no more than
        the checksum is put right, which the head has too; one that is gone gets a gap.
        """
        txn, streams = attempt.txn, self._files.streams
        key = record_key(prefix, seq)
        raw = txn.get(key, db=streams)
        try:
            if raw is not None:
                if record_crc(key, raw) != crc:
                    txn.put(key, with_crc(raw, crc), db=streams)
                return seq, crc
        except Damaged:
            pass  # too short to hold one
        last = min(last_seq(txn.cursor(streams), prefix), seq - 1)
        try:
            before = record_key(prefix, last)
            crc = record_crc(before, txn.get(before, db=streams) or b"") if last else CHAIN_START
        except Damaged:
            crc = CHAIN_START  # a gap is told as damaged, whatever it continues
        for number in range(last + 1, seq + 1):
            key = record_key(prefix, number)
            raw, crc = encode_gap(key, crc, "the newest of its stream, found missing")
            txn.put(key, raw, db=streams)
        return seq, crc

    # Being overtaken

    def _check_claim(self) -> None:
        claim = self._files.claim
        if claim is not None and not claim.holds:
            raise self._lost(None)

    def _lost(self, raw: bytes | None) -> StoreError:
        """The error for a handle that finds the mark of somebody else, `raw`, before it wrote."""
        generation = None if raw is None else Mark.decode(raw).generation
        if generation == self._files.mark.generation:
            return StoreFailed(
                f"{self._path} ends with a commit that its owner did not write: another program"
                " wrote to data.mdb; stop it, then open the store again",
                path=self._path,
            )
        at = "" if generation is None else f" at generation {generation}"
        error = StoreLost(
            f"another process took the store at {self._path} over{at}, this handle was of"
            f" generation {self._files.mark.generation}: nothing was written; end this process, or"
            " open the store again when the other one has closed it",
            path=self._path,
            generation=generation,
        )
        self._files.lose(error)
        return error

    def _lost_after(self, attempt: _Attempt) -> StoreError | None:
        """What to tell of a commit during which the store was taken over; None if it counts."""
        own, lost = attempt.mark, self._lost(None)
        if own is None:
            return lost
        for _ in range(_LOOKS):
            try:
                _, found, _ = identity(self._path)
            except (OSError, NotPages, Damaged):
                continue  # its owner overwrote what we were looking at
            if found is not None and found.last == (own.generation, own.number):
                return None
            if found is not None and found.last == (own.generation, own.number - 1):
                return lost
        return CommitUnknown(
            f"another process took the store at {self._path} over during this commit, and whether"
            " it found the commit there is not known: read it back there"
        )

    # Failing

    def _failure(self, error: lmdb.Error, batches: Sequence[Batch]) -> CommitFailed:
        """What `error`, which ended a commit, means; `_unknown` remembers if it may have worked."""
        try:
            self._files.env.begin(write=True).abort()
        except lmdb.PanicError:
            # The new meta page could not be written, and nobody knows how much of it was.
            self._unknown = True
        except lmdb.Error as second:
            error.add_note(f"and then: {second}")
        # LMDB reports a write that the full disk cut short as an input/output error.
        full = error.code in FULL or (
            error.code == errno.EIO and _free(self._path) < 2 * _size(batches) + (1 << 16)
        )
        if full:
            reason: StoreFull | StoreFailed = StoreFull(
                f"no room on the disk of {self._path}: free some, then open the store again;"
                " nothing of the failed batches was kept",
                path=self._path,
            )
        else:
            reason = StoreFailed(
                f"a commit to {self._path} failed ({error}): look at the disk, then open the store"
                " again; nothing of the failed batches was kept",
                path=self._path,
            )
        told: StoreError = reason
        if self._unknown:
            told = CommitUnknown(
                f"the last step of a commit to {self._path} failed ({error}): open the store again"
                " and read back whether it happened"
            )
        return CommitFailed(str(error), told=told, reason=reason)


def _exchange(attempt: _Attempt, key: bytes, old: bytes | None, new: bytes | None) -> None:
    """Take `old` out of the digest and put `new` into it."""
    if attempt.delta is None:
        return
    if old is not None:
        try:
            decode_row(key, old)
        except Damaged:
            attempt.delta = None
            return
    attempt.delta += row_crc(new) - row_crc(old)


def _free(path: str) -> int:
    """Bytes that this user may still write to the disk of `path`."""
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def _size(batches: Sequence[Batch]) -> int:
    """Roughly the bytes that `batches` carry."""
    size = 0
    for batch in batches:
        for operation in batch:
            if isinstance(operation, Append):
                size += 512 + len(operation.payload)
            elif isinstance(operation, Put):
                size += 512 + len(operation.value)
    return size
