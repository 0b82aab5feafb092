"""One attempt at a step, under way.

Owns: asking its questions, waiting for their answers until there are enough, too few, or no time is
left. Must not: commit anything, or decide what the end of an attempt means.

A question that was answered already, before this process asked it or in an earlier attempt, is not
asked again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import trio

from mob.flows.asks import (
    Answer,
    Ask,
    Collection,
    Enough,
    NoAnswer,
    TooFew,
    asks_of,
    place_of,
)
from mob.flows.definition import StepDefinition
from mob.flows.paths import FlowMistake
from mob.flows.state import Run
from runtime.errors import BudgetExceeded, MobError
from runtime.results import TurnResult
from runtime.structured import Invalid, mistakes_in, parse_output

if TYPE_CHECKING:
    from mob.activation import Activations
    from mob.roster import Roster
    from runtime.realm import Realm

_NANO: Final = 1_000_000_000

Wait: TypeAlias = Callable[[], Awaitable[TurnResult]]


def _never() -> bool:
    return False


@attrs.frozen
class Question:
    """A question to a member, and its answer-to-be. `in_line`: whether it stands in line before a
    mailbox, with no room given to anybody by now."""

    answer: Wait
    in_line: Callable[[], bool] = _never


#: Puts a question to a member under a key, at once or when there is room for it and it is wanted
#: still, as the last argument says. Raises `MobError`.
AskMember: TypeAlias = Callable[[str, str, str, Callable[[], bool]], Question]


class Attempt:
    """The present attempt at a step of `run`."""

    def __init__(
        self,
        realm: Realm,
        roster: Roster,
        activations: Activations,
        ask: AskMember,
        run: Run,
        step: str,
    ) -> None:
        self._realm = realm
        self._roster = roster
        self._activations = activations
        self._ask = ask
        self._run = run
        self._name = step
        self._step = run.flow.steps[step]
        #: The questions whose answers are waited for, by their keys, with the member of each; None
        #: before they are asked and once there is a verdict.
        self._open: dict[str, tuple[str, Question]] | None = None
        #: Whether the run is being ended: nothing is asked any more.
        self.withdrawn = False

    def only_waits(self) -> bool:
        """Whether it does nothing but wait for members: none of them has answered by now."""
        if self._open is None:
            return False
        members = self._activations.members
        return all(
            question.in_line()
            or (
                member in members
                and any(job.pending.idempotency_key == key for job in members[member].jobs)
            )
            for key, (member, question) in self._open.items()
        )

    async def verdict(self) -> Enough | TooFew:
        """Ask the questions, and park until it is decided what has come of them."""
        try:
            asks = asks_of(self._run, self._name)
        except FlowMistake as mistake:
            return TooFew(str(mistake), final=True)
        collection = Collection(self._step, len(asks))
        unasked: list[Ask] = []
        for ask in asks:
            known = self._known(ask)
            if known is None:
                unasked.append(ask)
            else:
                collection.add(ask.index, known)
        left_s = self._left_s()
        if self.withdrawn:
            return TooFew("the run has ended", final=True)
        if collection.verdict() is None and left_s > 0:
            with trio.move_on_after(left_s):
                await self._answers(unasked, collection)
        verdict = collection.verdict()
        if verdict is None:
            return TooFew(f"timed out after {self._step.timeout_s:g} s")
        return verdict

    def _wanted(self) -> bool:
        return not self.withdrawn

    def _left_s(self) -> float:
        deadline_ns = self._run.steps[self._name].deadline_ns
        timeout_s = self._step.timeout_s
        if deadline_ns is None or timeout_s is None:
            return float("inf")
        left_s = (deadline_ns - self._realm.ports.clock.now_ns()) / _NANO
        return min(max(0.0, left_s), timeout_s)  # the wall clock may have been set back

    async def _answers(self, asks: Sequence[Ask], collection: Collection) -> None:
        put: list[tuple[Ask, Question]] = []
        for ask in asks:
            try:
                put.append((ask, self._ask(ask.member, ask.text, ask.key, self._wanted)))
            except MobError as error:
                collection.add(ask.index, NoAnswer(str(error)))
        if collection.verdict() is not None:
            return
        self._open = {ask.key: (ask.member, question) for ask, question in put}
        self._realm.decisions.stir()
        try:
            await self._all(put, self._open, collection)
        finally:
            self._open = None

    async def _all(
        self,
        put: Sequence[tuple[Ask, Question]],
        waiting: dict[str, tuple[str, Question]],
        collection: Collection,
    ) -> None:
        async with trio.open_nursery() as nursery:

            async def one(ask: Ask, question: Question) -> None:
                collection.add(ask.index, await self._outcome(question.answer))
                del waiting[ask.key]
                self._realm.decisions.stir()  # its member rested before it was taken in
                if collection.verdict() is not None:
                    self._open = None
                    nursery.cancel_scope.cancel()

            for ask, question in put:
                nursery.start_soon(one, ask, question)

    async def _outcome(self, wait: Wait) -> Answer | NoAnswer:
        try:
            return judged(self._step, await wait())
        except MobError as error:
            return _no_answer(error)

    def _known(self, ask: Ask) -> Answer | NoAnswer | None:
        """What has become of a question that was answered before; None if it is to be asked."""
        row = self._roster.members.get(ask.member)
        place = place_of(ask.key)
        assert place is not None
        for attempt in range(place.attempt, 0, -1):
            key = attrs.evolve(place, attempt=attempt).key
            settled = None
            if row is not None:
                settled = self._realm.inputs.settled(row.session_id, key)
            if settled is None:
                continue
            try:
                outcome = judged(self._step, self._realm.inputs.result(settled))
            except MobError as error:
                outcome = _no_answer(error)
            if isinstance(outcome, Answer) or attempt == place.attempt:
                return outcome
        return None


def _no_answer(error: MobError) -> NoAnswer:
    return NoAnswer(str(error), final=isinstance(error, BudgetExceeded))


def judged(step: StepDefinition, result: TurnResult) -> Answer | NoAnswer:
    """What a turn's result is to a step: parsed, and checked against its schema."""
    schema = step.output_schema
    if schema is None:
        return Answer(result.text if result.output is None else result.output)
    if result.output is not None:
        reason = mistakes_in(schema, result.output)
        return Answer(result.output) if reason is None else NoAnswer(reason)
    found = parse_output(schema, result.text)
    return NoAnswer(found.reason) if isinstance(found, Invalid) else Answer(found.value)
