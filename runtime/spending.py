"""Budgets in a running realm: who is bounded by what, looked up before each call.

Owns: the accounts that a session's next call must fit, and the time its turn may take. Must not:
add up (`runtime.budget` does), end a turn (the driver does).

A realm without budgets has none of this, and its turns pay for nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import trio

from runtime.budget import NANO, Account, Budget, Excess, Ledger, Spent, check, seconds_left
from runtime.ids import SessionId
from runtime.messages import Usage
from runtime.session import SessionHead

if TYPE_CHECKING:
    from runtime.realm import Realm


@attrs.frozen
class Grant:
    """A budget on everything that a realm does from a moment on; `base` was spent before it.

    Its seconds are those of the turns of `session_id`, or with None of all sessions' that have no
    parent.
    """

    scope: str
    budget: Budget
    base: Spent = Spent()
    session_id: SessionId | None = None


class Budgets:
    """The budgets of one realm. Make one when the realm has recovered."""

    def __init__(
        self, realm: Realm, of: Callable[[SessionHead], tuple[str, Budget] | None]
    ) -> None:
        """`of` says a session's own budget, which bounds its tree, and whose it is in words."""
        self._realm = realm
        self._of = of
        self.ledger = realm.state.ledger = Ledger(realm.state.heads)
        self.grants: list[Grant] = []
        #: When the turns that run here began, on Trio's clock.
        self._began: dict[SessionId, float] = {}

    def begin_anew(self) -> None:
        """The sessions were replaced: count what these have spent."""
        self.ledger = self._realm.state.ledger = Ledger(self._realm.state.heads)

    def began(self, session_id: SessionId) -> None:
        """A turn of the session begins here, or goes on."""
        self._began[session_id] = trio.current_time()
        self.ledger.dropped(session_id)

    def left(self, session_id: SessionId) -> None:
        """It does not run here any more."""
        self._began.pop(session_id, None)

    def spent(self, session_id: SessionId, usage: Usage) -> None:
        """The session's turn in flight has spent `usage` so far."""
        self.ledger.progressed(session_id, usage)

    def check(self, session_id: SessionId) -> Excess | None:
        """What stands in the way of the session's next call, if anything does."""
        return check(self._accounts(session_id))

    def deadline(self, session_id: SessionId) -> tuple[float, Excess | None]:
        """Until when, on Trio's clock, the session's turn may go on, and what it is told then."""
        own = self._accounts(session_id, tree=False)
        left_s, account = seconds_left(own)
        if account is None:
            return left_s, None
        allowed = account.budget.seconds
        assert allowed is not None
        excess = Excess(account.scope, "seconds", allowed, allowed)
        return trio.current_time() + max(left_s, 0.0), excess

    def seconds(self, session_id: SessionId | None) -> float:
        """Seconds of turns: of one session, or of all that have no parent."""
        now = trio.current_time()
        heads = self._realm.state.heads
        if session_id is not None:
            ended_ns = heads[session_id].active_ns if session_id in heads else 0
            # What runs now is added as one number, 0 if nothing does: `now` would round the rest.
            return ended_ns / NANO + (now - self._began.get(session_id, now))
        running = (
            now - began
            for each, began in self._began.items()
            if each in heads and heads[each].lineage.parent is None
        )
        return self.ledger.whole_ns / NANO + sum(running)

    def _accounts(self, session_id: SessionId, *, tree: bool = True) -> list[Account]:
        """Nearest first. Without `tree` those whose seconds run by this session's own turns: a turn
        above it has its own deadline, which ends what is below it."""
        found: list[Account] = []
        for head in self.ledger.above(session_id) if tree else self.ledger.above(session_id)[:1]:
            own = self._of(head)
            if own is not None:
                usage = self.ledger.total(head.session_id)
                spent = Spent(usage, self.seconds(head.session_id))
                found.append(Account(*own, spent))
        for grant in self.grants:
            spent = Spent(self.ledger.whole, self.seconds(grant.session_id)) - grant.base
            found.append(Account(grant.scope, grant.budget, spent))
        return found
