"""The envelope around stored bytes, and the keys under which records lie.

Owns: the layout of a record, of a row and of a record's key; what a batch may contain.
Must not: read or write anything, know an engine, understand a payload.

Theory. A checksum that covers only a payload accepts a whole page of yesterday: every record on
it is sound, and wrong. So a record's checksum starts from the checksum of the record before it
in its stream and covers its own key (stream and number); a row's checksum covers its key. What
passes is then the right bytes in the right place after the right predecessor. CRC-32 finds every
single flipped bit and every burst of up to 32; it guards against accidents, not against people.

Layout, big-endian:

    record key    u16 length of the stream's name, the name, u64 sequence number
    record        u8 format, u8 kind, u16 version, u32 crc, payload
    row           u8 format, u32 crc, value
    head          a row under a stream's prefix: u64 last sequence number, u32 its record's crc
    gap           a record of format 0 whose payload says what stood there, left by a repair
    tombstone     a record of format 255, kind and version 0 in the place of an erased one: it
                  keeps that one's crc, from which the next continues, and has as payload a u32
                  crc of its own, over its key, its predecessor's crc and what is before it
    mark          a row: generation, commit number, those of the predecessor, digest of all rows

The length in front keeps the streams ``a`` and ``ab`` apart; the number at the end keeps a
stream's records adjacent and in order, which LMDB packs densely.
"""

from __future__ import annotations

from struct import Struct
from typing import Final
from zlib import crc32

import attrs

from stores.base import MAX_KEY_BYTES, Append, Batch, Erase, Expect, Put
from stores.errors import Damaged, StoreMisuse

#: The first byte of every record and row. Raise it when the layouts above change.
FORMAT: Final = 1

#: How the reason of a gap begins.
GAP_WORDS: Final = "it was lost before a repair"

#: The checksum that the first record of a stream continues from.
CHAIN_START: Final = 0

_NAME: Final = Struct(">H")
_SEQ: Final = Struct(">Q")
_HEAD: Final = Struct(">BBH")
_CRC: Final = Struct(">I")
_RECORD: Final = Struct(">BBHI")
_ROW: Final = Struct(">BI")
_HEAD_ROW: Final = Struct(">QI")
_MARK: Final = Struct(">QQQQQ")

#: The first byte of a record that a repair could not save and kept the place of.
_GAP: Final = 0

#: The first byte of a record that was erased.
_TOMBSTONE: Final = 255

#: The key of the mark in an environment's unnamed database.
MARK_KEY: Final = b"mark"

#: The digest of a store in which a damaged row was overwritten: nobody knows what it stood for.
#: The next look at every byte makes a new one.
DIGEST_UNKNOWN: Final = (1 << 64) - 1

#: The digest of rows is a sum of their checksums, so that one row is exchanged at constant cost.
_DIGEST_MASK: Final = (1 << 64) - 1


def stream_prefix(stream: bytes) -> bytes:
    """What the keys of all records of `stream`, and of no other stream, begin with."""
    return _NAME.pack(len(stream)) + stream


def record_key(prefix: bytes, seq: int) -> bytes:
    """The key of record `seq` in the stream of `prefix`."""
    return prefix + _SEQ.pack(seq)


def split_record_key(key: bytes) -> tuple[bytes, int]:
    """The stream's name and the sequence number in `key`.

    Raises:
        Damaged: `key` is not the key of a record.
    """
    if len(key) < 10 or _NAME.unpack_from(key)[0] != len(key) - 10:
        raise Damaged(f"key {key!r}", "it is not the key of a record")
    return key[2:-8], _SEQ.unpack_from(key, len(key) - 8)[0]


def encode_record(
    key: bytes, previous: int, kind: int, version: int, payload: bytes
) -> tuple[bytes, int]:
    """The stored form of a record, and its checksum, from which the next record continues.

    `previous` is the checksum of the record before it, `CHAIN_START` for the first.
    """
    head = _HEAD.pack(FORMAT, kind, version)
    crc = crc32(payload, crc32(key + head, previous))
    return head + _CRC.pack(crc) + payload, crc


def decode_record(key: bytes, previous: int, raw: bytes) -> tuple[int, int, int, bytes]:
    """Checksum, kind, version and payload of a stored record; of an erased one 0, 0 and nothing.

    Raises:
        Damaged: `raw` is not what was stored under `key` after a record with checksum `previous`.
    """
    if len(raw) < _RECORD.size:
        raise damaged_record(key, f"it has {len(raw)} bytes, too few for an envelope", raw)
    form, kind, version, crc = _RECORD.unpack_from(raw)
    if form != FORMAT:
        if form == _GAP and crc32(raw[_RECORD.size :], crc32(key, previous)) == crc:
            lost = raw[_RECORD.size :].partition(b"\0")[0].decode("utf-8", "replace")
            raise damaged_record(key, f"{GAP_WORDS}: {lost}", raw)
        if form == _TOMBSTONE and encode_tombstone(key, previous, crc) == raw:
            return crc, 0, 0, b""
        raise damaged_record(key, f"its envelope has format {form}, not {FORMAT}", raw)
    payload = raw[_RECORD.size :]
    if crc32(payload, crc32(key + raw[: _HEAD.size], previous)) != crc:
        reason = "its checksum, which continues that of the record before it, fails"
        raise damaged_record(key, reason, raw)
    return crc, kind, version, payload


def damaged_record(key: bytes, reason: str, raw: bytes) -> Damaged:
    """The error of the record under `key`, where `raw` stands."""
    return Damaged(describe_record(key), reason, key=key, raw=raw)


def record_crc(key: bytes, raw: bytes) -> int:
    """The checksum stored in a record, not verified.

    Raises:
        Damaged: `raw` is too short to hold one.
    """
    if len(raw) < _RECORD.size:
        raise Damaged(describe_record(key), f"it has {len(raw)} bytes, too few for an envelope")
    crc: int = _CRC.unpack_from(raw, _HEAD.size)[0]
    return crc


def with_crc(raw: bytes, crc: int) -> bytes:
    """The stored record `raw` with another checksum."""
    return raw[: _HEAD.size] + _CRC.pack(crc) + raw[_RECORD.size :]


def encode_gap(key: bytes, previous: int, reason: str, raw: bytes = b"") -> tuple[bytes, int]:
    """A record that reads as `Damaged` with `reason`, keeps its number and continues the chain.

    `raw` is what stood there, for whoever can make something of it.
    """
    payload = reason.removeprefix(GAP_WORDS + ": ").encode() + (b"\0" + raw if raw else b"")
    crc = crc32(payload, crc32(key, previous))
    return _RECORD.pack(_GAP, 0, 0, crc) + payload, crc


def encode_tombstone(key: bytes, previous: int, crc: int) -> bytes:
    """What takes the place of the record with checksum `crc`: the next one still continues it."""
    head = _RECORD.pack(_TOMBSTONE, 0, 0, crc)
    return head + _CRC.pack(crc32(head, crc32(key, previous)))


def describe_record(key: bytes) -> str:
    """How messages to people name the record under `key`."""
    stream, seq = split_record_key(key)
    return f"record {seq} of stream {stream!r}"


def encode_row(key: bytes, value: bytes) -> bytes:
    """The stored form of `value` under `key`."""
    return _ROW.pack(FORMAT, crc32(value, crc32(key))) + value


def decode_row(key: bytes, raw: bytes) -> bytes:
    """The value in a stored row.

    Raises:
        Damaged: `raw` is not what was stored under `key`.
    """
    if len(raw) < _ROW.size:
        raise damaged_row(key, f"it has {len(raw)} bytes, too few for an envelope", raw)
    form, crc = _ROW.unpack_from(raw)
    if form != FORMAT:
        raise damaged_row(key, f"its envelope has format {form}, not {FORMAT}", raw)
    value = raw[_ROW.size :]
    if crc32(value, crc32(key)) != crc:
        raise damaged_row(key, "its checksum, which covers the key, fails", raw)
    return value


def damaged_row(key: bytes, reason: str, raw: bytes) -> Damaged:
    """The error of the row under `key`, where `raw` stands."""
    return Damaged(f"key {key!r}", reason, key=key, raw=raw)


def row_crc(raw: bytes | None) -> int:
    """What a stored row adds to the digest: its checksum as stored; 0 if it is absent or cut."""
    if raw is None or len(raw) < _ROW.size:
        return 0
    crc: int = _ROW.unpack_from(raw)[1]
    return crc


def encode_head(prefix: bytes, seq: int, crc: int) -> bytes:
    """The row that says where the stream of `prefix` ends: its last number and checksum."""
    return encode_row(prefix, _HEAD_ROW.pack(seq, crc))


def decode_head(prefix: bytes, raw: bytes) -> tuple[int, int]:
    """Number and checksum of the last record of the stream of `prefix`.

    Raises:
        Damaged: `raw` is not a head of that stream.
    """
    where = f"the head of stream {prefix[2:]!r}"
    try:
        value = decode_row(prefix, raw)
    except Damaged as error:
        raise Damaged(where, error.reason) from None
    if len(value) != _HEAD_ROW.size:
        raise Damaged(where, f"it has {len(value)} bytes, not {_HEAD_ROW.size}")
    seq, crc = _HEAD_ROW.unpack(value)
    return seq, crc


@attrs.frozen
class Mark:
    """Which commit a store ends with: written anew, in the same transaction, by every commit.

    `generation` rises with every opening for writing, `number` with every commit of one owner.
    `last` are those two of the owner before, as it left them; `digest` covers the rows of all keys.
    """

    generation: int
    number: int
    last: tuple[int, int] = (0, 0)
    digest: int = 0

    def next(self, delta: int | None) -> Mark:
        """The mark of the next commit, which changes the digest by `delta` (None: who knows)."""
        return Mark(self.generation, self.number + 1, self.last, self._digest(delta))

    def successor(self, delta: int | None = 0) -> Mark:
        """The first mark of the next owner."""
        last = (self.generation, self.number)
        return Mark(self.generation + 1, 1, last, self._digest(delta))

    def _digest(self, delta: int | None) -> int:
        if delta is None or self.digest == DIGEST_UNKNOWN:
            return DIGEST_UNKNOWN
        return (self.digest + delta) & _DIGEST_MASK

    def encode(self) -> bytes:
        """The mark as a stored row."""
        fields = (self.generation, self.number, *self.last, self.digest)
        return encode_row(MARK_KEY, _MARK.pack(*fields))

    @classmethod
    def decode(cls, raw: bytes) -> Mark:
        """The mark in a stored row.

        Raises:
            Damaged: `raw` is not one.
        """
        value = decode_row(MARK_KEY, raw)
        if len(value) != _MARK.size:
            raise Damaged("the mark of the last commit", f"it has {len(value)} bytes")
        generation, number, before, of_it, digest = _MARK.unpack(value)
        return cls(generation, number, (before, of_it), digest)


def check_batch(batch: Batch) -> None:
    """Refuse at once what could only fail later, inside a transaction shared with others.

    Raises:
        StoreMisuse: names the operation and what is wrong with it.
    """
    for operation in batch:
        if isinstance(operation, Append):
            # Written out: every turn comes through here twice.
            stream, payload = operation.stream, operation.payload
            if type(stream) is not bytes or not 0 < len(stream) <= MAX_KEY_BYTES:
                check_key(stream)
            if not (0 <= operation.kind <= 0xFF and 0 <= operation.version <= 0xFFFF):
                raise StoreMisuse(
                    f"append to {operation.stream!r} has kind {operation.kind} and version"
                    f" {operation.version}; kinds are 0 to 255 and versions 0 to 65535"
                )
            if type(payload) is not bytes:
                _check_bytes(payload)
        elif isinstance(operation, Erase):
            check_key(operation.stream)
            if type(operation.seq) is not int or operation.seq < 1:
                raise StoreMisuse(f"there is no record {operation.seq!r}: they count from 1")
        else:
            check_key(operation.key)
            if isinstance(operation, Put) or (
                isinstance(operation, Expect) and operation.value is not None
            ):
                _check_bytes(operation.value)


def check_key(key: bytes) -> None:
    """Refuse a key or stream name that no engine has to take.

    Raises:
        StoreMisuse: it is not bytes, is empty or is longer than `MAX_KEY_BYTES`.
    """
    if type(key) is not bytes or not 0 < len(key) <= MAX_KEY_BYTES:
        raise StoreMisuse(
            f"{key!r:.80} cannot be a key or a stream name: give 1 to {MAX_KEY_BYTES} bytes"
        )


def _check_bytes(value: object) -> None:
    if type(value) is not bytes:
        raise StoreMisuse(f"a value of type {type(value).__name__} was given; give bytes")
