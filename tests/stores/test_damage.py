"""Damage on disk is told by name, and never as absence."""

from __future__ import annotations

from pathlib import Path

import lmdb
import pytest

from stores import (
    Append,
    Damaged,
    Entry,
    Expect,
    Put,
    Store,
    StoreFailed,
    open_lmdb,
    verify_lmdb,
)
from stores.codec import record_key, stream_prefix
from stores.lmdb import LmdbStore


async def a_store_to_damage(path: Path) -> None:
    async with open_lmdb(path) as store:
        for index in range(1, 6):
            await store.commit([Append(b"s", 1, b"payload %d" % index)])
        await store.commit([Append(b"t", 1, b"sound"), Put(b"k", b"value"), Put(b"l", b"sound")])


def rewrite(path: Path, database: bytes, key: bytes, value: bytes | None) -> bytes:
    """Put `value` (None: nothing) at `key`, as a fault of the disk might; return what was there."""
    with lmdb.open(str(path), max_dbs=3) as env:
        db = env.open_db(database)
        with env.begin(db, write=True) as txn:
            old: bytes | None = txn.get(key)
            assert old is not None
            if value is None:
                txn.delete(key)
            else:
                txn.put(key, value)
    return old


def record(seq: int) -> bytes:
    return record_key(stream_prefix(b"s"), seq)


def damage_record(path: Path, seq: int, position: int) -> None:
    raw = bytearray(rewrite(path, b"streams", record(seq), b""))
    raw[position] ^= 0x10
    rewrite(path, b"streams", record(seq), bytes(raw))


async def assert_damaged(store: Store, seq: int) -> None:
    where = f"record {seq} of stream b's'"
    with pytest.raises(Damaged) as caught:
        store.read(b"s")
    assert caught.value.where == where
    assert "mob doctor" in str(caught.value)
    with pytest.raises(Damaged) as caught:
        store.entry(b"s", seq)
    assert caught.value.where == where


@pytest.mark.parametrize("seq", [1, 3, 5])
@pytest.mark.parametrize("position", [0, 1, 2, 4, 7, 8, -1])
async def test_a_flipped_bit_of_a_record_is_told_by_name(
    path: Path, seq: int, position: int
) -> None:
    await a_store_to_damage(path)
    damage_record(path, seq, position)
    async with open_lmdb(path) as store:
        await assert_damaged(store, seq)
        assert len(store.read(b"s", limit=seq - 1)) == seq - 1
        assert store.read(b"t") == [Entry(1, 1, 1, b"sound")]


async def test_a_damaged_checksum_is_blamed_on_its_own_record(path: Path) -> None:
    await a_store_to_damage(path)
    damage_record(path, 3, 5)
    async with open_lmdb(path) as store:
        for look in (lambda: store.entry(b"s", 4), lambda: store.read(b"s", after=3)):
            with pytest.raises(Damaged) as caught:
                look()
            assert caught.value.where == "record 3 of stream b's'"
        assert store.entry(b"s", 5) == Entry(5, 1, 1, b"payload 5")


async def test_a_record_of_yesterday_is_noticed_by_its_successor(path: Path) -> None:
    await a_store_to_damage(path)
    async with open_lmdb(path.parent / "other") as store:
        for index in range(1, 6):
            await store.commit([Append(b"s", 1, b"stale %d" % index)])
    stale = rewrite(path.parent / "other", b"streams", record(1), b"")
    rewrite(path, b"streams", record(1), stale)  # sound by itself: it begins a chain
    async with open_lmdb(path) as store:
        assert store.read(b"s", limit=1) == [Entry(1, 1, 1, b"stale 1")]
        with pytest.raises(Damaged) as caught:
            store.read(b"s")
        assert caught.value.where == "record 2 of stream b's'"


@pytest.mark.parametrize("seq", [1, 3])
async def test_a_missing_record_is_told_by_name(path: Path, seq: int) -> None:
    await a_store_to_damage(path)
    rewrite(path, b"streams", record(seq), None)
    async with open_lmdb(path) as store:
        await assert_damaged(store, seq)
        with pytest.raises(Damaged) as caught:
            store.read(b"s", after=seq)
        assert caught.value.where == f"record {seq} of stream b's'"


async def test_a_damaged_row_is_never_absent(path: Path) -> None:
    await a_store_to_damage(path)
    raw = rewrite(path, b"keys", b"k", b"")
    async with open_lmdb(path) as store:
        for look in (lambda: store.get(b"k"), lambda: store.scan(b"")):
            with pytest.raises(Damaged, match="key b'k'"):
                look()
        assert store.scan(b"l") == [(b"l", b"sound")]
    rewrite(path, b"keys", b"l", raw)
    async with open_lmdb(path) as store:
        with pytest.raises(Damaged, match="key b'l'"):
            store.get(b"l")


async def test_nothing_is_built_on_damage_and_the_rest_goes_on(path: Path) -> None:
    await a_store_to_damage(path)
    prefix = stream_prefix(b"s")
    rewrite(path, b"heads", prefix, b"")
    rewrite(path, b"keys", b"k", b"")
    async with open_lmdb(path) as store:
        tickets = [
            store.submit([Put(b"never", b""), Append(b"s", 1, b"never")]),
            store.submit([Expect(b"k", None), Put(b"never", b"")]),
            store.submit([Append(b"t", 1, b"fine")]),
        ]
        for ticket, where in zip(tickets, ("the head of stream b's'", "key b'k'"), strict=False):
            with pytest.raises(Damaged) as caught:
                await ticket.wait()
            assert caught.value.where == where
        assert await tickets[2].wait() == (2,)
        assert store.get(b"never") is None
        await store.commit([Put(b"k", b"repaired")])
        assert store.get(b"k") == b"repaired"


HARMS = {
    "its payload": lambda raw: raw[:-1] + bytes([raw[-1] ^ 0x10]),
    "its checksum": lambda raw: raw[:5] + bytes([raw[5] ^ 0x10]) + raw[6:],
    "its format": lambda raw: b"\x09" + raw[1:],
    "cut short": lambda raw: raw[:3],
    "missing": lambda raw: None,
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("first", [5, 4, 1])
async def test_a_damaged_end_is_told_and_what_comes_behind_it_is_kept(
    path: Path, harm: str, first: int
) -> None:
    """From record `first` on all are damaged. Their stream goes on, and they go on to be told,
    but for those of which no more than the checksum was hit: the next one, or the head, has it."""
    await a_store_to_damage(path)
    for seq in range(first, 6):
        rewrite(
            path, b"streams", record(seq), HARMS[harm](rewrite(path, b"streams", record(seq), b"x"))
        )
    async with open_lmdb(path) as store:
        assert store.last(b"s") == 5
        assert await store.commit([Append(b"s", 1, b"six")]) == (6,)
        assert await store.commit([Append(b"s", 1, b"seven")]) == (7,)
    for verify in (False, True):
        async with open_lmdb(path, verify=verify) as store:
            assert [entry.payload for entry in store.read(b"s", after=5)] == [b"six", b"seven"]
            assert store.last(b"s") == 7
            for seq in range(first, 6):
                if harm == "its checksum" and seq == first == 5:
                    assert store.read(b"s")[4].payload == b"payload 5"
                    continue
                with pytest.raises(Damaged) as caught:
                    store.entry(b"s", seq)
                assert caught.value.where in [
                    f"record {each} of stream b's'" for each in (seq, seq - 1)
                ]
            await store.commit([Put(b"more", b"")])
    report = verify_lmdb(path)
    assert not report.broken
    assert {each.seq for each in report.findings} == (
        set() if harm == "its checksum" and first == 5 else set(range(first, 6))
    )


async def test_thousands_of_lost_records_in_a_row_are_told_one_by_one(path: Path) -> None:
    async with open_lmdb(path) as store:
        await store.commit([Append(b"s", 1, b"payload")] * 3000)
    for seq in (2999, 3000):
        rewrite(path, b"streams", record(seq), None)
    with lmdb.open(str(path), max_dbs=3) as env, env.begin(write=True) as txn:
        streams = env.open_db(b"streams", txn=txn)
        for seq in range(2, 2999):
            txn.put(record(seq), flipped(txn.get(record(seq), db=streams)), db=streams)
    async with open_lmdb(path, verify=False) as store:
        assert await store.commit([Append(b"s", 1, b"on")]) == (3001,)
        for seq in (2, 2000, 3000):
            with pytest.raises(Damaged, match=f"record {seq}|record {seq - 1}"):
                store.entry(b"s", seq)
        assert [entry.payload for entry in store.read(b"s", after=3000)] == [b"on"]


def flipped(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 0x10])


async def test_a_foreign_writer_is_noticed_before_anything_is_overwritten(path: Path) -> None:
    async with open_lmdb(path) as store:
        assert isinstance(store, LmdbStore)
        await store.commit([Append(b"s", 1, b"ours")])
        with store._files.env.begin(store._files.streams, write=True) as txn:
            txn.put(record(2), b"theirs")
        with pytest.raises(StoreFailed, match="another program"):
            await store.commit([Append(b"s", 1, b"ours too")])
        with store._files.env.begin(store._files.streams) as txn:
            assert txn.get(record(2)) == b"theirs"
