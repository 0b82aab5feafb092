"""The verbs of a mob about flows, and the handle of a run.

Owns: `run_flow`, `flow_runs`, `flow_run` on the handle of a mob, and `FlowRun`. Must not: decide
about a run (`mob.flows.scheduler` does) or follow one (`mob.flows.runner`).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from mob.comms.settings import WAIT
from mob.errors import (
    FlowKeyUsed,
    FlowNotFound,
    FlowParamsInvalid,
    FlowRunNotFound,
    MailboxFull,
)
from mob.flows.attempts import Question
from mob.flows.definition import FlowDefinition, packed
from mob.flows.records import FlowRunId, FlowStarted, RunState
from mob.flows.results import FlowResult, result_of
from mob.flows.runner import FlowRunner
from mob.messaging import MessageVerbs
from mob.roster import Member
from mob.tables import nearest
from runtime.errors import SessionError, encodable
from runtime.results import TurnResult
from runtime.structured import mistakes_in


class FlowRun:
    """A run of a flow, in the mob whose handle gave it out. Holds nothing that is not in the
    journal: the same run may have several of these."""

    def __init__(self, mob: FlowVerbs, run_id: FlowRunId, flow: str) -> None:
        self._mob = mob
        self.id = run_id
        #: The name of the flow.
        self.flow = flow

    def __repr__(self) -> str:
        return f"<FlowRun {self.flow} {self.id}: {self.state.value}>"

    @property
    def state(self) -> RunState:
        """The recorded state."""
        return self.now().state

    def now(self) -> FlowResult:
        """The run as it stands on disk, without waiting; steps that go on still are told, too."""
        return self._mob._result(self.id)

    async def result(self) -> FlowResult:
        """Park until the run has ended; how it did. Does not raise if it failed: look at `state`.
        Cancelling the wait does not cancel the run.

        Raises:
            MobClosed: the block of `open_mob` was left before the end.
        """
        await self._mob._flows.wait(self.id)
        return self.now()

    async def cancel(self, reason: str = "cancelled") -> bool:
        """End the run, durably, and withdraw what it asked; False if it had ended already.

        Turns that members do for it are interrupted, questions that wait in a queue abandoned.

        Raises:
            VerbRefused: the mob's state does not allow it.
        """
        self._mob._admit("cancel-flow")
        return await self._mob._flows.cancel(self.id, encodable(reason))


class FlowVerbs(MessageVerbs):
    """What `mob.mob.Mob` has of this module."""

    _flows: FlowRunner

    async def run_flow(
        self,
        name: str,
        params: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> FlowRun:
        """Start a run of a flow of the definition; on disk when this returns, its result not
        waited for. A key that was used before gives the run that was started with it, also across
        restarts and when it has ended.

        Raises:
            FlowNotFound: the definition has no such flow.
            FlowParamsInvalid: it takes other parameters.
            FlowKeyUsed: the key was used for another flow, or with other parameters.
            VerbRefused: the mob's state does not allow it.
        """
        self._admit("flow")
        flow = self.definition.flows.get(name)
        if flow is None:
            raise FlowNotFound(name, tuple(self.definition.flows))
        given = json.dumps(filled(name, flow, params or {}), ensure_ascii=False, sort_keys=True)
        given = encodable(given)
        if idempotency_key is not None:
            joined = await self._joined(idempotency_key, name, given)
            if joined is not None:
                return joined
        run_id = FlowRunId(self.realm.ports.ids.new())
        now_ns = self.realm.ports.clock.now_ns()
        record = FlowStarted(run_id, name, packed(flow), given, idempotency_key, now_ns)
        ticket = self.realm.append(record)
        if idempotency_key is not None and not ticket.done:
            self._flows.starting[idempotency_key] = (record, ticket)
        await ticket.wait()
        return FlowRun(self, run_id, name)

    def flow_runs(self, after: str | None = None, limit: int = 100) -> tuple[FlowRun, ...]:
        """At most `limit` runs in the order of starting, ended ones too: those after the run
        `after`, or from the first."""
        page = self._flows.book.page(None if after is None else FlowRunId(after), limit)
        return tuple(FlowRun(self, run.run_id, run.name) for run in page)

    def flow_run(self, run_id: str) -> FlowRun:
        """The run of this id. Raises `FlowRunNotFound`."""
        result = self._result(FlowRunId(run_id))
        return FlowRun(self, result.run_id, result.flow)

    # -- inside ----------------------------------------------------------------------------

    def _result(self, run_id: FlowRunId) -> FlowResult:
        run = self._flows.book.find(run_id)
        if run is None:
            raise FlowRunNotFound(run_id)
        return result_of(run)

    async def _joined(self, key: str, name: str, params: str) -> FlowRun | None:
        """The run that was started with this key; None if there is none."""
        starting = self._flows.starting.get(key)
        if starting is not None:
            record = starting[0]
            known = (record.run_id, record.flow, record.params)
        else:
            run_id = self._flows.book.by_key(key)
            run = None if run_id is None else self._flows.book.find(run_id)
            if run is None:
                return None
            text = json.dumps(run.params, ensure_ascii=False, sort_keys=True)
            known = (run.run_id, run.name, text)
        if known[1:] != (name, params):
            raise FlowKeyUsed(key, known[0])
        if starting is not None:
            await starting[1].wait()
        else:
            await self.realm.store.barrier()
        return FlowRun(self, known[0], name)

    def _ask_for_flow(
        self, member: str, text: str, key: str, wanted: Callable[[], bool]
    ) -> Question:
        """Ask for a step; if the member's mailbox is full, the step waits for room in line."""
        row = self._row(member)
        standing = False

        def put(row: Member, *, granted: bool) -> Callable[[], Awaitable[TurnResult]]:
            nonlocal standing
            # The end of a run makes room by what it withdraws, and may be on its way by now.
            if not wanted():
                raise SessionError("the run has ended, nothing was sent", row.session_id)
            answer = self._question(row, text, None, key, nested=False, granted=granted)
            standing = False
            return answer

        try:
            return Question(put(row, granted=False))
        except MailboxFull:

            async def later() -> TurnResult:
                nonlocal standing
                standing = True
                self.realm.decisions.stir()
                return await (await self._when_room("work", row, text, put, when_full=WAIT))()

            return Question(later, lambda: standing and not self.mailboxes.giving(member))


def filled(name: str, flow: FlowDefinition, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a run of the flow is given, with defaults. Raises `FlowParamsInvalid`."""
    mistakes = tuple(_param_mistakes(flow, given))
    if mistakes:
        raise FlowParamsInvalid(name, mistakes)
    return {key: given.get(key, param.default) for key, param in flow.params.items()}


def _param_mistakes(flow: FlowDefinition, given: Mapping[str, Any]) -> Iterator[str]:
    for key, value in given.items():
        if key not in flow.params:
            yield f"there is no parameter {key!r}, {nearest(key, flow.params)}"
            continue
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            yield f"{key} cannot be written as JSON: {error}"
            continue
        schema = flow.params[key].schema
        reason = None if schema is None else mistakes_in(schema, value)
        if reason is not None:
            yield f"{key}: {reason}"
    for key, param in flow.params.items():
        if param.required and key not in given:
            yield f"{key} is missing"
