"""The trio shell around the turn machine: it carries out the effects of one turn.

Owns: calling the model, running a batch of tools at the same time, journalling, and the scope that
an interrupt cancels. Must not: decide what comes next (that is `runtime.turn`) or whether a failed
model call is made again (`runtime.retry`), restart anything (that is the supervisor's) or commit a
failure on its own: a model that fails for good leaves the turn in flight, and whoever drives
decides whether to continue it or to give it up.

The tree. A turn runs inside its session's `trio.CancelScope`; a batch of tools is a nursery inside
that; a child session's turn runs inside the tool call that asked for it. Cancelling any of these
ends everything below it, deepest first.

This is the hot path: a turn that calls no tool opens no nursery, makes one wait, and appends one
record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
import trio

from runtime.addenda import addenda_of, message_of
from runtime.approvals import ApprovalAsked
from runtime.attempts import Attempts, Route
from runtime.budget import Excess
from runtime.calls import Calls
from runtime.chain import next_skip
from runtime.compaction import Compacting, Context, compact, due
from runtime.effects import CallModel, EndTurn, RunTools, SaveProgress
from runtime.errors import ModelError
from runtime.hooks import ALLOW, Deny, Hooks, Rewrite, TurnHooks, Verdict
from runtime.ids import InputId, RunId
from runtime.lanes import Lane
from runtime.ledger import AppliedRun
from runtime.live import Doing, LiveSession
from runtime.messages import SystemMessage, ToolResult, UserMessage
from runtime.models.base import Model, ModelRequest
from runtime.records import TurnEnded, TurnOutcome, TurnProgressed
from runtime.replies import ask
from runtime.results import last_text
from runtime.retry import DEFAULT_RETRY, RetryPolicy
from runtime.session import PendingInput, SessionHead
from runtime.skills import NO_SKILLS, Skills
from runtime.tasks import is_notice
from runtime.tools.base import Toolbox
from runtime.turn import (
    PLAIN_RULES,
    Began,
    ContextGiven,
    GaveUp,
    ModelReplied,
    Phase,
    Resumed,
    ToolsCut,
    ToolsFinished,
    TurnInput,
    TurnRules,
    TurnState,
    step,
)
from stores import StoreError, Ticket

if TYPE_CHECKING:
    from runtime.realm import Realm


@attrs.frozen
class SessionConfig:
    """What a session's turns run with, resolved from its harness and spec when it is activated.

    `brief` is added to every message that begins a turn. A model call that fails is tried again as
    `retry` says, then at the models of `fallback` in their order. `skills` are what the inputs of a
    turn may refer to; the instructions and the toolbox say already what of them is offered.
    """

    model: Model
    instructions: str = ""
    toolbox: Toolbox = attrs.field(factory=Toolbox)
    rules: TurnRules = PLAIN_RULES
    options: Mapping[str, Any] = attrs.field(factory=dict)
    brief: str = ""
    retry: RetryPolicy = DEFAULT_RETRY
    fallback: tuple[Route, ...] = ()
    hooks: Hooks | None = None
    skills: Skills = NO_SKILLS
    compacting: Compacting | None = None

    @property
    def routes(self) -> tuple[Route, ...]:
        """The chain of models that a call may go to."""
        return (Route(self.model, self.retry, self.options), *self.fallback)


#: For giving a turn up, which calls no model.
_NO_CONFIG: Final = SessionConfig(cast(Model, None))

#: Looking a member up in its enumeration takes 0.1 us.
_IDLE, _MODEL, _SAVING, _COMPLETED = Doing.IDLE, Doing.MODEL, Doing.SAVING, TurnOutcome.COMPLETED


def to_give_up(realm: Realm, head: SessionHead) -> SessionConfig:
    """What a turn is given up with: the session's own configuration, for its hooks alone, unless
    that is what failed."""
    try:
        config = None if realm.configure is None else realm.configure(head)
    except Exception:  # noqa: BLE001 whatever it is, it has been told
        config = None
    return config or _NO_CONFIG


class TurnAborted(Exception):
    """The activation that ran the turn was ended, for the reason given; the turn is in flight."""


class TurnDriver:
    """One turn of one session, from its inputs to its committed record. Used once.

    Make it at admission, before any await: an `interrupt` that arrives from then on is not lost.
    """

    __slots__ = (
        "_applied",
        "_around",
        "_attempts",
        "_config",
        "_hooks",
        "_input_ids",
        "_late",
        "_live",
        "_notices",
        "_realm",
        "_run_id",
        "_started_at_ns",
        "_state",
        "_ticket",
    )

    def __init__(
        self,
        realm: Realm,
        live: LiveSession,
        config: SessionConfig,
        inputs: Sequence[PendingInput],
        applied: AppliedRun | None = None,
        lane: Lane | None = None,
    ) -> None:
        assert live.scope is None, "a session has at most one turn in flight"
        named = [name for item in inputs for name in item.skills]
        if named:
            config = attrs.evolve(
                config, instructions=config.skills.added(config.instructions, named)
            )
        self._realm = realm
        self._live = live
        self._applied = applied
        self._config = config
        self._state = TurnState(config.rules)
        #: The budget that the scope's deadline is about, if it has one.
        self._late: Excess | None = None
        #: What the session is told beside its inputs: which of its children have ended.
        self._notices: tuple[PendingInput, ...] = ()
        #: Of the last record it queued, until that is on disk.
        self._ticket: Ticket | None = None
        #: None until a model call of the turn has failed.
        self._attempts: Attempts | None = None
        partial = live.head.partial
        if partial is None:
            self._run_id = RunId(realm.ports.ids.new()) if applied is None else applied.run_id
            if live.head.inputs is not None:
                self._notices = realm.state.notices(live.head)
            self._input_ids: tuple[InputId, ...]
            self._input_ids = tuple([item.input_id for item in self._told(inputs)])
            if applied is not None:
                told_too = [each for each in self._input_ids if each not in applied.input_ids]
                self._input_ids = (*told_too, *applied.input_ids)
            self._started_at_ns = realm.ports.clock.now_ns()
        else:
            self._run_id = partial.run_id
            self._input_ids = partial.input_ids
            # What nobody worked on it in between is no time of the turn's.
            worked_ns = max(live.head.updated_at_ns - partial.started_at_ns, 0)
            self._started_at_ns = realm.ports.clock.now_ns() - worked_ns
        self._hooks: TurnHooks | None = None
        if config.hooks is not None:
            session_id, name = live.head.session_id, config.model.name
            self._hooks = TurnHooks(realm, config.hooks, session_id, self._run_id, name)
        live.scope = trio.CancelScope() if lane is None else lane.scope
        self._around = live.scope if lane is None else lane
        live.interrupted = live.aborted = None
        live.input_ids = self._input_ids
        live.base = len(live.history)

    async def run(self, inputs: Sequence[PendingInput]) -> TurnEnded:
        """Run the turn to its committed record.

        Returns the record whatever its outcome was (an interrupt is an outcome). Raises whatever
        the model client raised, `TurnAborted`, `TurnWaits`, or `Cancelled`: then nothing is
        committed, the turn stays in flight in the journal as far as it came, and a new driver
        continues it.
        """
        live = self._live
        scope, budgets = live.scope, self._realm.budgets
        assert scope is not None
        if budgets is not None:
            budgets.began(live.head.session_id)
        try:
            ending: EndTurn | None = None
            try:
                with self._around:
                    ending = await self._drive(self._first(inputs))
            except (trio.Cancelled, BaseExceptionGroup) as error:
                # An interrupt that was confirmed holds also if the caller goes away by itself.
                if live.interrupted is not None and not isinstance(error, Exception):
                    with suppress(StoreError):
                        await self._commit(self._cut_short())
                raise
            if ending is None:
                ending = self._cut_short()
            elif live.interrupted is not None:  # confirmed, and the turn waited for nothing since
                ending = EndTurn(TurnOutcome.INTERRUPTED, error=live.interrupted)
            record = await self._commit(ending)
            if self._hooks is not None:
                await self._hooks.ended(record, last_text(record))
            return record
        finally:
            if budgets is not None:
                budgets.left(live.head.session_id)
            if live.scope is scope:
                live.scope = None
            live.interrupted = None
            self._leave()

    def _cut_short(self) -> EndTurn:
        """How a turn ends whose scope was cancelled. Raises `TurnAborted` if it does not."""
        live = self._live
        # An interrupt has been confirmed to whoever asked, so it wins over an abort.
        if live.interrupted is not None:
            return self._give_up(TurnOutcome.INTERRUPTED, live.interrupted)
        if live.aborted is not None:
            raise TurnAborted(live.aborted)
        assert self._late is not None, "nothing else cancels a turn"
        return self._give_up(TurnOutcome.OVER_BUDGET, str(self._late), self._late.detail)

    async def fail(self, reason: str, inputs: Sequence[PendingInput]) -> TurnEnded:
        """Give the turn up as failed, from where the journal left it, and commit that."""
        live = self._live
        try:
            self._state, _ = step(self._state, self._first(inputs))
            if self._state.phase is not Phase.ENDED:
                ending = self._give_up(TurnOutcome.FAILED, reason)
            else:
                ending = EndTurn(TurnOutcome.FAILED, error=reason)
            record = await self._commit(ending)
            if self._hooks is not None:
                await self._hooks.ended(record, last_text(record))
            return record
        finally:
            live.scope = None
            self._leave()

    async def note(self, inputs: Sequence[PendingInput]) -> TurnEnded:
        """End the turn as it begins: its inputs become part of the history, no model is called."""
        live = self._live
        try:
            self._state, _ = step(self._state, self._first(inputs))
            return await self._commit(EndTurn(TurnOutcome.COMPLETED))
        finally:
            live.scope = None
            self._leave()

    def _leave(self) -> None:
        live = self._live
        del live.history[live.base :]
        live.doing = _IDLE
        self._realm.trailing.note(live.head.session_id, self._ticket)

    def _queue(self, *records: Any) -> Ticket:
        if self._live.abandoned:
            raise TurnAborted(
                "it did not unwind in time, and somebody else may have gone on with it"
            )
        self._ticket = self._realm.append(*records)
        return self._ticket

    def _first(self, inputs: Sequence[PendingInput]) -> TurnInput:
        partial = self._live.head.partial
        if partial is not None:
            return Resumed(tuple(partial.messages), partial.usage, partial.step)
        brief = f"\n\n{self._config.brief}" if self._config.brief else ""
        told = [
            UserMessage(item.text if is_notice(item) else item.text + brief, item.sender)
            for item in self._told(inputs)
        ]
        return Began(tuple(told))

    def _told(self, inputs: Sequence[PendingInput]) -> Sequence[PendingInput]:
        """The inputs behind the notices, among which some of them may be."""
        if not self._notices:
            return inputs
        return (*self._notices, *[item for item in inputs if not is_notice(item)])

    async def _drive(self, event: TurnInput) -> EndTurn:
        resumed = type(event) is Resumed
        self._state, effects = step(self._state, event)
        if (how := self._config.compacting) is not None:
            may = self._state.phase is not Phase.ENDED and due(how.policy, self._live)
            if may and self._barred() is None:  # before the history has messages of the turn
                await compact(self._realm, self._live, how)
        history, base = self._live.history, self._live.base
        while True:
            history.extend(self._state.messages[len(history) - base :])
            for effect in effects:
                kind = type(effect)
                if kind is CallModel:
                    assert isinstance(effect, CallModel)
                    if (barred := self._barred()) is not None:
                        event = barred
                    elif self._hooks is not None:
                        event = await self._guarded(self._hooks, effect)
                    else:  # no frame between this one and `_reply`: a thousand tasks may park there
                        event = await self._reply(await self._request(effect), effect.step)
                elif kind is EndTurn:
                    return effect  # type: ignore[return-value]
                elif isinstance(effect, RunTools):
                    event = self._barred() or ToolsFinished(
                        await self._calls().batch(effect.calls, resumed)
                    )
                else:
                    assert isinstance(effect, SaveProgress)
                    await self._save(effect)
            resumed = False
            self._state, effects = step(self._state, event)

    def _barred(self) -> GaveUp | None:
        """What to end the turn with if a budget allows no further call; None if it may go on."""
        budgets = self._realm.budgets
        if budgets is None:
            return None
        live = self._live
        session_id = live.head.session_id
        budgets.spent(session_id, self._state.usage)
        excess = budgets.check(session_id)
        if excess is not None:
            return GaveUp(TurnOutcome.OVER_BUDGET, str(excess), excess.detail)
        assert live.scope is not None
        live.scope.deadline, self._late = budgets.deadline(session_id)
        return None

    def _give_up(self, outcome: TurnOutcome, reason: str, detail: str | None = None) -> EndTurn:
        self._state, effects = step(self._state, GaveUp(outcome, reason, detail))
        (ending,) = effects
        assert isinstance(ending, EndTurn)
        return ending

    async def _request(self, effect: CallModel) -> ModelRequest:
        config, live = self._config, self._live
        if live.head.inputs is not None:
            self._take_context()
        live.now_doing(_MODEL)
        offer = config.toolbox.fixed or await config.toolbox.offer()
        return ModelRequest(
            Context(live.first, live.history) if live.first else live.history,
            f"{config.instructions}\n\n{offer.missing}" if offer.missing else config.instructions,
            offer.specs,
            offer.choice(effect.tool_choice),
            config.rules.output_schema,
            config.options,
            f"{live.key}/{live.head.turns}.{effect.step}",
        )

    def _take_context(self) -> None:
        """Put what was said meanwhile, to be told in this turn, before the model, once."""
        head = self._live.head
        if head.session_id not in self._realm.state.addressed:
            return
        given = addenda_of(head, self._input_ids)
        if given:
            self._state, _ = step(self._state, ContextGiven(tuple(map(message_of, given))))
            self._input_ids = (*self._input_ids, *[each.input_id for each in given])
            self._live.input_ids = self._input_ids
            history = self._live.history
            history.extend(self._state.messages[len(history) - self._live.base :])

    async def _guarded(self, hooks: TurnHooks, effect: CallModel) -> ModelReplied | GaveUp:
        """A model call between its hooks."""
        request, step = await self._request(effect), effect.step
        verdict: Verdict = ALLOW
        messages = self._state.messages
        told = SystemMessage if step == 1 else (SystemMessage, UserMessage)
        last = next(m for m in reversed(messages) if not isinstance(m, told))
        if step == 1:
            verdict = await hooks.started(last.text)
        elif isinstance(last, ToolResult):
            verdict = await hooks.boundary(step)
        if not isinstance(verdict, Deny):
            verdict = await hooks.before_model(request, step)
        if isinstance(verdict, Deny):
            return GaveUp(TurnOutcome.FAILED, verdict.reason)
        if isinstance(verdict, Rewrite):
            request = attrs.evolve(request, instructions=verdict.value)
        self._live.now_doing(Doing.MODEL)
        reply = (await self._reply(request, step)).reply
        verdict = await hooks.after_model(reply, step)
        if isinstance(verdict, Deny):  # what it said is withheld; what it cost is not
            usage = self._state.usage + reply.usage
            self._state = attrs.evolve(self._state, usage=usage)
            return GaveUp(TurnOutcome.FAILED, verdict.reason)
        if isinstance(verdict, Rewrite):
            reply = attrs.evolve(reply, text=verdict.value)
        return ModelReplied(reply)

    async def _reply(self, request: ModelRequest, step: int) -> ModelReplied:
        config, live, failed = self._config, self._live, None
        if self._attempts is None:
            try:
                return ModelReplied(await ask(config.model, request, live.emit))
            except ModelError as error:
                failed = error
            self._attempts = Attempts(self._realm, live, self._run_id, config.routes)
        return ModelReplied(await self._attempts.call(request, step, failed))

    def _calls(self) -> Calls:
        toolbox, run_id = self._config.toolbox, self._run_id
        return Calls(self._realm, self._live, run_id, toolbox, self._hooks, self._queue, self._keep)

    def _keep(self, results: tuple[ToolResult, ...]) -> Ticket | None:
        """Journal what has finished of a batch that is not whole, so that it is never repeated."""
        if not results:
            return None
        self._state, (save,) = step(self._state, ToolsCut(results))
        assert isinstance(save, SaveProgress)
        return self._journal(save)

    async def _save(self, effect: SaveProgress) -> None:
        asked: Sequence[ApprovalAsked] = ()
        if effect.durable and self._config.toolbox.approve:
            asked = self._calls().questions(effect.messages[-1])
        ticket = self._journal(effect, *asked)
        if effect.durable:
            await ticket.wait()

    def _journal(self, effect: SaveProgress, *asked: ApprovalAsked) -> Ticket:
        return self._queue(
            TurnProgressed(
                self._live.head.session_id,
                self._run_id,
                self._input_ids,
                effect.messages,
                effect.usage,
                effect.step,
                self._realm.ports.clock.now_ns(),
            ),
            *asked,
        )

    async def _commit(self, ending: EndTurn) -> TurnEnded:
        live, state = self._live, self._state
        live.doing = _SAVING
        head = live.head
        turn = head.turns + 1
        skip, skip_turn = next_skip(head.links, turn)
        record = TurnEnded(
            head.session_id,
            self._run_id,
            head.head,
            ending.outcome,
            state.messages,
            state.usage,
            self._input_ids,
            ending.output,
            ending.error,
            self._started_at_ns,
            self._realm.ports.clock.now_ns(),
            turn,
            head.message_count + len(state.messages),
            skip,
            skip_turn,
        )
        also: Sequence[Any] = ()
        below: Sequence[Any] = ()
        if ending.outcome is not _COMPLETED:  # what is below ends first (CONTRACTS 1.10)
            await self._realm.background.end_below(head.session_id)
            reason = ending.error or "its parent's turn ended"
            below = self._realm.end_children(head.session_id, reason)
        if self._applied is not None:  # with nothing between it and the commit
            record, also = self._applied.settled(record)
        ticket = self._queue(*below, record, *also)
        # The record is in the queue and nothing can take it back, so the turn's messages are part
        # of the history from here on, whether or not this wait is cancelled.
        history = live.history
        history.extend(state.messages[len(history) - live.base :])
        live.base = len(history)
        await ticket.wait()
        self._ticket = None
        return record
