"""What to do about a model call that failed: wait and try again, go to another model, or give up.

Owns: the retry policy and the decision, as data. Must not: import Trio, read a clock, draw a random
number, call anything: `runtime.attempts` carries the decision out.

Theory. A failure that may pass (too many requests, an overloaded server, silence) is tried again at
the same model after a delay that doubles, with jitter: half of it is fixed and half drawn, so that
a swarm that was turned away together does not come back together (AWS Architecture Blog,
"Exponential Backoff and Jitter"; theirs is "equal jitter"). A provider that says when to come back
is believed, up to `max_backoff_s`. When the attempts are used up, or the failure cannot pass, the
next model of the chain is asked. A refusal of the content is an answer: no other model is asked.
Every loop ends: each model of a chain has `attempts`, and each call `within_s` for all of it.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import attrs


@attrs.frozen
class RetryPolicy:
    """How often one model is tried in one call, and how soon. Delays are seconds.

    `attempts` counts the first one. The delay before attempt n + 1 is ``backoff_s * 2 ** (n - 1)``,
    at most `max_backoff_s`. After `within_s` from the call's beginning nothing is tried again.
    """

    attempts: int = attrs.field(default=5)
    backoff_s: float = 0.5
    max_backoff_s: float = 60.0
    within_s: float = 600.0

    @attempts.validator
    def _check_attempts(self, _: Any, value: int) -> None:
        if value < 1:
            raise ValueError(f"attempts counts the first one, so it is at least 1, not {value}")


#: Four retries within 4 to 8 seconds ride out what passes soon; a provider's own retry-after is
#: mostly below the minute that its quotas are counted in.
DEFAULT_RETRY: Final = RetryPolicy()


@attrs.frozen
class Failure:
    """A failed attempt. `attempt` counts from 1 at this model, `elapsed_s` from the call's
    beginning, whatever model it was at. `refused` is whether the model declined the content."""

    retryable: bool
    attempt: int
    elapsed_s: float
    retry_after_s: float | None = None
    refused: bool = False


@attrs.frozen
class RetryIn:
    """Try the same model again after `delay_s`."""

    delay_s: float


@attrs.frozen
class Fallback:
    """Ask the next model of the chain now."""


@attrs.frozen
class GiveUp:
    """The call has failed; `reason` says which bound was reached."""

    reason: str


Decision: TypeAlias = RetryIn | Fallback | GiveUp


def decide(policy: RetryPolicy, failure: Failure, *, left: int, draw: float) -> Decision:
    """What to do now. `left` counts the models after this one in the chain; `draw` is a number from
    0 to 1 that was drawn for this attempt.

    A provider that asks for more patience than `max_backoff_s` is not asked again as long as there
    is another one: coming back sooner than it said would only be turned away.
    """
    if failure.refused:
        return GiveUp("the model declined the content")
    if not failure.retryable:
        return Fallback() if left else GiveUp("trying again cannot help")
    asked_s = failure.retry_after_s or 0.0
    if left and (failure.attempt >= policy.attempts or asked_s > policy.max_backoff_s):
        return Fallback()
    if failure.attempt >= policy.attempts:
        return GiveUp(f"{policy.attempts} attempts is the limit")
    # Capped because 2.0 ** 1024 overflows; by then any delay has long been at its maximum.
    backoff_s = min(policy.backoff_s * 2.0 ** min(failure.attempt - 1, 1000), policy.max_backoff_s)
    delay_s = max(backoff_s * (0.5 + draw / 2), min(asked_s, policy.max_backoff_s))
    if failure.elapsed_s + delay_s > policy.within_s:
        return Fallback() if left else GiveUp(f"{policy.within_s:g} s for one call is the limit")
    return RetryIn(delay_s)
