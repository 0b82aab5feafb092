"""From an older store format to the next: pure functions over batches of stored items.

Owns: what has to be written for each step. Must not: open anything, know a transaction; the
shell that walks a store, resumes and flips the version last is `stores.upgrade`.

A step names the databases that it reads, in order. It is given their items in batches, ascending,
with the state that it returned for the batch before, and returns its new state and what to write.
Batches end where it suits the shell. Any batch may be given a second time with the same state
(the process died between two commits), so a step writes only what a second writing leaves as is.

A step may have nothing to convert: the flip alone keeps the older program, which would take what
the newer one writes for damage, from opening the store.

A step from `n` to `n + 1` may not be changed once it was released. To add one, append it to
`STEPS`, raise `STORE_FORMAT`, and give tests/stores/test_migrations.py a store of format `n`: it
kills the step at every commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Final, TypeAlias

import attrs

from stores.codec import Mark, encode_head, record_crc, row_crc, split_record_key

#: Version of the layout of the files, kept in the `format` row. One that is higher is refused.
STORE_FORMAT: Final = 3

#: The first one with a row for the end of each stream, and with the digest of all rows in the mark.
HEADS_SINCE: Final = 2

#: A key with the stored bytes under it.
Item: TypeAlias = tuple[bytes, bytes]

#: Bytes that a step carries from batch to batch; empty at first.
State: TypeAlias = bytes


@attrs.frozen
class Write:
    """Put `value` at `key` of `database`."""

    database: bytes
    key: bytes
    value: bytes


@attrs.frozen
class Step:
    """How a store of format `source` becomes one of `source + 1`.

    `convert` gets state, database and a batch; `finish` makes the new mark from the last state
    and the mark so far, written in the commit that flips the version.
    """

    source: int
    creates: tuple[bytes, ...]
    reads: tuple[bytes, ...]
    convert: Callable[[State, bytes, Sequence[Item]], tuple[State, list[Write]]]
    finish: Callable[[State, Mark], Mark] = lambda _state, mark: mark


_SUM: Final = Struct(">Q")


def _heads_and_digest(
    state: State, database: bytes, items: Sequence[Item]
) -> tuple[State, list[Write]]:
    """1 to 2: a head row for every stream, and the digest of all rows."""
    if database == b"streams":
        last: dict[bytes, Item] = {key[:-8]: (key, raw) for key, raw in items}
        writes = [
            Write(
                b"heads",
                prefix,
                encode_head(prefix, split_record_key(key)[1], record_crc(key, raw)),
            )
            for prefix, (key, raw) in last.items()
        ]
        return state, writes
    total = _SUM.unpack(state)[0] if state else 0
    total += sum(row_crc(raw) for _, raw in items)
    return _SUM.pack(total & ((1 << 64) - 1)), []


def _with_digest(state: State, mark: Mark) -> Mark:
    return attrs.evolve(mark, digest=_SUM.unpack(state)[0] if state else 0)


def _nothing(state: State, database: bytes, items: Sequence[Item]) -> tuple[State, list[Write]]:
    """What is stored stays as it is."""
    return state, []


#: Every step there is, from the first format on.
STEPS: Final = (
    Step(
        source=1,
        creates=(b"heads",),
        reads=(b"streams", b"keys"),
        convert=_heads_and_digest,
        finish=_with_digest,
    ),
    # 2 to 3: tombstones may stand for records. Those of format 2 are as they are in format 3, and a
    # program that knows no tombstones would call them damaged and mend them away.
    Step(source=2, creates=(), reads=(), convert=_nothing),
)
