"""Bugs in what bounds a turn and what it may see: budgets, hooks, memory.

Owns: the patches. Must not: know a workload.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from typing import Any
from unittest.mock import patch

import attrs

from mob.harness import Harnesses
from mob.mob import Mob
from runtime import hooks, spending
from runtime.budget import Ledger, check
from runtime.driver import TurnDriver
from runtime.hooks import ALLOW, OBSERVED_ONLY, Deny, Hook, HookEvent, HookPoint, Hooks, TurnHooks
from runtime.ids import SessionId
from runtime.memory import Memory
from runtime.messages import AssistantMessage
from runtime.session import SessionHead
from runtime.turn import GaveUp
from tests.simulation.planted.table import planted

# -- budgets ---------------------------------------------------------------------------------


@planted("budgets_add_up_over_trees", "no_call_on_a_spent_budget", within=200)
def children_spend_for_free() -> Iterator[None]:
    """What a child spends is charged to nobody above it. Breaks CONTRACTS 4.9, 6.15: a budget
    bounds the whole tree."""

    def alone(self: Ledger, session_id: SessionId) -> list[SessionHead]:
        return [self._heads[session_id]] if session_id in self._heads else []

    with patch.object(Ledger, "above", alone):
        yield


@planted("budgets_add_up_over_trees", within=200)
def spending_forgotten_by_a_restart() -> Iterator[None]:
    """Every process begins with nothing spent. Breaks CONTRACTS 4.9, 6.9: what was spent survives a
    crash."""
    made = Ledger.__init__

    def empty(self: Ledger, heads: Any) -> None:
        made(self, {})
        self._heads = heads

    with patch.object(Ledger, "__init__", empty):
        yield


@planted("budgets_add_up_over_trees", within=200)
def turn_in_flight_forgotten_by_a_restart() -> Iterator[None]:
    """A process counts what ended turns spent, and not the turns in flight. Breaks CONTRACTS 4.9,
    6.9."""
    made = Ledger.__init__

    def without(self: Ledger, heads: Any) -> None:
        with patch.object(Ledger, "progressed", lambda *_given: None):
            made(self, heads)

    with patch.object(Ledger, "__init__", without):
        yield


@planted("no_call_on_a_spent_budget", within=2000)
def one_more_call_at_the_limit() -> Iterator[None]:
    """A budget that is spent to the last token allows a further call. Breaks CONTRACTS 4.9."""

    def lenient(accounts: Any) -> Any:
        excess = check(accounts)
        exactly = excess is not None and excess.spent == excess.allowed
        return None if exactly and excess.limit != "seconds" else excess

    with patch.object(spending, "check", lenient):
        yield


@planted("no_call_on_a_spent_budget", within=500)
def tools_run_beyond_their_budget() -> Iterator[None]:
    """Budgets are asked before model calls and not before tools. Breaks CONTRACTS 4.9: tool calls
    are never passed."""
    barred = TurnDriver._barred

    def only_before_models(self: TurnDriver) -> GaveUp | None:
        last = self._state.messages[-1]
        found = barred(self)
        return None if isinstance(last, AssistantMessage) and last.tool_calls else found

    with patch.object(TurnDriver, "_barred", only_before_models):
        yield


# -- hooks -----------------------------------------------------------------------------------


@planted("reports_of_hooks_are_true", "guardrails_are_asked_in_order", within=200)
def observers_have_a_say() -> Iterator[None]:
    """A hook that only observes may deny and rewrite. Breaks CONTRACTS 4.9, hooks: what an observer
    answers changes nothing."""
    at = Hooks.at

    def guards(self: Hooks, point: HookPoint) -> list[Hook]:
        found = at(self, point)
        if point in OBSERVED_ONLY:
            return found
        return [attrs.evolve(hook, mode="guardrail") for hook in found]

    with patch.object(Hooks, "at", guards):
        yield


@planted("what_a_guardrail_denied_never_ran", within=200)
def denied_tools_run() -> Iterator[None]:
    """A tool call that a guardrail denied runs. Breaks CONTRACTS 4.9, hooks."""
    run = TurnHooks._run

    async def allowed(self: TurnHooks, point: HookPoint, *given: Any) -> Any:
        verdict = await run(self, point, *given)
        return ALLOW if point is HookPoint.BEFORE_TOOL and isinstance(verdict, Deny) else verdict

    with patch.object(TurnHooks, "_run", allowed):
        yield


@planted("guardrails_are_asked_in_order", "what_a_guardrail_denied_never_ran", within=200)
def denial_does_not_end_the_asking() -> Iterator[None]:
    """The guardrails behind one that denied are asked all the same, and theirs is the last word.
    Breaks CONTRACTS 4.9, hooks: the first denial decides."""
    run = TurnHooks._run

    async def all_of_them(self: TurnHooks, point: HookPoint, *given: Any) -> Any:
        verdict: Any = ALLOW
        for hook in self._hooks.at(point):
            alone = copy(self)
            alone._hooks = Hooks([hook])
            verdict = await run(alone, point, *given)
        return verdict

    with patch.object(TurnHooks, "_run", all_of_them):
        yield


@planted(
    "guardrails_are_asked_in_order", "healed, everything finishes", "the scenario ends", within=200
)
def hooks_take_as_long_as_they_like() -> Iterator[None]:
    """A hook's time limit is not held. Breaks CONTRACTS 4.9, hooks: one that hangs is bounded."""
    answer = hooks._answer

    async def patient(hook: Hook, event: HookEvent) -> Any:
        return await answer(attrs.evolve(hook, timeout_s=10_000.0), event)

    with patch.object(hooks, "_answer", patient):
        yield


@planted("hooks_change_what_they_may", "what_a_guardrail_denied_never_ran", within=300)
def turns_go_on_without_their_hooks() -> Iterator[None]:
    """A turn that is continued after a crash has no hooks. Breaks CONTRACTS 4.9, hooks."""
    made = TurnDriver.__init__

    def without(self: TurnDriver, *given: Any) -> None:
        made(self, *given)
        if self._live.head.partial is not None:
            self._hooks = None

    with patch.object(TurnDriver, "__init__", without):
        yield


# -- memory ----------------------------------------------------------------------------------


@planted("a_search_shows_what_may_be_read", "members_are_shown_what_they_may_read", within=200)
def everybody_reads_everything() -> Iterator[None]:
    """A search of a member finds the turns of all. Breaks CONTRACTS 4.9, memory: a profile that
    does not share is in nobody's answers."""

    def everything(_self: Harnesses, mob: Mob, _asker: SessionId) -> list[SessionId]:
        return list(mob.realm.state.heads)

    with patch.object(Harnesses, "readable", everything):
        yield


@planted("a_search_shows_what_may_be_read", within=1000)
def rewound_turns_are_found() -> Iterator[None]:
    """A search finds turns that were rewound. Breaks CONTRACTS 3.5, 4.9, memory."""

    def any_turn(self: Memory, session_id: SessionId, _seq: int, _turn: int) -> bool:
        return session_id in self._realm.state.heads

    with patch.object(Memory, "_has", any_turn):
        yield


@planted("a_search_shows_what_may_be_read", within=500)
def turns_lost_to_a_search() -> Iterator[None]:
    """The index reads on from behind the last turn it has seen, and misses what was written
    meanwhile. Breaks CONTRACTS 4.9, memory: what was said can be found."""
    add = Memory._add

    def hasty(self: Memory, turns: Any, cursor: int) -> None:
        self._cursor = max(cursor, self._realm.journal.last)
        add(self, turns[:-1] or turns, self._cursor)

    with patch.object(Memory, "_add", hasty):
        yield
