"""Budgets: what work may cost, what it has cost, and whether it may go on. Pure.

Owns: `Budget`, the ledger that adds spending up over trees of sessions, and the check. Must not:
import Trio, read a clock, stop anything: `runtime.spending` looks before each call, and the driver
ends the turn.

Theory. Spending is charged where it happens and to everything above it: the sessions it was started
by, and at their top the session that a fork came from. So a budget on any session bounds its whole
tree, and several budgets need no order: whichever is used up first stops the work. What was spent
is a fold of the journal (`SessionHead.usage`, the usage of turns in flight), so a restart keeps it.

What a model call will cost is not known before it is made: tokens and money are checked against
what was spent before, so a budget may be passed by one call of each session that is at work. Tool
calls are counted before they run and are never more than allowed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from runtime.ids import SessionId
from runtime.messages import NO_USAGE, Usage

if TYPE_CHECKING:
    from runtime.session import SessionHead

NANO: Final = 10**9


@attrs.frozen
class Budget:
    """Limits on a piece of work and everything it starts; None: no limit.

    `seconds` are those of the session's own turns (what its children do in them is within), for a
    whole mob the sum over its members. `nano_usd` are billionths of a US dollar.
    """

    tokens: int | None = None
    tool_calls: int | None = None
    seconds: float | None = None
    nano_usd: int | None = None


def tightest(budgets: Iterable[Budget]) -> Budget:
    """The least of each limit that any of `budgets` has."""
    kept: dict[str, Any] = {}
    for each in budgets:
        for limit, allowed in attrs.asdict(each).items():
            if allowed is not None:
                kept[limit] = min(kept.get(limit, allowed), allowed)
    return Budget(**kept)


@attrs.frozen
class Spent:
    """What a piece of work has cost."""

    usage: Usage = NO_USAGE
    seconds: float = 0.0

    def __sub__(self, other: Spent) -> Spent:
        one, two = self.usage, other.usage
        rest = Usage(
            *(getattr(one, field.name) - getattr(two, field.name) for field in attrs.fields(Usage))
        )
        return Spent(rest, self.seconds - other.seconds)


@attrs.frozen
class Account:
    """A budget with what has been spent of it; `scope` names in words whose it is."""

    scope: str
    budget: Budget
    spent: Spent


@attrs.frozen
class Excess:
    """A budget that is used up. `limit` is its key in a mob file; numbers in that key's unit."""

    scope: str
    limit: str
    allowed: float
    spent: float

    @property
    def detail(self) -> str:
        """As the JSON that `runtime.results` reads."""
        return json.dumps(attrs.asdict(self))

    def __str__(self) -> str:
        return (
            f"the budget of {self.scope} is used up:"
            f" {_number(self.limit, self.spent)} of {_number(self.limit, self.allowed)}"
            f"{_UNITS[self.limit]}; raise it and send the message again, or ask for less"
        )


_UNITS: Final = {"tokens": " tokens", "tool_calls": " tool calls", "seconds": " s", "usd": ""}


def _number(limit: str, number: float) -> str:
    if limit == "usd":
        return f"${number:.6f}".rstrip("0").rstrip(".")
    return f"{number:,.1f}" if limit == "seconds" else f"{number:,.0f}"


def check(accounts: Iterable[Account]) -> Excess | None:
    """The first of `accounts` that allows no further call, and by which limit; None if all do.

    Tool calls about to be made must be in `spent` already: that limit is passed, not reached.
    """
    for account in accounts:
        budget, usage = account.budget, account.spent.usage
        if budget.tokens is not None and usage.total_tokens >= budget.tokens:
            return Excess(account.scope, "tokens", budget.tokens, usage.total_tokens)
        if budget.tool_calls is not None and usage.tool_calls > budget.tool_calls:
            return Excess(account.scope, "tool_calls", budget.tool_calls, usage.tool_calls)
        if budget.nano_usd is not None and usage.cost_nano_usd >= budget.nano_usd:
            allowed, cost = budget.nano_usd / NANO, usage.cost_nano_usd / NANO
            return Excess(account.scope, "usd", allowed, cost)
        if budget.seconds is not None and account.spent.seconds >= budget.seconds:
            return Excess(account.scope, "seconds", budget.seconds, account.spent.seconds)
    return None


def seconds_left(accounts: Iterable[Account]) -> tuple[float, Account | None]:
    """How long work may go on, and whose budget says so; infinity if none does."""
    left, whose = float("inf"), None
    for account in accounts:
        if account.budget.seconds is not None:
            rest = account.budget.seconds - account.spent.seconds
            if rest < left:
                left, whose = rest, account
    return left, whose


class Ledger:
    """What the sessions of one realm have spent, each with everything charged to it.

    Invariant: the total of a session is the usage of its ended turns and that of its turn in
    flight, and the same of every session whose spending is charged to it. Work per change is the
    depth of the tree.
    """

    def __init__(self, heads: Mapping[SessionId, SessionHead]) -> None:
        self._heads = heads
        self._totals: dict[SessionId, Usage] = {}
        self.whole = NO_USAGE
        #: Turns in flight, and those cut off with their sessions: what each has spent, on disk or
        #: not.
        self._open: dict[SessionId, Usage] = {}
        #: Nanoseconds of such sessions' turns that have no parent, but for those in flight.
        self.whole_ns = 0
        for head in list(heads.values()):
            self._charge(head.session_id, head.usage)
            if head.lineage.parent is None:
                self.whole_ns += head.active_ns
            for turn in (head.partial, head.cut):
                if turn is not None:
                    self.progressed(head.session_id, turn.usage)

    def total(self, session_id: SessionId) -> Usage:
        """What the session and everything charged to it has spent."""
        return self._totals.get(session_id, NO_USAGE)

    def open_usage(self, but: Collection[SessionId] = ()) -> Usage:
        """What all turns have spent that have not ended, but for those of some sessions: turns in
        flight, and those that were cut off with their sessions."""
        return sum((spent for each, spent in self._open.items() if each not in but), NO_USAGE)

    def above(self, session_id: SessionId) -> list[SessionHead]:
        """The session and those its spending is charged to, nearest first."""
        found: list[SessionHead] = []
        here: SessionId | None = session_id
        while here is not None and (head := self._heads.get(here)) is not None:
            found.append(head)
            here = head.lineage.parent or head.lineage.budget_root
        return found

    def progressed(self, session_id: SessionId, usage: Usage) -> None:
        """The turn in flight has spent `usage` so far. Told both before it is on disk and when it
        is; what is told late changes nothing."""
        before = self._open.get(session_id, NO_USAGE)
        if usage.model_calls < before.model_calls or usage == before:
            return
        self._open[session_id] = usage
        self._charge(session_id, _minus(usage, before))

    def charged(self, session_id: SessionId, usage: Usage) -> None:
        """The session has spent `usage` outside of any turn, and that is on disk."""
        self._charge(session_id, usage)

    def ended(self, session_id: SessionId, usage: Usage, active_ns: int) -> None:
        """The turn has ended, having spent `usage` in all, and is on disk."""
        before = self._open.pop(session_id, NO_USAGE)
        self._charge(session_id, _minus(usage, before))
        head = self._heads.get(session_id)
        if head is not None:
            self.worked(head, active_ns)

    def worked(self, head: SessionHead, active_ns: int) -> None:
        """A turn of the session took so long, or so much longer than was known."""
        if head.lineage.parent is None:
            self.whole_ns += active_ns

    def dropped(self, session_id: SessionId) -> None:
        """The turn in flight goes on from what is on disk of it: from there it is told anew."""
        before = self._open.pop(session_id, NO_USAGE)
        self._charge(session_id, _minus(NO_USAGE, before))
        head = self._heads.get(session_id)
        if head is not None and head.partial is not None:
            self.progressed(session_id, head.partial.usage)

    def _charge(self, session_id: SessionId, usage: Usage) -> None:
        self.whole = self.whole + usage
        for head in self.above(session_id):
            self._totals[head.session_id] = self.total(head.session_id) + usage


def _minus(one: Usage, other: Usage) -> Usage:
    return (Spent(one) - Spent(other)).usage
