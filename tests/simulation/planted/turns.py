"""Bugs in how a turn runs, is told of and is continued.

Owns: the patches. Must not: know a workload.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

import attrs
import trio

from runtime import turn
from runtime.driver import TurnDriver
from runtime.effects import EndTurn, SaveProgress
from runtime.realm import Realm
from runtime.records import TurnEnded, TurnOutcome
from runtime.session import PendingInput
from runtime.state import RealmState
from runtime.tools.base import Tool, Toolbox, ToolContext
from runtime.turn import Began, GaveUp, Phase, Resumed, TurnInput
from stores import Ticket
from tests.simulation.planted.table import planted


class Hasty:
    """A ticket that says at once what is not true yet."""

    done = True

    async def wait(self) -> tuple[int, ...]:
        """Return without waiting."""
        await trio.lowlevel.checkpoint()
        return ()


@planted("acknowledged_means_durable", "turns_form_a_chain", "an_input_has_one_fate", within=50)
def answered_before_commit() -> Iterator[None]:
    """A turn is over, and its asker is answered, before it is on disk. Breaks CONTRACTS 1.2: what
    an answer says is durable."""
    append = Realm.append

    def hasty(self: Realm, *records: Any) -> Ticket:
        ticket = append(self, *records)
        return Hasty() if isinstance(records[-1], TurnEnded) else ticket

    with patch.object(Realm, "append", hasty):
        yield


@planted("an_interrupt_is_not_lost", within=1000)
def interrupt_lost_at_admission() -> Iterator[None]:
    """A turn that is admitted gets its scope only when it begins to run. Breaks CONTRACTS 4.3: an
    interrupt that was confirmed ends the turn."""
    run = TurnDriver.run

    async def late(self: TurnDriver, inputs: Sequence[PendingInput]) -> TurnEnded:
        await trio.lowlevel.checkpoint()
        self._live.interrupted = None
        self._around = self._live.scope = trio.CancelScope()
        return await run(self, inputs)

    with patch.object(TurnDriver, "run", late):
        yield


@planted("usage_adds_up_over_the_tree", "the_fold_agrees_with_the_ledger", within=100)
def usage_counted_twice() -> Iterator[None]:
    """A turn that was journalled as it went counts what it had spent by then once more when it
    ends. Breaks CONTRACTS 4.8: a session has spent what its turns spent."""
    ended = RealmState._ended

    def twice(self: RealmState, seq: int, record: TurnEnded) -> None:
        head = self.heads.get(record.session_id)
        partial = None if head is None else head.partial
        ended(self, seq, record)
        if head is not None and partial is not None and head.head == seq:
            head.usage = head.usage + partial.usage

    with patch.object(RealmState, "_ended", twice):
        yield


@planted("usage_adds_up", within=100)
def usage_counted_again_after_a_restart() -> Iterator[None]:
    """A turn that is continued begins with twice what it had spent. Breaks CONTRACTS 6.15: a turn
    has spent what its replies spent."""
    first = TurnDriver._first

    def twice(self: TurnDriver, inputs: Sequence[PendingInput]) -> TurnInput:
        event = first(self, inputs)
        if isinstance(event, Resumed):
            return attrs.evolve(event, usage=event.usage + event.usage)
        return event

    with patch.object(TurnDriver, "_first", twice):
        yield


@planted("usage_adds_up", "progress_stays", "tools_run_once", within=100)
def begun_anew_instead_of_continued() -> Iterator[None]:
    """A turn that was cut off begins from its input again. Breaks CONTRACTS 6.9: what was
    journalled of a turn is not done again."""
    first = TurnDriver._first

    def anew(self: TurnDriver, inputs: Sequence[PendingInput]) -> TurnInput:
        event = first(self, inputs)
        if isinstance(event, Resumed) and inputs:
            return Began(event.messages[:1])
        return event

    with patch.object(TurnDriver, "_first", anew):
        yield


@planted("results_are_those_of_the_latest_run", within=1000)
def stale_result_after_a_retry() -> Iterator[None]:
    """A tool that is run again has its first run's result told. Breaks CONTRACTS 5.5: the latest
    run counts."""
    guarded = Toolbox._guarded
    known: dict[str, Any] = {}  # ids repeat from run to run: plant it anew for each

    async def remembered(tool: Tool, arguments: Any, context: ToolContext) -> Any:
        result = await guarded(tool, arguments, context)
        return known.setdefault(context.key, result)

    with patch.object(Toolbox, "_guarded", staticmethod(remembered)):
        yield


@planted("tools_run_once", within=300)
def tool_repeated_after_a_crash() -> Iterator[None]:
    """A tool that must not be repeated is, when nobody knows whether it finished. Breaks CONTRACTS
    5.5, 6.9."""
    with patch.object(Toolbox, "idempotent", lambda _self, _name: True):
        yield


@planted("tools_run_once", within=50)
def tools_run_before_their_calls_are_on_disk() -> Iterator[None]:
    """The calls of a model are queued for the disk and carried out meanwhile. Breaks CONTRACTS
    6.9: a tool touches the world once its call is journalled."""

    async def save(self: TurnDriver, effect: SaveProgress) -> None:
        self._journal(effect)
        await trio.lowlevel.checkpoint()

    with patch.object(TurnDriver, "_save", save):
        yield


@planted("messages_are_whole_turns", within=50)
def open_calls_left_dangling() -> Iterator[None]:
    """A turn that is cut off ends with calls that have no result. Breaks CONTRACTS 2.8: every call
    is answered once."""

    def gave_up(state: turn.TurnState, event: GaveUp) -> turn.Step:
        after = attrs.evolve(state, phase=Phase.ENDED)
        return after, (EndTurn(event.outcome, output=event.detail, error=event.reason),)

    with patch.dict(turn._HANDLERS, {GaveUp: gave_up}):
        yield


@planted("no_orphans", within=200)
def orphan_child() -> Iterator[None]:
    """A turn that fails or is interrupted leaves its children behind. Breaks CONTRACTS 1.10: what
    is below a turn ends with it."""
    with patch.object(Realm, "end_children", lambda *_args: []):
        yield


@planted("an_interrupt_is_not_lost", within=500)
def interrupt_loses_to_a_kill() -> Iterator[None]:
    """A turn that was interrupted and then killed is continued. Breaks CONTRACTS 4.3: an interrupt
    that was confirmed ends the turn."""
    cut_short = TurnDriver._cut_short

    def killed(self: TurnDriver) -> EndTurn:
        if self._live.aborted is not None:
            self._live.interrupted = None
        return cut_short(self)

    with patch.object(TurnDriver, "_cut_short", killed):
        yield


@planted("messages_are_whole_turns", "an_interrupt_is_not_lost", within=200)
def interrupted_is_told_as_done() -> Iterator[None]:
    """A turn that was interrupted ends as if it had answered. Breaks CONTRACTS 4.3."""
    gave_up = TurnDriver._give_up

    def done(
        self: TurnDriver, outcome: TurnOutcome, reason: str, detail: str | None = None
    ) -> EndTurn:
        ending = gave_up(self, outcome, reason, detail)
        if outcome is TurnOutcome.INTERRUPTED:
            return EndTurn(TurnOutcome.COMPLETED)
        return ending

    with patch.object(TurnDriver, "_give_up", done):
        yield
