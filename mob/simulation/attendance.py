"""Members that come for a word and members that wait for each other: what must hold of them.

Owns: what is known of helpers, of newcomers and of who depends on whom, and their invariants. Must
not: share code with `mob.helping`, `mob.joining` and `mob.dependencies`.

What a process remembers beyond its journal begins anew with each life: with each process, and with
each rewind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from mob.groups import SUPERVISOR
from mob.records import (
    MemberExited,
    MemberRespawned,
    MemberRetired,
    MemberSpawned,
    MobStateChanged,
)
from mob.simulation.exchange import newcomers_profile
from mob.simulation.facts import Batch, KnownSession, Written, waits
from mob.simulation.failures import comes_to_rest
from runtime.messages import CONTEXT
from runtime.peering import SOURCE
from runtime.records import InputAccepted, ModelRetried, TurnEnded, TurnProgressed

if TYPE_CHECKING:
    from mob.definition import MobDefinition
    from mob.simulation.ledger import Ledger

#: Between the name of a member and what its helper is called by.
_MARK: Final = "~"
#: Who tells a member that one on which it depends was given up.
_TOLD_BY: Final = f"{CONTEXT}: {SUPERVISOR}"


@attrs.frozen
class ComesByMessage:
    """A promise: nobody ever spawns this name, so it joins with a message or not at all."""

    name: str


@attrs.define
class KnownHelper:
    """A helper: the life of the process in which it came, and its question."""

    name: str
    life: int
    question: str | None = None
    key: str | None = None


@attrs.define
class _Held:
    """A member that goes on only when these inputs of others have had their fate."""

    name: str
    inputs: tuple[str, ...]


@final
class Attendance:
    """What this module keeps in the ledger."""

    def __init__(self) -> None:
        self.definition: MobDefinition | None = None
        self.life = 0
        #: Names that join with a message only.
        self.by_message: set[str] = set()
        #: Of each session of a helper.
        self.helpers: dict[str, KnownHelper] = {}
        #: On whom each member depends.
        self.needs: dict[str, tuple[str, ...]] = {}
        #: Who is held back, by session, and how many went on when it was their turn.
        self.held: dict[str, _Held] = {}
        self.went_on = 0
        #: The process that each turn in flight was heard of in since the mob went on.
        self.at_work: dict[str, int] = {}
        #: Those of whom it is not known yet whether they were at work when somebody was given up
        #: on whom they depend and they were not told: run, process and name, by session.
        self.owed: dict[str, tuple[str, int, str]] = {}

    def opening(self, ledger: Ledger, definition: MobDefinition | None) -> None:
        """A process opens the mob of `definition` (None: another mob)."""
        self.begin_anew()
        if definition is not None:
            self.definition, self.needs = definition, _needs(definition)
        if definition is not None and ledger.state == "running":
            self.hold(ledger)

    def begin_anew(self) -> None:
        """What a process remembered beyond its journal, it has forgotten."""
        self.life += 1
        self.rest()

    def rest(self) -> None:
        """Nobody is at work, and nobody held back."""
        self.held.clear()
        self.at_work.clear()
        self.owed.clear()

    def hold(self, ledger: Ledger) -> None:
        """The mob goes on: who has something left to do waits for what those have left on whom it
        depends; not if one of them may ask it on the way."""
        self.held.clear()
        for name, needed in self.needs.items():
            mine = _left(ledger, name)
            if not mine or any(each.sender in ledger.exchange.ever for each in mine):
                continue
            ahead = [each.input_id for other in needed for each in _left(ledger, other)]
            if ahead:
                self.held[ledger.members[name].session_id] = _Held(name, tuple(ahead))

    def table(self) -> Mapping[type, Callable[[Written, Any], None]]:
        """Which record is told to what."""
        return {
            MemberSpawned: self._came,
            MemberRespawned: self._came,
            InputAccepted: self._accepted,
            TurnProgressed: self._progressed,
            TurnEnded: self._ended,
        }

    def _came(self, _: Written, record: MemberSpawned | MemberRespawned) -> None:
        if _MARK in record.name:
            self.helpers[record.session_id] = KnownHelper(record.name, self.life)

    def _accepted(self, _: Written, record: InputAccepted) -> None:
        helper = self.helpers.get(record.session_id)
        if helper is not None and not waits(record.sender):
            helper.question, helper.key = record.input_id, record.idempotency_key

    def _progressed(self, written: Written, record: TurnProgressed) -> None:
        self.at_work[record.session_id] = written.commit.process

    def _ended(self, _: Written, record: TurnEnded) -> None:
        if record.input_ids:
            self.at_work.pop(record.session_id, None)
            self.owed.pop(record.session_id, None)


def _needs(definition: MobDefinition) -> dict[str, tuple[str, ...]]:
    """On whom each member of the definition depends, replicas by their names."""
    found: dict[str, tuple[str, ...]] = {}
    for base, member in definition.members.items():
        named = (
            definition.members[each].names(each) if each in definition.members else (each,)
            for each in member.depends_on
        )
        needed = tuple(dict.fromkeys(name for names in named for name in names))
        if needed:
            found.update(dict.fromkeys(member.names(base), needed))
    return found


def _left(ledger: Ledger, name: str) -> list[Any]:
    """What a member has left to do."""
    session = _session(ledger, name)
    if session is None:
        return []
    return [each for each in session.pending.values() if not waits(each.sender)]


def _session(ledger: Ledger, name: str) -> KnownSession | None:
    row = ledger.members.get(name)
    return None if row is None else ledger.sessions[row.session_id]


# -- helpers ---------------------------------------------------------------------------------


def helpers_come_with_their_question(ledger: Ledger, batch: Batch) -> str | None:
    """CONTRACTS 6.2: a helper is made for a member that is there, in one commit with its
    question."""
    for written in batch.written:
        record = written.record
        if not isinstance(record, MemberSpawned) or _MARK not in record.name:
            continue
        of = record.name.partition(_MARK)[0]
        if record.name.count(_MARK) != 1 or of not in ledger.members:
            return f"{record.name!r} joins as a helper, and {of!r} is no member that may have one"
        if len(_messages(batch, record.session_id)) != 1:
            return f"{record.name!r} joins as a helper, and its question is in another commit"
    return None


def _messages(batch: Batch, session_id: str, *, silent: bool = False) -> list[InputAccepted]:
    """The messages to a session that a commit has, also those that wake nobody if `silent`; not who
    its peers are."""
    accepted = (each.record for each in batch.written if isinstance(each.record, InputAccepted))
    to_it = [each for each in accepted if each.session_id == session_id]
    return [each for each in to_it if not waits(each.sender) or (silent and _is_said(each))]


def _is_said(record: InputAccepted) -> bool:
    return record.sender != f"{CONTEXT}: {SOURCE}"


def helpers_keep_to_themselves(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.2: nobody sends to a helper but its question. That it sends to nobody is a matter
    of edges."""
    record: InputAccepted = written.record
    if waits(record.sender) or ledger.tenures.was_let_in(record.input_id):
        return None
    helper = ledger.attendance.helpers.get(record.session_id)
    if helper is None or (helper.question is None and record.sender is None):
        return None
    return f"{helper.name!r}, a helper, is sent {record.text!r:.80} by {record.sender!r}"


def what_nobody_can_fetch_rests(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.2: the question of a helper without a key is not worked on any more by another
    process than that which made it, nor after a rewind: nobody can fetch its answer."""
    record: TurnProgressed | TurnEnded = written.record
    helper = ledger.attendance.helpers.get(record.session_id)
    if helper is None or helper.key is not None or helper.life == ledger.attendance.life:
        return None
    if not record.input_ids or ledger.sessions[record.session_id].archived:
        return None  # somebody saved it by hand, or it comes late
    return f"{helper.name!r}, a helper without a key, goes on after its process has ended"


def helpers_leave(ledger: Ledger, _: object) -> str | None:
    """CONTRACTS 6.2: once all is worked off no helper is left."""
    left = [name for name in ledger.members if _MARK in name]
    if not left or ledger.state not in ("running", "completed"):
        return None
    return f"the helpers {left} have answered, or never will, and stay"


# -- newcomers -------------------------------------------------------------------------------


def newcomers_come_with_a_message(ledger: Ledger, batch: Batch) -> str | None:
    """CONTRACTS 6.2: who is to join with a message does so in the commit of that message, on the
    profile that the mob file says; a message that is refused makes nobody."""
    attendance = ledger.attendance
    for written in batch.written:
        record = written.record
        if not isinstance(record, MemberSpawned) or record.name not in attendance.by_message:
            continue
        if not _messages(batch, record.session_id, silent=True):
            return f"{record.name!r} joins, and the message that made it is in another commit"
        definition = attendance.definition
        profile = None if definition is None else newcomers_profile(definition, record.name)
        if profile != record.profile:
            return f"{record.name!r} joins on profile {record.profile!r}; the file says {profile!r}"
    return None


def newcomers_are_as_the_file_says(ledger: Ledger, promise: object) -> str | None:
    """CONTRACTS 6.2: of whom is only ever written to, who is there is so on the profile that the
    mob file says. From here on it is known of this one that it joins so."""
    assert isinstance(promise, ComesByMessage)
    attendance, row = ledger.attendance, ledger.members.get(promise.name)
    attendance.by_message.add(promise.name)
    definition = attendance.definition
    if row is None or definition is None:
        return None
    if row.profile == newcomers_profile(definition, promise.name):
        return None
    return f"{row.name!r} is on profile {row.profile!r}, which is not what the file says"


# -- who depends on whom -----------------------------------------------------------------------


def dependents_go_on_after(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.8: when a mob goes on, a member begins what it had left once those it depends on
    have had done, or given up, what they had left; one that is asked from a turn does not wait."""
    record, attendance = written.record, ledger.attendance
    if isinstance(record, MobStateChanged):
        attendance.rest()
        if record.state == "running":
            attendance.hold(ledger)
        return None
    held = attendance.held.get(record.session_id)
    if held is None:
        return None
    if isinstance(record, InputAccepted):
        if record.sender in ledger.exchange.ever:
            del attendance.held[record.session_id]  # perhaps from inside a turn
        return None
    if isinstance(record, TurnEnded) and not record.input_ids:
        return None
    if ledger.sessions[record.session_id].archived:
        return None
    ahead = [each for each in held.inputs if ledger.inputs[each].pending]
    if not ahead:
        del attendance.held[record.session_id]
        attendance.went_on += 1
        return None
    agents = sorted({str(ledger.sessions[ledger.inputs[e].session_id].agent) for e in ahead})
    return f"{held.name!r} goes on, and {agents}, on whom it depends, have {ahead} left to do"


def dependents_are_told(ledger: Ledger, batch: Batch) -> str | None:
    """CONTRACTS 6.8: when a member is given up, those at work that depend on it are told so in that
    commit, and nobody else is."""
    attendance = ledger.attendance
    told: dict[str, str] = {
        each.record.session_id: each.record.text
        for each in batch.written
        if isinstance(each.record, InputAccepted) and each.record.sender == _TOLD_BY
    }
    given_up = [
        each.record
        for each in batch.written
        if isinstance(each.record, MemberExited)
        and each.record.restart_in_s is None
        and not comes_to_rest(ledger, each)
    ]
    for exited in given_up:
        for name, needed in attendance.needs.items():
            session = _session(ledger, name) if exited.name in needed else None
            if session is None:
                continue
            text = told.pop(session.session_id, None)
            if text is not None and not text.startswith(f"Member {exited.name!r}, on which you"):
                return f"{name!r} is told {text!r:.120}, and {exited.name!r} was given up"
            works = session.partial is not None and "waiting" not in session.partial.asked.values()
            process = batch.commit.process
            if text is None and works and attendance.at_work.get(session.session_id) == process:
                assert session.partial is not None
                owed = (session.partial.run_id, process, exited.name)
                attendance.owed[session.session_id] = owed
    if told:
        return f"of {sorted(told.values())} nobody was given up on whom those who are told depend"
    return None


def who_was_at_work_was_told(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 6.8: whoever goes on with a turn, in the process in which one was given up on whom
    it depends, was at work then, and is to have been told."""
    record, owed = written.record, ledger.attendance.owed
    if isinstance(record, MemberExited | MemberRetired):
        row = ledger.members.get(record.name)
        owed.pop("" if row is None else row.session_id, None)
        return None
    found = owed.pop(record.session_id, None)
    if found is None or ledger.sessions[record.session_id].archived:
        return None
    run_id, process, name = found
    if (record.run_id, written.commit.process) != (run_id, process):
        return None
    agent = ledger.sessions[record.session_id].agent
    return f"{name!r} was given up while {agent!r}, which depends on it, worked and was not told"


#: The records by which a member shows that it goes on, and those that change who waits.
GOES_ON: Final = (TurnProgressed, TurnEnded, ModelRetried, InputAccepted, MobStateChanged)
