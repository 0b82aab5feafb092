"""The mob: the handle users hold.

Owns: joining the groups of verbs, and wiring the parts of a handle together. Must not: have verbs
that change anything (each group has a file; what they stand on is `mob.core`), choose an engine or
open models (the composition root `mob.app` does).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

import trio

from mob.boarding import BoardVerbs
from mob.comms.linking import WireVerbs
from mob.comms.records import MembersUnwired, MembersWired
from mob.comms.requesting import RequestVerbs
from mob.definition import MobDefinition
from mob.export.source import Source
from mob.flows.records import FlowEnded, FlowStarted
from mob.flows.runner import FlowRunner
from mob.flows.verbs import FlowVerbs
from mob.folds import MobFolds
from mob.harness import Harnesses
from mob.life import LifeVerbs
from mob.records import MemberExited, MemberRespawned, MemberRetired, MemberSpawned
from mob.secrecy import redactor_here
from mob.sessions import mob_sessions
from mob.supervising import exits_of
from mob.view import live_view
from mob.watchdog import Blocked
from runtime.budget import Budget
from runtime.checkpoint import CheckpointGate
from runtime.driver import SessionConfig
from runtime.journal import Event
from runtime.manager import SessionManager
from runtime.memory import Found
from runtime.realm import Realm
from runtime.records import SessionArchived, SessionDeleted, TurnEnded
from runtime.session import SessionHead
from runtime.store import SessionStore
from runtime.subscribing import BACKLOG, Feed, StreamTruncated
from runtime.watching import Watch

if TYPE_CHECKING:
    import pyarrow

#: Members that a notebook shows.
SHOWN: Final = 100


class Mob(FlowVerbs, RequestVerbs, WireVerbs, LifeVerbs):
    """A supervised team of members. Get one from `mob.open_mob`; not safe across threads."""

    def __init__(
        self,
        definition: MobDefinition,
        realm: Realm,
        folds: MobFolds,
        harnesses: Harnesses,
        gate: CheckpointGate,
        snapshots: SessionStore,
        nursery: trio.Nursery,
    ) -> None:
        super().__init__(definition, realm, folds, harnesses, gate, nursery)
        #: The sessions of this mob, for looking after them: history, labels, forks, deletion.
        self.sessions: SessionManager = mob_sessions(
            realm, snapshots, self.roster, self._activations
        )
        #: Shared tasks with owners and blockers.
        self.board = BoardVerbs(self, folds.board)
        self._flows = FlowRunner(
            realm, nursery, folds.flows, self.roster, self._activations, self._ask_for_flow
        )
        realm.configure = self.configure
        self._after_fold(FlowStarted, self._flows.started)
        self._after_fold(FlowEnded, self._flows.ended)
        self._activations.supervisors.stop = self._escalated
        self._after_fold(TurnEnded, gate.turn_ended)
        self._after_fold(SessionArchived, lambda record: gate.archived(record.session_id))
        self._after_fold(SessionDeleted, lambda record: gate.deleted(record.session_id))
        self._after_fold(MemberSpawned, self._member_spawned)
        self._after_fold(MemberRetired, self._member_retired)
        self._after_fold(MemberRespawned, self._member_respawned)
        self._after_fold(TurnEnded, self._asides.turn_ended)
        self._after_fold(SessionArchived, lambda record: self._asides.forget(record.session_id))
        self._after_fold(MembersWired, self._wires_changed)
        self._after_fold(MembersUnwired, self._wires_changed)

    def configure(self, head: SessionHead) -> SessionConfig:
        """What a session of this mob runs with."""
        config = self._harnesses.configure(self, head)
        return self._flows.bend(config, head) if self.folds.flows.running else config

    def budget_of(self, head: SessionHead) -> tuple[str, Budget] | None:
        """The budget of one session of this mob, and whose it is in words."""
        return self._harnesses.budget_of(head)

    async def search(self, query: str, member: str | None = None, limit: int = 5) -> Found:
        """At most `limit` past turns that fit `query`, best first: of those that `member` may read,
        or of all. Turns that were rewound are not among them. The first search of a process reads
        the journal (docs/memory.md).

        Raises:
            MemberNotFound: there is no such member.
        """
        asker = None if member is None else self.session_of(member)
        return await self._harnesses.search(self, query, asker, limit)

    def exits(self, member: str | None = None) -> tuple[MemberExited, ...]:
        """The latest bad exits of members with their causes, oldest first, of one member (also of
        one that has left) or of all: at most 256, also of earlier processes. Empty for a name that
        nobody ever had."""
        return exits_of(self.roster, member)

    def _repr_html_(self) -> str:
        """For notebooks: the members and what they do, those at work first."""
        return live_view(self, most=SHOWN)._repr_html_()

    def source(self) -> Source:
        """The mob to look back on, as exports and reports do."""
        return Source(self.id, self.realm.state, self.folds, self.realm.journal, redactor_here())

    def frame(self, table: str) -> pyarrow.Table:
        """``turns``, ``events``, ``messages`` or ``members`` as a table of Arrow, for pandas,
        Polars and whoever else reads Arrow's C interface; without secrets. The columns and their
        units are in docs/export.md and in the schema. It shows what is committed, reads the journal
        from its beginning and does not let go of the event loop meanwhile: of a large mob at work
        take `mob.stored_mob(store, id).frame` in another process.

        Raises:
            mob.export.columns.NoSuchTable: there is no such table.
            mob.export.errors.ExtraMissing: pyarrow is not installed.
        """
        from mob.export.frame import frame

        return frame(self.source(), table)

    @property
    def blocked(self) -> tuple[Blocked, ...]:
        """The latest times that the event loop stood still while members worked, and in what."""
        watchdog = self._activations.watchdog
        return () if watchdog is None else tuple(watchdog.blocked)

    def events(self, after: int = 0) -> AsyncGenerator[Event, None]:
        """Every committed record above the cursor `after`, then the future, without end.

        A slow consumer loses nothing and slows nobody down: it reads the journal at its own pace.
        One that leaves the loop early closes the generator (`contextlib.aclosing`).
        """
        return self.realm.journal.follow(after)

    def subscribe(
        self,
        after: int | None = None,
        *,
        types: Collection[type] = (),
        member: str | None = None,
        buffer: int = BACKLOG,
    ) -> AsyncGenerator[Event | StreamTruncated, None]:
        """Committed records as they come, above the cursor `after` (None: from now on).

        For a reader that wants what is new, and may miss some of it: at most `buffer` events wait
        for it, and where it was too slow it finds one `StreamTruncated`, from whose cursor `events`
        has what is missing. Nobody waits for it. With `types` only records of these, with a
        `member` only those that name it or its session. Ends when the handle is closed.

        Raises:
            MemberNotFound: there is no such member.
            ValueError: the buffer holds no event.
        """
        theirs = None if member is None else self.session_of(member)
        kinds = tuple(types)

        def wanted(record: Any) -> bool:
            if kinds and not isinstance(record, kinds):
                return False
            if member is None or getattr(record, "session_id", None) == theirs:
                return True
            return getattr(record, "name", None) == member

        return self._subscriptions.open(after, Feed(wanted, buffer))

    def watch(self, member: str | None = None) -> AbstractContextManager[Watch]:
        """In a block: what the member's model says while it says it, or everybody's (children's
        too). Sees calls that begin in the block; bounded, and slows nobody down: the `Watch` that
        the block is given is iterated for `TextDelta`, and for a `Gap` where pieces are missing.

        Raises:
            MemberNotFound: there is no such member.
        """
        return self.realm.watches.open(None if member is None else self.session_of(member))
