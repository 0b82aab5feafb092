"""Bugs in wiring, mailboxes, steering and requests.

Owns: the patches. Must not: know a workload.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any
from unittest.mock import patch

from mob.comms.awaiting import Awaiting
from mob.comms.graph import Graph
from mob.comms.letters import Letter
from mob.comms.mailbox import Mailboxes
from mob.comms.records import MembersWired, Settled
from mob.comms.requests import RequestBook
from mob.comms.sending import SendVerbs
from mob.comms.wiring import Wiring
from mob.receipts import Receipt
from mob.roster import Member
from runtime import driver
from runtime.addenda import addenda_of, is_context
from runtime.ids import InputId
from runtime.realm import Realm
from runtime.session import PendingInput, SessionHead
from stores import Ticket
from tests.simulation.planted.table import planted
from tests.simulation.planted.turns import Hasty


@planted("messages_go_along_edges", within=300)
def edges_stay_until_their_removal_is_on_disk() -> Iterator[None]:
    """What is sent while an edge is being removed is accepted behind the record of that. Breaks
    CONTRACTS 6.5: removing an edge stops delivery."""

    def changed(self: Wiring, sender: str, recipient: str) -> bool | None:
        return None if self._graph is None else self._graph.said(sender, recipient)

    with patch.object(Wiring, "changed", changed):
        yield


@planted("what_senders_were_told_is_on_disk", within=200)
def wired_before_commit() -> Iterator[None]:
    """Whoever wires is told so at once. Breaks CONTRACTS 6.5: what was wired is on disk."""
    append = Realm.append

    def hasty(self: Realm, *records: Any) -> Ticket:
        ticket = append(self, *records)
        return Hasty() if isinstance(records[0], MembersWired) else ticket

    with patch.object(Realm, "append", hasty):
        yield


@planted("messages_go_along_edges", "what_senders_were_told_is_on_disk", within=300)
def wiring_is_forgotten_by_a_restart() -> Iterator[None]:
    """The rows of the wiring are not read. Breaks CONTRACTS 6.9: a restart finds the edges."""
    with patch.object(Graph, "load", lambda _self, _name, _row: None):
        yield


@planted("mailboxes_are_bounded", within=200)
def one_more_message_fits() -> Iterator[None]:
    """A mailbox takes one message more than it may. Breaks CONTRACTS 6.6: mailboxes are bounded."""

    def fits(self: Mailboxes, row: Member, size: int) -> bool:
        bounds = self._bounds(row.profile)
        count, used = self.depth(row.name)
        return count <= (bounds.max_messages or 0) and used + size <= (bounds.max_bytes or 0)

    with patch.object(Mailboxes, "_fits", fits):
        yield


@planted("what_senders_were_told_is_on_disk", within=300)
def broadcast_in_many_commits() -> Iterator[None]:
    """A broadcast is one commit for each recipient. Breaks CONTRACTS 6.6: those with room have it
    in one."""
    post_all = SendVerbs._post_all

    async def one_by_one(
        self: SendVerbs, letters: Sequence[tuple[Member, Letter]]
    ) -> dict[str, Receipt]:
        found: dict[str, Receipt] = {}
        for each in letters:
            found.update(await post_all(self, [each]))
        return found

    with patch.object(SendVerbs, "_post_all", one_by_one):
        yield


@planted("what_senders_were_told_is_on_disk", "requests_are_settled_once", within=300)
def every_reply_is_taken() -> Iterator[None]:
    """Of several replies that are on their way each is said to be the one. Breaks CONTRACTS 6.6: a
    request is settled once."""
    settle = Awaiting.settle

    def forgetful(self: Awaiting, request_id: InputId, how: Settled, text: str) -> Ticket:
        ticket = settle(self, request_id, how, text)
        self.settling.pop(request_id, None)
        return ticket

    with patch.object(Awaiting, "settle", forgetful):
        yield


@planted("what_senders_were_told_is_on_disk", "requests_come_with_their_messages", within=500)
def requests_are_forgotten_by_a_restart() -> Iterator[None]:
    """The rows of open requests are not read. Breaks CONTRACTS 6.9: a reply reaches whoever asked,
    also after a crash."""
    with patch.object(RequestBook, "load", lambda _self, _name, _row: None):
        yield


@planted("what_steers_goes_with_the_next_turn", within=300)
def steering_waits_in_the_queue() -> Iterator[None]:
    """A message that steers is a message like others. Breaks CONTRACTS 6.6: it goes with the turn
    in flight or the next."""

    def contexts(head: SessionHead, taken: Collection[InputId]) -> list[PendingInput]:
        return [each for each in addenda_of(head, taken) if is_context(each)]

    with patch.object(driver, "addenda_of", contexts):
        yield
