"""Stores of format 1, as the first release of trio-mob left them.

Written here by hand, with that release's layout spelled out once more: the point of a fixture is
that it does not change when the code does.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import lmdb


def write_store(
    path: Path, streams: Mapping[bytes, Sequence[bytes]], rows: Mapping[bytes, bytes]
) -> None:
    """A store of format 1 in `path`: records of kind 1 and version 1, and rows."""
    path.mkdir(parents=True)
    (path / "owner.lock").write_bytes(b"%-20d\n" % 12345)
    with lmdb.open(str(path), max_dbs=2, map_size=64 << 20, sync=False) as env:
        with env.begin(write=True) as txn:
            txn.put(b"format", b"trio-mob store 1")
            records, keys = env.open_db(b"streams", txn=txn), env.open_db(b"keys", txn=txn)
            for name, payloads in streams.items():
                crc = 0
                for seq, payload in enumerate(payloads, 1):
                    key = struct.pack(">H", len(name)) + name + struct.pack(">Q", seq)
                    head = struct.pack(">BBH", 1, 1, 1)
                    crc = zlib.crc32(payload, zlib.crc32(key + head, crc))
                    txn.put(key, head + struct.pack(">I", crc) + payload, db=records)
            for key, value in rows.items():
                crc = zlib.crc32(value, zlib.crc32(key))
                txn.put(key, struct.pack(">BI", 1, crc) + value, db=keys)
        env.sync(True)


def add_record_as_format_1(path: Path, name: bytes, payload: bytes) -> None:
    """What the older program does, should it be run on a store that is half migrated."""
    with lmdb.open(str(path), max_dbs=2, map_size=64 << 20) as env:
        with env.begin(write=True) as txn:
            assert txn.get(b"format") == b"trio-mob store 1"
            records = env.open_db(b"streams", txn=txn)
            cursor = txn.cursor(records)
            prefix = struct.pack(">H", len(name)) + name
            seq, crc = 0, 0
            for key, raw in cursor:
                if key.startswith(prefix) and len(key) == len(prefix) + 8:
                    seq, crc = struct.unpack(">Q", key[-8:])[0], struct.unpack(">I", raw[4:8])[0]
            key = prefix + struct.pack(">Q", seq + 1)
            head = struct.pack(">BBH", 1, 1, 1)
            crc = zlib.crc32(payload, zlib.crc32(key + head, crc))
            txn.put(key, head + struct.pack(">I", crc) + payload, db=records)
