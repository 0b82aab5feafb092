"""Stores of format 2: with heads and a mark, and without tombstones.

Written here by hand, as those of format 1: a fixture does not change when the code does.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import lmdb

from tests.stores import format1

#: What the owner wrote into the mark before the one that is migrated: generation, commit number.
GENERATION, NUMBER = 4, 9


def write_store(
    path: Path, streams: Mapping[bytes, Sequence[bytes]], rows: Mapping[bytes, bytes]
) -> None:
    """A store of format 2 in `path`, whose owner was killed: records of kind 1 and version 1."""
    format1.write_store(path, streams, rows)
    (path / "owner.lock").write_bytes(b"%-20d %-8s %-20d %-20d\n" % (12345, b"open", 4, 1))
    with lmdb.open(str(path), max_dbs=3, map_size=64 << 20) as env:
        with env.begin(write=True) as txn:
            txn.put(b"format", b"trio-mob store 2")
            digest = 0
            for _, raw in txn.cursor(env.open_db(b"keys", txn=txn, create=False)):
                digest += struct.unpack(">I", raw[1:5])[0]
            mark = struct.pack(">QQQQQ", GENERATION, NUMBER, GENERATION - 1, 7, digest)
            txn.put(b"mark", row(b"mark", mark))
            heads = env.open_db(b"heads", txn=txn)
            for key, raw in txn.cursor(env.open_db(b"streams", txn=txn, create=False)):
                seq, crc = struct.unpack(">Q", key[-8:])[0], struct.unpack(">I", raw[4:8])[0]
                txn.put(key[:-8], row(key[:-8], struct.pack(">QI", seq, crc)), db=heads)


def row(key: bytes, value: bytes) -> bytes:
    return struct.pack(">BI", 1, zlib.crc32(value, zlib.crc32(key))) + value
