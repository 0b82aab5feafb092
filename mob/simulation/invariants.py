"""The invariants: everything that must hold of every run, as one literal table.

Owns: the table, when each is asked, and how users add their own. Must not: say what holds (the
modules that it imports do), keep anything between two questions.

Each is one function whose docstring names the line of the contracts that it holds. It says what is
wrong, or None.

    OPEN       each opening of the store, before it is noted
    DISK       each commit, before the shadow applies it
    RECORD     each record of the kinds given, before the ledger takes it in
    COMMIT     each commit, after the ledger has taken all of it in
    PROMISE    each thing that somebody is told, at that instant
    RECOVERED  each state that a process recovered, and the one that the disk stands for at the end
    END        the end of a run
    HEALED     the end of a run in which everything was given the time to finish
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, get_args, overload

import attrs

from mob.comms.records import RequestSent, RequestSettled
from mob.flows.records import (
    FLOW_RECORDS,
    FlowRoundEnded,
    FlowStepEnded,
    FlowStepRetried,
    FlowStepStarted,
)
from mob.records import (
    MOB_RECORDS,
    BoardTaskAdded,
    BoardTaskBlocked,
    BoardTaskMoved,
    MemberExited,
    MemberRespawned,
    MemberRetired,
    MemberSpawned,
    MobStateChanged,
)
from mob.simulation import (
    accounts,
    attendance,
    boards,
    contexts,
    decisions,
    delivery,
    failures,
    families,
    flowing,
    flowrules,
    histories,
    hosted,
    mailing,
    promises,
    recall,
    receipts,
    recovered,
    rounds,
    shadow,
    snapshots,
    staged,
    tenures,
    voyages,
)
from mob.simulation.facts import ToolRan
from mob.simulation.ledger import Ledger
from runtime.approvals import ApprovalAsked, ApprovalDecided, ApprovalUsed
from runtime.contexts import ContextCompacted
from runtime.ledger import InputsRequeued, RunApplied
from runtime.points import PointMade, RealmRewound
from runtime.records import (
    RUNTIME_RECORDS,
    HookReported,
    InputAbandoned,
    InputAccepted,
    ModelRetried,
    SessionCreated,
    SessionForked,
    SessionMended,
    SessionRewound,
    TaskEnded,
    TurnEnded,
    TurnProgressed,
)


class Moment(enum.Enum):
    """When an invariant is asked."""

    OPEN = "open"
    DISK = "disk"
    RECORD = "record"
    COMMIT = "commit"
    PROMISE = "promise"
    RECOVERED = "recovered"
    END = "end"
    HEALED = "healed"


@attrs.frozen
class Invariant:
    """What must hold, and when it is asked; of records and promises, those of the `kinds`.

    `check` is given the ledger (of the disk: the shadow) and what happens.
    """

    when: Moment
    check: Callable[[Any, Any], str | None]
    kinds: tuple[type, ...] = ()


_ALL: Final = tuple(record_type.cls for record_type in (*RUNTIME_RECORDS, *MOB_RECORDS))


def _of(check: Callable[[Any, Any], str | None], *kinds: type) -> Invariant:
    return Invariant(Moment.RECORD, check, kinds)


def _told(check: Callable[[Any, Any], str | None], *kinds: type) -> Invariant:
    return Invariant(Moment.PROMISE, check, kinds)


#: In this order, so that of several that fail the one that says most is reported.
INVARIANTS: Final[dict[str, Invariant]] = {
    "generations_only_rise": Invariant(Moment.OPEN, shadow.generations_only_rise),
    "no_stale_write_lands": Invariant(Moment.DISK, shadow.no_stale_write_lands),
    "sequences_are_gap_free": Invariant(Moment.DISK, shadow.sequences_are_gap_free),
    "expectations_hold": Invariant(Moment.DISK, shadow.expectations_hold),
    "the_mob_is_made_once": _of(families.the_mob_is_made_once, *_ALL),
    "records_speak_of_sessions_that_are_there": _of(
        families.records_speak_of_sessions_that_are_there, *_ALL
    ),
    "nothing_is_damaged": _of(families.nothing_is_damaged, SessionMended),
    "ids_never_repeat": _of(
        families.ids_never_repeat, SessionCreated, SessionForked, InputAccepted
    ),
    "states_follow_the_table": _of(families.states_follow_the_table, MobStateChanged),
    "names_are_members_names": _of(
        families.names_are_members_names, MemberSpawned, MemberRetired, MemberExited
    ),
    "a_spawn_key_makes_one_session": _of(families.a_spawn_key_makes_one_session, SessionCreated),
    "lineage_is_true": _of(families.lineage_is_true, SessionCreated),
    "children_keep_to_their_slots": _of(families.children_keep_to_their_slots, SessionCreated),
    "tasks_end_with_their_last_turn": _of(families.tasks_end_with_their_last_turn, TaskEnded),
    "a_key_means_one_input": _of(delivery.a_key_means_one_input, InputAccepted),
    "an_input_has_one_fate": _of(delivery.an_input_has_one_fate, TurnEnded, InputAbandoned),
    "inputs_are_consumed_in_order": _of(delivery.inputs_are_consumed_in_order, TurnEnded),
    "turns_say_what_was_sent": _of(delivery.turns_say_what_was_sent, TurnProgressed, TurnEnded),
    "one_turn_is_in_flight": _of(histories.one_turn_is_in_flight, TurnProgressed, TurnEnded),
    "retries_are_of_a_turn_that_goes_on": _of(
        histories.retries_are_of_a_turn_that_goes_on, ModelRetried
    ),
    "questions_are_about_open_calls": _of(decisions.questions_are_about_open_calls, ApprovalAsked),
    "the_first_decision_counts": _of(decisions.the_first_decision_counts, ApprovalDecided),
    "a_call_is_begun_once_and_only_when_approved": _of(
        decisions.a_call_is_begun_once_and_only_when_approved, ApprovalUsed
    ),
    "what_waits_has_no_result": _of(decisions.what_waits_has_no_result, TurnProgressed, TurnEnded),
    "a_turn_that_waits_is_not_over": _of(decisions.a_turn_that_waits_is_not_over, TurnEnded),
    "messages_go_along_edges": _of(mailing.messages_go_along_edges, InputAccepted),
    "mailboxes_are_bounded": _of(mailing.mailboxes_are_bounded, InputAccepted),
    "requests_come_with_their_messages": _of(
        mailing.requests_come_with_their_messages, RequestSent
    ),
    "requests_are_settled_once": _of(mailing.requests_are_settled_once, RequestSettled),
    "deadlines_are_not_early": _of(mailing.deadlines_are_not_early, RequestSettled),
    "what_steers_goes_with_the_next_turn": _of(
        mailing.what_steers_goes_with_the_next_turn, TurnEnded
    ),
    "silence_wakes_nobody": _of(mailing.silence_wakes_nobody, TurnEnded),
    "a_run_is_applied_once": _of(receipts.a_run_is_applied_once, RunApplied),
    "attempts_are_bounded": _of(receipts.attempts_are_bounded, InputsRequeued, InputAbandoned),
    "context_is_said_once": _of(staged.context_is_said_once, TurnEnded),
    "progress_stays": _of(histories.progress_stays, TurnEnded),
    "messages_are_whole_turns": _of(histories.messages_are_whole_turns, TurnEnded),
    "usage_adds_up": _of(histories.usage_adds_up, TurnProgressed, TurnEnded),
    "results_are_those_of_the_latest_run": _of(
        histories.results_are_those_of_the_latest_run, TurnProgressed, TurnEnded
    ),
    "turns_form_a_chain": _of(histories.turns_form_a_chain, TurnEnded),
    "an_interrupt_is_not_lost": _of(delivery.an_interrupt_is_not_lost, TurnEnded),
    "giving_up_is_deserved": _of(delivery.giving_up_is_deserved, TurnEnded),
    "a_failure_surfaces_once": _of(delivery.a_failure_surfaces_once, MemberExited, TurnEnded),
    "restart_intensity_holds": _of(delivery.restart_intensity_holds, MemberExited),
    "restarts_back_off": _of(delivery.restarts_back_off, MemberExited),
    "a_group_cuts_whom_it_may": _of(failures.a_group_cuts_whom_it_may, MemberExited),
    "escalations_are_deserved": _of(
        failures.escalations_are_deserved, InputAccepted, MobStateChanged, TurnEnded
    ),
    "generations_rise_by_one": _of(tenures.generations_rise_by_one, MemberRespawned),
    "the_old_generation_rests": _of(tenures.the_old_generation_rests, InputAccepted, TurnEnded),
    "limits_are_kept": _of(tenures.limits_are_kept, MemberSpawned, InputAccepted),
    "a_member_goes_on_as_it_may": _of(tenures.a_member_goes_on_as_it_may, InputAccepted),
    "helpers_keep_to_themselves": _of(attendance.helpers_keep_to_themselves, InputAccepted),
    "what_nobody_can_fetch_rests": _of(
        attendance.what_nobody_can_fetch_rests, TurnProgressed, TurnEnded
    ),
    "dependents_go_on_after": _of(attendance.dependents_go_on_after, *attendance.GOES_ON),
    "who_was_at_work_was_told": _of(
        attendance.who_was_at_work_was_told, TurnProgressed, TurnEnded, MemberExited, MemberRetired
    ),
    "forks_share_what_was_there": _of(histories.forks_share_what_was_there, SessionForked),
    "rewinds_keep_the_tail": _of(histories.rewinds_keep_the_tail, SessionRewound),
    "compactions_sum_up_what_was_said": _of(
        contexts.compactions_sum_up_what_was_said, ContextCompacted
    ),
    "histories_keep_their_compactions": _of(
        contexts.histories_keep_their_compactions, SessionForked, SessionRewound
    ),
    "a_budget_stops_what_has_used_it_up": _of(
        accounts.a_budget_stops_what_has_used_it_up, TurnEnded
    ),
    "hooks_change_what_they_may": _of(rounds.hooks_change_what_they_may, TurnProgressed, TurnEnded),
    "reports_of_hooks_are_true": _of(rounds.reports_of_hooks_are_true, HookReported),
    "members_are_shown_what_they_may_read": _of(
        recall.members_are_shown_what_they_may_read, TurnProgressed, TurnEnded
    ),
    "points_are_of_what_is_on_disk": _of(voyages.points_are_of_what_is_on_disk, PointMade),
    "rewinds_leave_a_point": _of(voyages.rewinds_leave_a_point, RealmRewound),
    "what_comes_back_is_all_that_was": Invariant(
        Moment.COMMIT, voyages.what_comes_back_is_all_that_was
    ),
    "flows_start_and_end_once": _of(
        flowrules.flows_start_and_end_once, *(each.cls for each in FLOW_RECORDS)
    ),
    "steps_wait_for_what_they_need": _of(flowrules.steps_wait_for_what_they_need, FlowStepStarted),
    "steps_end_once_and_as_they_may": _of(
        flowrules.steps_end_once_and_as_they_may, FlowStepEnded, FlowStepRetried
    ),
    "rounds_are_bounded": _of(flowrules.rounds_are_bounded, FlowRoundEnded),
    "steps_ask_once": _of(flowrules.steps_ask_once, InputAccepted),
    "outputs_are_what_members_answered": _of(
        flowrules.outputs_are_what_members_answered, FlowStepEnded
    ),
    "withdrawn_questions_rest": _of(flowrules.withdrawn_questions_rest, TurnProgressed, TurnEnded),
    "board_tasks_follow_their_table": _of(
        boards.board_tasks_follow_their_table, BoardTaskAdded, BoardTaskMoved, BoardTaskBlocked
    ),
    "a_run_that_failed_consumes_nothing": Invariant(
        Moment.COMMIT, receipts.a_run_that_failed_consumes_nothing
    ),
    "tasks_begin_with_their_sessions": Invariant(
        Moment.COMMIT, families.tasks_begin_with_their_sessions
    ),
    "no_orphans": Invariant(Moment.COMMIT, families.no_orphans),
    "members_and_sessions_come_and_go_together": Invariant(
        Moment.COMMIT, families.members_and_sessions_come_and_go_together
    ),
    "helpers_come_with_their_question": Invariant(
        Moment.COMMIT, attendance.helpers_come_with_their_question
    ),
    "newcomers_come_with_a_message": Invariant(
        Moment.COMMIT, attendance.newcomers_come_with_a_message
    ),
    "dependents_are_told": Invariant(Moment.COMMIT, attendance.dependents_are_told),
    "a_respawn_is_one_commit": Invariant(Moment.COMMIT, tenures.a_respawn_is_one_commit),
    "groups_keep_to_their_intensity": Invariant(
        Moment.COMMIT, failures.groups_keep_to_their_intensity
    ),
    "a_completed_mob_has_nothing_left": Invariant(
        Moment.COMMIT, delivery.a_completed_mob_has_nothing_left
    ),
    "a_stopped_mob_does_nothing": Invariant(Moment.COMMIT, families.a_stopped_mob_does_nothing),
    "acknowledged_means_durable": _told(
        promises.acknowledged_means_durable, *promises.ACKNOWLEDGED
    ),
    "subscribers_see_everything": _told(
        promises.subscribers_see_everything, promises.Subscribed, promises.Saw
    ),
    "tools_run_once": _told(promises.tools_run_once, ToolRan, promises.ToolReturned),
    "what_runs_were_told_is_on_disk": _told(
        receipts.what_runs_were_told_is_on_disk, receipts.Applied, receipts.Queued, receipts.GivenUp
    ),
    "what_sessions_were_told_is_on_disk": _told(
        staged.what_sessions_were_told_is_on_disk,
        staged.Staged,
        staged.Conflicting,
        staged.ToldPeer,
        staged.Archived,
    ),
    "what_senders_were_told_is_on_disk": _told(
        mailing.what_senders_were_told_is_on_disk, *get_args(mailing.Mailed)
    ),
    "what_needs_approval_runs_as_decided": _told(
        decisions.what_needs_approval_runs_as_decided,
        promises.Decided,
        promises.NotWaiting,
        ToolRan,
    ),
    "no_call_on_a_spent_budget": _told(
        accounts.no_call_on_a_spent_budget, accounts.ModelCalled, ToolRan
    ),
    "guardrails_are_asked_in_order": _told(
        rounds.guardrails_are_asked_in_order, rounds.HookAsked, rounds.HookAnswered
    ),
    "what_a_guardrail_denied_never_ran": _told(rounds.what_a_guardrail_denied_never_ran, ToolRan),
    "a_search_shows_what_may_be_read": _told(
        recall.a_search_shows_what_may_be_read, recall.Searched
    ),
    "travellers_were_told_the_truth": _told(
        voyages.travellers_were_told_the_truth, voyages.Snapped, voyages.WentBack
    ),
    "what_staff_was_told_is_on_disk": _told(tenures.what_staff_was_told_is_on_disk, *tenures.TOLD),
    "turns_keep_to_their_slots": _told(tenures.turns_keep_to_their_slots, tenures.AtWork),
    "what_flows_told_is_on_disk": _told(
        flowrules.what_flows_told_is_on_disk, *get_args(flowing.FlowPromise)
    ),
    "newcomers_are_as_the_file_says": _told(
        attendance.newcomers_are_as_the_file_says, attendance.ComesByMessage
    ),
    "what_the_board_told_is_on_disk": _told(
        boards.what_the_board_told_is_on_disk, boards.BoardTold
    ),
    "snapshots_never_go_back": Invariant(Moment.COMMIT, snapshots.snapshots_never_go_back),
    "a_mob_that_stops_is_saved": Invariant(Moment.COMMIT, snapshots.a_mob_that_stops_is_saved),
    "nothing_needed_is_erased": Invariant(Moment.RECOVERED, recovered.nothing_needed_is_erased),
    "recovery_follows_the_fence": Invariant(Moment.RECOVERED, recovered.recovery_follows_the_fence),
    "the_fold_is_recovered_whole": Invariant(
        Moment.RECOVERED, recovered.the_fold_is_recovered_whole
    ),
    "the_fold_agrees_with_the_ledger": Invariant(
        Moment.RECOVERED, recovered.the_fold_agrees_with_the_ledger
    ),
    "keys_of_what_was_left_are_free": Invariant(
        Moment.RECOVERED, voyages.keys_of_what_was_left_are_free
    ),
    "usage_adds_up_over_the_tree": Invariant(
        Moment.RECOVERED, recovered.usage_adds_up_over_the_tree
    ),
    "budgets_add_up_over_trees": Invariant(Moment.RECOVERED, accounts.budgets_add_up_over_trees),
    "snapshots_equal_the_fold": Invariant(Moment.END, snapshots.snapshots_equal_the_fold),
    "no_slot_is_leaked": Invariant(Moment.HEALED, families.no_slot_is_leaked),
    "what_hooks_did_is_reported": Invariant(Moment.HEALED, rounds.what_hooks_did_is_reported),
    "hosted_sessions_are_saved": Invariant(Moment.HEALED, hosted.hosted_sessions_are_saved),
    "nothing_is_left_behind": Invariant(Moment.HEALED, delivery.nothing_is_left_behind),
    "helpers_leave": Invariant(Moment.HEALED, attendance.helpers_leave),
    "healed_flows_have_ended": Invariant(Moment.HEALED, flowrules.healed_flows_have_ended),
}


def asked(when: Moment) -> tuple[tuple[str, Callable[[Any, Any], str | None]], ...]:
    """The invariants of one moment, in the order of the table."""
    return tuple((name, each.check) for name, each in INVARIANTS.items() if each.when is when)


def asked_of_records() -> dict[type, tuple[tuple[str, Callable[[Any, Any], str | None]], ...]]:
    """The invariants of each kind of record, in the order of the table."""
    return _by_kind(_ALL)


def asked_of_promises() -> dict[type, tuple[tuple[str, Callable[[Any, Any], str | None]], ...]]:
    """The invariants of each kind of promise, in the order of the table."""
    return _by_kind(get_args(promises.Promise))


def _by_kind(
    kinds: Iterable[type],
) -> dict[type, tuple[tuple[str, Callable[[Any, Any], str | None]], ...]]:
    return {
        kind: tuple((name, each.check) for name, each in INVARIANTS.items() if kind in each.kinds)
        for kind in kinds
    }


# -- yours -----------------------------------------------------------------------------------


@attrs.frozen
class UserInvariant:
    """An invariant of a user: `check` raises `AssertionError`, asked after every commit of a mob
    or at the end of the run."""

    name: str
    check: Callable[[Ledger], None]
    at: Literal["commit", "end"] = "commit"

    def __call__(self, ledger: Ledger) -> None:
        self.check(ledger)


@overload
def invariant(check: Callable[[Ledger], None], /) -> UserInvariant: ...


@overload
def invariant(
    *, at: Literal["commit", "end"]
) -> Callable[[Callable[[Ledger], None]], UserInvariant]: ...


def invariant(
    check: Callable[[Ledger], None] | None = None, /, *, at: Literal["commit", "end"] = "commit"
) -> UserInvariant | Callable[[Callable[[Ledger], None]], UserInvariant]:
    """Make a function an invariant: ``@invariant`` or ``@invariant(at="end")``.

    The function is given the `Ledger` and asserts what must hold. Its name is what a
    counterexample is called by.
    """

    def made(function: Callable[[Ledger], None]) -> UserInvariant:
        return UserInvariant(function.__name__, function, at)

    return made if check is None else made(check)
