"""The tool calls of one turn, batch by batch: at once what needs no approval, the rest later.

Owns: the nursery of a batch, handing out what had finished of one that is not whole, and the end of
a driver whose turn waits. Must not: say what a call that was asked about may do (`runtime.asking`
does).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import trio

from runtime.approvals import ApprovalAsked
from runtime.asking import Asking, TurnWaits, as_edited
from runtime.hooks import TurnHooks
from runtime.ids import RunId
from runtime.live import Doing, LiveSession
from runtime.messages import AssistantMessage, Message, ToolCall, ToolResult
from runtime.tools.base import Toolbox, ToolContext, unknown_outcome
from stores import StoreError, Ticket

if TYPE_CHECKING:
    from runtime.realm import Realm


@attrs.frozen(eq=False)
class Calls:
    """What the calls of a turn run with. `queue` journals a record; `keep` journals what has
    finished of a batch that is not whole, so that it is never repeated (None: nothing has)."""

    realm: Realm
    live: LiveSession
    run_id: RunId
    toolbox: Toolbox
    hooks: TurnHooks | None
    queue: Callable[[Any], Ticket]
    keep: Callable[[tuple[ToolResult, ...]], Ticket | None]

    def questions(self, reply: Message) -> list[ApprovalAsked]:
        """What is to be asked about the calls of this reply, in one commit with it."""
        assert isinstance(reply, AssistantMessage)
        return self._asking().questions(reply.tool_calls)

    async def batch(self, calls: tuple[ToolCall, ...], resumed: bool) -> tuple[ToolResult, ...]:
        """Run a batch; return the results that are not kept yet, in the order of their calls. In a
        turn that is `resumed` only what is idempotent is repeated.

        Raises:
            TurnWaits: nothing is left but calls that wait, and what has finished is on disk.
        """
        since_s = self._since_s() if resumed else 0.0
        if not (self.toolbox.approve or self.realm.state.approvals):
            return await self._run(calls, calls, resumed, None, since_s)
        asking = self._asking()
        while True:
            await trio.lowlevel.checkpoint_if_cancelled()
            ready, waiting = asking.sort(calls)
            if not ready:
                raise TurnWaits
            does = await asking.begin(ready, resumed)
            results = await self._run(ready, does, False, asking, since_s)
            if not waiting:
                return results
            ticket = self.keep(results)
            assert ticket is not None
            await ticket.wait()
            calls, resumed, since_s = waiting, False, 0.0

    def _since_s(self) -> float:
        """How long ago the calls were made that a turn in flight was cut off in."""
        partial = self.live.head.partial
        if partial is None or not partial.called_at_ns:
            return 0.0
        return max(self.realm.ports.clock.now_ns() - partial.called_at_ns, 0) / 1e9

    def _asking(self) -> Asking:
        return Asking(self.realm, self.live, self.run_id, self.toolbox, self.queue)

    async def _run(
        self,
        calls: tuple[ToolCall, ...],
        does: Sequence[ToolCall | ToolResult],
        resumed: bool,
        asking: Asking | None,
        since_s: float,
    ) -> tuple[ToolResult, ...]:
        """Run `calls` at the same time, each as `does` says; results in the order of the calls."""
        live, toolbox = self.live, self.toolbox
        live.now_doing(Doing.TOOL, ", ".join(dict.fromkeys(call.name for call in calls)))
        results: list[ToolResult | None] = [None] * len(calls)

        async def run_one(index: int, call: ToolCall) -> None:
            result = await self._one(call, asking, since_s)
            if self.realm.failed is not None:
                nursery.cancel_scope.cancel()
                return
            edited = call is not calls[index]
            results[index] = as_edited(result, call.arguments) if edited else result
            if not toolbox.waits_for_others(call.name):
                live.calls -= 1
            self.realm.decisions.stir()  # what is left of the batch may wait for others only

        whole = False
        try:
            async with trio.open_nursery() as nursery:
                for index, call in enumerate(does):
                    if isinstance(call, ToolResult):
                        results[index] = call
                    elif resumed and not toolbox.idempotent(call.name):
                        results[index] = unknown_outcome(call)
                    else:
                        live.calls += not toolbox.waits_for_others(call.name)
                        nursery.start_soon(run_one, index, call)
                if not live.calls:  # from here on it does no more than wait for others
                    self.realm.decisions.stir()
            if self.realm.failed is not None:
                raise self.realm.failed
            whole = True
        finally:
            live.calls = 0
            if not whole:
                self._keep(tuple([result for result in results if result is not None]))
        return tuple([result for result in results if result is not None])

    def _keep(self, results: tuple[ToolResult, ...]) -> None:
        try:
            self.keep(results)
        except StoreError:
            pass  # the store is gone, and whatever cut the batch off goes on

    async def _one(self, call: ToolCall, asking: Asking | None, since_s: float) -> ToolResult:
        async def run_tool(call: ToolCall) -> ToolResult:
            if asking is not None and (barred := asking.barred(call)) is not None:
                return barred
            head, runner = self.live.head, self.realm.runner
            context = ToolContext(head.session_id, self.run_id, call, runner, since_s)
            return await self.toolbox.run(context)

        if self.hooks is not None:
            return await self.hooks.around_tool(call, run_tool)
        return await run_tool(call)
