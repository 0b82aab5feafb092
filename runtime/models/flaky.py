"""``sim:flaky``: a simulated model of a bad day at the provider.

Owns: `FlakyModel`. Must not: draw on anything but the seed and how many calls there were before.

What it says is right; what goes wrong is what providers do: they answer 429 (too many requests) to
everybody for a while, and some calls take much longer than others. Storms come in runs of calls, as
rate limits do, and not call by call.
"""

from __future__ import annotations

from typing import Any

import attrs
import trio

from runtime.errors import ModelError
from runtime.models.base import Emit, ModelReply, ModelRequest
from runtime.models.sim import Draws, EchoModel

_STEPS = 1_000_000_000


class FlakyModel(EchoModel):
    """Says the last message's text, as ``sim:echo``, when it does not fail.

    Options: ``fails`` (the share of calls that are refused with 429, default 0), ``storm`` (calls
    come in runs of so many, which are refused all or none; default 1), ``retry_after_s`` (what it
    asks to wait, default 0), ``slow`` (the share of the others that take long, default 0),
    ``slow_s`` (how long, default 1), ``latency_s`` (of the rest, default 0) and ``seed``. It counts
    its calls: the same calls in the same order meet the same weather.
    """

    name = "sim:flaky"

    def __init__(self, *, seed: int | str = 0) -> None:
        self._seed = seed
        self._calls = 0

    async def generate(self, request: ModelRequest, emit: Emit | None = None) -> ModelReply:
        """Say it, or be refused.

        Raises:
            ModelError: with status 429, retryable: there is a storm.
        """
        options = request.options
        number, self._calls = self._calls, self._calls + 1
        seed = options.get("seed", self._seed)
        storm = max(1, int(options.get("storm", 1)))
        if _hit(Draws(seed, f"storm {number // storm}"), options.get("fails", 0.0)):
            await trio.lowlevel.checkpoint()
            raise ModelError(
                "sim:flaky: too many requests",
                provider="sim",
                retryable=True,
                status=429,
                retry_after_s=float(options.get("retry_after_s", 0.0)),
            )
        slow = _hit(Draws(seed, f"slow {number}"), options.get("slow", 0.0))
        await trio.sleep(float(options.get("slow_s", 1.0) if slow else options.get("latency_s", 0)))
        return attrs.evolve(await super().generate(request, emit), model=self.name)


def _hit(draws: Draws, share: Any) -> bool:
    return draws.below(_STEPS) < float(share) * _STEPS
