"""What must hold of members that come in numbers, begin anew, go on by themselves and are limited.

Owns: what is known of joining and of the definition in force, and the invariants of generations,
`spawn_many`, `ensure`, `complete`, autonomy and limits. Must not: change the ledger, judge groups
(`mob.simulation.failures` does).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from mob.autonomy import SELF
from mob.groups import SUPERVISOR
from mob.records import MemberExited, MemberRespawned, MemberRetired, MemberSpawned
from mob.simulation.facts import Batch, KnownSession, Written, waits
from runtime.records import (
    InputAbandoned,
    InputAccepted,
    SessionCreated,
    SessionForked,
    TurnEnded,
    TurnOutcome,
)

if TYPE_CHECKING:
    from mob.definition import MobDefinition
    from mob.receipts import EnsureReport, MemberHandle
    from mob.simulation.ledger import Ledger


#: Why an input of the generation before is abandoned that is carried over.
_MOVED: Final = "superseded by input "


@attrs.frozen
class Respawned:
    """`Mob.respawn` returned `handle`; it was given the fence with this token."""

    handle: MemberHandle
    fence: str | None


@attrs.frozen
class Fenced:
    """`verb` was done with `fence`, or `refused`; `stale`: on disk that generation had ended when
    it was called. What was sent went to `session_id`."""

    verb: str
    fence: MemberHandle
    refused: bool
    stale: bool
    session_id: str | None = None


@attrs.frozen
class Hired:
    """`Mob.spawn_many` of `pairs` (name, profile) returned these sessions."""

    pairs: tuple[tuple[str, str], ...]
    session_ids: tuple[str, ...]


@attrs.frozen
class Ensured:
    """`Mob.ensure` of `wanted` (name, profile) returned; `since` is the ledger's last record when
    it was called."""

    wanted: tuple[tuple[str, str], ...]
    report: EnsureReport
    since: int


@attrs.frozen
class Completed:
    """`Mob.complete` returned; `since` as for `Ensured`."""

    since: int


@attrs.frozen
class AtWork:
    """These members, and no others, were in a turn of their own at a commit."""

    names: tuple[str, ...]


class Tenures:
    """What this module keeps in the ledger."""

    def __init__(self) -> None:
        self.definition: MobDefinition | None = None
        #: The record by which each session's member joined, and every record about each name.
        self.joined: dict[str, Written] = {}
        self.about: list[tuple[int, str]] = []
        #: Turns that ended in sessions after they were given another generation.
        self.late: Counter[str] = Counter()
        #: Turns that were written by hand, by session.
        self.by_hand: Counter[str] = Counter()
        #: Turns that the session of a member began with, as a fork of another one.
        self.brought: Counter[str] = Counter()
        self.superseded: set[str] = set()
        #: What each input that waited was carried over as.
        self.carried: dict[str, str] = {}
        self._arrived: set[str] = set()
        #: The session that each member has, and those before.
        self._of: dict[str, str] = {}

    def opening(self, definition: MobDefinition) -> None:
        """A process runs the mob by this definition."""
        self.definition = definition

    def table(self) -> Mapping[type, Callable[[Written, Any], None]]:
        """Which record is told to what."""
        return {
            MemberSpawned: self._came,
            MemberRespawned: self._respawned,
            MemberRetired: self._left,
            SessionForked: self._forked,
            TurnEnded: self._ended,
            InputAbandoned: self._moved,
        }

    def was_let_in(self, input_id: str) -> bool:
        """Whether an input is one that waited, and comes to a new generation."""
        return input_id in self._arrived

    def latest(self, input_id: str) -> str:
        """What an input has been carried over as, by however many respawns."""
        while input_id in self.carried:
            input_id = self.carried[input_id]
        return input_id

    def _came(self, written: Written, record: MemberSpawned | MemberRespawned) -> None:
        self.joined[record.session_id] = written
        self.about.append((written.seq, record.name))
        self._of[record.name] = record.session_id

    def _respawned(self, written: Written, record: MemberRespawned) -> None:
        self.superseded.add(self._of[record.name])
        self._came(written, record)

    def _left(self, written: Written, record: MemberRetired) -> None:
        self.about.append((written.seq, record.name))

    def _forked(self, _: Written, record: SessionForked) -> None:
        self.brought[record.session_id] = record.turns

    def _moved(self, _: Written, record: InputAbandoned) -> None:
        if record.reason.startswith(_MOVED):
            self.carried[record.input_id] = record.reason.removeprefix(_MOVED)
            self._arrived.add(self.carried[record.input_id])

    def _ended(self, _: Written, record: TurnEnded) -> None:
        self.late[record.session_id] += record.session_id in self.superseded
        self.by_hand[record.session_id] += not record.input_ids


# -- generations -----------------------------------------------------------------------------


def generations_rise_by_one(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.4: a respawn gives a member the next generation and a session of its own, which
    nobody had."""
    record: MemberRespawned = written.record
    row = ledger.members.get(record.name)
    if row is None:
        return f"{record.name!r} is respawned and is no member"
    if record.generation != row.generation + 1:
        return f"{record.name!r} has generation {record.generation} after {row.generation}"
    session = ledger.sessions.get(record.session_id)
    if session is None or session.agent != record.name or session.parent is not None:
        return f"{record.name!r} is respawned with the session {record.session_id}"
    if session.turns or session.pending or record.session_id in ledger.tenures.joined:
        return f"{record.name!r} is respawned with a session that was used before"
    return None


def a_respawn_is_one_commit(ledger: Ledger, batch: Batch) -> str | None:
    """CONTRACTS 6.4: the new session, the end of the old one and what waited are one commit."""
    for written in batch.written:
        record = written.record
        if not isinstance(record, MemberRespawned):
            continue
        made = {e.record.session_id for e in batch.written if isinstance(e.record, SessionCreated)}
        if record.session_id not in made:
            return f"{record.name!r} is respawned, and its session was made in another commit"
        old = next(a for a, b in ledger.succeeded.items() if b == record.session_id)
        if not ledger.sessions[old].archived:
            return f"{record.name!r} is respawned, and its session {old} stays"
        told = _moved(ledger, old, record.session_id, batch)
        if told is not None:
            return f"{record.name!r} is respawned, {told}"
    return None


def _moved(ledger: Ledger, old: str, new: str, batch: Batch) -> str | None:
    """What is wrong with what waited: it is delivered to the new session in its order, but for what
    had begun and what is about the old one alone."""
    came = [e.record for e in batch.written if _is_input(e, new)]
    left = [each for each in ledger.inputs.values() if each.session_id == old and each.abandoned]
    wanted: list[tuple[Any, ...]] = []
    lost: list[str] = []
    for known in left:
        fate = known.abandoned or ""
        if fate.startswith(_MOVED):
            wanted.append((fate.removeprefix(_MOVED), known.text, known.sender, known.key))
        elif fate.startswith("archived: ") and not waits(known.sender):
            lost.append(known.input_id)
    found = [(e.input_id, e.text, e.sender, e.idempotency_key) for e in came]
    if found[: len(wanted)] != wanted:
        return f"and what waited was {wanted!r:.300}; what came is {found!r:.300}"
    begun = ledger.sessions[old].cut
    if not set(lost) <= set(begun) and (begun or len(lost) > 1):
        return f"and of what waited {lost} is lost; the turn in flight was on {begun}"
    return None


def _is_input(written: Written, session_id: str) -> bool:
    record = written.record
    return isinstance(record, InputAccepted) and record.session_id == session_id


def the_old_generation_rests(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.4: after a respawn nothing comes to the old session, and nothing is begun in it:
    the turn in flight ends there as interrupted, once."""
    record: InputAccepted | TurnEnded = written.record
    if record.session_id not in ledger.tenures.superseded:
        return None
    if isinstance(record, InputAccepted):
        return (
            None
            if waits(record.sender)
            else f"{record.text!r:.80} is accepted by session {record.session_id}, which was"
            f" respawned to {ledger.succeeded[record.session_id]}"
        )
    if not record.input_ids:
        return None
    if ledger.tenures.late[record.session_id]:
        return f"a second turn ends in session {record.session_id} after it was respawned"
    if record.outcome is TurnOutcome.INTERRUPTED:
        return None
    return f"a turn ends as {record.outcome.name} in session {record.session_id} after its respawn"


# -- limits and autonomy -----------------------------------------------------------------------


def limits_are_kept(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.15: never more members, and never more turns, had or waiting, than the limits
    say; what a respawn carries over was let in before."""
    record: MemberSpawned | InputAccepted = written.record
    definition = ledger.tenures.definition
    if definition is None:
        return None
    limits = definition.limits
    if isinstance(record, MemberSpawned):
        most = limits.members
        if most is None or len(ledger.members) < most:
            return None
        return f"{record.name!r} joins {len(ledger.members)} members, and {most} is the limit"
    session = ledger.sessions[record.session_id]
    row = ledger.members.get(session.agent or "")
    if row is None or row.session_id != record.session_id or not _counts(ledger, written):
        return None
    most = limits.turns_per_member
    if most is not None and _turns(ledger, row.session_id) + _waiting(session) >= most:
        return f"{row.name!r} is asked for a turn more than {most}, which is the limit"
    most = limits.turns
    if most is None:
        return None
    had = sum(_turns(ledger, each) for each in ledger.tenures.joined)
    ahead = sum(_waiting(ledger.sessions[each.session_id]) for each in ledger.members.values())
    if had + ahead < most:
        return None
    return f"{row.name!r} is asked for a turn more than the {most} that the mob may have"


def _counts(ledger: Ledger, written: Written) -> bool:
    """Whether what was accepted is for a turn that limits count, and was let in here."""
    record: InputAccepted = written.record
    return (
        not waits(record.sender)
        and record.sender != SUPERVISOR
        and ledger.tenures.joined[record.session_id].commit is not written.commit
    )


def _turns(ledger: Ledger, session_id: str) -> int:
    """The turns of a session for certain: none if some were brought back by hand."""
    session = ledger.sessions[session_id]
    if session.rewinds or session.deleted:
        return 0
    tenures = ledger.tenures
    return session.turns - tenures.brought[session_id] - tenures.by_hand[session_id]


def _waiting(session: KnownSession) -> int:
    return sum(not waits(each.sender) for each in session.pending.values())


def a_member_goes_on_as_it_may(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.8: an autonomous member is prompted in the commit that ends its turn, with its
    own prompt, so often in a row, and only if nothing else waits for it."""
    record: InputAccepted = written.record
    if record.sender != SELF:
        return None
    session = ledger.sessions[record.session_id]
    row = ledger.members.get(session.agent or "")
    definition = ledger.tenures.definition
    if definition is None or row is None or row.session_id != record.session_id:
        return None
    count = count_of(record.input_id)
    if ledger.tenures.joined[record.session_id].commit is written.commit:
        return None if count else f"a prompt that waited has become {record.input_id}"
    policy = definition.profiles[row.profile].autonomy
    if policy is None or record.text != policy.continue_with:
        return f"{row.name!r} is prompted with {record.text!r}, and its policy is {policy}"
    if not 1 <= count <= policy.max_turns:
        return f"{row.name!r} is prompted {count} times in a row; {policy.max_turns} is the limit"
    process, seq = session.driven
    if process != written.commit.process or ledger.written[seq - 1].commit is not written.commit:
        return f"{row.name!r} is prompted without a turn that ends"
    if _waiting(session):
        return f"{row.name!r} is prompted, and something else waits for it"
    turn = ledger.turns[seq]
    before = max((count_of(each) for each in turn.inputs), default=0)
    last = ledger.written[-1].record
    again = isinstance(last, MemberExited) and last.session_id == record.session_id
    if count == (1 if again else before + 1) and (again or turn.outcome is TurnOutcome.COMPLETED):
        return None
    return f"{row.name!r} is given prompt {count} after prompt {before}, {turn.outcome.name}"


def count_of(input_id: str) -> int:
    """Which prompt in a row an input was; 0 if it was none."""
    count = input_id.partition("+")[2]
    return int(count) if count.isdigit() else 0


# -- promises ----------------------------------------------------------------------------------


def turns_keep_to_their_slots(ledger: Ledger, promise: object) -> str | None:
    """CONTRACTS 6.15: never more turns in flight than `concurrent_turns` says."""
    definition = ledger.tenures.definition
    if not isinstance(promise, AtWork) or definition is None:
        return None
    most = definition.limits.concurrent_turns
    if most is None or len(promise.names) <= most:
        return None
    return f"{', '.join(promise.names)} work at the same time, and {most} is the limit"


def what_staff_was_told_is_on_disk(ledger: Ledger, promise: object) -> str | None:
    """CONTRACTS 6.2, 6.4: who was said to have joined, to have begun anew or to be there is so on
    disk, and an older fence is refused."""
    check = TOLD.get(type(promise))
    return None if check is None else check(ledger, promise)


def _respawned(ledger: Ledger, promise: Respawned) -> str | None:
    handle = promise.handle
    written = ledger.tenures.joined.get(handle.token)
    record = None if written is None else written.record
    if not isinstance(record, MemberRespawned):
        return f"{handle.name!r} was said to be respawned as {handle.token} and is not on disk"
    if (record.name, record.generation) != (handle.name, handle.generation):
        return f"{handle!r} was promised, and on disk is {record!r:.200}"
    if promise.fence is not None and ledger.succeeded.get(promise.fence) != handle.token:
        return f"{promise.fence} was fenced, and {handle.token} is not what came after it"
    return None


def _fenced(_: Ledger, promise: Fenced) -> str | None:
    fence = promise.fence
    if promise.refused:
        return None
    if promise.stale:
        return f"{promise.verb!r} was done to {fence.name!r} with a fence that had passed"
    if promise.session_id is not None and promise.session_id != fence.token:
        return f"{promise.verb!r} with the fence {fence.token} came to {promise.session_id}"
    return None


def _hired(ledger: Ledger, promise: Hired) -> str | None:
    joined = [ledger.tenures.joined.get(each) for each in promise.session_ids]
    there = [each for each in joined if each is not None]
    found = tuple((each.record.name, each.record.profile) for each in there)
    if found != promise.pairs:
        return f"{promise.pairs} were said to have joined, on disk did {found}"
    first = there[0]
    for place, each in enumerate(there):
        if each.commit is not first.commit or each.seq != first.seq + place:
            return f"{each.record.name!r} did not join in one commit and in order with the others"
    return None


def _ensured(ledger: Ledger, promise: Ensured) -> str | None:
    report, wanted = promise.report, dict(promise.wanted)
    mine = Counter((*report.spawned, *report.respawned, *report.retired))
    about = Counter(name for seq, name in ledger.tenures.about if seq > promise.since)
    names = dict.fromkeys((*wanted, *ledger.members))
    for name in names:
        row = ledger.members.get(name)
        profile = None if row is None else row.profile
        if "~" in name:
            continue  # a helper, which it passes over
        if about[name] <= mine[name] and profile != wanted.get(name):
            return f"{name!r} is declared as {wanted.get(name)}, is {profile}; {report}"
    return None


def _completed(ledger: Ledger, promise: Completed) -> str | None:
    if any(seq > promise.since and state == "completed" for seq, state in ledger.states):
        return None
    return f"the mob was said to be completed and is {ledger.state} on disk"


TOLD: Final[Mapping[type, Callable[[Any, Any], str | None]]] = {
    Respawned: _respawned,
    Fenced: _fenced,
    Hired: _hired,
    Ensured: _ensured,
    Completed: _completed,
}
