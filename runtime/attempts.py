"""The attempts of one turn's model calls: trying again, and going to the next model of the chain.

Owns: carrying out what `runtime.retry` decides, inside the turn, so that nothing the turn has done
is lost; saying what was tried (a record, what the session is doing, the error at the end). Must
not: decide; run for a call that succeeds (the driver makes one when a call has failed).

A turn that has gone to another model stays there: its later calls do not try the first one anew.

Jitter is drawn from the run's id, whose randomness comes from the ids port: so it differs from turn
to turn, and a simulation that plugs ids in has the same delays each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import attrs
import trio

from runtime.errors import ModelError, ModelRefused
from runtime.ids import RunId
from runtime.live import Doing, LiveSession
from runtime.models.base import Model, ModelReply, ModelRequest
from runtime.records import ModelRetried
from runtime.replies import ask
from runtime.retry import DEFAULT_RETRY, Failure, GiveUp, RetryIn, RetryPolicy, decide

if TYPE_CHECKING:
    from runtime.realm import Realm


@attrs.frozen
class Route:
    """One model of a chain: what serves it, how often it is tried, and with which options."""

    model: Model
    retry: RetryPolicy = DEFAULT_RETRY
    options: Mapping[str, Any] = attrs.field(factory=dict)


class Attempts:
    """What a turn's model calls have met so far, once one has failed."""

    __slots__ = ("_live", "_realm", "_route", "_routes", "_run_id")

    def __init__(
        self, realm: Realm, live: LiveSession, run_id: RunId, routes: tuple[Route, ...]
    ) -> None:
        self._realm = realm
        self._live = live
        self._run_id = run_id
        self._routes = routes
        self._route = 0

    @property
    def route(self) -> Route:
        """The model that the next call goes to."""
        return self._routes[self._route]

    async def call(
        self, request: ModelRequest, step: int, failed: ModelError | None = None
    ) -> ModelReply:
        """Run one call to its end; `failed` is what its first attempt, made elsewhere, met.

        Raises:
            ModelError: the one the last attempt met, its message saying what was tried before.
            Exception: whatever else a model raised; that is not tried again.
        """
        live = self._live
        began_s = live.since if failed is not None else trio.current_time()
        attempt, tried = (1, 1) if failed is not None else (0, 0)
        while True:
            if failed is None:
                attempt, tried = attempt + 1, tried + 1
                live.now_doing(Doing.MODEL)
                try:
                    return await self._once(request)
                except ModelError as error:
                    failed = error
            route = self.route
            elapsed_s = trio.current_time() - began_s
            decision = decide(
                route.retry,
                Failure(
                    failed.retryable,
                    attempt,
                    elapsed_s,
                    failed.retry_after_s,
                    isinstance(failed, ModelRefused),
                ),
                left=len(self._routes) - self._route - 1,
                draw=self._draw(step, tried),
            )
            if isinstance(decision, GiveUp):
                if tried > 1:
                    _say_what_was_tried(failed, tried, elapsed_s, decision.reason)
                raise failed
            delay_s, then = 0.0, route.model.name
            if isinstance(decision, RetryIn):
                delay_s = decision.delay_s
            else:
                self._route += 1
                attempt = 0
                then = self.route.model.name
            self._tell(step, tried, route.model.name, failed, delay_s, then)
            failed = None
            await trio.sleep(delay_s)

    async def _once(self, request: ModelRequest) -> ModelReply:
        route, live = self.route, self._live
        request = attrs.evolve(request, options=route.options)
        return await ask(route.model, request, live.emit)

    def _tell(
        self, step: int, tried: int, model: str, failed: ModelError, delay_s: float, then: str
    ) -> None:
        """Let people see it: in the journal, and in what the session is doing."""
        live = self._live
        now_ns = self._realm.ports.clock.now_ns()
        self._realm.append(
            ModelRetried(
                live.head.session_id,
                self._run_id,
                step,
                tried,
                model,
                str(failed),
                round(delay_s * 1000),
                then,
                now_ns,
            )
        )
        live.now_doing(Doing.RETRYING, f"{then}: {failed}", until_s=trio.current_time() + delay_s)

    def _draw(self, step: int, tried: int) -> float:
        digest = hashlib.blake2b(f"{self._run_id}/{step}/{tried}".encode(), digest_size=4)
        return int.from_bytes(digest.digest(), "big") / 0xFFFFFFFF


def _say_what_was_tried(error: ModelError, tried: int, elapsed_s: float, reason: str) -> None:
    error.args = (f"{error} (tried {tried} times in {elapsed_s:.1f} s; {reason})",)
