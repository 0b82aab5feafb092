"""The tool calls of one batch, run at the same time.

Owns: the nursery of a batch, and handing out what had finished of one that is cut off. Must not:
decide which calls run (`runtime.driver` and `runtime.asking` do) or journal anything itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs
import trio

from runtime.asking import Asking, as_edited
from runtime.hooks import TurnHooks
from runtime.ids import RunId
from runtime.live import Doing, LiveSession
from runtime.messages import ToolCall, ToolResult
from runtime.tools.base import Toolbox, ToolContext, unknown_outcome

if TYPE_CHECKING:
    from runtime.realm import Realm


@attrs.frozen(eq=False)
class Calls:
    """What the calls of a turn run with. `keep` is given what had finished of a batch that is cut
    off; `asking` is None where no call needs an approval."""

    realm: Realm
    live: LiveSession
    run_id: RunId
    toolbox: Toolbox
    hooks: TurnHooks | None
    asking: Asking | None
    keep: Callable[[tuple[ToolResult, ...]], None]

    async def run(
        self,
        calls: tuple[ToolCall, ...],
        does: Sequence[ToolCall | ToolResult],
        resumed: bool = False,
    ) -> tuple[ToolResult, ...]:
        """Run `calls` at the same time, each as `does` says; results in the order of the calls.
        In a turn that is `resumed` only what is idempotent is run."""
        live, toolbox = self.live, self.toolbox
        live.now_doing(Doing.TOOL, ", ".join(dict.fromkeys(call.name for call in calls)))
        results: list[ToolResult | None] = [None] * len(calls)

        async def run_one(index: int, call: ToolCall) -> None:
            result = await self._one(call)
            if self.realm.failed is not None:
                nursery.cancel_scope.cancel()
                return
            edited = call is not calls[index]
            results[index] = as_edited(result, call.arguments) if edited else result
            if not toolbox.waits_for_others(call.name):
                live.calls -= 1
                self.realm.decisions.stir()

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
            if self.realm.failed is not None:
                raise self.realm.failed
            whole = True
        finally:
            live.calls = 0
            if not whole:
                self.keep(tuple([result for result in results if result is not None]))
        return tuple([result for result in results if result is not None])

    async def _one(self, call: ToolCall) -> ToolResult:
        if self.hooks is not None:
            return await self.hooks.around_tool(call, self._run)
        return await self._run(call)

    async def _run(self, call: ToolCall) -> ToolResult:
        if self.asking is not None and (barred := self.asking.barred(call)) is not None:
            return barred
        context = ToolContext(self.live.head.session_id, self.run_id, call, self.realm.runner)
        return await self.toolbox.run(context)
