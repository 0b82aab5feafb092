"""The stored forms of a realm's folded state: session heads and idempotency keys.

Owns: packing and unpacking of the rows that a checkpoint writes. Must not: touch a store.

Hand-written tuples, as for the per-turn records: reopening ten thousand sessions unpacks ten
thousand of these. `FORMAT` is the first field of every row; a layout change raises it, and the
functions that understood the one before stay. Only a head that is a background child, has an
external id or ended in a turn is of a later one, so that whoever has none of those writes what
every version reads.
"""

from __future__ import annotations

from typing import Any, Final

import msgpack

from runtime.codec import converter
from runtime.contexts import pack_compaction, unpack_compaction
from runtime.errors import WrittenLater
from runtime.messages import pack_message, pack_usage, unpack_message, unpack_usage
from runtime.session import (
    NO_LINEAGE,
    NO_SPEC,
    Branch,
    CutTurn,
    Lifetime,
    Lineage,
    PartialTurn,
    PendingInput,
    SessionHead,
    SessionSpec,
    SessionStatus,
    Task,
    TaskState,
)

FORMAT: Final = 1
#: The format of a head with a task, which is its last field.
TASKED: Final = 2
#: The layout of heads that have a compaction, or had one on a branch.
COMPACTED: Final = 3
#: The layout of heads with an external id, which is their last field.
TRACKED: Final = 4
#: The layout of heads of sessions that ended in a turn: that is their last field, behind the
#: external id or None.
CUT: Final = 5

_packb = msgpack.Packer(use_bin_type=True).pack
_STATUSES: Final = {status.value: status for status in SessionStatus}
_LIFETIMES: Final = {lifetime.value: lifetime for lifetime in Lifetime}
_TASK_STATES: Final = {state.value: state for state in TaskState}


def unpack_row(row: bytes) -> tuple[Any, ...]:
    """The fields of a row after its format.

    Raises:
        WrittenLater: the format is a later one: that is no damage.
        ValueError: there is no such format.
    """
    return _fields(row, FORMAT)[1:]


def _fields(row: bytes, latest: int) -> tuple[Any, ...]:
    fields: tuple[Any, ...] = msgpack.unpackb(row, use_list=False, strict_map_key=False)
    if type(fields[0]) is int and fields[0] > latest:
        raise WrittenLater("a row of what was recovered so far", fields[0], latest)
    if type(fields[0]) is not int or fields[0] < FORMAT:
        raise ValueError(f"format {fields[0]!r} is not known here")
    return fields


def pack_row(*fields: Any) -> bytes:
    """A row of these fields, which are msgpack values."""
    return _packb((FORMAT, *fields))


def pack_head(head: SessionHead) -> bytes:
    """The row of a session head. `children` is not in it: the children's rows name their parent."""
    lineage = head.lineage
    spec = None if head.spec == NO_SPEC else converter().unstructure(head.spec)
    inputs = None
    if head.inputs is not None:
        inputs = [
            (each.input_id, each.text, each.sender, each.idempotency_key)
            + ((each.skills,) if each.skills or each.steer else ())
            + ((True,) if each.steer else ())
            for each in head.inputs.values()
        ]
    fields = (
        head.session_id,
        head.harness_id,
        head.agent_id,
        head.title,
        head.locale,
        None
        if lineage == NO_LINEAGE
        else (
            lineage.parent,
            lineage.forked_from,
            lineage.fork_seq,
            lineage.budget_root,
            lineage.depth,
        ),
        spec,
        head.created_at_ns,
        head.updated_at_ns,
        head.spawn_key,
        head.head,
        head.turns,
        head.message_count,
        pack_usage(head.usage),
        head.status.value,
        inputs,
        _pack_partial(head.partial),
        head.links,
        [(each.head, each.turns, each.total, each.at_ns) for each in head.branches],
        head.branch,
        head.tags,
        head.applied,
    )
    compacted = head.compaction is not None or any(each.compaction for each in head.branches)
    if compacted or head.external_id is not None or head.cut is not None:
        compactions = [pack_compaction(each.compaction) for each in head.branches]
        more = (_pack_task(head.task), pack_compaction(head.compaction), compactions)
        if head.cut is not None:
            cut = (head.cut.run_id, pack_usage(head.cut.usage), head.cut.active_ns)
            return _packb((CUT, *fields, head.active_ns, *more, head.external_id, cut))
        if head.external_id is not None:
            return _packb((TRACKED, *fields, head.active_ns, *more, head.external_id))
        return _packb((COMPACTED, *fields, head.active_ns, *more))
    if head.task is not None:
        return _packb((TASKED, *fields, head.active_ns, _pack_task(head.task)))
    return pack_row(*fields, *((head.active_ns,) if head.active_ns else ()))


def _pack_task(task: Task | None) -> tuple[Any, ...] | None:
    if task is None:
        return None
    return (task.lifetime.value, task.state.value, task.turn, task.error, task.ended_at_ns)


def unpack_head(row: bytes) -> SessionHead:
    """The head whose row is `row`, without its children. Raises `ValueError` if it is not one."""
    (
        layout,
        session_id,
        harness_id,
        agent_id,
        title,
        locale,
        lineage,
        spec,
        created_at_ns,
        updated_at_ns,
        spawn_key,
        head,
        turns,
        message_count,
        usage,
        status,
        inputs,
        partial,
        links,
        branches,
        branch,
        tags,
        applied,
        *more,
    ) = _fields(row, CUT)
    cut = _unpack_cut(more.pop() if more else None) if layout == CUT else None
    external_id = more.pop() if layout >= TRACKED and more else None
    named = layout == TRACKED or (layout == CUT and external_id is not None)
    if type(external_id) is not (str if named else type(None)):
        raise ValueError(f"{external_id!r} is no external id")
    active_ns, task, compaction, behind = _last_fields(min(layout, COMPACTED), more)
    behind = behind or [None] * len(branches)
    if status not in _STATUSES:
        raise ValueError(f"unknown session status {status!r}")
    return SessionHead(
        session_id=session_id,
        harness_id=harness_id,
        agent_id=agent_id,
        title=title,
        locale=locale,
        lineage=NO_LINEAGE if lineage is None else Lineage(*lineage),
        spec=NO_SPEC if spec is None else converter().structure(spec, SessionSpec),
        created_at_ns=created_at_ns,
        updated_at_ns=updated_at_ns,
        spawn_key=spawn_key,
        head=head,
        turns=turns,
        message_count=message_count,
        usage=unpack_usage(usage),
        status=_STATUSES[status],
        inputs=None if inputs is None else {each[0]: PendingInput(*each) for each in inputs},
        partial=None if partial is None else _unpack_partial(partial),
        links=links,
        branches=tuple(
            Branch(seq, count, total, at_ns, unpack_compaction(last))
            for (seq, count, total, at_ns), last in zip(branches, behind, strict=True)
        ),
        branch=branch,
        tags=tags,
        applied=applied,
        active_ns=active_ns,
        task=task,
        compaction=unpack_compaction(compaction),
        external_id=external_id,
        cut=cut,
    )


def _pack_partial(partial: PartialTurn | None) -> Any:
    if partial is None:
        return None
    return (
        partial.run_id,
        partial.input_ids,
        [pack_message(message) for message in partial.messages],
        pack_usage(partial.usage),
        partial.step,
        partial.started_at_ns,
        *((partial.called_at_ns,) if partial.called_at_ns else ()),
    )


def _unpack_cut(packed: Any) -> CutTurn:
    if type(packed) is not tuple or len(packed) != 3:
        raise ValueError(f"{packed!r} is no turn that was cut off")
    run_id, usage, active_ns = packed
    return CutTurn(run_id, unpack_usage(usage), active_ns)


def _last_fields(layout: int, fields: list[Any]) -> tuple[int, Task | None, Any, Any]:
    """The last fields of a head: in the first layout the time at work, if there was any; then what
    it is as a task; then its compaction, and those of its branches."""
    if layout == FORMAT and len(fields) <= 1:
        return fields[0] if fields else 0, None, None, None
    if len(fields) != {TASKED: 2, COMPACTED: 4}.get(layout):
        raise ValueError(f"a head of layout {layout} does not end with {fields!r}")
    active_ns, told, compaction, behind = (*fields, None, None)[:4]
    if told is None and layout == COMPACTED:
        return active_ns, None, compaction, behind
    lifetime, state, turn, error, ended_at_ns = told
    task = Task(_LIFETIMES[lifetime], _TASK_STATES[state], turn, error, ended_at_ns)
    return active_ns, task, compaction, behind


def _unpack_partial(packed: Any) -> PartialTurn:
    run_id, input_ids, messages, usage, step, started_at_ns, *last = packed
    (called_at_ns,) = last or (0,)
    return PartialTurn(
        run_id,
        input_ids,
        [unpack_message(message) for message in messages],
        unpack_usage(usage),
        step,
        started_at_ns,
        called_at_ns,
    )
