"""The pages of an LMDB file, read without LMDB: what is damaged is told, and kills nobody.

Owns: the layout of pages, nodes and free lists of LMDB 0.9, the walk over a tree. Must not: map
the file, write to it, know what the stored bytes mean.

Theory. LMDB maps its file and trusts it. A file that is too short is then a SIGBUS, a page of
zeros an assertion and an abort, and neither can be caught in Python. This module reads pages with
`pread` and checks, before it follows anything, what LMDB takes for granted: that a page carries
its own number, that its parts lie inside it, that keys ascend within the bounds its parent set,
that no page hangs in two places, that no page in use is listed as free (the next commit would
overwrite it), that counts agree. A subtree that fails is reported and left out; the walk goes on.

The layout is that of `struct MDB_page`, `MDB_node`, `MDB_db` and `MDB_meta` in LMDB's mdb.c, for
64-bit machines in their own byte order; LMDB's files do not travel between kinds of machines.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Final, TypeAlias

import attrs

_PAGE: Final = Struct("=QHHHH")  # number, pad, flags, lower, upper
_COUNT: Final = Struct("=I")
_NODE: Final = Struct("=HHHH")  # low, high, flags, size of the key
_TREE: Final = Struct("=IHHQQQQQ")  # pad, flags, depth, branch, leaf, overflow, entries, root
_META: Final = Struct("=IIQQ")  # magic, version, address, size of the map
_NUMBER: Final = Struct("=Q")
_PAIR: Final = Struct("=QQ")

_HEADER: Final = 16
_MAGIC: Final = 0xBEEFC0DE
_VERSION: Final = 1
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 1, 2, 4, 8
_BIG, _SUBTREE = 1, 2
_NOTHING: Final = (1 << 64) - 1
_MAX_DEPTH: Final = 32

#: A key with the stored bytes under it, in the order of keys.
Item: TypeAlias = tuple[bytes, bytes]


class NotPages(Exception):  # a fact about a file, told to callers in this package
    """The file does not begin as an LMDB file of this machine does."""


class _Bad(Exception):
    """A page is not what its place asks for."""


@attrs.frozen
class Tree:
    """Where a database hangs in the file, and the counts that its owner recorded."""

    root: int
    depth: int
    branches: int
    leaves: int
    overflows: int
    entries: int

    @classmethod
    def parse(cls, raw: bytes, offset: int = 0) -> Tree:
        _, _, depth, branches, leaves, overflows, entries, root = _TREE.unpack_from(raw, offset)
        return cls(root, depth, branches, leaves, overflows, entries)


@attrs.frozen
class _Span:
    """A subtree to visit: keys from `low` to below `high` (None: no bound)."""

    page: int
    level: int
    low: bytes | None
    high: bytes | None


class PageFile:
    """An LMDB file as its last commit left it, or as commit `txn` did if one is given.

    Faults are handed to `fault(page, what)` as they are met.

    Raises:
        NotPages: it has no meta page of LMDB 0.9, or not that commit.
        OSError: it cannot be read at all.
    """

    def __init__(
        self, file: str, fault: Callable[[int, str], None], txn: int | None = None
    ) -> None:
        self._fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        self._bad_metas: list[tuple[int, str]] = []
        try:
            self._begin(txn)
        except NotPages:
            os.close(self._fd)
            raise
        self._fault = fault
        for number, reason in self._bad_metas:
            fault(number, reason)  # LMDB refuses such a file; the other one leads to a whole tree
        self._seen = bytearray(self.last_page + 1)
        self._seen[0] = self._seen[1] = 1

    def _begin(self, txn: int | None) -> None:
        self.size = os.fstat(self._fd).st_size
        self.page_size = min(mmap.PAGESIZE, 1 << 15)
        metas = []
        for number in (0, 1):
            try:
                meta = self._meta(os.pread(self._fd, 4096, number * self.page_size))
            except NotPages as reason:
                self._bad_metas.append((number, str(reason)))
            else:
                self.page_size = meta[2]
                metas.append(meta)
        if not metas:
            raise NotPages(self._bad_metas[0][1])
        if txn is not None:
            metas = [meta for meta in metas if meta[0] == txn]
        if not metas:
            raise NotPages(f"commit {txn} is gone")
        #: Number of the commit, and of the last page that it uses.
        self.txn, self.last_page, _, self.free, self.main = max(metas, key=lambda meta: meta[0])
        if self.last_page > max(self.size // self.page_size, 1) + (1 << 20):
            raise NotPages(f"it claims {self.last_page} pages and has {self.size} bytes")

    @staticmethod
    def _meta(raw: bytes) -> tuple[int, int, int, Tree, Tree]:
        if len(raw) < _HEADER + 136:
            raise NotPages("it is too short for two meta pages")
        magic, version, _, _ = _META.unpack_from(raw, _HEADER)
        flags = _PAGE.unpack_from(raw)[2]
        if magic != _MAGIC or version != _VERSION or not flags & _META_PAGE:
            raise NotPages("a meta page is not one of LMDB 0.9")
        size = _COUNT.unpack_from(raw, _HEADER + 24)[0]
        if not 512 <= size <= 1 << 15 or size & (size - 1):
            raise NotPages(f"its pages would have {size} bytes")
        last, txn = _PAIR.unpack_from(raw, _HEADER + 120)
        trees = Tree.parse(raw, _HEADER + 24), Tree.parse(raw, _HEADER + 72)
        return txn, max(last, 1), size, *trees

    def close(self) -> None:
        """Give the file back."""
        os.close(self._fd)

    def items(self, tree: Tree, *, numbers: bool = False) -> Iterator[Item]:
        """Every key with its bytes, ascending, as far as the pages are sound.

        With `numbers` the keys are numbers of this machine, and come out most significant first.
        """
        if tree.root == _NOTHING:
            return
        counts = [0, 0, 0]
        count, sound = 0, True
        spans = [_Span(tree.root, 1, None, None)]
        previous: bytes | None = None
        while spans:
            span = spans.pop()
            try:
                page, pointers = self._load(span, tree.depth, counts)
                turned = numbers and sys.byteorder == "little"
                if span.level < tree.depth:
                    spans += reversed(self._children(page, pointers, span, turned))
                    continue
                for key, value in self._leaf(page, pointers, counts):
                    if turned:
                        key = key[::-1]
                    if (
                        (previous is not None and key <= previous)
                        or (span.low is not None and key < span.low)
                        or (span.high is not None and key >= span.high)
                    ):
                        raise _Bad(f"key {key!r:.60} is out of order")
                    previous = key
                    count += 1
                    yield key, value
            except _Bad as bad:
                sound = False
                self._fault(span.page, f"{bad}; keys lost {_between(span)}")
        recorded = [tree.branches, tree.leaves, tree.overflows]
        if sound and (count != tree.entries or counts != recorded):
            self._fault(
                tree.root,
                f"the tree has {count} entries on {counts} pages, where {tree.entries} on"
                f" {recorded} were recorded",
            )

    def loose(self) -> Iterator[Item]:
        """Every key with its bytes on any leaf of the file, in use or not, in no order.

        Some are of yesterday, some were never committed: whoever takes one must know what to
        expect of it. For a file whose tree is broken.
        """
        for number in range(2, self.size // self.page_size):
            page = os.pread(self._fd, self.page_size, number * self.page_size)
            itself, _, flags, lower, upper = _PAGE.unpack_from(page)
            if itself != number or flags & 0x4F != _LEAF or lower & 1:
                continue
            if not _HEADER <= lower <= upper <= self.page_size:
                continue
            for offset in Struct(f"={(lower - _HEADER) // 2}H").unpack_from(page, _HEADER):
                item = self._loose_item(page, offset)
                if item is not None:
                    yield item

    def _loose_item(self, page: bytes, offset: int) -> Item | None:
        if not _HEADER <= offset <= self.page_size - 8:
            return None
        low, high, flags, size = _NODE.unpack_from(page, offset)
        start, length = offset + 8 + size, low | high << 16
        if flags & ~_BIG or start + (8 if flags else length) > self.page_size:
            return None
        if not flags:
            return page[offset + 8 : start], page[start : start + length]
        place = _NUMBER.unpack_from(page, start)[0] * self.page_size
        if length > self.size or place > self.size:
            return None
        raw = os.pread(self._fd, _HEADER + length, place)
        return page[offset + 8 : start], raw[_HEADER:]

    def check_free(self) -> None:
        """Report pages that are in use and listed as free; call it after all trees were walked."""
        for _, raw in self.items(self.free, numbers=True):
            count = _NUMBER.unpack_from(raw)[0] if len(raw) >= 8 else -1
            if count < 0 or len(raw) < 8 * (count + 1):
                self._fault(self.free.root, "a list of free pages is cut short")
                continue
            for page in memoryview(raw)[8 : 8 * (count + 1)].cast("Q"):
                if page > self.last_page or self._seen[page]:
                    self._fault(page, "it is listed as free and is in use, or does not exist")
                else:
                    self._seen[page] = 2

    def _load(self, span: _Span, depth: int, counts: list[int]) -> tuple[bytes, tuple[int, ...]]:
        """The bytes of a tree's page and the offsets of its nodes, all inside it."""
        if not 0 < depth <= _MAX_DEPTH:
            raise _Bad(f"its tree claims a depth of {depth}")
        page = self._read(span.page, 1)
        _, _, flags, lower, upper = _PAGE.unpack_from(page)
        leaf = span.level == depth
        if flags & 0x4F != (_LEAF if leaf else _BRANCH):
            raise _Bad(f"a page of flags {flags:#x} hangs at level {span.level} of {depth}")
        counts[leaf] += 1
        if not _HEADER <= lower <= upper <= self.page_size or lower & 1:
            raise _Bad("its bounds are impossible")
        pointers = Struct(f"={(lower - _HEADER) // 2}H").unpack_from(page, _HEADER)
        if not pointers or min(pointers) < upper or max(pointers) + 8 > self.page_size:
            raise _Bad("its nodes lie outside it")
        return page, pointers

    def _children(
        self, page: bytes, pointers: tuple[int, ...], span: _Span, turned: bool
    ) -> list[_Span]:
        found: list[tuple[int, bytes | None]] = []
        for index, offset in enumerate(pointers):
            low, high, flags, size = _NODE.unpack_from(page, offset)
            if offset + 8 + size > self.page_size:
                raise _Bad("a branch reaches beyond it")
            name = page[offset + 8 : offset + 8 + size]
            key = (name[::-1] if turned else name) if index else span.low
            if index > 1 and (key or b"") <= (found[-1][1] or b""):
                raise _Bad(f"separator {key!r:.60} is out of order")
            found.append((low | high << 16 | flags << 32, key))
        bounds = [key for _, key in found[1:]] + [span.high]
        return [
            _Span(child, span.level + 1, key, bound)
            for (child, key), bound in zip(found, bounds, strict=True)
        ]

    def _leaf(self, page: bytes, pointers: tuple[int, ...], counts: list[int]) -> Iterator[Item]:
        unpack = _NODE.unpack_from
        for offset in pointers:
            low, high, flags, size = unpack(page, offset)
            start = offset + 8 + size
            length = low | high << 16
            big = flags & _BIG
            end = start + (8 if big else length)
            if end > self.page_size or flags & ~(_BIG | _SUBTREE):
                raise _Bad("a node reaches beyond it")
            value = page[start:end]
            if big:
                value = self._overflow(_NUMBER.unpack(value)[0], length, counts)
            yield page[offset + 8 : start], value

    def _overflow(self, number: int, length: int, counts: list[int]) -> bytes:
        pages = (_HEADER + length - 1) // self.page_size + 1
        raw = self._read(number, pages)
        flags, claimed = _PAGE.unpack_from(raw)[2], _COUNT.unpack_from(raw, 12)[0]
        # More pages than it needs: within one transaction a smaller value takes over the pages
        # of a larger one (mdb_cursor_put), which are freed together later.
        if flags & 0x4F != _OVERFLOW or not pages <= claimed <= self.last_page:
            raise _Bad(f"page {number} should begin a value of {length} bytes and does not")
        self._take(number + pages, claimed - pages)
        counts[2] += claimed
        return raw[_HEADER : _HEADER + length]

    def _take(self, number: int, pages: int) -> None:
        """Note that `pages` pages from `number` on are in use."""
        if not 1 < number <= self.last_page - pages + 1:
            raise _Bad(f"page {number} does not exist")
        if any(self._seen[number : number + pages]):
            raise _Bad(f"page {number} hangs in two places")
        self._seen[number : number + pages] = b"\x01" * pages

    def _read(self, number: int, pages: int) -> bytes:
        self._take(number, pages)
        raw = os.pread(self._fd, pages * self.page_size, number * self.page_size)
        if len(raw) < pages * self.page_size:
            raise _Bad(f"page {number} lies beyond the end of the file")
        if _NUMBER.unpack_from(raw)[0] != number:
            raise _Bad(f"page {number} carries the number {_NUMBER.unpack_from(raw)[0]}")
        return raw


def _between(span: _Span) -> str:
    low = "the first" if span.low is None else f"{span.low!r:.80}"
    high = "the last" if span.high is None else f"{span.high!r:.80}"
    return f"from {low} to {high}"
