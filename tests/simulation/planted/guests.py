"""Bugs in runs that callers apply, in system context and in sessions that are no member's.

Owns: the patches. Must not: know a workload.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import attrs

from mob.activation import Activations
from mob.core import MobCore
from runtime import applying, driver
from runtime.ids import SessionId
from runtime.inputs import Inputs
from runtime.ledger import RunApplied, RunBook
from runtime.realm import Realm
from runtime.records import SessionArchived, TurnEnded
from runtime.service.peers import Peers
from runtime.session import PendingInput
from stores import Ticket
from tests.simulation.planted.table import planted
from tests.simulation.planted.turns import Hasty


@planted("a_run_is_applied_once", within=300)
def the_receipt_comes_later() -> Iterator[None]:
    """The receipt of a run is committed after its turn. Breaks CONTRACTS 5.5: turn, receipt and
    inputs are one commit."""
    append = Realm.append

    def apart(self: Realm, *records: Any) -> Ticket:
        if any(isinstance(each, RunApplied) for each in records):
            for each in records[:-1]:
                append(self, each)
            return append(self, records[-1])
        return append(self, *records)

    with patch.object(Realm, "append", apart):
        yield


@planted("attempts_are_bounded", "a_run_that_failed_consumes_nothing", within=500)
def failed_attempts_are_not_counted() -> Iterator[None]:
    """Each failed run on an input is its first. Breaks CONTRACTS 5.8: attempts are bounded, so that
    an input that cannot be worked on blocks nothing."""
    with patch.object(RunBook, "failed", lambda _self, _session_id, _input_id: 0):
        yield


@planted("a_run_that_failed_consumes_nothing", "attempts_are_bounded", within=500)
def inputs_of_a_failed_run_are_consumed() -> Iterator[None]:
    """A run that failed says that its inputs are queued again, and its turn consumes them. Breaks
    CONTRACTS 5.8."""
    settled = applying._Run.settled

    def consuming(self: Any, record: TurnEnded) -> tuple[TurnEnded, Sequence[Any]]:
        _, also = settled(self, record)
        return record, also

    with patch.object(applying._Run, "settled", consuming):
        yield


@planted("context_is_said_once", "an_input_has_one_fate", "one_turn_is_in_flight", within=500)
def context_is_said_at_every_boundary() -> Iterator[None]:
    """A text that was staged is said before each model call of its turn. Breaks CONTRACTS 4.11: it
    is applied once."""
    taken = driver.addenda_of

    def again(head: Any, _taken: Any = ()) -> list[PendingInput]:
        return taken(head, ())

    with patch.object(driver, "addenda_of", again):
        yield


@planted("what_sessions_were_told_is_on_disk", within=300)
def a_key_stands_for_any_text() -> Iterator[None]:
    """A key that came with another text is taken for a duplicate. Breaks CONTRACTS 4.11: that is a
    conflict."""
    with patch("runtime.inputs.is_of", lambda _input_id, _text: True):
        yield


@planted("what_sessions_were_told_is_on_disk", within=300)
def staged_before_commit() -> Iterator[None]:
    """Whoever stages a text is told so at once. Breaks CONTRACTS 4.11: it is on disk in each
    case."""
    append_context = Inputs.append_context

    def hasty(self: Inputs, *given: Any) -> tuple[Ticket | None, bool]:
        ticket, again = append_context(self, *given)
        return None if ticket is None else Hasty(), again

    with patch.object(Inputs, "append_context", hasty):
        yield


@planted("what_sessions_were_told_is_on_disk", "acknowledged_means_durable", within=500)
def archived_before_commit() -> Iterator[None]:
    """Whoever archives a session is told so at once. Breaks CONTRACTS 4.5: what is archived is
    over."""
    append = Realm.append

    def hasty(self: Realm, *records: Any) -> Ticket:
        ticket = append(self, *records)
        return Hasty() if isinstance(records[0], SessionArchived) else ticket

    with patch.object(Realm, "append", hasty):
        yield


@planted("what_sessions_were_told_is_on_disk", "a_key_means_one_input", within=500)
def peers_are_told_again() -> Iterator[None]:
    """A message of a peer that is repeated is delivered again. Breaks CONTRACTS 4.9: a key makes it
    idempotent."""
    deliver = Peers.deliver

    async def unkeyed(self: Peers, message: Any, realm_id: str | None) -> SessionId:
        return await deliver(self, attrs.evolve(message, key=None), realm_id)

    with patch.object(Peers, "deliver", unkeyed):
        yield


@planted(
    "a_stopped_mob_does_nothing",
    "acknowledged_means_durable",
    within=300,
    mended="Hold the sessions of a mob that are no member's to its state",
)
def sessions_go_on_in_a_stopped_mob() -> Iterator[None]:
    """A stop knows nothing of sessions that are no member's. Breaks CONTRACTS 5.11: a mob that was
    stopped takes nothing and begins nothing."""

    @contextmanager
    def unseen(_self: Activations, _session_id: SessionId) -> Iterator[None]:
        yield

    with (
        patch.object(MobCore, "admit_work", lambda _self: None),
        patch.object(Activations, "visit", unseen),
    ):
        yield
