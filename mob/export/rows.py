"""The rows of each table, out of a mob's journal and folds, one after the other.

Owns: what stands in each column of `mob.export.columns`. Must not: keep what it has told (the work
is linear in what is exported, the memory is not), let a text through that was not redacted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from mob.export.columns import Kind, columns_of
from mob.export.plain import call_of, plain
from mob.export.source import Source
from runtime.ids import SessionId
from runtime.messages import (
    NO_USAGE,
    AssistantMessage,
    Message,
    SystemMessage,
    ToolResult,
    Usage,
    UserMessage,
)
from runtime.models.redaction import Redactor
from runtime.records import TurnEnded
from runtime.results import last_text
from runtime.session import SessionHead

#: One value for each column of the table.
Row = tuple[Any, ...]

#: The columns that are cleaned where they are made, because JSON is cleaned by names, too.
_CLEANED: Final = frozenset(
    {"text", "output", "error", "record", "tool_calls", "last_exit", "path"}
)


def rows_of(source: Source, table: str) -> Iterator[Row]:
    """The rows of a table in the order of the journal; members in that of joining."""
    clean = source.redactor.text
    # Names come from models too: those of tools, of senders, of models themselves.
    names = [
        column.kind is Kind.TEXT and column.name not in _CLEANED for column in columns_of(table)
    ]
    for row in _ROWS[table](source):
        yield tuple(
            clean(value) if name and value is not None else value
            for value, name in zip(row, names, strict=True)
        )


def _turns(source: Source) -> Iterator[Row]:
    heads = source.state.heads
    clean = source.redactor
    for seq, record in source.events():
        if type(record) is not TurnEnded:
            continue
        head = heads.get(record.session_id)
        yield (
            seq,
            record.session_id,
            *source.who(record.session_id),
            None if head is None else head.harness_id,
            record.run_id,
            record.turn,
            record.outcome.name.lower(),
            record.started_at_ns,
            record.ended_at_ns,
            max(0, record.ended_at_ns - record.started_at_ns) / 1e9,
            model_of(record),
            *_spent(record.usage),
            len(record.messages),
            clean.written(last_text(record)),
            None if record.output is None else clean.written(record.output),
            None if record.error is None else clean.text(record.error),
        )


def model_of(record: TurnEnded) -> str | None:
    """Which model gave the last reply of a turn; None if none did, or none is known."""
    for message in reversed(record.messages):
        if isinstance(message, AssistantMessage) and message.model is not None:
            return message.model
    return None


def _spent(usage: Usage) -> Row:
    return (
        usage.model_calls,
        usage.tool_calls,
        usage.input_tokens,
        usage.cached_input_tokens,
        usage.output_tokens,
        usage.cost_nano_usd,
        usage.cost_nano_usd / 1e9 if usage.priced_calls or not usage.model_calls else None,
        usage.unpriced_calls,
    )


def _events(source: Source) -> Iterator[Row]:
    for seq, record in source.events():
        session_id = getattr(record, "session_id", None)
        member, path = (None, None) if session_id is None else source.who(session_id)
        if session_id is None:
            member = path = getattr(record, "name", None)
        yield (
            seq,
            at_of(record),
            type(record).__name__,
            session_id,
            member,
            path,
            json.dumps(plain(record, source.redactor), ensure_ascii=False),
        )


def at_of(record: Any) -> int | None:
    """When a record happened, in nanoseconds since the epoch; None if it does not say."""
    at_ns: int | None = getattr(record, "at_ns", None)
    return getattr(record, "ended_at_ns", None) if at_ns is None else at_ns


def _messages(source: Source) -> Iterator[Row]:
    for seq, record in source.events():
        if type(record) is TurnEnded:
            who = (record.session_id, *source.who(record.session_id), record.turn)
            for index, message in enumerate(record.messages):
                parts = _message(message, source.redactor)
                yield (seq, *who, index, *parts, record.ended_at_ns)
    for head in source.state.heads.values():
        if head.partial is not None:
            who = (head.session_id, *source.who(head.session_id), head.turns + 1)
            for index, message in enumerate(head.partial.messages):
                yield (None, *who, index, *_message(message, source.redactor), None)


def _message(message: Message, clean: Redactor) -> Row:
    """From `role` to `output_tokens`."""
    if isinstance(message, UserMessage):
        return ("user", message.sender, clean.written(message.text), *(None,) * 7)
    if isinstance(message, SystemMessage):
        return ("system", message.source, clean.written(message.text), *(None,) * 7)
    if isinstance(message, ToolResult):
        answer = (message.call_id, message.name, message.outcome.name.lower())
        return ("tool", None, clean.written(message.text), None, *answer, None, None, None)
    calls = [call_of(call, clean) for call in message.tool_calls]
    usage = message.usage if message.usage != NO_USAGE else None
    return (
        "assistant",
        None,
        clean.written(message.text),
        json.dumps(calls, ensure_ascii=False) if calls else None,
        *(None, None, None),
        message.model,
        None if usage is None else usage.input_tokens,
        None if usage is None else usage.output_tokens,
    )


def _members(source: Source) -> Iterator[Row]:
    heads, roster = source.state.heads, source.roster
    below, total = totals(heads)
    for row in roster.members.values():
        yield (
            *(row.name, row.profile, row.session_id, row.generation, False),
            *_member(heads.get(row.session_id), below, total),
            row.restarts,
            None if row.last_exit is None else source.redactor.text(row.last_exit),
        )
    for name, session_id in roster.retired.items():
        head = heads.get(session_id)
        profile = "" if head is None else head.harness_id
        parts = _member(head, below, total)
        yield (name, profile, session_id, None, True, *parts, 0, None)


def _member(
    head: SessionHead | None, below: Mapping[SessionId, int], total: Mapping[SessionId, Usage]
) -> Row:
    """From `status` to `inputs_waiting`."""
    if head is None:
        return (None, None, None, 0, *_spent(NO_USAGE), 0, 0, 0, 0)
    everything = total[head.session_id]
    return (
        head.status.value,
        head.created_at_ns,
        head.updated_at_ns,
        head.turns,
        *_spent(own_usage(head)),
        below.get(head.session_id, 0),
        everything.total_tokens,
        everything.cost_nano_usd,
        len(head.inputs or ()),
    )


def own_usage(head: SessionHead) -> Usage:
    """What a session spent by itself, its turn in flight included."""
    return head.usage if head.partial is None else head.usage + head.partial.usage


def totals(
    heads: Mapping[SessionId, SessionHead],
) -> tuple[dict[SessionId, int], dict[SessionId, Usage]]:
    """How many sessions are below each session, and what it spent with all of them."""
    below: dict[SessionId, int] = {}
    total: dict[SessionId, Usage] = {}
    for head in heads.values():
        own = own_usage(head)
        here: SessionHead | None = head
        while here is not None:
            at = here.session_id
            total[at] = total.get(at, NO_USAGE) + own
            if here is not head:
                below[at] = below.get(at, 0) + 1
            parent = here.lineage.parent
            here = None if parent is None else heads.get(parent)
    return below, total


_ROWS: Final[dict[str, Callable[[Source], Iterator[Row]]]] = {
    "turns": _turns,
    "events": _events,
    "messages": _messages,
    "members": _members,
}
