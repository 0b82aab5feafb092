"""The calls of one turn that wait for approval: asking, and what each may do now.

Owns: which calls of a reply are asked about, and what a batch does with what was decided. Must not:
decide (`runtime.deciding`), run a call (`runtime.driver`).

A question is journalled in one commit with the reply that made the call, and an approved call is
journalled as begun before it begins. So after a crash, of each open call one knows: it was asked
about and nobody decided (it waits on), it was approved and has not begun (it runs), it has begun or
needed no approval (its outcome is unknown: it is repeated only if that is harmless).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs

from runtime.approvals import Approval, ApprovalAsked, ApprovalUsed, Verdict
from runtime.ids import RunId, ToolCallId
from runtime.live import LiveSession
from runtime.messages import ToolCall, ToolOutcome, ToolResult
from runtime.tools.base import Toolbox, as_text, unknown_outcome
from stores import Ticket

if TYPE_CHECKING:
    from runtime.realm import Realm


class TurnWaits(Exception):
    """The turn waits for a decision about its calls and is in flight in the journal; a new driver
    takes it up once there is one."""


class Asking:
    """The questions of one turn."""

    __slots__ = ("_live", "_queue", "_realm", "_run_id", "_toolbox")

    def __init__(
        self,
        realm: Realm,
        live: LiveSession,
        run_id: RunId,
        toolbox: Toolbox,
        queue: Callable[[ApprovalUsed], Ticket],
    ) -> None:
        self._realm = realm
        self._queue = queue
        self._live = live
        self._run_id = run_id
        self._toolbox = toolbox

    def questions(self, calls: Sequence[ToolCall]) -> list[ApprovalAsked]:
        """What is to be asked about these calls."""
        head = self._live.head
        asker = head.title or head.agent_id or head.session_id
        made = []
        for call in calls:
            parameters = self._toolbox.asks(call)
            if parameters is not None:
                schema = json.dumps(parameters, ensure_ascii=False, default=str)
                now = self._realm.ports.clock.now_ns()
                made.append(
                    ApprovalAsked(
                        head.session_id,
                        self._run_id,
                        call.id,
                        call.name,
                        call.arguments,
                        asker,
                        schema,
                        now,
                    )
                )
        return made

    def _asked(self) -> dict[ToolCallId, Approval]:
        return self._realm.state.approvals.of(self._live.head.session_id, self._run_id)

    def sort(self, calls: Sequence[ToolCall]) -> tuple[tuple[ToolCall, ...], tuple[ToolCall, ...]]:
        """Those that may be gone on with now, and those that wait."""
        asked = self._asked()
        waits = {each for each, approval in asked.items() if approval.waits}
        ready = tuple([call for call in calls if call.id not in waits])
        return ready, tuple([call for call in calls if call.id in waits])

    async def begin(self, calls: Sequence[ToolCall], resumed: bool) -> list[ToolCall | ToolResult]:
        """For each of these calls what to run, with its edited arguments, or its result at once.
        What was approved is on disk as begun when this returns."""
        asked = self._asked()
        known = [(call, asked.get(call.id)) for call in calls]
        fresh = tuple(
            [
                call.id
                for call, approval in known
                if approval is not None
                and approval.verdict is Verdict.APPROVED
                and not approval.begun
            ]
        )
        if fresh:
            head, now = self._live.head, self._realm.ports.clock.now_ns()
            record = ApprovalUsed(head.session_id, self._run_id, fresh, now)
            await self._queue(record).wait()
        return [self._what(call, approval, resumed) for call, approval in known]

    def _what(
        self, call: ToolCall, approval: Approval | None, resumed: bool
    ) -> ToolCall | ToolResult:
        if approval is not None and approval.verdict is Verdict.DENIED:
            reason = f": {approval.reason}" if approval.reason else ""
            text = as_text(f"error: {approval.by} denied this call{reason}")
            return ToolResult(call.id, call.name, text, ToolOutcome.DENIED)
        begun = resumed if approval is None else approval.begun
        if begun and not self._toolbox.idempotent(call.name):
            return unknown_outcome(call)
        if approval is None or approval.edited is None:
            return call
        return attrs.evolve(call, arguments=approval.edited)

    def barred(self, call: ToolCall) -> ToolResult | None:
        """Why the call may not run as it is now: it was not asked about, and needs to be. A hook
        has changed it, or whoever wrote the mob file."""
        if call.id in self._asked() or self._toolbox.asks(call) is None:
            return None
        text = f"error: as it is now this call of {call.name!r} needs an approval that it has not"
        return ToolResult(call.id, call.name, text, ToolOutcome.DENIED)


def as_edited(result: ToolResult, arguments: str) -> ToolResult:
    """The result of a call that ran with other arguments than its model gave: that is said."""
    text = as_text(f"[it was approved with other arguments: {arguments}]\n{result.text}")
    return attrs.evolve(result, text=text)
