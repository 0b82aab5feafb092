"""Rounds: the hooks that were asked at a point of a turn, what they said, and what came of it.

Owns: the promises of hooks, `Rounds`, and the invariants of hooks. Must not: share code with
`runtime.hooks` and `mob.hooks`, which it is compared with.

A round is what is asked at one point about one thing: a model call of a run, or a tool call. It
begins with the first hook that the profile has there, and a turn that is continued begins it again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final, final

import attrs

from mob.simulation.facts import ToolRan
from runtime.messages import AssistantMessage, ToolOutcome, ToolResult, Usage
from runtime.records import HookReported, TurnEnded, TurnOutcome, TurnProgressed

if TYPE_CHECKING:
    from mob.definition import MobDefinition
    from mob.hooks import HookDefinition
    from mob.simulation.facts import Written
    from mob.simulation.ledger import Ledger

#: A denial at these ends the turn.
_ENDING: Final = frozenset({"run_started", "before_model", "after_model", "turn_boundary"})
_OVER: Final = frozenset({"run_completed", "run_failed"})


@attrs.frozen
class HookAsked:
    """A hook was called at a point; `place` is the tool call it is about, or the model call's
    number. `usage` is what the reply cost, after a model call."""

    name: str
    point: str
    session_id: str
    run_id: str
    place: str
    value: str
    usage: Usage | None = None


@attrs.frozen
class HookAnswered:
    """It said ``allow``, ``deny`` or ``rewrite``, it ``failed``, or was ``cut`` off. `late_s` is by
    how much it went beyond its time."""

    asked: HookAsked
    what: str
    value: str = ""
    late_s: float = 0.0


@attrs.define
class Round:
    """What is known of one."""

    expected: tuple[str, ...]
    value: str
    asked: list[str] = attrs.field(factory=list)
    answered: list[str] = attrs.field(factory=list)
    denied: bool = False
    rewritten: bool = False
    usage: Usage | None = None

    @property
    def whole(self) -> bool:
        """Whether all have said their word, and none denied."""
        return len(self.answered) == len(self.expected) and not self.denied


@final
class Rounds:
    """The rounds of one mob."""

    def __init__(self) -> None:
        self.definition: MobDefinition | None = None
        #: By run, point and place; those of the newest process.
        self.of: dict[tuple[str, str, str], Round] = {}
        #: What each hook said at each point of a run, in whatever process, and how often it was
        #: asked.
        self.said: defaultdict[tuple[str, str, str], set[str]] = defaultdict(set)
        self.times: Counter[tuple[str, str, str]] = Counter()
        #: Tool calls whose result was rewritten.
        self.rewritten: set[str] = set()
        #: What is reported on disk: run, point, hook and what.
        self.reported: set[tuple[str, str, str, str]] = set()
        #: What the newest process has to report, with the session.
        self.due: dict[tuple[str, str, str, str], str] = {}

    def opening(self, definition: MobDefinition | None) -> None:
        """A process opens the mob of `definition`."""
        self.definition = definition or self.definition
        self.of.clear()
        self.due.clear()

    def hooks(self, profile: str) -> dict[str, HookDefinition]:
        """The hooks of a profile, in order; a session that is no member's is of none."""
        if self.definition is None or profile not in self.definition.profiles:
            return {}
        found = {name: each for name, each in self.definition.hooks.items() if each.enabled}
        for name, how in self.definition.profiles[profile].hooks.items():
            if how is False:
                found.pop(name, None)
            elif how is True:
                found[name] = self.definition.hooks[name]
            elif how.enabled:
                found[name] = how
        return found

    def at(self, profile: str, point: str) -> tuple[str, ...]:
        """The names of those at a point."""
        return tuple(name for name, each in self.hooks(profile).items() if point in each.on)

    def denied(self, run_id: str, points: frozenset[str]) -> list[Round]:
        """The rounds of a run at these points that ended with a denial."""
        return [
            each for (run, point, _), each in self.of.items()
            if run == run_id and point in points and each.denied
        ]  # fmt: skip


# -- what hooks are asked --------------------------------------------------------------------


def guardrails_are_asked_in_order(ledger: Ledger, promise: object) -> str | None:
    """CONTRACTS 4.9, hooks: those of the profile and no other, in their order, the first that
    denies being the last that is asked, each shown what those before it made of the value, and no
    longer than its time. What a turn's end is told is told once, and when it is on disk."""
    if isinstance(promise, HookAsked):
        return _asked(ledger, promise)
    if isinstance(promise, HookAnswered):
        return _answered(ledger, promise)
    return None


def _asked(ledger: Ledger, promise: HookAsked) -> str | None:
    rounds = ledger.rounds
    session = ledger.sessions.get(promise.session_id)
    if session is None:
        return f"hook {promise.name!r} is told of session {promise.session_id}, which is not there"
    expected = rounds.at(session.harness, promise.point)
    if promise.name not in expected:
        return (
            f"hook {promise.name!r} is asked at {promise.point}; {session.harness} has {expected}"
        )
    rounds.times[promise.run_id, promise.point, promise.name] += 1
    if promise.point in _OVER:
        return _over(ledger, promise)
    place = expected.index(promise.name)
    key = (promise.run_id, promise.point, promise.place)
    if place == 0:
        rounds.of[key] = Round(expected, promise.value)
        call = f"{promise.session_id}:{promise.run_id}:{promise.place}"
        if call in rounds.rewritten and promise.point == "after_tool":
            ledger.returned[call] = promise.value  # it ran again, and said this
    found = rounds.of.get(key)
    before = [] if found is None else found.asked
    if found is None or before != list(expected[:place]):
        return f"hook {promise.name!r} is asked at {key} after {before}; they are {expected}"
    if found.denied or len(found.answered) != place:
        return f"hook {promise.name!r} is asked at {key}, and {before[-1]!r} has not let it pass"
    if found.value != promise.value:
        return f"hook {promise.name!r} at {key} sees {promise.value!r:.80}, not {found.value!r:.80}"
    found.asked.append(promise.name)
    found.usage = promise.usage
    return None


def _over(ledger: Ledger, promise: HookAsked) -> str | None:
    seq = ledger.ended.get(promise.run_id)
    if seq is None:
        return f"hook {promise.name!r} is told the end of run {promise.run_id}, not on disk"
    completed = ledger.turns[seq].outcome is TurnOutcome.COMPLETED
    if completed != (promise.point == "run_completed"):
        return f"hook {promise.name!r} is told {promise.point} of run {promise.run_id}"
    if ledger.rounds.times[promise.run_id, promise.point, promise.name] > 1:
        return f"hook {promise.name!r} is told the end of run {promise.run_id} again"
    return None


def _answered(ledger: Ledger, promise: HookAnswered) -> str | None:
    rounds, asked = ledger.rounds, promise.asked
    if promise.late_s > 0:
        return f"hook {asked.name!r} went on for {promise.late_s:g} s beyond its time"
    hook = rounds.hooks(ledger.sessions[asked.session_id].harness)[asked.name]
    said = (asked.run_id, asked.point, asked.name)
    rounds.said[said].add(promise.what)
    if asked.point in _OVER:
        return None
    found = rounds.of[asked.run_id, asked.point, asked.place]
    found.answered.append(asked.name)
    if hook.mode == "observe":
        pass
    elif promise.what in ("failed", "cut"):
        found.denied = hook.on_error == "deny"
    elif promise.what == "deny":
        found.denied = True
        rounds.due[(*said, "denied")] = asked.session_id
    elif promise.what == "rewrite":
        found.value, found.rewritten = promise.value, True
        rounds.due[(*said, "rewrote")] = asked.session_id
    key = f"{asked.session_id}:{asked.run_id}:{asked.place}"
    if found.rewritten and asked.point == "after_tool" and found.whole:
        ledger.returned[key] = found.value  # it is what the model reads
        rounds.rewritten.add(key)
    return None


# -- what comes of it ------------------------------------------------------------------------


def what_a_guardrail_denied_never_ran(ledger: Ledger, promise: object) -> str | None:
    """CONTRACTS 4.9, hooks: a tool runs only when every hook before it was asked and let it."""
    if not isinstance(promise, ToolRan):
        return None
    session = ledger.sessions.get(promise.session_id)
    if session is None or not ledger.rounds.at(session.harness, "before_tool"):
        return None
    found = ledger.rounds.of.get((promise.run_id, "before_tool", promise.call_id))
    if found is None or not found.whole:
        return f"{promise.name!r} runs for call {promise.call_id}, and its hooks said {found}"
    return None


def hooks_change_what_they_may(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 4.9, hooks: what was denied is in no history and a turn that was denied does not
    complete; a rewrite is what is kept; an observer changes nothing; every step had its hooks."""
    record: TurnProgressed | TurnEnded = written.record
    rounds = ledger.rounds
    if rounds.definition is None or not record.input_ids:
        return None
    for message in record.messages:
        if isinstance(message, ToolResult) and message.outcome is ToolOutcome.OK:
            for point in ("before_tool", "after_tool"):
                found = rounds.of.get((record.run_id, point, message.call_id))
                if found is not None and found.denied and message.call_id != "call_0":
                    return f"call {message.call_id} was denied {point} and has a result"
    return _end(ledger, record) if isinstance(record, TurnEnded) else None


def _end(ledger: Ledger, record: TurnEnded) -> str | None:
    rounds = ledger.rounds
    if record.outcome is TurnOutcome.FAILED and (record.error or "").startswith("denied by hook "):
        name = (record.error or "").split("'")[1]
        return _deserved(ledger, record, name)
    if record.outcome is not TurnOutcome.COMPLETED:
        return None
    if rounds.denied(record.run_id, _ENDING):
        return f"run {record.run_id} completed, and a hook denied it"
    replies = [each for each in record.messages if isinstance(each, AssistantMessage)]
    profile = ledger.sessions[record.session_id].harness
    for point in ("before_model", "after_model"):
        for name in rounds.at(profile, point):
            times = rounds.times[record.run_id, point, name]
            if times < len(replies):
                return f"run {record.run_id} has {len(replies)} replies, {name!r} heard of {times}"
    found = rounds.of.get((record.run_id, "after_model", str(len(replies))))
    if found is not None and found.rewritten and found.whole and replies[-1].text != found.value:
        return f"the reply was rewritten to {found.value!r:.80} and is {replies[-1].text!r:.80}"
    return None


def _deserved(ledger: Ledger, record: TurnEnded, name: str) -> str | None:
    rounds = ledger.rounds
    hook = rounds.hooks(ledger.sessions[record.session_id].harness).get(name)
    if hook is None or hook.mode == "observe":
        return f"run {record.run_id} failed by {name!r}, which is no guardrail of its"
    said = set().union(*(rounds.said[record.run_id, point, name] for point in _ENDING))
    if said & {"deny", "failed", "cut"}:
        return None
    return f"run {record.run_id} failed by {name!r}, which said {sorted(said)}"


_SAYS: Final = {
    "denied": {"deny", "failed", "cut"},
    "rewrote": {"rewrite"},
    "failed": {"failed", "cut"},
}


def reports_of_hooks_are_true(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 4.9, hooks: a denial, rewrite or failure that is reported was one, and an
    observer's can only be a failure."""
    record: HookReported = written.record
    rounds = ledger.rounds
    rounds.reported.add((record.run_id, record.point, record.hook, record.what))
    hook = rounds.hooks(ledger.sessions[record.session_id].harness).get(record.hook)
    if hook is None or (hook.mode == "observe" and record.what != "failed"):
        return f"hook {record.hook!r} is reported to have {record.what} at {record.point}"
    said = rounds.said[record.run_id, record.point, record.hook]
    if said & _SAYS[record.what]:
        return None
    return f"hook {record.hook!r} is reported to have {record.what}, it said {sorted(said)}"


def what_hooks_did_is_reported(ledger: Ledger, _: object) -> str | None:
    """CONTRACTS 4.9, hooks: every denial and rewrite is in the journal."""
    for key, session_id in ledger.rounds.due.items():
        if key not in ledger.rounds.reported and not ledger.sessions[session_id].deleted:
            return f"{key} happened, and no record says so"
    return None


def withheld(ledger: Ledger, record: TurnEnded | TurnProgressed) -> Usage:
    """What the reply cost that a guardrail withheld as this turn ended."""
    if isinstance(record, TurnEnded) and record.outcome is TurnOutcome.FAILED:
        for found in ledger.rounds.denied(record.run_id, frozenset({"after_model"})):
            if found.usage is not None:
                return found.usage
    return Usage()
