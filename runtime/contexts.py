"""Compactions in the journal: the records that say what stands for the beginning of a history.

Owns: `ContextCompacted`, `CompactionFailed`, their codecs and their transitions. Must not: ask a
model, read a record.

A compaction changes what a model is shown and nothing else: the turns it sums up stay in the chain
and are read as before. It is in force for every history that has the turn after which it was made,
so a rewind to before that undoes it and a fork takes it along. Each names the one before it, which
is how a rewind finds the one that was in force back then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs
import msgpack

from runtime.codec import cold_codec
from runtime.ids import SessionId
from runtime.messages import (
    Message,
    Usage,
    pack_message,
    pack_usage,
    unpack_message,
    unpack_usage,
)
from runtime.session import Compaction

if TYPE_CHECKING:
    from runtime.state import RealmState


@attrs.frozen
class ContextCompacted:
    """From here on `kept` and `summary` stand for the first `turns` turns (`total` messages) of the
    session in its model's context.

    `kept` are the system messages of those turns, as they are. The history had `turn` turns, the
    last of them the record `head`. `before` is the compaction that was in force until then, and
    `usage` what the summary cost.
    """

    session_id: SessionId
    head: int
    turn: int
    turns: int
    total: int
    kept: tuple[Message, ...]
    summary: str
    model: str | None
    usage: Usage
    before: Compaction | None
    at_ns: int


@attrs.frozen
class CompactionFailed:
    """No summary was made, and why; the context stays as it was. `usage` is what that cost."""

    session_id: SessionId
    reason: str
    usage: Usage
    at_ns: int


_KINDS: Final[tuple[Any, ...]] = (
    *(str, int, int, int, int, tuple, str),
    (str, type(None)),
    tuple,
)


def pack_compacted(record: ContextCompacted) -> bytes:
    """The record's payload."""
    packed: bytes = msgpack.packb(
        (
            record.session_id,
            record.head,
            record.turn,
            record.turns,
            record.total,
            [pack_message(message) for message in record.kept],
            record.summary,
            record.model,
            pack_usage(record.usage),
            pack_compaction(record.before),
            record.at_ns,
        )
    )
    return packed


def unpack_compacted(payload: bytes) -> ContextCompacted:
    """The record whose payload this is. Raises `ValueError` if it is none."""
    fields = msgpack.unpackb(payload, use_list=False)
    if type(fields) is not tuple or len(fields) != 11 or type(fields[-1]) is not int:
        raise ValueError(f"not a compaction: {fields!r:.200}")
    for field, kind in zip(fields, _KINDS, strict=False):
        if not isinstance(field, kind) or isinstance(field, bool):
            raise ValueError(f"not a compaction: {fields!r:.200}")
    session_id, head, turn, turns, total, kept, summary, model, usage, before, at_ns = fields
    return ContextCompacted(
        session_id,
        head,
        turn,
        turns,
        total,
        tuple(map(unpack_message, kept)),
        summary,
        model,
        unpack_usage(usage),
        unpack_compaction(before),
        at_ns,
    )


def pack_compaction(compaction: Compaction | None) -> tuple[int, ...] | None:
    """Its tuple form."""
    if compaction is None:
        return None
    return (compaction.seq, compaction.made_at, compaction.turns, compaction.total)


def unpack_compaction(packed: Any) -> Compaction | None:
    """The compaction whose tuple form this is. Raises `ValueError` if it is none."""
    if packed is None:
        return None
    if type(packed) is not tuple or tuple(map(type, packed)) != (int,) * 4:
        raise ValueError(f"not a compaction: {packed!r:.200}")
    return Compaction(*packed)


FAILED_CODEC: Final = cold_codec(CompactionFailed)


def compacted(state: RealmState, seq: int, record: ContextCompacted) -> None:
    """It is in force, unless the history is not the one any more that it was made of."""
    head = state.touch(seq, record.session_id)
    if head is None:
        return
    if (head.head, head.turns) == (record.head, record.turn):
        head.compaction = Compaction(seq, record.turn, record.turns, record.total)
    _charge(state, record)


def failed(state: RealmState, seq: int, record: CompactionFailed) -> None:
    """What it cost is spent all the same."""
    if state.touch(seq, record.session_id) is not None:
        _charge(state, record)


def _charge(state: RealmState, record: ContextCompacted | CompactionFailed) -> None:
    head = state.heads[record.session_id]
    head.usage = head.usage + record.usage
    head.updated_at_ns = record.at_ns
    if state.ledger is not None:
        state.ledger.charged(record.session_id, record.usage)


def context_transitions(state: RealmState) -> dict[type, Callable[[int, Any], None]]:
    """The part of a realm's table that this module owns."""
    return {
        ContextCompacted: partial(compacted, state),
        CompactionFailed: partial(failed, state),
    }
