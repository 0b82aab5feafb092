"""Looking at every byte of a store: `verify_lmdb`, and the check before an unclean one is opened.

Owns: the walk over pages, records, heads and rows, the report. Must not: change anything, open an
environment of LMDB (except to hold still what a living owner would overwrite).

Theory. Four things can be wrong and are looked for. *Structure*: `stores.pages`. *Records*: each
continues the checksum of the one before, so a bit, a missing record and a record of yesterday
show. *Ends*: the newest record of a stream has no successor to contradict a stale page, so a head
row, in a database of its own, says where each stream ends. *Rows*: one row of yesterday is sound
by itself, so the mark of the last commit carries the sum of the checksums of all rows.

This module is also the program that `open_lmdb` runs in a process of its own (`main`): it imports
neither Trio nor LMDB, and a host that has other work does not share its interpreter with a walk
that takes seconds for each gigabyte.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final, Literal

import attrs

from stores.codec import (
    CHAIN_START,
    DIGEST_UNKNOWN,
    GAP_WORDS,
    MARK_KEY,
    Mark,
    decode_head,
    decode_record,
    decode_row,
    describe_record,
    record_crc,
    record_key,
    row_crc,
    split_record_key,
)
from stores.errors import Damaged, StoreUnreadable
from stores.fence import DATA
from stores.migrations import HEADS_SINCE, STORE_FORMAT
from stores.pages import Item, NotPages, PageFile, Tree

#: Findings that a report keeps; beyond them it only counts.
MAX_FINDINGS: Final = 1000

#: Records that may be missing in one place; a larger gap is a damaged number.
_MAX_GAP: Final = 100_000

#: Findings that an error message quotes.
_QUOTED: Final = 3

Kind = Literal["page", "record", "gap", "head", "row", "rows"]


@attrs.frozen
class Finding:
    """One thing that is wrong. `stream` and `seq`, `key` or `page` are set where they apply.

    Kinds: a ``page`` of the file (whatever hung below it is lost); a ``record``; a ``gap`` that an
    earlier repair left for a record; the ``head`` of a stream (its newest records are missing); a
    ``row``; the ``rows`` as a whole (some are not the newest of their key).
    """

    kind: Kind
    where: str
    reason: str
    stream: bytes | None = None
    seq: int | None = None
    key: bytes | None = None
    page: int | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@attrs.define
class Report:
    """What a look at every byte found. `findings` holds at most `MAX_FINDINGS` of `found`."""

    path: str
    format: int = 0
    generation: int = 0
    bytes: int = 0
    streams: int = 0
    records: int = 0
    rows: int = 0
    found: int = 0
    findings: list[Finding] = attrs.Factory(list)
    #: What the rows add up to (see `stores.codec.Mark`).
    digest: int = 0
    #: Pages of the file itself are broken, and LMDB must not be let near it; or there are rows of
    #: yesterday among the rows, and nobody can tell which.
    broken: bool = False

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong. Gaps that a repair left were told then and do not count."""
        return not self.found

    def add(self, finding: Finding) -> None:
        """Note `finding`."""
        self.found += finding.kind != "gap"
        self.broken |= finding.kind in ("page", "rows")
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)

    def fault(self, page: int, reason: str) -> None:
        """Note a fault of the pages."""
        self.add(Finding("page", f"page {page}", reason, page=page))

    def summary(self) -> tuple[str, ...]:
        """The first findings, one line each, and how many more there are."""
        lines = [str(finding) for finding in self.findings[:_QUOTED]]
        if self.found > len(lines):
            lines.append(f"and {self.found - len(lines)} more")
        return tuple(lines)


@attrs.define
class Sink:
    """Where the walk puts what is sound; the base class lets it go."""

    def record(self, key: bytes, kind: int, version: int, payload: bytes) -> None:
        """A sound record, in order of stream and number."""

    def lost(self, stream: bytes, seq: int, reason: str, raw: bytes = b"") -> None:
        """A record that stood, or must have stood, at this place, where `raw` stands."""

    def row(self, key: bytes, value: bytes) -> None:
        """A sound row."""


def walk(
    path: str, *, txn: int | None = None, sink: Sink | None = None, loose: bool = False
) -> Report:
    """Read every page and record of the store in `path`, or of its commit `txn`; never dies of it.

    With `loose`, records that the tree no longer leads to are looked for on every page: since a
    record is never changed (but erased), one that continues the chain is the right one, wherever
    it lies.

    Raises:
        StoreUnreadable: there is no LMDB file, it cannot be read at all, or a later version of
            trio-mob wrote it.
    """
    report = Report(path)
    try:
        file = PageFile(os.path.join(path, DATA), report.fault, txn)
    except (OSError, NotPages) as error:
        raise StoreUnreadable(
            f"nothing can be read from {path}: {error}; restore it from a backup", path=path
        ) from error
    with closing(file):
        report.bytes = file.size
        main = dict(file.items(file.main))
        report.format, mark = _identity(report, main)
        if report.format > STORE_FORMAT:
            raise later(path, report.format)
        _Walk(report, file, main, mark, sink or Sink(), loose).run()
        file.check_free()
    return report


def later(path: str, form: int) -> StoreUnreadable:
    """The error for a store of a format that is not known yet: nothing may be said of it."""
    return StoreUnreadable(
        f"the store at {path} has format {form} and this version of trio-mob reads up to"
        f" {STORE_FORMAT}: upgrade trio-mob, or give another directory",
        path=path,
    )


def identity(path: str) -> tuple[int, Mark | None, int]:
    """Format, mark and bytes that the file must have, read without LMDB; zeros if it is empty.

    Raises:
        NotPages, OSError: it cannot be read.
        Damaged: what leads to the mark is broken.
    """
    faults: list[str] = []
    with closing(PageFile(os.path.join(path, DATA), lambda _, what: faults.append(what))) as file:
        report = Report(path)
        form, mark = _identity(report, dict(file.items(file.main)))
        if faults or report.found:
            raise Damaged(f"the store at {path}", "; ".join(faults or report.summary()))
        needed = (file.last_page + 1) * file.page_size if form else 0
    return form, mark, needed


def _identity(report: Report, main: dict[bytes, bytes]) -> tuple[int, Mark | None]:
    name, _, number = main.get(b"format", b"").rpartition(b" ")
    form = int(number) if name == b"trio-mob store" and number.isdigit() else 0
    raw = main.get(MARK_KEY)
    if raw is None:
        if form >= HEADS_SINCE:
            report.add(Finding("page", "the mark of the last commit", "it is missing"))
        return form, None
    try:
        mark = Mark.decode(raw)
    except Damaged as error:
        report.add(Finding("page", error.where, error.reason))
        return form, None
    report.generation = mark.generation
    return form, mark


class _Walk:
    """The state of one walk over records, heads and rows."""

    def __init__(
        self,
        report: Report,
        file: PageFile,
        main: dict[bytes, bytes],
        mark: Mark | None,
        sink: Sink,
        loose: bool,
    ) -> None:
        self._report = report
        self._file = file
        self._main = main
        self._mark = mark
        self._sink = sink
        self._loose = loose
        self._heads: Iterator[Item] = iter(())
        self._head: Item | None = None
        self._prefix = b""
        self._seq = 0
        # The checksum that the next record continues; None if that is not known.
        self._crc: int | None = CHAIN_START

    def run(self) -> None:
        """Look at everything."""
        if self._report.format >= HEADS_SINCE:
            self._heads = self._items(b"heads")
            self._head = next(self._heads, None)
        for key, raw in self._with_loose() if self._loose else self._items(b"streams"):
            try:
                _, seq = split_record_key(key)
            except Damaged as error:
                # It may lie in the midst of a stream, and does not end that.
                self._report.add(Finding("record", error.where, error.reason, key=key))
                continue
            if key[:-8] != self._prefix:
                self._end_stream()
                self._prefix, self._seq, self._crc = key[:-8], 0, CHAIN_START
                self._report.streams += 1
            self._record(key, seq, raw)
        self._end_stream()
        while self._head is not None:
            self._end_absent(self._head[0])
        self._rows()

    def _with_loose(self) -> Iterator[Item]:
        """The records of the tree, and where it lacks one, the loose one that fits."""
        spare: dict[bytes, list[bytes]] = {}
        for key, raw in self._items(b"streams"):
            spare.setdefault(key, []).append(raw)
        linked = set(spare)
        for key, raw in self._file.loose():
            if _is_record(key, raw):
                spare.setdefault(key, []).append(raw)
        for key in sorted(spare):
            before = self._crc if key[:-8] == self._prefix else CHAIN_START
            if before is None:
                yield key, spare[key][0]  # which cannot be told from another, and counts as lost
                continue
            fits = [raw for raw in spare[key] if _fits(key, before, raw)]
            if fits or key in linked:
                yield key, (fits or spare[key])[0]

    def _items(self, database: bytes) -> Iterator[Item]:
        raw = self._main.get(database)
        if raw is None or len(raw) != 48:
            if self._report.format:
                self._report.fault(self._file.main.root, f"database {database!r} is missing")
            return iter(())
        return self._file.items(Tree.parse(raw))

    def _record(self, key: bytes, seq: int, raw: bytes) -> None:
        if seq - self._seq > _MAX_GAP:
            reason = f"its number is impossible, the one before is {self._seq}"
            self._report.add(Finding("record", describe_record(key), reason, key=key))
            return
        if seq != self._seq + 1:
            self._missing(self._seq + 1, seq - 1, "it is missing, although later ones are there")
            self._crc = None
        self._seq = seq
        before, self._crc = self._crc, None
        try:
            stored = record_crc(key, raw)
            if before is None:
                self._crc = stored
                raise Damaged(describe_record(key), "the record it continues is lost")
            try:
                self._crc, kind, version, payload = decode_record(key, before, raw)
            except Damaged:
                self._crc = stored  # if only the payload is hit, the next one is sound
                raise
        except Damaged as error:
            self._lose(seq, error.reason, raw)
            return
        self._report.records += 1
        self._sink.record(key, kind, version, payload)

    def _missing(self, first: int, last: int, reason: str) -> None:
        for seq in range(first, min(last, first + _MAX_GAP) + 1):
            self._lose(seq, reason)

    def _lose(self, seq: int, reason: str, raw: bytes = b"") -> None:
        stream = self._prefix[2:]
        where = describe_record(record_key(self._prefix, seq))
        kind: Kind = "gap" if reason.startswith(GAP_WORDS) else "record"
        self._report.add(Finding(kind, where, reason, stream=stream, seq=seq))
        self._sink.lost(stream, seq, reason, raw)

    def _end_stream(self) -> None:
        """Compare the stream that ends here with its head."""
        if not self._prefix or self._report.format < HEADS_SINCE:
            return
        while self._head is not None and self._head[0] < self._prefix:
            self._end_absent(self._head[0])
        if self._head is None or self._head[0] != self._prefix:
            self._blame_head(self._prefix, "it is missing")
            return
        try:
            seq, crc = decode_head(*self._head)
        except Damaged as error:
            self._blame_head(self._prefix, error.reason)
        else:
            if seq > self._seq:
                self._missing(self._seq + 1, seq, "it was the newest of its stream and is gone")
            elif seq < self._seq or (self._crc is not None and crc != self._crc):
                self._blame_head(self._prefix, f"it says {seq}, the records say {self._seq}")
        self._head = next(self._heads, None)

    def _end_absent(self, prefix: bytes) -> None:
        """A head whose stream has no record left."""
        assert self._head is not None
        kept = self._prefix, self._seq
        try:
            seq, _ = decode_head(*self._head)
        except Damaged as error:
            self._blame_head(prefix, error.reason)
        else:
            self._prefix, self._seq = prefix, 0
            self._missing(1, seq, "its stream is gone")
            self._prefix, self._seq = kept
        self._head = next(self._heads, None)

    def _blame_head(self, prefix: bytes, reason: str) -> None:
        stream = prefix[2:]
        self._report.add(Finding("head", f"the head of stream {stream!r}", reason, stream=stream))

    def _rows(self) -> None:
        digest = 0
        for key, raw in self._items(b"keys"):
            digest += row_crc(raw)
            try:
                value = decode_row(key, raw)
            except Damaged as error:
                self._report.add(Finding("row", error.where, error.reason, key=key))
            else:
                self._report.rows += 1
                self._sink.row(key, value)
        if self._mark is None or self._report.format < HEADS_SINCE:
            return
        report = self._report
        report.digest = digest & ((1 << 64) - 1)
        explained = any(each.kind == "row" for each in report.findings)
        if self._mark.digest not in (report.digest, DIGEST_UNKNOWN) and not explained:
            report.add(
                Finding("rows", "the rows as a whole", "some are missing or of an earlier commit")
            )


def _is_record(key: bytes, raw: bytes) -> bool:
    """Whether this may be a record, and is not a row whose key looks like that of one."""
    try:
        split_record_key(key)
        record_crc(key, raw)
    except Damaged:
        return False
    try:
        decode_row(key, raw)
    except Damaged:
        return True
    return False


def _fits(key: bytes, before: int, raw: bytes) -> bool:
    try:
        decode_record(key, before, raw)
    except Damaged:
        return False
    return True


def walk_apart(path: str) -> Report:
    """`walk` in a process of its own, which may die without taking this one along.

    Raises:
        StoreUnreadable: as `walk`, or that process died.
    """
    if not sys.executable:  # an interpreter inside another program: there is none to start
        return walk(path)
    program = "import sys; sys.path[:] = sys.argv[2:]; from stores.verify import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, path, *sys.path],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise StoreUnreadable(
            f"the process that looked at the store at {path} ended with {done.returncode} and said"
            f" {done.stderr.decode(errors='replace')[-300:]!r}: restore it from a backup",
            path=path,
        ) from None
    if "unreadable" in answer:
        raise StoreUnreadable(answer["unreadable"], path=path)
    return load(answer)


def main() -> None:
    """The program that `walk_apart` runs: the report as JSON on standard output."""
    path = sys.argv[1]
    try:
        answer = dump(walk(path))
    except StoreUnreadable as error:
        answer = {"unreadable": str(error)}
    sys.stdout.write(json.dumps(answer))


def dump(report: Report) -> dict[str, object]:
    """`report` as plain data for JSON, bytes in hexadecimal."""

    def plain(_: object, field: object, value: object) -> object:
        return value.hex() if isinstance(value, bytes) else value

    return attrs.asdict(report, value_serializer=plain)


def load(plain: dict[str, Any]) -> Report:
    """The report that `dump` made `plain`."""
    findings = [
        Finding(**{**each, "stream": _bytes(each["stream"]), "key": _bytes(each["key"])})
        for each in plain["findings"]
    ]
    return Report(**{**plain, "findings": findings})


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)
