"""What all verbs of a mob stand on: its parts, admission, its rows.

Owns: `MobCore`: what a handle is made of, and the checks before every verb. Must not: have a verb
(each group of verbs has a file: `membership`, `messaging`, `life`, `approvals`, ...; `mob.mob`
joins them).

Every verb is admitted synchronously against the literal table of `mob.lifecycle`, so two verbs can
never both believe that they were first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import trio

from mob.activation import Activations
from mob.comms.awaiting import Awaiting
from mob.comms.mailbox import Asides, Mailboxes
from mob.comms.wiring import Wiring
from mob.definition import MobDefinition
from mob.dependencies import Dependencies, dependencies_of
from mob.errors import MemberNotFound, MobClosed, StaleFence
from mob.folds import MobFolds
from mob.harness import Harnesses
from mob.helpers import is_helper
from mob.lifecycle import UNDER_WAY, MobState, VerbRefused, admit
from mob.limits import NO_LIMITS, Limits
from mob.receipts import MemberHandle
from mob.roster import Member
from mob.workdefs import group_tree
from runtime.checkpoint import CheckpointGate
from runtime.ids import SessionId
from runtime.realm import Realm
from runtime.records import TurnEnded
from runtime.service.hosting import SessionHosts
from runtime.subscribing import Subscriptions
from stores import Ticket

if TYPE_CHECKING:
    from mob.helping import Help


class MobCore:
    """The parts of a handle. Not safe across threads."""

    def __init__(
        self,
        definition: MobDefinition,
        realm: Realm,
        folds: MobFolds,
        harnesses: Harnesses,
        gate: CheckpointGate,
        nursery: trio.Nursery,
    ) -> None:
        self.definition = definition
        self.realm = realm
        self.folds = folds
        self.roster = folds.roster
        self._harnesses = harnesses
        self._gate = gate
        self._nursery = nursery
        groups = group_tree(definition)
        self._activations = Activations(realm, nursery, folds.roster, harnesses.profile, groups)
        self._subscriptions = Subscriptions(realm.journal)
        #: Who may send to whom now.
        self.wiring = Wiring(
            definition,
            self._profile_of,
            lambda: [name for name in self.roster.members if not is_helper(name)],
            lambda name: (self._coming.get(name) or self.roster.members[name]).joined,
            folds.graph,
        )
        boxes = {
            name: each.comms.mailbox.over(definition.mailbox)
            for name, each in definition.profiles.items()
        }
        #: How much may wait for each member, and who waits for room.
        self.mailboxes = Mailboxes(boxes.__getitem__, self._activations.members.queue)
        self._boxes = boxes
        self._asides = Asides()
        #: What is called after which records are folded, in order.
        self._following: dict[type, list[Callable[[Any], None]]] = {}
        self._silent = {
            name: frozenset(each.comms.silent_intents) for name, each in definition.profiles.items()
        }
        self._awaiting = Awaiting(realm, folds.requests, nursery)
        #: None as long as nothing here is limited.
        self._limits: Limits | None = None
        if definition.limits != NO_LIMITS:
            self._limits = self._activations.limits = Limits(
                definition.limits, self._activations, realm
            )
            self._after_fold(TurnEnded, self._limits.ended)
        if needs := dependencies_of(definition):
            made = Dependencies(needs, self._activations, realm)
            self._activations.supervisors.dependencies = made
        #: Names whose joining is queued, and those whose leaving is: until the roster knows.
        self._joining: set[str] = set()
        self._leaving: dict[str, Ticket | trio.Event] = {}
        #: Members that get another session: set once that is on disk; and their rows to be, from
        #: when the records are queued. What is sent to them in between goes to the new session.
        self._renewing: dict[str, trio.Event] = {}
        self._coming: dict[str, Member] = {}
        realm.inputs.renewed = self._renewed
        self._activations.supervisors.row_of = self._present
        #: Helpers at work, by the key of their question, or by name.
        self._helping: dict[str, Help] = {}
        #: Hosted sessions that are no member's, at work beside the members.
        self._hosts: list[SessionHosts] = []
        #: The verb under way that changes the state; None at rest.
        self._changing: str | None = None
        self._closed = False
        #: Whether turns are left to a later handle: what this one lets in, it only records.
        self._rests = False

    @property
    def id(self) -> str:
        """The mob's name in its store, that of the definition."""
        return self.definition.id

    @property
    def state(self) -> MobState:
        """The state that is on disk. While a verb that changes it is under way, the one before."""
        return self.roster.mob_state

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the members on disk, in order of joining, helpers included."""
        return tuple(self.roster.members)

    @property
    def at_work(self) -> tuple[str, ...]:
        """The names of the members that have a task now."""
        return tuple(self._activations.at_work())

    def admit_work(self) -> None:
        """Return if the mob takes work now.

        Raises:
            VerbRefused, MobClosed: it does not.
        """
        self._admit("work")

    @contextmanager
    def visiting(self, session_id: SessionId) -> Iterator[None]:
        """Around a turn of a session that is no member's, in its caller's task: it is admitted as
        other work is, and a stop waits for it until its deadline and then cancels it.

        Raises:
            VerbRefused, MobClosed: the mob takes no work now.
            TurnInterrupted: it was cancelled so. It stays in flight and can be continued.
        """
        self.admit_work()
        with self._activations.visit(session_id):
            yield

    @property
    def begins_turns(self) -> bool:
        """Whether those that work by themselves may begin turns now."""
        activations = self._activations
        return not (self._closed or activations.halted or activations.draining)

    def hosting(self, session_id: SessionId) -> AbstractContextManager[None]:
        """As `visiting`, for a turn that a hosted session begins by itself while `begins_turns`."""
        return self._activations.visit(session_id)

    def add_hosts(self, hosts: SessionHosts) -> None:
        """From now on `hosts` work, rest and are saved as the members are."""
        self._hosts.append(hosts)
        if not self._gate.open:
            hosts.gate.shut()

    # -- inside ----------------------------------------------------------------------------

    async def _close_gates(self, *, saved: bool) -> None:
        """Write no checkpoint any more; before that, with `saved`, those that are missing."""
        if saved:
            await self._gate.flush()
            for hosts in self._hosts:
                await hosts.save()
        for gate in (self._gate, *[hosts.gate for hosts in self._hosts]):
            await gate.cancel()

    def _open_gates(self) -> None:
        for gate in (self._gate, *[hosts.gate for hosts in self._hosts]):
            gate.rearm()

    def _admit(self, verb: str) -> None:
        if self._closed:
            raise MobClosed(self.id)
        if self._changing is not None:
            doing, meanwhile = UNDER_WAY[self._changing]
            if verb not in meanwhile:
                raise VerbRefused(self.state, verb, doing)
        admit(self.roster.mob_state, verb)

    def _renewed(self, old: SessionId, new: SessionId) -> bool:
        """Whether a member has the second session, and had the first since it joined."""
        name = self.roster.former.get(old, "")
        row = self._coming.get(name) or self.roster.members.get(name)
        return row is not None and row.session_id == new and old >= row.joined

    def _row(self, name: str, fence: MemberHandle | None = None) -> Member:
        row = self._present(name)
        if row is None:
            known = tuple(other for other in self.members if other not in self._leaving)
            raise MemberNotFound(name, known)
        if fence is not None and fence.token != row.session_id:
            raise StaleFence(name, fence.generation, row.generation)
        return row

    def _present(self, name: str) -> Member | None:
        """The row of a member that has not left and does not."""
        if name in self._leaving:
            return None
        return self._coming.get(name) or self.roster.members.get(name)

    def _profile_of(self, name: str) -> str | None:
        row = self._present(name)
        return None if row is None else row.profile

    def _after_fold(self, kind: type, then: Callable[[Any], None]) -> None:
        """Call `then` with every record of `kind` that is committed from now on."""
        known = self._following.get(kind)
        if known is not None:
            known.append(then)
            return
        fold = self.realm.state.transitions[kind]
        following = self._following[kind] = [then]

        def all_of_them(seq: int, record: Any) -> None:
            fold(seq, record)
            for each in following:
                each(record)

        self.realm.state.transitions[kind] = all_of_them
