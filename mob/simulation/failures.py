"""What must hold of members that fail in groups: who is cut off with them, and what goes up.

Owns: what is known of failures over all sessions, and the invariants of groups. Must not: change
the ledger (but for `spare_what_stopped`), share code with the decision that it judges
(`mob.groups`): strategies and intensities are told again here.

When a failure was decided about is known from the wall clock that it is recorded with, as long as
nobody has set that; otherwise only from below and from above, and only what is certain is reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from mob.groups import SUPERVISOR
from mob.records import MemberExited, MobStateChanged
from mob.simulation.facts import Batch, Written
from mob.simulation.ports import EPOCH_S
from runtime.records import InputAccepted, TurnEnded

if TYPE_CHECKING:
    from mob.definition import MobDefinition
    from mob.simulation.ledger import Ledger
    from mob.workdefs import GroupDefinition

#: How one says that it is cut off for another's sake, and how a group gives up.
_TOGETHER: Final = re.compile(r"group '([^']*)' restarts: '([^']*)' has failed: ", re.DOTALL)
_GIVES_UP: Final = re.compile(r"\(group '([^']*)' has had (\d+) failures within ([^ ]*) s, which")
#: What rounding does to a time that is kept in nanoseconds, and more.
_ROUNDING_S: Final = 1e-5


@attrs.define(eq=False)
class Failure:
    """A bad exit of a member. It was decided about at `low_s` at the earliest, `high_s` at the
    latest, on the virtual clock."""

    written: Written
    low_s: float
    high_s: float
    #: Whether it came to rest, and did not fail; whether it was cut off for another's sake.
    rests: bool
    together: tuple[str, str] | None
    #: The group that told a member about it.
    told: str | None = None

    @property
    def record(self) -> MemberExited:
        """What was recorded."""
        record: MemberExited = self.written.record
        return record

    @property
    def process(self) -> int:
        """The process that it happened in."""
        return self.written.commit.process

    @property
    def counts(self) -> bool:
        """Whether a group counts it when it happens."""
        return not self.rests and self.together is None

    @property
    def exact(self) -> bool:
        """Whether it is known when it was decided about."""
        return self.low_s == self.high_s


class Failures:
    """What this module keeps in the ledger."""

    def __init__(self) -> None:
        self.known: list[Failure] = []
        #: The commit that ended each session's last turn, and the last time that is known of it.
        self._ended: dict[str, object] = {}
        self._last_s: dict[tuple[int, str], float] = {}

    def table(self) -> Mapping[type, Callable[[Written, Any], None]]:
        """Which record is told to what."""
        return {MemberExited: self._exited, TurnEnded: self._over, InputAccepted: self._told}

    def _over(self, written: Written, record: TurnEnded) -> None:
        self._ended[record.session_id] = written.commit

    def _exited(self, written: Written, record: MemberExited) -> None:
        found = _TOGETHER.match(record.cause)
        together = None if found is None else (found[1], found[2])
        rests = self._ended.get(record.session_id) is written.commit
        place = (written.commit.process, record.session_id)
        low_s, high_s = self._last_s.get(place, 0.0), written.commit.at_s
        self._last_s[place] = high_s
        exact_s = record.at_ns / 1e9 - EPOCH_S
        if low_s - _ROUNDING_S <= exact_s <= high_s + _ROUNDING_S:
            low_s = high_s = exact_s
        self.known.append(Failure(written, low_s, high_s, rests, together))

    def _told(self, written: Written, record: InputAccepted) -> None:
        last = self.known[-1] if self.known else None
        if record.sender == SUPERVISOR and last and last.written.commit is written.commit:
            found = _GIVES_UP.search(record.text)
            last.told = None if found is None else found[1]


def may_stop_the_mob(ledger: Ledger, member: str) -> bool:
    """Whether a failure of the member may go so far up that the mob is stopped."""
    definition = ledger.tenures.definition
    if definition is None:
        return False
    group = _group_of(definition, member)
    while group is not None:
        how = definition.groups[group]
        if how.escalate != "parent" or how.parent is None:
            told = how.escalate.partition(":")[2]
            return not told or told not in ledger.members or told in ledger.retired
        group = how.parent
    return False


def spare_what_stopped(ledger: Ledger) -> None:
    """The mob is stopped: no turn has to fail for whoever may have stopped it."""
    for session_id, exited in list(ledger.given_up.items()):
        if may_stop_the_mob(ledger, exited.record.name):
            del ledger.given_up[session_id]


def comes_to_rest(ledger: Ledger, written: Written) -> bool:
    """Whether an exit is that of a member whose turn has ended, in the same commit."""
    _, seq = ledger.sessions[written.record.session_id].driven
    return seq > 0 and ledger.written[seq - 1].commit is written.commit


def a_group_cuts_whom_it_may(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.8: who is cut off for another's sake is one whom the strategy of a group above
    that one names, and that one has failed by its own fault."""
    record: MemberExited = written.record
    found = _TOGETHER.match(record.cause)
    definition = ledger.tenures.definition
    if found is None or definition is None:
        return None
    group, failed = found[1], found[2]
    if group not in definition.groups or failed not in _everybody(definition, group):
        return f"{record.name!r} is cut off for {failed!r}, who is not in group {group!r}"
    allowed = _cut_off(definition, group, failed)
    if record.name not in allowed:
        strategy = definition.groups[group].strategy.value
        return (
            f"{record.name!r} is cut off because {failed!r} failed; group {group!r} is {strategy}"
            f" and may cut {allowed}"
        )
    failures = (e for e in ledger.failures.known if e.process == written.commit.process)
    if any(each.counts and each.record.name == failed for each in failures):
        return None
    return f"{record.name!r} is cut off because {failed!r} failed, who has not"


def groups_keep_to_their_intensity(ledger: Ledger, batch: Batch) -> str | None:
    """CONTRACTS 6.8: more failures than a group puts up with within its time go further up, those
    of earlier processes included."""
    definition = ledger.tenures.definition
    if definition is None or not definition.groups:
        return None
    for place, failure in enumerate(ledger.failures.known):
        if failure.written.commit is not batch.commit or not failure.counts:
            continue
        name = _group_of(definition, failure.record.name)
        if name is None or failure.told == name or failure.record.restart_in_s is None:
            continue
        group = definition.groups[name]
        if group.escalate == "parent" and group.parent is not None:
            continue  # what goes there leaves no trace where nobody else is at work
        before = _certain(ledger, definition, name, ledger.failures.known[:place], failure)
        if len(before) >= group.max_restarts:
            return (
                f"{failure.record.name!r} fails and is restarted; group {name!r} has had"
                f" {len(before)} failures within {group.within_s:g} s, and {group.max_restarts} is"
                " its limit"
            )
    return None


def _certain(
    ledger: Ledger, definition: MobDefinition, name: str, known: list[Failure], now: Failure
) -> list[Failure]:
    """The failures that a group has certainly to count beside `now`, the latest first."""
    group, found = definition.groups[name], list[Failure]()
    below = {e for inner in _below(definition, name) for e in _everybody(definition, inner)}
    for each in reversed(known):
        if each.record.name in below and _ended_the_count(ledger, name, each):
            break
        if _group_of(definition, each.record.name) != name or not each.counts:
            continue
        if each.record.restart_in_s is None:
            break  # perhaps it went further up, and the count began afresh
        if each.process != now.process:
            row = ledger.members.get(each.record.name)
            if row is None or row.session_id != each.record.session_id:
                continue
            if not (each.exact and now.exact):
                break
        if now.high_s - each.low_s >= group.within_s - _ROUNDING_S:
            break
        found.append(each)
    return found


def _ended_the_count(ledger: Ledger, name: str, each: Failure) -> bool:
    """Whether a group may have given up on the failure of one below it, and begun afresh: it has
    told a member so, or may have stopped the mob."""
    if not each.counts or each.record.restart_in_s is not None:
        return False
    return each.told == name or may_stop_the_mob(ledger, each.record.name)


def escalations_are_deserved(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.8: a group gives up only on more failures than it puts up with; failures that
    are older than its time are forgotten."""
    record: InputAccepted | MobStateChanged | TurnEnded = written.record
    if isinstance(record, InputAccepted):
        # What a respawn carries over was said, and judged, before.
        told = record.sender == SUPERVISOR and not ledger.tenures.was_let_in(record.input_id)
        said = record.text if told else ""
    elif isinstance(record, MobStateChanged):
        said = record.reason
    else:
        said = record.error or ""
    definition = ledger.tenures.definition
    found = _GIVES_UP.search(said)
    if found is None or definition is None:
        return None
    name, count, within = found[1], int(found[2]), found[3]
    group = definition.groups.get(name)
    if group is None or within != f"{group.within_s:g}" or count < group.max_restarts:
        return f"group {name!r} gives up after {count} failures within {within} s: {group}"
    if isinstance(record, InputAccepted):
        whom = f"member:{ledger.sessions[record.session_id].agent}"
        if group.escalate != whom:
            return f"group {name!r} tells {whom}, and is to escalate to {group.escalate}"
    known, process = ledger.failures.known, written.commit.process
    last_s = min((e.low_s for e in known if e.process == process and _led_to(e, said)), default=0.0)
    possible = sum(_possible(definition, group, name, e, process, last_s) for e in known)
    if possible > count:
        return None
    return f"group {name!r} gives up after {possible} failures; {count} is its limit"


def _led_to(each: Failure, said: str) -> bool:
    """Whether it may be this failure that made a group say so."""
    return each.record.restart_in_s is None and f"{each.record.cause} (group " in said


def _possible(
    definition: MobDefinition,
    group: GroupDefinition,
    name: str,
    each: Failure,
    process: int,
    last_s: float,
) -> bool:
    """Whether a group of this process may have counted a failure by `last_s`."""
    if each.record.name not in _everybody(definition, name):
        return False
    if each.process != process:
        return each.record.restart_in_s is not None
    return each.counts and each.high_s > last_s - group.within_s - _ROUNDING_S


# -- what groups are ---------------------------------------------------------------------------


def _members(definition: MobDefinition, group: str) -> list[str]:
    """Who is in a group itself, replicas by their names."""
    names: list[str] = []
    for base in definition.groups[group].members:
        member = definition.members.get(base)
        names.extend([base] if member is None else member.names(base))
    return names


def _below(definition: MobDefinition, group: str) -> list[str]:
    return [name for name, each in definition.groups.items() if each.parent == group]


def _everybody(definition: MobDefinition, group: str) -> list[str]:
    found = _members(definition, group)
    for inner in _below(definition, group):
        found += _everybody(definition, inner)
    return found


def _group_of(definition: MobDefinition, member: str) -> str | None:
    return next((g for g in definition.groups if member in _members(definition, g)), None)


def _cut_off(definition: MobDefinition, group: str, failed: str) -> list[str]:
    """Whom a group may cut off when `failed`, somewhere in it, has."""
    parts = [[name] for name in _members(definition, group)]
    parts += [_everybody(definition, inner) for inner in _below(definition, group)]
    place = next(n for n, part in enumerate(parts) if failed in part)
    strategy = definition.groups[group].strategy.value
    chosen = {
        "one-for-one": parts[place : place + 1],
        "one-for-all": parts,
        "rest-for-one": parts[place:],
    }[strategy]
    return [name for part in chosen for name in part if name != failed]
