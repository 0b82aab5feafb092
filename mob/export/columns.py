"""The columns of the tables that a mob is exported as. Pure; a literal table.

Owns: names, types, units and meanings, once for Arrow, Parquet, JSON lines and the manual. Must
not: read a journal.

A column is never renamed and never given another unit; new ones are added at the end.
"""

from __future__ import annotations

import enum
from typing import Final

import attrs

from runtime.errors import MobError


class Kind(enum.Enum):
    """What values a column has."""

    TEXT = "text"
    INT = "int"
    REAL = "real"
    FLAG = "flag"
    #: Nanoseconds since the epoch here; in Arrow and Parquet a timestamp in UTC to the microsecond,
    #: which is what Python's datetime holds; in JSON RFC 3339 to the nanosecond.
    TIME = "time"


@attrs.frozen
class Column:
    """A column; `unit` is empty for what has none, `null` whether a value may be missing."""

    name: str
    kind: Kind
    about: str
    unit: str = ""
    null: bool = False


def _text(name: str, about: str, *, null: bool = False) -> Column:
    return Column(name, Kind.TEXT, about, null=null)


def _count(name: str, about: str, unit: str = "", *, null: bool = False) -> Column:
    return Column(name, Kind.INT, about, unit, null)


def _time(name: str, about: str, *, null: bool = False) -> Column:
    return Column(name, Kind.TIME, about, "UTC", null)


_SEQ: Final = _count("seq", "number of the record in the journal, from 1 without gaps")
_WHO: Final = (
    _text("session_id", "the session"),
    _text("member", "the member whose session it is, or below whom it is", null=True),
    _text("path", "the member and the titles down to a child: r-1/summary"),
)
_SPENT: Final = (
    _count("model_calls", "model calls made"),
    _count("tool_calls", "tool calls made"),
    _count("input_tokens", "tokens sent, those from a cache included", "tokens"),
    _count("cached_input_tokens", "of these, tokens that a provider's cache served", "tokens"),
    _count("output_tokens", "tokens said", "tokens"),
    _count("cost_nano_usd", "what the priced calls cost, exactly", "1e-9 USD"),
    Column("cost_usd", Kind.REAL, "the same; missing if no call had a price", "USD", True),
    _count("unpriced_calls", "model calls whose cost is not known"),
)

TURNS: Final = (
    _SEQ,
    *_WHO,
    _text("profile", "the profile (harness) of the session", null=True),
    _text("run_id", "the run that the turn belongs to"),
    _count("turn", "place in the session's history, from 1"),
    _text("outcome", "completed, failed, interrupted or over_budget"),
    _time("started_at", "when it began; what nobody worked on it is left out"),
    _time("ended_at", "when it was committed"),
    Column("duration_s", Kind.REAL, "from the one to the other", "s"),
    _text("model", "who gave the last reply", null=True),
    *_SPENT,
    _count("messages", "messages in it"),
    _text("text", "the last reply"),
    _text("output", "the answer to a schema, as JSON", null=True),
    _text("error", "why it did not complete, or was cut off", null=True),
)

EVENTS: Final = (
    _SEQ,
    _time("at", "when it happened", null=True),
    _text("type", "the type of the record: TurnEnded, MemberExited, ..."),
    attrs.evolve(_WHO[0], null=True),
    _WHO[1],
    attrs.evolve(_WHO[2], null=True),
    _text("record", "all its fields, as JSON"),
)

MESSAGES: Final = (
    _count("seq", "number of the turn's record; missing for a turn in flight", null=True),
    *_WHO,
    _count("turn", "place of the turn in the session's history, from 1"),
    _count("index", "place of the message in the turn, from 0"),
    _text("role", "system, user, assistant or tool"),
    _text("sender", "who sent it, if not a caller: a member, or the source of context", null=True),
    _text("text", "the words"),
    _text("tool_calls", "of an assistant: id, name and arguments of its calls, as JSON", null=True),
    _text("call_id", "of a tool: the call that it answers", null=True),
    _text("tool", "of a tool: its name", null=True),
    _text("outcome", "of a tool: ok, error, interrupted, unknown or denied", null=True),
    _text("model", "of an assistant: who replied", null=True),
    _count("input_tokens", "of an assistant: tokens sent for the reply", "tokens", null=True),
    _count("output_tokens", "of an assistant: tokens of the reply", "tokens", null=True),
    _time("turn_ended_at", "when its turn was committed", null=True),
)

MEMBERS: Final = (
    _text("member", "the name"),
    _text("profile", "the profile it runs on"),
    _text("session_id", "its session"),
    _count("generation", "which of its sessions that is, from 1; missing once it left", null=True),
    Column("retired", Kind.FLAG, "whether it has left"),
    _text("status", "of its session: started, active, idle, waiting, failed, archived", null=True),
    _time("created_at", "when its session was made", null=True),
    _time("updated_at", "when that last changed", null=True),
    _count("turns", "turns that ended"),
    *_SPENT,
    _count("sessions_below", "child sessions, and theirs"),
    _count("total_tokens", "tokens of it and all below", "tokens"),
    _count("total_cost_nano_usd", "cost of it and all below", "1e-9 USD"),
    _count("inputs_waiting", "inputs that no turn has taken yet"),
    _count("restarts", "how often it was restarted"),
    _text("last_exit", "why it last crashed", null=True),
)

TABLES: Final = {"turns": TURNS, "events": EVENTS, "messages": MESSAGES, "members": MEMBERS}


class NoSuchTable(MobError):
    """A mob is not exported as a table of this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no table {name!r} of a mob; ask for: {', '.join(TABLES)}")
        self.name = name


def columns_of(table: str) -> tuple[Column, ...]:
    """The columns of a table. Raises `NoSuchTable`."""
    if table not in TABLES:
        raise NoSuchTable(table)
    return TABLES[table]
