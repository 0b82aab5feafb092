"""Erased records: gone for good, and everything around them as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stores import (
    Append,
    Damaged,
    Entry,
    Erase,
    Expect,
    Put,
    backup_lmdb,
    open_lmdb,
    read_lmdb,
    repair_lmdb,
    verify_lmdb,
)
from stores.codec import (
    decode_record,
    encode_record,
    encode_tombstone,
    record_crc,
    record_key,
    stream_prefix,
)
from stores.errors import Conflict
from tests.stores.test_damage import damage_record

KEPT = (1, 3, 6)


async def a_store_with_erased_records(path: Path) -> list[Entry]:
    """Records 2, 4 and 5 of six are erased, in several commits; returns what is to be read."""
    async with open_lmdb(path) as store:
        for seq in range(1, 6):
            await store.commit([Append(b"s", 1, b"secret %d" % seq)])
        await store.commit([Erase(b"s", 2), Put(b"k", b"v")])
        store.submit([Erase(b"s", 5)])  # the last, which the next one continues
        await store.commit([Append(b"s", 1, b"secret 6")])
        await store.commit([Erase(b"s", 4), Erase(b"s", 4), Erase(b"s", 2), Erase(b"s", 99)])
    return [
        Entry(seq, 1, 1, b"secret %d" % seq) if seq in KEPT else Entry(seq, 0, 0, b"")
        for seq in range(1, 7)
    ]


async def test_what_is_erased_stays_so_and_the_chain_holds(path: Path, tmp_path: Path) -> None:
    entries = await a_store_with_erased_records(path)
    assert verify_lmdb(path).sound
    async with open_lmdb(path) as store:
        assert store.read(b"s") == entries
        assert [store.entry(b"s", seq) for seq in range(1, 7)] == entries
        assert [store.read(b"s", after=seq) for seq in range(6)] == [
            entries[seq:] for seq in range(6)
        ]
        await store.commit([Append(b"s", 1, b"secret 7")])
    copy = tmp_path / "copy"
    backup_lmdb(path, copy)
    image = (copy / "data.mdb").read_bytes()
    assert b"secret 3" in image
    assert b"secret 4" not in image  # a compact copy has only what is reachable


async def test_a_batch_that_is_rejected_erases_nothing(path: Path) -> None:
    entries = await a_store_with_erased_records(path)
    async with open_lmdb(path) as store:
        with pytest.raises(Conflict):
            await store.commit([Erase(b"s", 1), Expect(b"k", b"other")])
        assert store.read(b"s") == entries


async def test_a_damaged_record_is_not_erased_as_if_nothing_were_wrong(path: Path) -> None:
    await a_store_with_erased_records(path)
    damage_record(path, 3, -1)
    async with open_lmdb(path) as store:
        with pytest.raises(Damaged, match="record 3"):
            await store.commit([Put(b"k", b"w"), Erase(b"s", 3)])
        assert store.get(b"k") == b"v"
        await store.commit([Erase(b"s", 1)])  # others are


async def test_a_damaged_tombstone_is_told_by_name(tmp_path: Path) -> None:
    for position in range(12):
        path = tmp_path / str(position)
        await a_store_with_erased_records(path)
        damage_record(path, 4, position)
        report = verify_lmdb(path)
        assert report.findings[0].seq == 4, position
        with read_lmdb(path) as store, pytest.raises(Damaged, match="record 4"):
            store.read(b"s")


async def test_a_repair_keeps_erased_records_erased(path: Path, tmp_path: Path) -> None:
    entries = await a_store_with_erased_records(path)
    damage_record(path, 3, -1)
    saved = tmp_path / "saved"
    repair_lmdb(path, saved)
    assert verify_lmdb(saved).sound
    with read_lmdb(saved) as store:
        assert store.read(b"s", limit=2) == entries[:2]
        assert store.read(b"s", after=3) == entries[3:]


@given(
    st.binary(min_size=1, max_size=10),
    st.integers(1, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.binary(max_size=20),
    st.data(),
)
def test_a_tombstone_keeps_the_checksum_and_notices_a_flipped_bit(
    name: bytes, seq: int, previous: int, payload: bytes, data: st.DataObject
) -> None:
    key = record_key(stream_prefix(name), seq)
    _, crc = encode_record(key, previous, 3, 1, payload)
    raw = encode_tombstone(key, previous, crc)
    assert decode_record(key, previous, raw) == (crc, 0, 0, b"")
    assert record_crc(key, raw) == crc
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    flipped = bytearray(raw)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Damaged):
        decode_record(key, previous, bytes(flipped))
    with pytest.raises(Damaged):
        decode_record(key, previous ^ 1, raw)
