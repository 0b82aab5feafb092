"""Runs: a prompt put to a mob's lead, from the question to the report. Pure.

Owns: the key that makes a run durable, and reading what a run came to out of the journal. Must
not: ask anybody (callers use `Mob.ask` with the key), print.

The key is ``run:DIGEST:N``: the prompt's digest, and the number of runs of the same prompt whose
outcome was reported before. So the same command joins its own unfinished run after a crash, and
asks again after a finished one.

A run is the stretch of the journal from its input to the end of the turn that consumed it. All
turns that ended in between count as the run's, those of other callers' work at the same time
included: on one journal nobody could tell them apart cheaply, and a mob mostly does one thing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from runtime.ids import InputId, SessionId
from runtime.messages import NO_USAGE, Usage
from runtime.records import InputAccepted, TurnEnded, TurnOutcome
from runtime.results import last_text
from runtime.session import SessionHead

if TYPE_CHECKING:
    from runtime.journal import Event, Journal


def run_key(prompt: str, reported: Collection[str]) -> str:
    """The idempotency key of the next run of `prompt`, given the keys of those reported."""
    prefix = f"run:{hashlib.sha256(prompt.encode()).hexdigest()[:16]}:"
    return f"{prefix}{sum(key.startswith(prefix) for key in reported)}"


def past(journal: Journal, after: int = 0) -> Iterator[Event]:
    """The committed events of `journal` above `after`, ascending, a page at a time."""
    while events := journal.read(after):
        yield from events
        after = events[-1].seq


def needed_for_report(record: Any, reported: Collection[str]) -> bool:
    """Whether the report of a run that nobody has seen yet is read from this record (`read_run`):
    the turns are kept by the run's key, its question by nothing else."""
    if type(record) is not InputAccepted or record.idempotency_key is None:
        return False
    return record.idempotency_key.startswith("run:") and record.idempotency_key not in reported


@attrs.frozen
class Part:
    """What one session did in a run: its latest answer, and its own spending (no children's).

    `name` is the member's name, or for a child session the title it was started with.
    """

    name: str
    profile: str
    session_id: SessionId
    turns: int
    usage: Usage
    text: str
    output: Any
    error: str | None
    children: tuple[Part, ...] = ()


@attrs.frozen
class RunReport:
    """A finished run. `usage` is that of every turn in it, children included."""

    mob: str
    key: str
    prompt: str
    member: str
    session_id: SessionId
    outcome: TurnOutcome
    text: str
    output: Any
    error: str | None
    usage: Usage
    seconds: float
    members: tuple[Part, ...]


@attrs.define
class _Tally:
    """The turns of one session as they are read."""

    turns: int = 0
    usage: Usage = NO_USAGE
    latest: TurnEnded | None = None

    def add(self, record: TurnEnded) -> None:
        self.turns += 1
        self.usage = self.usage + record.usage
        self.latest = record


def read_run(
    mob_id: str, key: str, events: Iterable[Event], heads: Mapping[SessionId, SessionHead]
) -> RunReport | None:
    """What the run with this key came to; None if it was not asked or has not ended.

    `events` are the journal's, ascending, from anywhere before the question; reading stops where
    the run ends. `heads` say whose sessions the turns belong to.
    """
    asked: InputAccepted | None = None
    tallies: dict[SessionId, _Tally] = {}
    for event in events:
        record = event.record
        if type(record) is InputAccepted and record.idempotency_key == key:
            asked = record
        elif type(record) is TurnEnded and asked is not None:
            tallies.setdefault(record.session_id, _Tally()).add(record)
            if _answers(record, asked.session_id, asked.input_id):
                return _report(mob_id, key, asked, record, tallies, heads)
    return None


def _answers(record: TurnEnded, session_id: SessionId, input_id: InputId) -> bool:
    return record.session_id == session_id and input_id in record.input_ids


def _report(
    mob_id: str,
    key: str,
    asked: InputAccepted,
    ended: TurnEnded,
    tallies: Mapping[SessionId, _Tally],
    heads: Mapping[SessionId, SessionHead],
) -> RunReport:
    usage = NO_USAGE
    for tally in tallies.values():
        usage = usage + tally.usage
    roots = [head for head in heads.values() if head.lineage.parent is None]
    parts = [_part(head, tallies, heads) for head in roots]
    return RunReport(
        mob_id,
        key,
        asked.text,
        heads[asked.session_id].agent_id or "",
        asked.session_id,
        ended.outcome,
        last_text(ended),
        _output(ended),
        ended.error,
        usage,
        max(0, ended.ended_at_ns - asked.at_ns) / 1e9,
        tuple(part for part in parts if part is not None),
    )


def _part(
    head: SessionHead,
    tallies: Mapping[SessionId, _Tally],
    heads: Mapping[SessionId, SessionHead],
) -> Part | None:
    """What a session and its children did; None if that is nothing."""
    below = [_part(heads[child], tallies, heads) for child in head.children or ()]
    children = tuple(part for part in below if part is not None)
    tally = tallies.get(head.session_id)
    if tally is None and not children:
        return None
    tally = tally or _Tally()
    latest = tally.latest
    return Part(
        head.title or head.agent_id or head.session_id,
        head.harness_id,
        head.session_id,
        tally.turns,
        tally.usage,
        "" if latest is None else last_text(latest),
        None if latest is None else _output(latest),
        None if latest is None else latest.error,
        children,
    )


def _output(record: TurnEnded) -> Any:
    return None if record.output is None else json.loads(record.output)
