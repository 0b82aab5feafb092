"""What a report says, as one JSON document: lanes, turns, transcripts, errors, sums over time.

Owns: the document and its bounds. Must not: draw (the page's own script does), know a clock.

One pass through the journal; what is kept is bounded, so that the file opens: the newest `TURNS`
turns with their pieces, of these the newest `CHARACTERS` of transcripts, `ERRORS` of each severity.
Sums and plots are of everything. What is left out is counted and said.

The document is made of arrays rather than objects wherever there are many of a kind: the names of
their places stand in `mob/report/model.js`. Times are microseconds from `t0_us`.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import Any, Final

import attrs

from mob.export.pieces import Doing, Piece, Pieces, TurnPieces
from mob.export.plain import call_of
from mob.export.rows import own_usage, totals
from mob.export.source import Source
from mob.flows.graph import graph_of
from mob.flows.records import FlowEnded, FlowStepEnded, RunState, StepState
from mob.flows.state import Run
from mob.records import MemberExited
from runtime.contexts import CompactionFailed
from runtime.ids import SessionId
from runtime.messages import (
    NO_USAGE,
    AssistantMessage,
    Message,
    SystemMessage,
    ToolOutcome,
    ToolResult,
    Usage,
    UserMessage,
)
from runtime.prices import cost_text
from runtime.records import InputAbandoned, InputAccepted, ModelRetried, TurnEnded, TurnOutcome

#: Turns with their pieces: some 150 bytes each.
TURNS: Final = 20_000
#: Characters of transcripts in all, and of one message.
CHARACTERS: Final = 3_000_000
LONGEST: Final = 20_000
#: Of errors, and of warnings.
ERRORS: Final = 1_000
#: Buckets of the plots over time, pairs of who wrote to whom, runs of flows.
BUCKETS: Final = 240
PAIRS: Final = 100
RUNS: Final = 50

_KINDS: Final = {doing: number for number, doing in enumerate(Doing)}
_IN_FLIGHT: Final = 4
_US: Final = 1000

#: What is an error, and what only a warning.
ERROR: Final = 0
WARNING: Final = 1


@attrs.define
class _Turn:
    """A turn as it will stand in the document."""

    row: list[Any]
    messages: list[Any] | None
    size: int


class _Document:
    """The document while the journal is read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._clean = source.redactor
        heads = source.state.heads
        roster = source.roster
        self.t0_ns = roster.created_at_ns
        ends = [head.updated_at_ns for head in heads.values()]
        self.t1_ns = max([self.t0_ns + 1, *ends])
        self.lanes: list[list[Any]] = []
        self._lane_of: dict[str, int] = {}
        self._turns: deque[_Turn] = deque()
        self._transcripts: deque[_Turn] = deque()
        self._characters = 0
        self._labels: dict[str, int] = {}
        self._names = {*roster.members, *roster.retired}
        self.left_out = Counter[str]()
        self.counts = Counter[str]()
        self.errors: tuple[deque[list[Any]], deque[list[Any]]] = (
            deque(maxlen=ERRORS),
            deque(maxlen=ERRORS),
        )
        self.talk = Counter[tuple[str, str]]()
        self.series = [[0] * BUCKETS for _ in range(3)]
        self._add_lanes()

    # -- lanes -----------------------------------------------------------------------------

    def _add_lanes(self) -> None:
        """Members in order of joining, each before its children; then all that is nobody's."""
        source = self._source
        below, total = totals(source.state.heads)
        roots = [
            *[row.session_id for row in source.roster.members.values()],
            *source.roster.retired.values(),
            *source.roster.former,
            *source.state.heads,
        ]
        for root in roots:
            ahead = [(root, -1)]
            while ahead:
                session_id, parent = ahead.pop()
                head = source.state.heads.get(session_id)
                if session_id in self._lane_of or (head is None and parent >= 0):
                    continue
                lane = self._add_lane(
                    session_id,
                    parent,
                    below.get(session_id, 0),
                    total.get(session_id, NO_USAGE),
                )
                children = () if head is None else head.children or ()
                ahead += [(child, lane) for child in reversed(children)]

    def _add_lane(self, session_id: SessionId, parent: int, below: int, total: Usage) -> int:
        source = self._source
        head = source.state.heads.get(session_id)
        member, path = source.who(session_id)
        row = source.roster.members.get(member or "")
        current = row is not None and row.session_id == session_id
        own = NO_USAGE if head is None else own_usage(head)
        status = "deleted" if head is None else head.status.value
        if head is not None and head.quarantined is not None:
            status = "quarantined"
            self._error(ERROR, self.t1_ns, session_id, "quarantined", head.quarantined)
        if path in source.roster.retired and parent < 0:
            status = "retired"
        elif parent < 0 and session_id in source.roster.former:
            status = "replaced"
        name = path if parent < 0 else path.rpartition("/")[2]
        self._lane_of[session_id] = lane = len(self.lanes)
        self.lanes.append(
            [
                self._clean.text(name),
                self._clean.text(path),
                "" if head is None else head.harness_id,
                parent,
                status,
                0 if head is None else head.turns,
                own.input_tokens,
                own.output_tokens,
                own.cost_nano_usd,
                own.unpriced_calls,
                total.total_tokens,
                row.restarts if current and row is not None else 0,
                below,
                session_id,
            ]
        )
        return lane

    def _lane(self, session_id: SessionId) -> int:
        lane = self._lane_of.get(session_id)
        return self._add_lane(session_id, -1, 0, NO_USAGE) if lane is None else lane

    # -- the journal -----------------------------------------------------------------------

    def read(self) -> None:
        """Go through the journal once."""
        pieces = Pieces()
        for seq, record in self._source.events():
            self.counts["records"] = seq
            turn = pieces.feed(seq, record)
            if turn is not None:
                self._ended(turn)
            else:
                self._other(record)
        for turn in pieces.in_flight():
            head = self._source.state.heads.get(turn.session_id)
            if head is not None and head.partial is not None:
                self._keep(turn, head.partial.messages, head.turns + 1)

    def _other(self, record: Any) -> None:
        kind = type(record)
        if kind is InputAccepted:
            if record.sender in self._names:
                member = self._source.who(record.session_id)[0]
                if member is not None:
                    self.talk[record.sender, member] += 1
        elif kind is ModelRetried:
            self.counts["retries"] += 1
            why = f"{record.model}: {record.error}"
            self._error(WARNING, record.at_ns, record.session_id, "model call failed", why)
        elif kind is MemberExited:
            self.counts["crashes"] += 1
            self.counts["restarts"] += record.restart_in_s is not None
            what = "crash" if record.restart_in_s is not None else "crash, given up"
            self._error(ERROR, record.at_ns, record.session_id, what, record.cause)
        elif kind is InputAbandoned:
            self._error(ERROR, record.at_ns, record.session_id, "input given up", record.reason)
        elif kind is CompactionFailed:
            self._error(
                WARNING, record.at_ns, record.session_id, "context not compacted", record.reason
            )
        elif kind is FlowStepEnded and record.state is StepState.FAILED:
            why = f"{record.step}: {record.error or ''}"
            self._error(ERROR, record.at_ns, None, "step failed", why)
        elif kind is FlowEnded and record.state is not RunState.SUCCEEDED:
            self._error(ERROR, record.at_ns, None, f"flow {record.state.value}", record.error or "")

    def _ended(self, turn: TurnPieces) -> None:
        record = turn.record
        assert record is not None
        self.counts["turns"] += 1
        if record.outcome is not TurnOutcome.COMPLETED:
            name = record.outcome.name.lower().replace("_", " ")
            severity = WARNING if record.outcome is TurnOutcome.INTERRUPTED else ERROR
            self.counts["failed" if severity == ERROR else "interrupted"] += 1
            told = (turn.session_id, f"turn {name}", record.error or "", turn.seq)
            self._error(severity, record.ended_at_ns, *told)
        for message in record.messages:
            if isinstance(message, ToolResult) and message.outcome is not ToolOutcome.OK:
                what = f"tool {message.name}: {message.outcome.name.lower()}"
                why = message.text
                self._error(WARNING, record.ended_at_ns, turn.session_id, what, why, turn.seq)
                self.counts["tool_errors"] += 1
        self._add_up(record)
        self._keep(turn, record.messages, record.turn)

    def _add_up(self, record: TurnEnded) -> None:
        span = self.t1_ns - self.t0_ns
        place = (record.ended_at_ns - self.t0_ns) * BUCKETS // span
        bucket = min(max(place, 0), BUCKETS - 1)
        usage = record.usage
        spent = (usage.input_tokens, usage.output_tokens, usage.cost_nano_usd)
        for line, amount in zip(self.series, spent, strict=True):
            line[bucket] += amount

    def _error(
        self,
        severity: int,
        at_ns: int,
        session_id: SessionId | None,
        what: str,
        why: str,
        seq: int | None = None,
    ) -> None:
        self.counts["errors" if severity == ERROR else "warnings"] += 1
        lane = -1 if session_id is None else self._lane(session_id)
        text = self._clean.written(why)[:2000]
        self.errors[severity].append([self._us(at_ns), lane, self._clean.text(what), text, seq])

    # -- turns -----------------------------------------------------------------------------

    def _keep(
        self, turn: TurnPieces, messages: tuple[Message, ...] | list[Message], number: int
    ) -> None:
        record = turn.record
        usage = NO_USAGE if record is None else record.usage
        queued_ns = turn.start_ns if turn.queued_ns is None else min(turn.queued_ns, turn.start_ns)
        error = None if record is None else record.error
        row = [
            self._lane(turn.session_id),
            turn.seq,
            number,
            self._us(turn.start_ns),
            max(0, turn.end_ns - turn.start_ns) // _US,
            max(0, turn.start_ns - queued_ns) // _US,
            _IN_FLIGHT if record is None else record.outcome.value,
            usage.input_tokens,
            usage.output_tokens,
            usage.cost_nano_usd,
            list(self._flat(turn)),
            None if error is None else self._clean.text(error)[:LONGEST],
        ]
        told = [self._message(message) for message in messages]
        made = _Turn(row, told, sum(_size(each) for each in told))
        self._turns.append(made)
        self._transcripts.append(made)
        self._characters += made.size
        while self._characters > CHARACTERS:
            oldest = self._transcripts.popleft()
            oldest.messages = None
            self._characters -= oldest.size
            self.left_out["transcripts"] += 1
        if len(self._turns) > TURNS:
            gone = self._turns.popleft()
            self.left_out["turns"] += 1
            if self._transcripts and self._transcripts[0] is gone:
                self._transcripts.popleft()
                self._characters -= gone.size

    def _flat(self, turn: TurnPieces) -> Iterator[int]:
        """For each piece its kind, beginning in the turn, length, label, and whether it failed."""
        for piece in turn.pieces:
            yield _KINDS[piece.doing]
            yield (piece.start_ns - turn.start_ns) // _US
            yield (piece.end_ns - piece.start_ns) // _US
            yield self._label(_label(piece))
            yield int(_bad(piece))

    def _label(self, label: str) -> int:
        return self._labels.setdefault(self._clean.text(label)[:300], len(self._labels))

    def _message(self, message: Message) -> list[Any]:
        if isinstance(message, UserMessage):
            return ["user", self._name(message.sender), self._cut(message.text)]
        if isinstance(message, SystemMessage):
            return ["system", self._name(message.source), self._cut(message.text)]
        if isinstance(message, ToolResult):
            outcome = "" if message.outcome is ToolOutcome.OK else message.outcome.name.lower()
            return ["tool", self._name(message.name), self._cut(message.text), outcome]
        assert isinstance(message, AssistantMessage)
        calls = [call_of(call, self._clean) for call in message.tool_calls]
        told = [[each["name"], _cut(each["arguments"])] for each in calls]
        return ["assistant", self._name(message.model), self._cut(message.text), told]

    def _name(self, name: str | None) -> str | None:
        return None if name is None else self._clean.text(name)

    def _cut(self, text: str) -> str:
        return _cut(self._clean.written(text))

    def _us(self, at_ns: int) -> int:
        return (at_ns - self.t0_ns) // _US

    # -- the whole -------------------------------------------------------------------------

    def whole(self) -> dict[str, Any]:
        """The document."""
        source = self._source
        spent = NO_USAGE
        for head in source.state.heads.values():
            spent = spent + own_usage(head)
        return {
            "mob": source.mob_id,
            "state": source.roster.mob_state.value,
            "t0_us": self.t0_ns // _US,
            "length_us": (self.t1_ns - self.t0_ns) // _US,
            "summary": {
                "members": len(source.roster.members),
                "retired": len(source.roster.retired),
                "sessions": len(source.state.heads),
                **{name: self.counts[name] for name in _COUNTED},
                "model_calls": spent.model_calls,
                "tool_calls": spent.tool_calls,
                "input_tokens": spent.input_tokens,
                "cached_input_tokens": spent.cached_input_tokens,
                "output_tokens": spent.output_tokens,
                "cost": cost_text(spent) if spent.model_calls else "nothing",
            },
            "left_out": {**self.left_out, "pairs": max(0, len(self.talk) - PAIRS)},
            "kinds": [doing.value for doing in Doing],
            "lanes": self.lanes,
            "labels": list(self._labels),
            "turns": [each.row for each in self._turns],
            "texts": [each.messages for each in self._turns],
            "errors": [list(reversed(each)) for each in self.errors],
            "series": self.series,
            "talk": [[*pair, count] for pair, count in self.talk.most_common(PAIRS)],
            "flows": [self._flow(run) for run in _latest_runs(source)],
        }

    def _flow(self, run: Run) -> dict[str, Any]:
        graph = graph_of(run.flow)
        clean = self._clean
        steps = []
        for number, wave in enumerate(graph.waves()):
            for name in wave:
                step = run.steps[name]
                ended_ns = step.ended_at_ns or self.t1_ns
                seconds = (ended_ns - step.started_at_ns) / 1e9 if step.started_at_ns else None
                error = None if step.error is None else clean.text(step.error)
                told = [name, number, step.state.value, step.attempt, step.round, seconds]
                steps.append([*told, [clean.text(each) for each in step.members], error])
        return {
            "run": run.run_id,
            "flow": run.name,
            "state": run.state.value,
            "error": None if run.error is None else clean.text(run.error),
            "start": self._us(run.started_at_ns),
            "end": self._us(run.ended_at_ns) if run.ended_at_ns else None,
            "steps": steps,
            "edges": [[one, to] for to, those in graph.before.items() for one in sorted(those)],
        }


_COUNTED: Final = (
    *("records", "turns", "failed", "interrupted", "crashes", "restarts", "retries"),
    *("tool_errors", "errors", "warnings"),
)


def _latest_runs(source: Source) -> list[Run]:
    """The latest runs of flows, the newest first."""
    latest: deque[Run] = deque(maxlen=RUNS)
    after = None
    while page := source.folds.flows.page(after, 200):
        latest.extend(page)
        after = page[-1].run_id
    return list(reversed(latest))


def _label(piece: Piece) -> str:
    if piece.doing is Doing.RESTART or (piece.error and not piece.calls):
        return piece.error or piece.detail
    if piece.calls:
        return ", ".join(dict.fromkeys(call.name for call, _ in piece.calls))
    if piece.replies:
        return piece.replies[-1].model or ""
    return piece.detail


def _bad(piece: Piece) -> bool:
    if piece.error is not None:
        return True
    return any(result is None or result.outcome is not ToolOutcome.OK for _, result in piece.calls)


def _cut(text: str) -> str:
    if len(text) <= LONGEST:
        return text
    return f"{text[:LONGEST]}\n… {len(text) - LONGEST} characters are left out"


def _size(message: list[Any]) -> int:
    calls = message[3] if message[0] == "assistant" else ()
    return 24 + len(message[2]) + sum(len(name) + len(given) for name, given in calls)


def document(source: Source) -> dict[str, Any]:
    """Everything that the report of a mob says. Raises as `Journal.read`."""
    made = _Document(source)
    made.read()
    return made.whole()
