"""Bugs in how calls that wait for approval are asked about, decided, and gone on with.

Owns: the patches. Must not: know a workload.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import attrs

from runtime.approvals import Approval, ApprovalBook, ApprovalDecided, Verdict
from runtime.asking import Asking
from runtime.deciding import Decisions
from runtime.ids import SessionId
from runtime.messages import ToolCall, ToolResult
from runtime.realm import Realm
from stores import Ticket
from tests.simulation.planted.table import planted
from tests.simulation.planted.turns import Hasty


@planted("what_needs_approval_runs_as_decided", within=300)
def decided_before_commit() -> Iterator[None]:
    """Whoever decides is told so at once. Breaks CONTRACTS 6.9: a decision that was told is on
    disk."""
    append = Realm.append

    def hasty(self: Realm, *records: Any) -> Ticket:
        ticket = append(self, *records)
        return Hasty() if isinstance(records[-1], ApprovalDecided) else ticket

    with patch.object(Realm, "append", hasty):
        yield


@planted("the_first_decision_counts", "what_needs_approval_runs_as_decided", within=300)
def the_last_decision_counts() -> Iterator[None]:
    """Whoever decides later is heard too. Breaks CONTRACTS 6.9: the first decision stays."""
    find = Decisions._find

    def undecided(self: Decisions, key: str) -> Approval:
        self._deciding.pop(key, None)
        return attrs.evolve(find(self, key), verdict=None)

    with patch.object(Decisions, "_find", undecided):
        yield


@planted("what_needs_approval_runs_as_decided", within=200)
def edited_arguments_are_forgotten() -> Iterator[None]:
    """A call that was approved with other arguments runs with its model's. Breaks CONTRACTS 6.9: a
    call runs as it was decided."""
    what = Asking._what

    def forgetful(
        self: Asking, call: ToolCall, approval: Approval | None, resumed: bool
    ) -> ToolCall | ToolResult:
        if approval is not None:
            approval = attrs.evolve(approval, edited=None)
        return what(self, call, approval, resumed)

    with patch.object(Asking, "_what", forgetful):
        yield


@planted("what_needs_approval_runs_as_decided", within=300)
def children_ask_nobody() -> Iterator[None]:
    """The calls of children run without approval. Breaks CONTRACTS 6.9: whoever makes a call that
    needs one, it waits."""
    questions, barred = Asking.questions, Asking.barred

    def asks(self: Asking, calls: Any) -> Any:
        return [] if self._live.head.lineage.parent else questions(self, calls)

    def bars(self: Asking, call: ToolCall) -> ToolResult | None:
        return None if self._live.head.lineage.parent else barred(self, call)

    with patch.object(Asking, "questions", asks), patch.object(Asking, "barred", bars):
        yield


@planted("the_fold_is_recovered_whole", "the_fold_agrees_with_the_ledger", within=500)
def denied_turns_into_approved_on_disk() -> Iterator[None]:
    """A row of the fold says of every decision that it approved. Breaks CONTRACTS 6.9: a call that
    was denied is denied in the next process too."""
    load = ApprovalBook.load

    def approving(self: ApprovalBook, name: bytes, row: bytes) -> None:
        load(self, name, row)
        asked = self._asked[SessionId(name.decode())]
        for call_id, each in asked.items():
            if each.verdict is Verdict.DENIED:
                asked[call_id] = attrs.evolve(each, verdict=Verdict.APPROVED)

    with patch.object(ApprovalBook, "load", approving):
        yield


@planted("healed, everything finishes", "the scenario ends", "nothing_is_left_behind", within=300)
def a_decision_wakes_nobody() -> Iterator[None]:
    """A decision is on disk, and the turn that waits for it is not told. Breaks CONTRACTS 6.9: what
    was decided goes on at once."""
    with patch.object(Decisions, "wake", lambda _self, _session_id: None):
        yield


@planted(
    "healed, everything finishes",
    within=300,
    mended="Notice when the last to rest is one that asks a member whose turn waits for approval",
)
def the_last_to_wait_is_not_noticed() -> Iterator[None]:
    """A turn that begins to wait for others says nothing to whoever waits for all to rest. Breaks
    CONTRACTS 6.9: what waits for a decision is brought before somebody."""
    stir = Decisions.stir

    def deaf(self: Decisions) -> None:
        live = self._live.values()
        if any(each.scope is not None and not each.calls for each in live):
            return
        stir(self)

    with patch.object(Decisions, "stir", deaf):
        yield
