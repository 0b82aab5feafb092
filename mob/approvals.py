"""The verbs of a mob about tool calls that wait for approval.

Owns: `approvals`, `approve`, `deny`, `wait_blocked`, `wait_idle` on the handle: knowing when
nothing is under way, or nothing but decisions is waited for. Must not: keep anything
(`runtime.deciding` and the fold do).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from mob.core import MobCore
from mob.flows.runner import FlowRunner
from runtime.approvals import Approval
from stores import StoreError


class ApprovalVerbs(MobCore):
    """What `mob.mob.Mob` has of this module."""

    _flows: FlowRunner

    def approvals(self) -> tuple[Approval, ...]:
        """The calls that wait for a decision, of members and all below them, oldest first."""
        return self.realm.decisions.waiting()

    async def approve(
        self, call_key: str, *, by: str, arguments: str | dict[str, Any] | None = None
    ) -> Approval:
        """Let the call run, with these `arguments` instead of the model's if they are given.

        On disk when this returns; the turn goes on at once, or when the mob is resumed. The first
        decision counts; the same one again is answered as the first was.

        Raises:
            ApprovalNotFound: no call of a turn in flight waits under this key.
            ApprovalRefused: it was decided otherwise, or the arguments do not fit their schema.
            VerbRefused: the mob's state does not allow it.
        """
        self._admit("decide")
        return await self.realm.decisions.approve(call_key, by=by, arguments=arguments)

    async def deny(self, call_key: str, *, by: str, reason: str = "") -> Approval:
        """Let the call not run; its model reads `by`, the reason, and goes on. On disk when this
        returns; raises as `approve`."""
        self._admit("decide")
        return await self.realm.decisions.deny(call_key, by=by, reason=reason)

    async def wait_idle(self) -> None:
        """Park until no member is at work, no child in the background, and no run of a flow does
        more than wait for members: one between two steps, or two attempts, has something to do.

        A turn that waits for approval is nobody's work: see `approvals` when this returns. In a
        stopped mob nobody is at work. Cancelling changes nothing.
        """
        with self.realm.decisions.watch() as stirred:
            while True:
                await self._activations.quiet()
                if self._flows.only_wait():
                    return
                await stirred()

    async def wait_blocked(self) -> None:
        """Park until calls wait for approval and nothing else is under way: members, children and
        tools that work, or wait for a model, are done or wait for those calls themselves. Where no
        call ever waits it does not return. Cancelling changes nothing."""
        decisions = self.realm.decisions
        with decisions.watch() as stirred:
            while True:
                if self._blocked():
                    # What only seems to rest, between two of its steps, has them on their way.
                    # Calls that have been handed out begin before it, and whoever is woken by the
                    # same commit, as by a child's being made, goes first.
                    await trio.lowlevel.checkpoint()
                    await self.realm.store.barrier()
                    await trio.lowlevel.checkpoint()
                    if self._blocked():
                        return
                await stirred()

    def _blocked(self) -> bool:
        waits = bool(self.realm.decisions) and self._activations.only_wait()
        return waits and self._flows.only_wait()

    async def _settled(self) -> None:
        """Park until nothing is under way any more that ends without a decision. Raises what the
        store raises, as it is."""
        failed: list[StoreError] = []
        async with trio.open_nursery() as nursery:

            async def first(wait: Callable[[], Awaitable[None]]) -> None:
                try:
                    await wait()
                except StoreError as error:
                    failed.append(error)
                nursery.cancel_scope.cancel()

            nursery.start_soon(first, self._activations.quiet)
            nursery.start_soon(first, self.wait_blocked)
        if failed:
            raise failed[0]
