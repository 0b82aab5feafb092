"""Bugs in sessions: inputs, keys, children, snapshots, histories.

Owns: the patches. Must not: know a workload.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import Any
from unittest.mock import patch

import attrs

from mob.simulation.ports import SimIds
from runtime.checkpoint import CheckpointGate
from runtime.ids import SessionId
from runtime.inputs import Inputs
from runtime.journal import Event, Journal
from runtime.realm import Realm
from runtime.records import InputAccepted, TurnEnded
from runtime.session import Session
from runtime.spawning import Spawning
from stores import Ticket
from tests.simulation.planted.table import planted


@planted("turns_say_what_was_sent", "acknowledged_means_durable", within=500)
def other_content() -> Iterator[None]:
    """A long message is cut on its way to the disk. Breaks CONTRACTS 5.6: a message is durable
    with the words it was sent with."""
    append = Journal.append

    def cut(self: Journal, *records: Any, **options: Any) -> Ticket:
        shorter = [
            attrs.evolve(each, text=each.text[:4096]) if isinstance(each, InputAccepted) else each
            for each in records
        ]
        return append(self, *shorter, **options)

    with patch.object(Journal, "append", cut):
        yield


@planted("a_key_means_one_input", "the_fold_is_recovered_whole", within=500)
def keys_forgotten_by_a_checkpoint() -> Iterator[None]:
    """An idempotency key is known only until rows are written. Breaks CONTRACTS 5.7: a key joins
    the first input, across restarts too."""
    with patch.object(Inputs, "_stored", lambda _self, _key: None):
        yield


@planted("a_key_means_one_input", within=500)
def keys_unknown_while_on_their_way() -> Iterator[None]:
    """A key is known only once its input is on disk. Breaks CONTRACTS 5.7."""
    with patch.object(Inputs, "_remember", lambda *_args: None):
        yield


@planted("a_spawn_key_makes_one_session", "the_fold_is_recovered_whole", within=200)
def replayed_spawn_makes_another_child() -> Iterator[None]:
    """A call that starts a child is repeated and starts another. Breaks CONTRACTS 1.9."""
    create = Realm.create

    async def forgetful(self: Realm, *args: Any, **options: Any) -> Any:
        self.state.spawned.clear()
        self.spawning.keyed.clear()
        return await create(self, *args, **options)

    with patch.object(Realm, "create", forgetful):
        yield


@planted("no_slot_is_leaked", within=100)
def leaked_slot() -> Iterator[None]:
    """The slot that is reserved for a child in the making is not given back. Breaks CONTRACTS
    1.8."""

    def release(self: Spawning, session_id: SessionId) -> None:
        record = self.creating.pop(session_id, None)
        if record is not None and record.spawn_key is not None:
            self.keyed.pop(record.spawn_key, None)

    with patch.object(Spawning, "release", release):
        yield


@planted("subscribers_see_everything", within=200)
def event_gap_after_reopen() -> Iterator[None]:
    """A subscriber that comes back is shown what was committed since the mob was opened. Breaks
    CONTRACTS 4.6: from any cursor, everything."""
    follow = Journal.follow
    recover = Realm.recover
    opened: dict[Journal, int] = {}

    def noted(self: Realm) -> int:
        opened[self.journal] = recover(self)
        return opened[self.journal]

    def newer(self: Journal, after: int = 0) -> AsyncGenerator[Event, None]:
        return follow(self, max(after, opened.get(self, 0)))

    with patch.object(Realm, "recover", noted), patch.object(Journal, "follow", newer):
        yield


@planted("a_mob_that_stops_is_saved", "snapshots_never_go_back", within=200)
def checkpoint_of_a_stale_head() -> Iterator[None]:
    """What is saved is the session as it was when it became dirty. Breaks CONTRACTS 5.10: a mob
    that stops has saved the last turn of every session."""
    turn_ended = CheckpointGate.turn_ended
    known: dict[CheckpointGate, dict[SessionId, Session]] = {}

    def remember(self: CheckpointGate, record: TurnEnded) -> None:
        if self not in known:
            now = self._snapshot
            became = known[self] = {}
            self._snapshot = lambda each: became.pop(each, None) or now(each)
        turn_ended(self, record)
        known[self].setdefault(record.session_id, self._snapshot(record.session_id))

    with patch.object(CheckpointGate, "turn_ended", remember):
        yield


@planted(
    "the_fold_is_recovered_whole",
    "the_fold_agrees_with_the_ledger",
    "ids_never_repeat",
    within=500,
    mended="Let ids rise from one process to the next, also if the clock was set back: members and"
    " children came back in another order",
)
def ids_fall_when_the_clock_does() -> Iterator[None]:
    """Ids of a process sort before those of the one before it if the clock was set back. Breaks
    CONTRACTS 2.9, and with it the order of members and children."""
    with patch.object(SimIds, "rise_above", lambda *_args: None):
        yield
