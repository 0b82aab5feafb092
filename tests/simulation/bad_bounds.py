"""Budgets, hooks and searches that are wrong, each in the last step only."""

from __future__ import annotations

from typing import Any

import attrs

from mob.definition import MobDefinition
from mob.simulation.accounts import ModelCalled
from mob.simulation.facts import ToolRan
from mob.simulation.recall import Searched
from mob.simulation.rounds import HookAnswered, HookAsked
from runtime.ids import RunId, SessionId
from runtime.memory import Recollection
from runtime.messages import AssistantMessage, ToolCall, ToolOutcome, ToolResult, Usage, UserMessage
from runtime.records import HookReported, SessionRewound, TurnOutcome
from tests.simulation.cases import a_turn, called, case, result
from tests.simulation.tape import ONE, Tape, accepted, archived, created, ended, progressed


def running(tape: Tape, *, mob_budget: Any = None, hooks: Any = None, **profile: Any) -> Tape:
    """Process 2 runs the mob with these hooks, and a profile of which more is said."""
    table: dict[str, Any] = {
        "mob": {"id": "t", "lead": "a"},
        "models": {"m": {"model": "sim:echo"}},
        "profiles": {"p": {"model": "m", **profile}, "q": {"model": "m"}},
        "members": {"a": {"profile": "p"}, "b": {"profile": "q"}},
    }
    if mob_budget is not None:
        table["budget"] = mob_budget
    if hooks is not None:
        table["hooks"] = {name: {"python": "h.py:f", **each} for name, each in hooks.items()}
    definition = MobDefinition.from_table(table)
    tape.oracle.opened(2, 2, tape.at_s, definition)
    tape.process = tape.generation = 2
    return tape


# -- budgets ---------------------------------------------------------------------------------


@case("no_call_on_a_spent_budget")
def a_mob_goes_on(tape: Tape) -> None:
    running(tape, mob_budget={"tokens": 2})
    tape.oracle.promised(ModelCalled("s", "t/a/0.1", 0.0, 99))
    a_turn(tape)
    tape.oracle.promised(ModelCalled("s", "t/a/1.1", 1.0, 99))


@case("no_call_on_a_spent_budget")
def a_tree_goes_on(tape: Tape) -> None:
    """What a child spent, also one that was archived since, is its parent's."""
    running(tape, budget={"tokens": 2})
    tape.commit(created("k", parent="s", root="s"), accepted("i", session="k"))
    tape.commit(ended("i", session="k", run="k1"), archived("k"))
    tape.oracle.promised(ModelCalled("s", "t/a/0.1", 1.0, 99))


@case("no_call_on_a_spent_budget")
def a_tool_too_many(tape: Tape) -> None:
    running(tape, budget={"tool_calls": 1})
    tape.commit(accepted("i"))
    spent = Usage(1, 1, 1, 2)
    tape.commit(progressed(*called("c", "d"), usage=spent))
    tape.oracle.promised(ToolRan("s", "r", "c", "look", True))
    tape.oracle.promised(ToolRan("s", "r", "c", "look", True))  # once more is no other call
    tape.oracle.promised(ToolRan("s", "r", "d", "look", True))


@case("a_budget_stops_what_has_used_it_up")
def stopped_too_early(tape: Tape) -> None:
    running(tape, budget={"tokens": 3})
    over = ended("i", outcome=TurnOutcome.OVER_BUDGET, error="the budget is used up")
    tape.commit(accepted("i"))
    tape.commit(attrs.evolve(over, output='{"limit": "tokens", "allowed": 3, "spent": 3}'))


# -- hooks -----------------------------------------------------------------------------------

GUARDS = {
    "one": {"on": ["before_model", "before_tool", "after_model"], "mode": "guardrail"},
    "eye": {"on": ["before_model", "run_completed"]},
    "two": {"on": ["before_model", "before_tool"], "mode": "guardrail", "on_error": "allow"},
}


def asked(name: str, point: str = "before_model", place: str = "1", value: str = "v") -> HookAsked:
    return HookAsked(name, point, "s", "r", place, value)


def says(tape: Tape, what: str, *names: str, value: str = "", **given: Any) -> None:
    for name in names:
        tape.oracle.promised(asked(name, **given))
        tape.oracle.promised(HookAnswered(asked(name, **given), what, value))


@case("guardrails_are_asked_in_order")
def the_second_is_asked_first(tape: Tape) -> None:
    running(tape, hooks=GUARDS)
    says(tape, "allow", "one", "eye", "two")
    says(tape, "allow", "two", place="2")


@case("guardrails_are_asked_in_order")
def asked_behind_a_denial(tape: Tape) -> None:
    running(tape, hooks=GUARDS)
    says(tape, "deny", "one")
    tape.oracle.promised(asked("eye"))


@case("guardrails_are_asked_in_order")
def asked_behind_a_failure(tape: Tape) -> None:
    running(tape, hooks=GUARDS)
    says(tape, "failed", "one")
    tape.oracle.promised(asked("eye"))


@case("guardrails_are_asked_in_order")
def a_rewrite_that_nobody_sees(tape: Tape) -> None:
    running(tape, hooks=GUARDS)
    says(tape, "rewrite", "one", value="w")
    tape.oracle.promised(asked("eye"))


@case("guardrails_are_asked_in_order")
def a_hook_of_somebody_else(tape: Tape) -> None:
    running(tape, hooks={"one": {**GUARDS["one"], "enabled": False}})
    tape.oracle.promised(asked("one"))


@case("guardrails_are_asked_in_order")
def a_hook_that_nothing_ends(tape: Tape) -> None:
    running(tape, hooks=GUARDS)
    tape.oracle.promised(asked("one"))
    tape.oracle.promised(HookAnswered(asked("one"), "cut", late_s=0.5))


@case("guardrails_are_asked_in_order")
def told_before_it_is_on_disk(tape: Tape) -> None:
    running(tape, hooks=GUARDS)
    tape.oracle.promised(asked("eye", point="run_completed"))


@case("guardrails_are_asked_in_order")
def told_of_the_end_twice(tape: Tape) -> None:
    running(tape, hooks={"eye": GUARDS["eye"]})
    says(tape, "allow", "eye")
    tape.commit(accepted("i"))
    tape.commit(ended("i"))
    says(tape, "allow", "eye", point="run_completed")
    tape.oracle.promised(asked("eye", point="run_completed"))


@case("what_a_guardrail_denied_never_ran")
def a_denied_tool_runs(tape: Tape) -> None:
    running(tape, hooks=GUARDS)
    tape.commit(accepted("i"))
    tape.commit(progressed(*called("c", "d"), usage=Usage(1, 1, 1, 2)))
    says(tape, "allow", "one", point="before_tool", place="c")
    says(tape, "failed", "two", point="before_tool", place="c")  # which it may
    tape.oracle.promised(ToolRan("s", "r", "c", "look", True))
    says(tape, "deny", "one", point="before_tool", place="d")
    tape.oracle.promised(ToolRan("s", "r", "d", "look", True))


@case("what_a_guardrail_denied_never_ran")
def a_tool_runs_unasked(tape: Tape) -> None:
    running(tape, hooks=GUARDS)
    tape.commit(accepted("i"))
    tape.commit(progressed(*called("c"), usage=Usage(1, 1, 1, 1)))
    tape.oracle.promised(ToolRan("s", "r", "c", "look", True))


@case("hooks_change_what_they_may")
def a_denied_turn_completes(tape: Tape) -> None:
    running(tape, hooks=GUARDS)
    tape.commit(accepted("i"))
    says(tape, "deny", "one")
    tape.commit(ended("i"))


@case("hooks_change_what_they_may")
def a_step_without_its_hooks(tape: Tape) -> None:
    running(tape, hooks=GUARDS)
    tape.commit(accepted("i"))
    says(tape, "allow", "one", "eye", "two")
    tape.commit(ended("i"))


@case("hooks_change_what_they_may")
def a_rewrite_that_is_not_kept(tape: Tape) -> None:
    running(tape, hooks={"one": GUARDS["one"]})
    tape.commit(accepted("i"))
    says(tape, "allow", "one")
    says(tape, "rewrite", "one", point="after_model", value="nicer")
    tape.commit(ended("i"))


@case("hooks_change_what_they_may")
def a_denied_call_has_a_result(tape: Tape) -> None:
    running(tape, hooks=GUARDS)
    tape.commit(accepted("i"))
    says(tape, "deny", "one", point="before_tool", place="c")
    tape.commit(progressed(*called("c"), result("c"), usage=Usage(1, 1, 1, 1)))


@case("hooks_change_what_they_may")
def an_observer_ends_a_turn(tape: Tape) -> None:
    running(tape, hooks=GUARDS)
    tape.commit(accepted("i"))
    says(tape, "allow", "one")
    says(tape, "deny", "eye")
    failed: Any = {"outcome": TurnOutcome.FAILED, "messages": (UserMessage("hi"),)}
    tape.commit(
        ended("i", error="denied by hook 'eye': no", usage=Usage(), place=(1, 1, 0, 0), **failed)
    )


def reported(what: str, hook: str = "one") -> HookReported:
    return HookReported(SessionId("s"), RunId("r"), hook, "before_model", what, "", 1)


@case("reports_of_hooks_are_true")
def a_denial_that_was_none(tape: Tape) -> None:
    running(tape, hooks=GUARDS)
    says(tape, "failed", "one")
    tape.commit(reported("failed"), reported("denied"))
    tape.commit(reported("rewrote"))


@case("reports_of_hooks_are_true")
def an_observer_that_denied(tape: Tape) -> None:
    running(tape, hooks=GUARDS)
    says(tape, "allow", "one")
    says(tape, "deny", "eye")
    tape.commit(reported("denied", "eye"))


@case("what_hooks_did_is_reported")
def a_denial_that_nobody_reports(tape: Tape) -> None:
    running(tape, hooks=GUARDS)
    says(tape, "rewrite", "one", value="w")
    tape.commit(reported("rewrote"))
    says(tape, "deny", "one", place="2")
    tape.oracle.ended(healed=True)


# -- memory ----------------------------------------------------------------------------------


def shows(*found: Recollection, word: str = "nothing", known: int = 99) -> Searched:
    return Searched("s", word, found, known)


@case("a_search_shows_what_may_be_read")
def a_turn_that_is_not_there(tape: Tape) -> None:
    running(tape, memory=True)
    a_turn(tape)
    tape.oracle.promised(shows(Recollection(SessionId("s"), 1, "yes")))
    tape.oracle.promised(shows(Recollection(SessionId("s"), 2, "yes")))


@case("a_search_shows_what_may_be_read")
def a_turn_of_somebody_else(tape: Tape) -> None:
    running(tape, memory=True)
    tape.commit(created("k", "b"), accepted("i", session="k"))
    tape.commit(ended("i", session="k"))
    tape.oracle.promised(shows(Recollection(SessionId("k"), 1, "yes")))


@case("a_search_shows_what_may_be_read")
def a_turn_that_is_missed(tape: Tape) -> None:
    running(tape, memory=True)
    a_turn(tape)
    tape.oracle.promised(shows(word="yesterday"))
    tape.oracle.promised(shows(word="yes"))


@case("members_are_shown_what_they_may_read")
def a_model_is_told_of_somebody_else(tape: Tape) -> None:
    running(tape, memory={"scope": "mob"})
    tape.commit(created("k", None, parent="s", root="s"), accepted("i"))
    call = ToolCall(result("c").call_id, "search_memory", "{}")
    said = (UserMessage("hi"), AssistantMessage("", (call,), usage=ONE))
    told = '[{"session_id": "k", "turn": 1, "text": "x"}, {"session_id": "nobody"}]'
    answer = ToolResult(call.id, call.name, told, ToolOutcome.OK)
    tape.commit(progressed(*said, answer, usage=Usage(1, 1, 1, 1)))


LEFT_BEHIND = Recollection(SessionId("s"), 1, "yes")


def with_a_turn_left_behind(tape: Tape | None = None) -> Tape:
    tape = running(tape or Tape(), memory=True)
    a_turn(tape)  # records 5 and 6
    tape.commit(SessionRewound(SessionId("s"), 0, 0, 0, (), None, 3))  # record 7
    return tape


@case("a_search_shows_what_may_be_read")
def a_turn_that_was_left_behind(tape: Tape) -> None:
    with_a_turn_left_behind(tape)
    tape.oracle.promised(shows(LEFT_BEHIND, known=7))
