"""Accounts: what the journal says was spent, and that nobody went on when a budget was used up.

Owns: `Accounts`, arithmetic of its own over the records of one mob, the promise of a model call,
and the invariants of budgets. Must not: share code with `runtime.budget` and `runtime.spending`,
which it is compared with; judge what is not on the disk.

A budget bounds a session and everything charged to it: its children, theirs, and what was forked
from its tree; a budget of the mob bounds all. `Accounts` reads on from where it was left whenever
it is asked, so a run without budgets pays nothing for it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, final

import attrs

from mob.simulation.facts import ToolRan
from runtime.contexts import CompactionFailed, ContextCompacted
from runtime.messages import Usage
from runtime.records import (
    InputAbandoned,
    InputAccepted,
    SessionArchived,
    SessionCreated,
    SessionDeleted,
    SessionForked,
    TurnEnded,
    TurnOutcome,
    TurnProgressed,
)

if TYPE_CHECKING:
    from mob.definition import MobDefinition
    from mob.simulation.facts import Written
    from mob.simulation.ledger import Ledger
    from mob.simulation.recovered import Recovered
    from runtime.budget import Budget

#: Stands for the whole mob among the sessions that have an account.
MOB: Final = ""
_NANO: Final = 10**9
#: Where a budget is asked before hooks are, which then take their time.
_BEFORE_A_CALL: Final = frozenset({"run_started", "turn_boundary", "before_model"})


@attrs.frozen
class ModelCalled:
    """A model was called for the session at `at_s`; `key` is that of the call, whatever attempt,
    and `known` the last record that the process has heard of."""

    session_id: str
    key: str
    at_s: float
    known: int


@attrs.define
class Account:
    """What was spent by a session and by all that is charged to it. `living` is without what has
    been deleted or dropped, `ever` with it; `began` counts the tool calls that ran."""

    living: Usage = Usage()
    ever: Usage = Usage()
    active_ns: int = 0
    began: int = 0
    #: Since when each limit is used up, by the journal, and by which record.
    since: dict[str, tuple[float, int]] = attrs.field(factory=dict)


@final
class Accounts:
    """The accounts of one mob."""

    def __init__(self) -> None:
        #: What the processes run on; `opening` says so.
        self.definition: MobDefinition | None = None
        self.of: defaultdict[str, Account] = defaultdict(Account)
        #: What each session spent itself: in ended turns and on summaries, and in its open turn.
        self.own: defaultdict[str, Usage] = defaultdict(Usage)
        self.open: defaultdict[str, Usage] = defaultdict(Usage)
        #: Of each session, those that a living process counts and the journal does not any more.
        self.loose: set[str] = set()
        self._seq = 0
        self._above: dict[str, str | None] = {}
        self._root: dict[str, str] = {}
        self._profile: dict[str, str] = {}
        self._archived: set[str] = set()
        #: What each session has been asked and has not ended: a turn on it may be in flight.
        self._asked: defaultdict[str, set[str]] = defaultdict(set)
        #: Tool calls that ran, of each session, by their keys.
        self._ran: defaultdict[str, set[str]] = defaultdict(set)
        #: When the newest process made its first attempt at each call.
        self._first: dict[str, float] = {}

    def opening(self, ledger: Ledger, definition: MobDefinition | None, at_s: float) -> None:
        """A process opens the mob of `definition`, whose budgets may be others than before."""
        if definition is None:
            return
        self.catch_up(ledger)
        self.definition = definition
        self.loose.clear()
        self._first.clear()
        for scope in list(self.of):
            self._look(scope, at_s)

    @property
    def bounded(self) -> bool:
        """Whether anything has a budget."""
        mob = self.definition
        return mob is not None and (
            mob.budget is not None or any(each.budget for each in mob.profiles.values())
        )

    def budget(self, scope: str) -> Budget | None:
        """The budget of a session, or of the mob."""
        if self.definition is None or scope == MOB:
            return None if self.definition is None else self.definition.budget
        profile = self.definition.profiles.get(self._profile[scope])
        return None if profile is None else profile.budget

    def scopes(self, session_id: str) -> Iterator[str]:
        """The session, those it is charged to, and the mob."""
        here: str | None = session_id
        while here is not None and here in self._above:
            yield here
            here = self._above[here]
        yield MOB

    def left(self, session_id: str) -> int | None:
        """The fewest tokens that a budget leaves the session; None if none bounds its tokens."""
        rest = [
            budget.tokens - self.of[scope].living.total_tokens
            for scope in self.scopes(session_id)
            if (budget := self.budget(scope)) is not None and budget.tokens is not None
        ]
        return min(rest, default=None)

    # -- the journal -----------------------------------------------------------------------

    def catch_up(self, ledger: Ledger) -> None:
        """Take in what has been written since the last time."""
        for written in ledger.written[self._seq :]:
            self._seq = written.seq
            tell = _TELL.get(type(written.record))
            if tell is not None:
                tell(self, written.record, written.commit.at_s)

    def skip(self, seq: int) -> None:
        """Leave the records up to `seq` out: they are of a branch that was left behind."""
        self._seq = seq

    def _created(self, record: SessionCreated, _: float) -> None:
        parent = record.lineage.parent
        self._above[record.session_id] = parent
        self._profile[record.session_id] = record.harness_id
        if parent is not None:
            self._root[record.session_id] = self._root.get(parent, parent)

    def _forked(self, record: SessionForked, _: float) -> None:
        root = self._root.get(record.source, record.source)
        self._above[record.session_id] = self._root[record.session_id] = root
        self._profile[record.session_id] = self._profile[record.source]

    def _deleted(self, record: SessionDeleted, at_s: float) -> None:
        session_id = record.session_id
        gone = _minus(
            Usage(), self.own.pop(session_id, Usage()) + self.open.pop(session_id, Usage())
        )
        began = len(self._ran.pop(session_id, ()))
        for scope in self.scopes(session_id):
            self.of[scope].began -= began
        if self._above.get(session_id) is None:
            self.of[MOB].active_ns -= self.of[session_id].active_ns
        self._charge(session_id, gone, at_s, loose=True)
        del self._above[session_id]

    def _archived_(self, record: SessionArchived, at_s: float) -> None:
        if record.session_id in self._archived:
            return
        self._archived.add(record.session_id)
        if self._asked.pop(record.session_id, None):
            # A turn that is cut off now may have made calls that no record tells of. The process
            # that paid for them counts them.
            self.loose.update(self.scopes(record.session_id))

    def _accepted(self, record: InputAccepted, _: float) -> None:
        if record.session_id not in self._archived:
            self._asked[record.session_id].add(record.input_id)

    def _abandoned(self, record: InputAbandoned, _: float) -> None:
        self._asked[record.session_id].discard(record.input_id)

    def _progressed(self, record: TurnProgressed, at_s: float) -> None:
        more = _minus(record.usage, self.open[record.session_id])
        self.open[record.session_id] = record.usage
        self._charge(record.session_id, more, at_s)

    def _ended(self, record: TurnEnded, at_s: float) -> None:
        self._asked[record.session_id].difference_update(record.input_ids)
        more = _minus(record.usage, self.open.pop(record.session_id, Usage()))
        self.own[record.session_id] = self.own[record.session_id] + record.usage
        active_ns = max(record.ended_at_ns - record.started_at_ns, 0)
        self.of[record.session_id].active_ns += active_ns
        if self._above.get(record.session_id) is None:
            self.of[MOB].active_ns += active_ns
        self._charge(record.session_id, more, at_s)

    def _summed_up(self, record: ContextCompacted | CompactionFailed, at_s: float) -> None:
        self.own[record.session_id] = self.own[record.session_id] + record.usage
        self._charge(record.session_id, record.usage, at_s)

    def _charge(self, session_id: str, usage: Usage, at_s: float, *, loose: bool = False) -> None:
        for scope in self.scopes(session_id):
            account = self.of[scope]
            account.living = account.living + usage
            if loose:
                self.loose.add(scope)
            else:
                account.ever = account.ever + usage
            self._look(scope, at_s)

    def _look(self, scope: str, at_s: float) -> None:
        """Note since when the limits of a scope are used up."""
        budget, account = self.budget(scope), self.of[scope]
        spent = set() if budget is None else set(_spent(budget, account.living, account.active_ns))
        now = (at_s, self._seq)
        account.since = {limit: account.since.get(limit, now) for limit in spent}

    # -- calls -----------------------------------------------------------------------------

    def called(self, ledger: Ledger, promise: ModelCalled) -> str | None:
        """A model is called: what is wrong with that, if anything."""
        self.catch_up(ledger)
        call = promise.key.partition(".summary.")[0]
        began_s = self._first.setdefault(call, promise.at_s) - self._slack_s(promise.session_id)
        for scope in self.scopes(promise.session_id):
            for limit, (since_s, seq) in self.of[scope].since.items():
                # A commit of which nobody learns what became of it is known only to the disk.
                if since_s < began_s and seq <= promise.known:
                    return (
                        f"a model is called for {promise.session_id}, and {limit} of"
                        f" {scope or 'the mob'} are used up since {since_s:g} s"
                    )
        return None

    def _slack_s(self, session_id: str) -> float:
        """How long the hooks of a session may take between the question and the call."""
        assert self.definition is not None
        hooks = self.definition.hooks.values()
        return sum(each.timeout_s * len(_BEFORE_A_CALL & {*each.on}) for each in hooks)

    def ran(self, ledger: Ledger, promise: ToolRan) -> str | None:
        """A tool runs: what is wrong with that, if anything."""
        self.catch_up(ledger)
        key = f"{promise.run_id}:{promise.call_id}"
        if key in self._ran[promise.session_id]:
            return None
        self._ran[promise.session_id].add(key)
        for scope in self.scopes(promise.session_id):
            budget, account = self.budget(scope), self.of[scope]
            account.began += 1
            allowed = None if budget is None else budget.tool_calls
            if allowed is not None and account.began > allowed:
                return (
                    f"{promise.name!r} is tool call {account.began} of {scope or 'the mob'}, which"
                    f" may make {allowed}"
                )
        return None


_TELL: Final[dict[type, Any]] = {
    SessionCreated: Accounts._created,
    SessionForked: Accounts._forked,
    SessionDeleted: Accounts._deleted,
    SessionArchived: Accounts._archived_,
    InputAccepted: Accounts._accepted,
    InputAbandoned: Accounts._abandoned,
    TurnProgressed: Accounts._progressed,
    TurnEnded: Accounts._ended,
    ContextCompacted: Accounts._summed_up,
    CompactionFailed: Accounts._summed_up,
}


def _minus(one: Usage, other: Usage) -> Usage:
    pairs = zip(attrs.astuple(one), attrs.astuple(other), strict=True)
    return Usage(*(mine - theirs for mine, theirs in pairs))


def _spent(budget: Budget, usage: Usage, active_ns: int) -> Iterator[str]:
    """The limits of `budget` at which no further model call is allowed."""
    if budget.tokens is not None and usage.input_tokens + usage.output_tokens >= budget.tokens:
        yield "tokens"
    if budget.tool_calls is not None and usage.tool_calls > budget.tool_calls:
        yield "tool_calls"
    if budget.nano_usd is not None and usage.cost_nano_usd >= budget.nano_usd:
        yield "usd"
    if budget.seconds is not None and active_ns >= budget.seconds * _NANO:
        yield "seconds"


# -- invariants ------------------------------------------------------------------------------


def no_call_on_a_spent_budget(ledger: Ledger, promise: object) -> str | None:
    """CONTRACTS 4.9: no model is called when a budget above it was used up by what was on disk, and
    no more tools run than a budget allows."""
    if not ledger.accounts.bounded:
        return None
    if isinstance(promise, ModelCalled):
        return ledger.accounts.called(ledger, promise)
    if isinstance(promise, ToolRan):
        return ledger.accounts.ran(ledger, promise)
    return None


def a_budget_stops_what_has_used_it_up(ledger: Ledger, written: Written) -> str | None:
    """CONTRACTS 4.9: a turn ends over budget only if some budget above it is used up by what the
    journal says, and it says which."""
    record: TurnEnded = written.record
    if record.outcome is not TurnOutcome.OVER_BUDGET:
        return None
    accounts = ledger.accounts
    accounts.catch_up(ledger)
    told = json.loads(record.output or "{}")
    limit, allowed = told.get("limit"), told.get("allowed")
    more = _minus(record.usage, accounts.open[record.session_id])
    for scope in accounts.scopes(record.session_id):
        budget = accounts.budget(scope)
        if budget is None or limit is None:
            continue
        given = budget.nano_usd if limit == "usd" else getattr(budget, limit)
        if given is None or (given / _NANO if limit == "usd" else given) != allowed:
            continue
        usage = accounts.of[scope].ever + more
        if limit == "seconds" or limit in _spent(budget, usage, 0):
            return None
    return f"the turn ended over budget, {told}, and no budget above it is used up like that"


def budgets_add_up_over_trees(ledger: Ledger, recovered: Recovered) -> str | None:
    """CONTRACTS 4.9, 6.9: what a process counts as spent, of each session with its tree and of the
    mob, is what the journal says: after a crash as before it, nothing twice and nothing lost."""
    counted = recovered.state.ledger
    if counted is None or recovered.state.applied != ledger.last:
        return None
    accounts = ledger.accounts
    accounts.catch_up(ledger)
    for session_id in recovered.state.heads:
        spent = accounts.of[session_id].living
        if session_id not in accounts.loose and counted.total(session_id) != spent:
            return f"{counted.total(session_id)} is charged to {session_id}, on disk {spent}"
    if MOB not in accounts.loose and counted.whole != accounts.of[MOB].living:
        return f"{counted.whole} is charged to the mob, on disk {accounts.of[MOB].living}"
    return None
