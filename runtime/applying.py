"""Runtime turns: runs that a caller applies to a session, with receipts and bounded attempts.

Owns: `RuntimeTurns`, durable inputs by id and runs on them (CONTRACTS 5.5 to 5.8). Must not: choose
which inputs a run is on, or run one by itself.

One commit holds the turn, the receipt and what became of every input, or nothing is committed: a
crash at any point leaves the inputs queued, and applying the same run again continues it. A run
that was applied is never run again: its receipt answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs
import msgpack

from runtime.asking import TurnWaits
from runtime.driver import TurnAborted, TurnDriver, to_give_up
from runtime.errors import (
    AgentError,
    InputRefused,
    RecordUnreadable,
    SessionBusy,
    SessionNotFound,
    SessionQuarantined,
    TurnFailed,
    describe,
)
from runtime.ids import InputId, RunId, SessionId
from runtime.ledger import (
    MAX_ATTEMPTS,
    FailedRun,
    InputsRequeued,
    InputState,
    RunApplied,
    RunApplyBoundary,
    check,
    how_it_ended,
)
from runtime.messages import pack_message
from runtime.records import InputAbandoned, TurnEnded, TurnOutcome
from runtime.results import TurnResult, result_of
from runtime.session import PendingInput, Session
from stores import Damaged, StoreError

if TYPE_CHECKING:
    from runtime.realm import Realm


@attrs.frozen
class CoreApplyOutput:
    """A run that is applied: its receipt, its answer and the session as it is then."""

    receipt: RunApplied
    result: TurnResult
    session: Session


@attrs.frozen
class InputView:
    """Where an input stands: `attempts` of runs on it have failed; `run_id` is the run in flight on
    it, `reason` why it was given up."""

    input_id: InputId
    state: InputState
    attempts: int = 0
    run_id: RunId | None = None
    reason: str | None = None


@attrs.frozen
class _Run:
    """A run under way, as its driver sees it."""

    realm: Realm
    session_id: SessionId
    run_id: RunId
    boundary: RunApplyBoundary
    input_ids: tuple[InputId, ...]

    def settled(self, record: TurnEnded) -> tuple[TurnEnded, Sequence[Any]]:
        """The turn with its receipt; one that failed leaves its inputs queued, or gives them up."""
        now = self.realm.ports.clock.now_ns()
        if record.outcome is not TurnOutcome.FAILED:
            packed = msgpack.packb([pack_message(each) for each in record.messages])
            receipt = RunApplied(
                self.session_id,
                self.run_id,
                self.boundary,
                self.input_ids,
                hashlib.sha256(packed).hexdigest(),
                len(record.messages),
                record.total,
                record.turn,
                now,
            )
            return record, (receipt,)
        others = tuple([each for each in record.input_ids if each not in self.input_ids])
        reason = record.error or "no reason was recorded"
        runs = self.realm.state.runs
        queued: list[InputsRequeued] = []
        given_up: list[InputAbandoned] = []
        for input_id in self.input_ids:
            attempt = runs.failed(self.session_id, input_id) + 1
            if attempt >= MAX_ATTEMPTS:
                why = f"failed {attempt} times, at last: {reason}"
                given_up.append(InputAbandoned(self.session_id, input_id, why, now))
            else:
                queued.append(self._again((input_id,), attempt, reason, now))
        # One comes behind the turn in any case: it says that the run has ended.
        also = [*(queued or [self._again((), MAX_ATTEMPTS, reason, now)]), *given_up]
        return attrs.evolve(record, input_ids=others), also

    def _again(
        self, input_ids: tuple[InputId, ...], attempt: int, reason: str, now: int
    ) -> InputsRequeued:
        return InputsRequeued(self.session_id, self.run_id, input_ids, attempt, reason, now)


class RuntimeTurns:
    """The runs that callers apply to the sessions of one realm."""

    def __init__(self, realm: Realm) -> None:
        self._realm = realm

    async def apply(
        self,
        session_id: SessionId,
        run_id: RunId,
        prompt: str,
        boundary: RunApplyBoundary,
        input_ids: Sequence[InputId],
    ) -> CoreApplyOutput:
        """Run a turn on these inputs as `run_id`. Its message is `prompt`, or what the inputs say
        if that is empty. A run that was applied before answers what it did then; one that failed
        raises that again.

        Raises:
            SessionNotFound, SessionBusy: nothing was done; another run may be in flight on disk.
            InputRefused: an input is not queued, or the run was applied to others.
            AgentError: the turn ended without an answer. If it failed its inputs are queued again,
                for a run with another id, or given up after `MAX_ATTEMPTS`; otherwise there is a
                receipt.
        """
        realm = self._realm
        ids = tuple(input_ids)
        realm.state.head(session_id)
        known = self._known(session_id, run_id, ids)
        if known is not None:
            return known
        run = _Run(realm, session_id, run_id, boundary, ids)
        with realm.hold(session_id):
            await realm.store.barrier()  # what was queued for it must be known
            known = self._known(session_id, run_id, ids)
            if known is not None:
                return known
            inputs = self._staged(session_id, run_id, ids, prompt)
            record = await self._turn(run, inputs)
        result_of(record)
        known = self._known(session_id, run_id, ids)
        assert known is not None, "its receipt is of the same commit"
        return known

    async def _turn(self, run: _Run, inputs: Sequence[PendingInput]) -> TurnEnded:
        realm, session_id = self._realm, run.session_id
        if run.boundary is RunApplyBoundary.IMMEDIATE:
            return await realm.driver(session_id, inputs, run).note(inputs)
        while True:
            try:
                return await realm.driver(session_id, inputs, run).run(inputs)
            except (StoreError, TurnAborted, SessionQuarantined, SessionNotFound):
                raise
            except TurnWaits:
                await realm.decisions.wait(session_id)
            except Exception as error:  # noqa: BLE001 whatever ended the turn, it has failed
                await realm.store.barrier()
                live = realm.live(session_id)
                config = to_give_up(realm, live.head)
                driver = TurnDriver(realm, live, config, inputs, run)
                return await driver.fail(describe(error), inputs)

    def _known(
        self, session_id: SessionId, run_id: RunId, ids: tuple[InputId, ...]
    ) -> CoreApplyOutput | None:
        ended, turn = self._realm.state.runs.ended(run_id) or (None, 0)
        if ended is None:
            return None
        failed = isinstance(ended, FailedRun)
        same = set(ended.input_ids) <= set(ids) if failed else ended.input_ids == ids
        if ended.session_id != session_id or not same:
            raise InputRefused(
                f"run {run_id} was applied to session {ended.session_id} on the inputs"
                f" {', '.join(ended.input_ids)}; give another run another id",
                session_id,
            )
        if isinstance(ended, FailedRun):
            raise self._failure(ended, turn)
        result = result_of(self._realm.turn(turn))
        return CoreApplyOutput(ended, result, self._realm.snapshot(session_id))

    def _failure(self, failed: FailedRun, turn: int) -> AgentError:
        """What whoever applied the run was told, or would have been."""
        with suppress(RecordUnreadable, Damaged):  # then the reason is known without it
            record = self._realm.turn(turn)
            if record.run_id == failed.run_id:
                try:
                    result_of(record)
                except AgentError as error:
                    return error
        return TurnFailed(failed.reason, failed.session_id)

    def _staged(
        self, session_id: SessionId, run_id: RunId, ids: tuple[InputId, ...], prompt: str
    ) -> list[PendingInput]:
        head = self._realm.state.head(session_id)
        partial = head.partial
        if partial is not None and (
            partial.run_id != run_id or not set(ids) <= set(partial.input_ids)
        ):
            raise SessionBusy(session_id)  # that run is to be applied first
        queued = head.inputs or {}
        missing = [each for each in ids if each not in queued]
        if missing or not ids:
            raise InputRefused(
                f"not queued for session {session_id}: {', '.join(missing) or 'no input given'};"
                " what was consumed or given up stays so",
                session_id,
            )
        inputs = [queued[each] for each in ids]
        if prompt:
            return [attrs.evolve(inputs[0], text=prompt, sender=None)]
        return inputs

    # -- inputs ----------------------------------------------------------------------------

    def inputs(self, session_id: SessionId) -> list[InputView]:
        """The inputs of a session whose fate is open, in order of acceptance."""
        head = self._realm.state.head(session_id)
        runs, partial = self._realm.state.runs, head.partial
        running = self._realm.running(session_id) is not None
        found = []
        for input_id in head.inputs or ():
            state, run_id = InputState.QUEUED, None
            if partial is not None and input_id in partial.input_ids:
                run_id = partial.run_id
                state = InputState.APPLIED if running else InputState.QUEUED
            found.append(InputView(input_id, state, runs.failed(session_id, input_id), run_id))
        return found

    def by_key(self, session_id: SessionId, key: str) -> InputView | None:
        """The input that came with this idempotency key, whatever became of it."""
        known = self._realm.state.find_key(key)
        if known is None or known.session_id != session_id:
            return None
        if known.turn:
            return InputView(known.input_id, InputState.CONSUMED)
        if known.abandoned is not None:
            state = how_it_ended(known.abandoned)
            return InputView(known.input_id, state, reason=known.abandoned)
        return next((v for v in self.inputs(session_id) if v.input_id == known.input_id), None)

    async def end(
        self, session_id: SessionId, input_id: InputId, state: InputState, why: str
    ) -> None:
        """Give an input up, on disk on return: `why` is the input that takes its place (superseded
        or coalesced), or the reason (abandoned). Final.

        Raises:
            SessionNotFound, InputRefused: there is no such input that is open.
            InputMisuse: the table does not list it: a run is on it.
        """
        views = [each for each in self.inputs(session_id) if each.input_id == input_id]
        if not views:
            raise InputRefused(f"input {input_id} is not queued: nothing was changed", session_id)
        check(input_id, views[0].state, state)
        words = {InputState.SUPERSEDED: "superseded by ", InputState.COALESCED: "coalesced into "}
        await self._realm.inputs.abandon(session_id, input_id, f"{words.get(state, '')}{why}")
