"""The envelope gives back what was stored, and notices every change to it."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stores import MAX_KEY_BYTES, Append, Damaged, Delete, Expect, Put, StoreMisuse
from stores.codec import (
    CHAIN_START,
    check_batch,
    decode_record,
    decode_row,
    describe_record,
    encode_record,
    encode_row,
    record_crc,
    record_key,
    split_record_key,
    stream_prefix,
)

names = st.binary(min_size=1, max_size=20)
numbers = st.integers(1, 2**64 - 1)
kinds = st.integers(0, 255)
versions = st.integers(0, 65535)
checksums = st.integers(0, 2**32 - 1)
payloads = st.binary(max_size=64)


def flipped(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@given(names, numbers)
def test_a_record_key_gives_back_its_parts(name: bytes, seq: int) -> None:
    assert split_record_key(record_key(stream_prefix(name), seq)) == (name, seq)


@given(names, numbers, names, numbers)
def test_the_records_of_a_stream_are_adjacent_and_in_order(
    name: bytes, seq: int, other: bytes, other_seq: int
) -> None:
    prefix = stream_prefix(name)
    key = record_key(stream_prefix(other), other_seq)
    assert key.startswith(prefix) == (name == other)
    assert (record_key(prefix, seq) < record_key(prefix, other_seq)) == (seq < other_seq)


def test_the_longest_name_fits_the_key_of_every_engine() -> None:
    assert len(record_key(stream_prefix(b"x" * MAX_KEY_BYTES), 1)) <= 511


@given(names, numbers, checksums, kinds, versions, payloads)
def test_a_record_comes_back_as_it_was(
    name: bytes, seq: int, previous: int, kind: int, version: int, payload: bytes
) -> None:
    key = record_key(stream_prefix(name), seq)
    raw, crc = encode_record(key, previous, kind, version, payload)
    assert decode_record(key, previous, raw) == (crc, kind, version, payload)
    assert record_crc(key, raw) == crc


@given(st.data(), names, numbers, checksums, kinds, versions, payloads)
def test_one_flipped_bit_of_a_record_is_noticed(
    data: st.DataObject,
    name: bytes,
    seq: int,
    previous: int,
    kind: int,
    version: int,
    payload: bytes,
) -> None:
    key = record_key(stream_prefix(name), seq)
    raw, _ = encode_record(key, previous, kind, version, payload)
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    with pytest.raises(Damaged) as caught:
        decode_record(key, previous, flipped(raw, bit))
    assert caught.value.where == describe_record(key)


@given(names, numbers, numbers, checksums, checksums, payloads)
def test_a_sound_record_in_the_wrong_place_is_noticed(
    name: bytes, seq: int, other_seq: int, previous: int, other: int, payload: bytes
) -> None:
    assume(seq != other_seq or previous != other)
    raw, _ = encode_record(record_key(stream_prefix(name), seq), previous, 1, 1, payload)
    key = record_key(stream_prefix(name), other_seq)
    # Two changes at once may cancel each other out, once in four thousand million.
    if seq == other_seq or previous == other:
        with pytest.raises(Damaged):
            decode_record(key, other, raw)


@given(st.binary(max_size=7))
def test_a_record_too_short_for_an_envelope_is_damaged(raw: bytes) -> None:
    key = record_key(stream_prefix(b"s"), 1)
    with pytest.raises(Damaged, match="record 1 of stream b's'"):
        decode_record(key, CHAIN_START, raw)
    with pytest.raises(Damaged, match="record 1 of stream b's'"):
        record_crc(key, raw)


@given(names, payloads)
def test_a_row_comes_back_as_it_was(key: bytes, value: bytes) -> None:
    assert decode_row(key, encode_row(key, value)) == value


@given(st.data(), names, payloads)
def test_one_flipped_bit_of_a_row_or_its_key_is_noticed(
    data: st.DataObject, key: bytes, value: bytes
) -> None:
    raw = encode_row(key, value)
    with pytest.raises(Damaged, match="key"):
        decode_row(key, flipped(raw, data.draw(st.integers(0, len(raw) * 8 - 1))))
    with pytest.raises(Damaged, match="key"):
        decode_row(flipped(key, data.draw(st.integers(0, len(key) * 8 - 1))), raw)


@given(st.binary(max_size=4))
def test_a_row_too_short_for_an_envelope_is_damaged(raw: bytes) -> None:
    with pytest.raises(Damaged, match="b'k'"):
        decode_row(b"k", raw)


@pytest.mark.parametrize("key", [b"", b"\x00\x01", b"\x00\x02a\x00\x00\x00\x00\x00\x00\x00\x01"])
def test_what_is_not_the_key_of_a_record_is_damage(key: bytes) -> None:
    with pytest.raises(Damaged):
        split_record_key(key)


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (Put(b"", b"v"), "1 to 480 bytes"),
        (Delete(b"k" * 481), "1 to 480 bytes"),
        (Expect("k", None), "1 to 480 bytes"),  # type: ignore[arg-type]
        (Append(b"", 0, b""), "1 to 480 bytes"),
        (Append(b"s", 256, b""), "kinds are 0 to 255"),
        (Append(b"s", 0, b"", -1), "versions 0 to 65535"),
        (Append(b"s", 0, "text"), "str"),  # type: ignore[arg-type]
        (Put(b"k", None), "NoneType"),  # type: ignore[arg-type]
        (Expect(b"k", bytearray()), "bytearray"),  # type: ignore[arg-type]
    ],
)
def test_what_could_only_fail_inside_a_transaction_is_refused_before(
    operation: Put | Append | Delete | Expect, words: str
) -> None:
    with pytest.raises(StoreMisuse, match=words):
        check_batch([Put(b"fine", b"fine"), operation])


def test_the_bounds_themselves_are_allowed() -> None:
    name = b"x" * MAX_KEY_BYTES
    check_batch([Append(name, 255, b"", 65535), Append(name, 0, b"", 0), Expect(name, None)])
