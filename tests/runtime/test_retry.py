"""The retry policy: its decisions row by row, and what holds for any failure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.retry import Decision, Failure, Fallback, GiveUp, RetryIn, RetryPolicy, decide

POLICY = RetryPolicy(attempts=3, backoff_s=1.0, max_backoff_s=10.0, within_s=100.0)
LIMIT = GiveUp("3 attempts is the limit")
HOPELESS = GiveUp("trying again cannot help")
LATE = GiveUp("100 s for one call is the limit")

#: Failure, models left, draw, decision.
TABLE: list[tuple[Failure, int, float, Decision]] = [
    (Failure(True, 1, 0), 0, 1.0, RetryIn(1.0)),
    (Failure(True, 1, 0), 0, 0.0, RetryIn(0.5)),
    (Failure(True, 2, 0), 0, 1.0, RetryIn(2.0)),
    (Failure(True, 2, 0), 1, 1.0, RetryIn(2.0)),
    # The attempts are used up.
    (Failure(True, 3, 0), 0, 1.0, LIMIT),
    (Failure(True, 3, 0), 1, 1.0, Fallback()),
    # It cannot pass.
    (Failure(False, 1, 0), 0, 1.0, HOPELESS),
    (Failure(False, 1, 0), 2, 1.0, Fallback()),
    (Failure(False, 1, 0, refused=True), 2, 1.0, GiveUp("the model declined the content")),
    # The provider says when.
    (Failure(True, 1, 0, 7.0), 0, 1.0, RetryIn(7.0)),
    (Failure(True, 1, 0, 0.1), 0, 1.0, RetryIn(1.0)),
    (Failure(True, 1, 0, 11.0), 0, 1.0, RetryIn(10.0)),
    (Failure(True, 1, 0, 10.0), 1, 1.0, RetryIn(10.0)),
    (Failure(True, 1, 0, 11.0), 1, 1.0, Fallback()),
    # The call's time is used up.
    (Failure(True, 1, 99.0), 0, 1.0, RetryIn(1.0)),
    (Failure(True, 1, 99.1), 0, 1.0, LATE),
    (Failure(True, 1, 99.1), 1, 1.0, Fallback()),
]


@pytest.mark.parametrize(("failure", "left", "draw", "decision"), TABLE)
def test_what_is_decided(failure: Failure, left: int, draw: float, decision: Decision) -> None:
    assert decide(POLICY, failure, left=left, draw=draw) == decision


policies = st.builds(
    RetryPolicy,
    st.integers(1, 9),
    st.floats(0, 1e3),
    st.floats(0, 1e3),
    st.floats(0, 1e5),
)


@given(policies, st.integers(0, 3), st.floats(0, 1), st.none() | st.floats(0, 1e9))
def test_a_call_that_always_fails_ends_within_its_bounds(
    policy: RetryPolicy, left: int, draw: float, retry_after_s: float | None
) -> None:
    """Issue: total attempts bounded, retry-after honoured and capped."""
    attempt, tried, elapsed_s = 1, 1, 0.0
    bound = policy.attempts * (left + 1)
    while True:
        failure = Failure(True, attempt, elapsed_s, retry_after_s)
        decision = decide(policy, failure, left=left, draw=draw)
        if isinstance(decision, GiveUp):
            break
        if isinstance(decision, Fallback):
            attempt, left = 1, left - 1
        else:
            assert min(retry_after_s or 0, policy.max_backoff_s) <= decision.delay_s
            assert decision.delay_s <= policy.max_backoff_s
            attempt, elapsed_s = attempt + 1, elapsed_s + decision.delay_s
        tried += 1
    assert tried <= bound
    assert elapsed_s <= policy.within_s


def test_delays_double_up_to_the_most_however_many_there_are() -> None:
    policy = RetryPolicy(attempts=9999, backoff_s=1.0, max_backoff_s=60.0)
    delays = [decide(policy, Failure(True, n, 0), left=0, draw=1.0) for n in (1, 2, 6, 7, 8, 9000)]
    assert delays == [RetryIn(1), RetryIn(2), RetryIn(32), RetryIn(60), RetryIn(60), RetryIn(60)]


def test_a_policy_without_an_attempt_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        RetryPolicy(attempts=0)
