"""The oracle: is asked at every commit, promise and opening whether all is as it must be.

Owns: the shadow, a ledger for each mob, asking the invariants, and the first violation. Must not:
say what must hold (`mob.simulation.invariants`), touch what it watches.

A violation is raised where it is found. That may be in a callback of the store, or in a task that
somebody cancels; so the first one is kept as well, and `check` raises it again. What comes after it
is not judged: a ledger that has been told something impossible knows nothing any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, NoReturn, final

from mob.definition import MobDefinition
from mob.mob import Mob
from mob.records import MOB_RECORDS
from mob.simulation.chronicle import Chronicle
from mob.simulation.disk import Commit
from mob.simulation.facts import Batch, Written
from mob.simulation.invariants import (
    Moment,
    UserInvariant,
    asked,
    asked_of_promises,
    asked_of_records,
)
from mob.simulation.ledger import Ledger
from mob.simulation.promises import Promise
from mob.simulation.recovered import Recovered, loaded
from mob.simulation.shadow import Opening, Shadow
from runtime.points import RealmForked, RealmRewound
from runtime.records import RUNTIME_RECORDS
from stores import Append, Erase

_STREAM: Final = b"realm/"
_TYPES: Final = {each.kind: each for each in (*RUNTIME_RECORDS, *MOB_RECORDS)}
_ASKED: Final = {moment: asked(moment) for moment in Moment}
_OF_RECORDS: Final = asked_of_records()
_OF_PROMISES: Final = asked_of_promises()


class Violation(AssertionError):
    """Something that must hold does not: `name` is the invariant, `commit` the number of the last
    commit by then."""

    def __init__(self, name: str, message: str, commit: int = 0) -> None:
        super().__init__(f"{name}: {message} (after commit {commit})")
        self.name = name
        self.message = message
        self.commit = commit


@final
class Oracle:
    """One for each run. `invariants` are the user's, beside those of the table."""

    def __init__(self, invariants: Iterable[UserInvariant | Callable[[Ledger], None]] = ()) -> None:
        self._own = [
            each
            if isinstance(each, UserInvariant)
            else UserInvariant(getattr(each, "__name__", repr(each)), each)
            for each in invariants
        ]
        self.shadow = Shadow()
        self.ledgers: dict[str, Ledger] = {}
        self._chronicles: dict[str, Chronicle] = {}
        #: The first violation.
        self.violation: Violation | None = None
        #: How often each moment came, for people who wonder what was looked at.
        self.commits = 0
        self.promises = 0
        self.recoveries = 0
        self._opened_s: dict[int, float] = {}
        self._definition: MobDefinition | None = None
        #: How many records each mob had when the newest process had fenced off the others.
        self._fenced: dict[str, int] = {}

    @property
    def ledger(self) -> Ledger:
        """The ledger of the first mob; an empty one as long as there is none."""
        return next(iter(self.ledgers.values()), None) or Ledger()

    def check(self) -> None:
        """Raise the violation that there was, if there was one."""
        if self.violation is not None:
            raise self.violation

    # -- what happens ----------------------------------------------------------------------

    def opened(
        self,
        process: int,
        generation: int,
        at_s: float = 0.0,
        definition: MobDefinition | None = None,
    ) -> None:
        """A process has opened the store for writing and fenced off the others; it has read
        nothing yet. `definition` is what it runs, for the ledger of that mob."""
        opening = Opening(process, generation)
        self._ask(Moment.OPEN, self.shadow, opening)
        self.shadow.open(opening)
        self._opened_s[process] = at_s
        self._fenced = {mob_id: ledger.last for mob_id, ledger in self.ledgers.items()}
        self._definition = definition
        for chronicle in self._chronicles.values():
            self._tell_opened(chronicle, process, at_s)

    def _tell_opened(self, chronicle: Chronicle, process: int, at_s: float) -> None:
        runs = self._definition
        mine = runs is not None and runs.id == chronicle.ledger.mob_id
        definition = runs if mine else None
        told = partial(_opened, process=process, at_s=at_s, definition=definition)
        told(chronicle.ledger)
        chronicle.note(told)

    def recovered(self, process: int, mob: Mob) -> None:
        """`open_mob` has made `mob`. What it knows is compared with all that its records say."""
        if self.violation is not None or process != self.shadow.process:
            return
        self.recoveries += 1
        ledger = self.ledgers.get(mob.id)
        if ledger is not None:
            fenced = self._fenced.get(mob.id, 0)
            self._ask(Moment.RECOVERED, ledger, Recovered(mob.realm.state, mob.roster, fenced))

    def closed(self, process: int) -> None:
        """A process has ended, in whatever way: nothing it does reaches the disk from here on."""
        self.shadow.ended.add(process)

    def committed(self, commit: Commit) -> None:
        """A batch is on the disk."""
        if self.violation is not None:
            return
        self.commits += 1
        self._ask(Moment.DISK, self.shadow, commit)
        self.shadow.apply(commit)
        batches = self._take_in(commit)
        for mob_id, batch in batches.items():
            ledger = self.ledgers[mob_id]
            self._ask(Moment.COMMIT, ledger, batch)
            self._chronicles[mob_id].note(partial(_committed_again, batch))
            if self._own and batch.written:
                self._ask_own("commit", ledger)

    def promised(
        self, promise: Promise, mob_id: str | None = None, asked: Ledger | None = None
    ) -> None:
        """Somebody was told something, in this step, by a process that lives. `asked` is the ledger
        when they asked: if the mob was rewound since, it may be of what was left behind. So may be
        what a process says that has not heard of the rewind yet."""
        if self.violation is not None:
            return
        self.promises += 1
        ledger = self.ledger if mob_id is None else self.ledgers[mob_id]
        chronicle = self._chronicles.get(ledger.mob_id)
        checks = _OF_PROMISES[type(promise)]
        if chronicle is not None:
            heard = getattr(promise, "applied", ledger.last)
            eras = [chronicle.since(each) for each in (asked or ledger, chronicle.known_at(heard))]
            for left in max(eras, key=len)[:-1]:
                if not any(check(left, promise) for _, check in checks):
                    return
        for name, check in checks:
            self._judge(name, check(ledger, promise))
        if chronicle is not None:
            chronicle.note(partial(_promised_again, promise))

    def ended(self, mob: Mob | None = None, *, healed: bool = False) -> None:
        """The run is over; `mob` is what runs then, if one does. `healed`: it was running, and had
        all the time to finish what it had accepted.

        Raises:
            Violation: the first of the run, or one that shows only now.
        """
        self.check()
        for mob_id, ledger in self.ledgers.items():
            if mob is not None and mob.id == mob_id:
                self._ask(Moment.RECOVERED, ledger, Recovered(mob.realm.state, mob.roster))
            self._ask(Moment.RECOVERED, ledger, loaded(self.shadow.store, mob_id))
            self._ask(Moment.END, ledger, dict(self.shadow.store.scan(b"")))
            if healed and (mob is None or mob.id == mob_id):
                self._ask(Moment.HEALED, ledger, mob)
            self._ask_own("end", ledger)

    # -- asking ----------------------------------------------------------------------------

    def _take_in(self, commit: Commit) -> dict[str, Batch]:
        """Tell the ledgers the records of a commit, each judged first."""
        sequences = iter(commit.sequences)
        states = {mob_id: ledger.state for mob_id, ledger in self.ledgers.items()}
        found: dict[str, list[Written]] = {mob_id: [] for mob_id in self.ledgers}
        for operation in commit.operations:
            if isinstance(operation, Erase) and operation.stream.startswith(_STREAM):
                chronicle = self._chronicle(operation.stream)
                chronicle.ledger.erased.add(operation.seq + chronicle.base)
            if not isinstance(operation, Append):
                continue
            seq = next(sequences)
            if not operation.stream.startswith(_STREAM):
                continue
            kind = _TYPES[operation.kind]
            record = kind.unpack(operation.payload)
            chronicle = self._chronicle(operation.stream, record, commit)
            written, ledger = Written(seq + chronicle.base, record, commit), chronicle.ledger
            for name, check in _OF_RECORDS[kind.cls]:
                self._judge(name, check(ledger, written))
            if isinstance(record, RealmRewound):
                ledger = self.ledgers[ledger.mob_id] = chronicle.rewind(written)
            ledger.tell(written)
            chronicle.note(partial(_told_again, written))
            found.setdefault(ledger.mob_id, []).append(written)
        return {
            mob_id: Batch(commit, tuple(each), states.get(mob_id, "creating"))
            for mob_id, each in found.items()
        }

    def _chronicle(
        self, stream: bytes, record: object = None, commit: Commit | None = None
    ) -> Chronicle:
        mob_id = stream[len(_STREAM) :].decode()
        chronicle = self._chronicles.get(mob_id)
        if chronicle is None:
            if isinstance(record, RealmForked) and commit is not None:
                written = Written(record.at + 1, record, commit)
                chronicle = self._chronicles[record.parent].fork(mob_id, written)
            else:
                chronicle = Chronicle(Ledger(mob_id))
                chronicle.ledger.opened_s.update(self._opened_s)
                self._tell_opened(chronicle, 0, 0.0)
            self._chronicles[mob_id] = chronicle
            self.ledgers[mob_id] = chronicle.ledger
        return chronicle

    def _ask(self, moment: Moment, subject: Ledger | Shadow, happening: Any) -> None:
        for name, check in _ASKED[moment]:
            self._judge(name, check(subject, happening))

    def _ask_own(self, at: str, ledger: Ledger) -> None:
        for each in self._own:
            if each.at != at:
                continue
            try:
                each.check(ledger)
            except AssertionError as error:
                self._violated(each.name, str(error) or "it does not hold", error)
            except Exception as error:  # noqa: BLE001 a mistake in it must not look like the mob's
                self._violated(each.name, f"it raised {type(error).__name__}: {error}", error)

    def _judge(self, name: str, complaint: str | None) -> None:
        if complaint is not None:
            self._violated(name, complaint)

    def _violated(self, name: str, message: str, cause: Exception | None = None) -> NoReturn:
        violation = Violation(name, message, self.commits)
        if self.violation is None:
            self.violation = violation
        raise violation from cause


# -- once more, to a ledger of an earlier moment ---------------------------------------------


def _opened(ledger: Ledger, *, process: int, at_s: float, definition: MobDefinition | None) -> None:
    if process:
        ledger.opened_s[process] = at_s
        ledger.interrupts.clear()
    ledger.attendance.opening(ledger, definition)
    if definition is not None:
        ledger.accounts.opening(ledger, definition, at_s)
        ledger.rounds.opening(definition)
        ledger.exchange.opening(definition)
        ledger.tenures.opening(definition)


def _told_again(written: Written, ledger: Ledger) -> None:
    for _, check in _OF_RECORDS[type(written.record)]:
        check(ledger, written)
    ledger.tell(written)


def _committed_again(batch: Batch, ledger: Ledger) -> None:
    for _, check in _ASKED[Moment.COMMIT]:
        check(ledger, batch)


def _promised_again(promise: Promise, ledger: Ledger) -> None:
    for _, check in _OF_PROMISES[type(promise)]:
        check(ledger, promise)
