"""Bugs in helpers, newcomers and members that depend on others.

Owns: the patches. Must not: know a workload.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from mob import helpers
from mob.dependencies import Dependencies
from mob.flows.runner import FlowRunner
from mob.groups import SUPERVISOR
from mob.helping import Help, HelperVerbs
from mob.joining import Joining, Newcomer
from mob.messaging import MessageVerbs
from mob.roster import Member
from mob.spawndefs import SpawnDefinition
from tests.simulation.planted.table import planted

_HELD = (
    "Hold dependents back anew when a mob goes on after a stop: who was held back then stayed so"
    " until the next start"
)
_SENT = (
    "Send nothing to helpers from outside either, pass them over in flows, and make nobody by a"
    " message who is being spawned: who was joined twice and no process could read it"
)


def _in_two(self: Any, rows: Sequence[Member], honest: Any, which: bool) -> Any:
    @contextmanager
    def entering() -> Iterator[tuple[Any, ...]]:
        with honest(self, rows) as before:
            apart = before and helpers.is_helper(rows[0].name) is which
            if apart:
                self.realm.append(*before)
            yield () if apart else before

    return entering()


@planted("helpers_come_with_their_question", within=100)
def a_helper_joins_before_its_question() -> Iterator[None]:
    """A helper is made in one commit and its question in the next.

    CONTRACTS 6.2.
    """
    honest = Joining._entering
    with patch.object(Joining, "_entering", lambda self, rows: _in_two(self, rows, honest, True)):
        yield


@planted("newcomers_come_with_a_message", within=100)
def a_newcomer_joins_before_its_message() -> Iterator[None]:
    """Who joins with a message does so in one commit, and the message comes in the next.

    CONTRACTS 6.2.
    """
    honest = Joining._entering
    with patch.object(Joining, "_entering", lambda self, rows: _in_two(self, rows, honest, False)):
        yield


@planted("newcomers_come_with_a_message", within=300)
def a_message_that_is_refused_makes_its_member() -> Iterator[None]:
    """A message for which there is no room leaves the member that it would have made.

    CONTRACTS 6.2.
    """
    honest = MessageVerbs._accept

    def accept(self: Any, row: Member, *given: Any, **more: Any) -> Any:
        try:
            return honest(self, row, *given, **more)
        except Exception:
            if isinstance(row, Newcomer) and not helpers.is_helper(row.name):
                self.realm.append(*row.records)
            raise

    with patch.object(MessageVerbs, "_accept", accept):
        yield


@planted("newcomers_come_with_a_message", "newcomers_are_as_the_file_says", within=300)
def rules_are_not_asked() -> Iterator[None]:
    """Who joins with a message is of the profile for unknown names, whatever the rules say.

    CONTRACTS 6.2.
    """
    honest = SpawnDefinition.profile_for

    def profile_for(self: SpawnDefinition, name: str) -> str | None:
        return self.on_unknown if self.on_unknown != "refuse" else honest(self, name)

    with patch.object(SpawnDefinition, "profile_for", profile_for):
        yield


@planted("what_nobody_can_fetch_rests", "helpers_leave", within=100)
def helpers_outlive_their_process() -> Iterator[None]:
    """A process that takes a mob up leaves helpers as they are: nobody sees to it that they leave.

    CONTRACTS 6.2.
    """
    with patch.object(HelperVerbs, "_sweep_helpers", lambda self: None):
        yield


@planted("helpers_leave", within=100)
def helpers_stay_for_more() -> Iterator[None]:
    """A helper that has answered stays.

    CONTRACTS 6.2.
    """

    def answered(self: Any, help_: Help) -> None:
        self._forget_help(help_)

    with patch.object(HelperVerbs, "_answered", answered):
        yield


@planted("helpers_keep_to_themselves", within=300, mended=_SENT)
def flows_ask_helpers() -> Iterator[None]:
    """A step for all members of a profile asks their helpers too.

    CONTRACTS 6.2.
    """

    def team(self: Any, profile: str) -> tuple[str, ...]:
        return tuple(row.name for row in self._roster.members.values() if row.profile == profile)

    with patch.object(FlowRunner, "_team", team):
        yield


@planted("dependents_go_on_after", within=100)
def nobody_waits_for_whom_it_depends_on() -> Iterator[None]:
    """When a mob goes on, everybody begins at once.

    CONTRACTS 6.8.
    """
    with patch.object(Dependencies, "hold", lambda self: None):
        yield


@planted("healed, everything finishes", within=300, mended=_HELD)
def who_is_held_back_stays_so() -> Iterator[None]:
    """A mob that goes on once more in a process forgets whom it held back the first time.

    CONTRACTS 6.8.
    """
    honest = Dependencies.hold

    def hold(self: Dependencies) -> None:
        self._held = {}
        honest(self)

    with patch.object(Dependencies, "hold", hold):
        yield


@planted("who_was_at_work_was_told", within=300)
def dependents_are_not_told() -> Iterator[None]:
    """Nobody is told that a member was given up on whom it depends.

    CONTRACTS 6.8.
    """
    with patch.object(Dependencies, "told", lambda self, name, reason: ()):
        yield


@planted("dependents_are_told", within=100)
def everybody_at_work_is_told() -> Iterator[None]:
    """When a member is given up, all at work are told that they depend on it.

    CONTRACTS 6.8.
    """

    def told(self: Dependencies, name: str, reason: str) -> tuple[Any, ...]:
        text = f"Member {name!r}, on which you depend, has given up its work: {reason}"
        at_work = [live for live in self._activations.members.values() if live.active]
        return tuple(
            self._realm.inputs.context(live.row.session_id, text, SUPERVISOR)
            for live in at_work
            if not live.gone and live.row.name != name
        )

    with patch.object(Dependencies, "told", told):
        yield
