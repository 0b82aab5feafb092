"""What a supervisor decides when a member's activation ends badly. Pure.

Owns: restart policies, restart intensity, backoff. Must not: import Trio, read a clock, restart
anything: `mob.activation` carries the decision out.

The vocabulary and the default numbers' shape are OTP's: a *restart intensity* of `max_restarts`
within `within_s` seconds; one more failure than that and the supervisor gives up.
"""

from __future__ import annotations

import enum
from typing import Final, TypeAlias

import attrs


class RestartWhen(enum.Enum):
    """When a failed activation is started again."""

    NEVER = "never"
    #: After a crash, or a failure that may pass. One that cannot pass (no API key) is given up.
    ON_FAILURE = "on-failure"
    #: After any end: also one that cannot pass, and when an autonomous member has come to rest.
    ALWAYS = "always"


@attrs.frozen
class RestartPolicy:
    """How often, how soon. Delays double from `backoff_s` up to `max_backoff_s`, in seconds."""

    when: RestartWhen = RestartWhen.ON_FAILURE
    max_restarts: int = 3
    within_s: float = 60.0
    backoff_s: float = 0.2
    max_backoff_s: float = 30.0


DEFAULT_POLICY: Final = RestartPolicy()


@attrs.frozen
class Exit:
    """How an activation ended. `at_s` is on the clock that `recent` is on."""

    cause: str
    retryable: bool
    at_s: float


@attrs.frozen
class Restart:
    """Start it again after `delay_s`. `recent` is what to pass in with the next exit."""

    delay_s: float
    recent: tuple[float, ...]


@attrs.frozen
class GiveUp:
    """Do not start it again; `reason` is for people."""

    reason: str


Decision: TypeAlias = Restart | GiveUp


def decide(policy: RestartPolicy, recent: tuple[float, ...], exit_: Exit) -> Decision:
    """What to do about `exit_`, given the times of the restarts before it (ascending, seconds).

    The count forgets restarts older than `within_s`, so a member that has been well for that long
    starts afresh, backoff included.
    """
    if policy.when is RestartWhen.NEVER:
        return GiveUp(f"{exit_.cause} (restart policy: never)")
    if not exit_.retryable and policy.when is not RestartWhen.ALWAYS:
        return GiveUp(exit_.cause)
    recent = tuple(at for at in recent if exit_.at_s - at < policy.within_s)
    if len(recent) >= policy.max_restarts:
        return GiveUp(
            f"{exit_.cause} (restarted {len(recent)} times within {policy.within_s:g} s, which is"
            " the limit)"
        )
    # Capped because 2.0 ** 1024 overflows; by then any delay has long been at its maximum.
    delay_s = min(policy.backoff_s * 2.0 ** min(len(recent), 1000), policy.max_backoff_s)
    return Restart(delay_s, (*recent, exit_.at_s))
