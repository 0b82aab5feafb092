"""What a supervisor decides, as data."""

from __future__ import annotations

import math
from itertools import pairwise

import attrs
from hypothesis import example, given
from hypothesis import strategies as st

from mob.supervision import Exit, GiveUp, Restart, RestartPolicy, RestartWhen, decide

POLICIES = st.builds(
    RestartPolicy,
    when=st.just(RestartWhen.ON_FAILURE),
    max_restarts=st.integers(0, 8),
    within_s=st.floats(0.001, 100),
    backoff_s=st.floats(0, 10),
    max_backoff_s=st.floats(0, 20),
)
#: Seconds from one exit to the next.
GAPS = st.lists(st.floats(0, 60), max_size=40)


@attrs.frozen
class Life:
    """What became of a member that kept failing: its exits and what was decided on each."""

    exits: list[float]
    decided: list[Restart | GiveUp]

    @property
    def restarts(self) -> list[float]:
        """When it was restarted."""
        pairs = zip(self.exits, self.decided, strict=True)
        return [at for at, decision in pairs if isinstance(decision, Restart)]


def _live(policy: RestartPolicy, gaps: list[float]) -> Life:
    """Fail again and again, each time so long after the last. A give-up fails one input only, so
    the member goes on and its count with it."""
    recent: tuple[float, ...] = ()
    life = Life([], [])
    at_s = 1000.0
    for gap in gaps:
        at_s += gap
        decision = decide(policy, recent, Exit("boom", True, at_s))
        if isinstance(decision, Restart):
            recent = decision.recent
        life.exits.append(at_s)
        life.decided.append(decision)
    return life


@given(POLICIES, GAPS)
@example(RestartPolicy(max_restarts=2, within_s=10), [1.0] * 30)
def test_the_intensity_is_never_exceeded_in_any_window(
    policy: RestartPolicy, gaps: list[float]
) -> None:
    """CONTRACTS 6.8."""
    restarts = _live(policy, gaps).restarts
    for end in restarts:
        window = [at for at in restarts if 0 <= end - at < policy.within_s]
        assert len(window) <= policy.max_restarts


@given(POLICIES, GAPS)
def test_giving_up_is_only_for_a_full_window(policy: RestartPolicy, gaps: list[float]) -> None:
    """CONTRACTS 6.8: no exit is given up while there is a restart left."""
    life = _live(policy, gaps)
    restarts = life.restarts
    for at, decision in zip(life.exits, life.decided, strict=True):
        before = [each for each in restarts if each < at and at - each < policy.within_s]
        if isinstance(decision, GiveUp) and at not in restarts:
            assert len(before) >= policy.max_restarts
            assert "boom" in decision.reason
            assert "limit" in decision.reason


@given(POLICIES, st.integers(1, 8))
def test_delays_double_up_to_the_cap(policy: RestartPolicy, count: int) -> None:
    """CONTRACTS 6.8: monotone and capped, over exits in one window."""
    policy = attrs.evolve(policy, max_restarts=count)
    delays = [each.delay_s for each in _live(policy, [0.0] * count).decided]  # type: ignore[union-attr]
    assert delays[0] == min(policy.backoff_s, policy.max_backoff_s)
    assert all(0 <= delay <= policy.max_backoff_s for delay in delays)
    for one, other in pairwise(delays):
        assert other == min(one * 2, policy.max_backoff_s)


@given(POLICIES, GAPS)
def test_a_member_that_was_well_for_long_starts_afresh(
    policy: RestartPolicy, gaps: list[float]
) -> None:
    """CONTRACTS 6.8: old restarts are forgotten, backoff included, and no list grows."""
    policy = attrs.evolve(policy, max_restarts=max(1, policy.max_restarts))
    life = _live(policy, [*gaps, policy.within_s * 2])
    last = life.decided[-1]
    assert isinstance(last, Restart)
    assert last.delay_s == min(policy.backoff_s, policy.max_backoff_s)
    assert len(last.recent) == 1
    assert all(len(d.recent) <= policy.max_restarts for d in life.decided if isinstance(d, Restart))


@given(POLICIES, GAPS, st.floats(0, 1e6))
def test_what_cannot_pass_is_never_restarted(
    policy: RestartPolicy, gaps: list[float], at_s: float
) -> None:
    """CONTRACTS 6.8."""
    recent = tuple(sorted(gaps))
    assert decide(policy, recent, Exit("no key", False, at_s)) == GiveUp("no key")
    never = attrs.evolve(policy, when=RestartWhen.NEVER)
    for retryable in (True, False):
        decision = decide(never, recent, Exit("boom", retryable, at_s))
        assert isinstance(decision, GiveUp)
        assert decision.reason.startswith("boom")


def test_always_restarts_also_after_what_cannot_pass() -> None:
    """CONTRACTS 6.8: as often as the intensity allows."""
    policy = RestartPolicy(when=RestartWhen.ALWAYS, max_restarts=1)
    first = decide(policy, (), Exit("no key", False, 1.0))
    assert isinstance(first, Restart)
    assert isinstance(decide(policy, first.recent, Exit("no key", False, 2.0)), GiveUp)


def test_any_number_of_restarts_has_a_delay() -> None:
    """A policy that allows thousands of restarts must not overflow on the way there."""
    policy = RestartPolicy(max_restarts=5000, within_s=1e9, backoff_s=0.2, max_backoff_s=30.0)
    decision = decide(policy, tuple(float(at) for at in range(4000)), Exit("boom", True, 4000.0))
    assert isinstance(decision, Restart)
    assert decision.delay_s == 30.0
    huge = attrs.evolve(policy, backoff_s=1e300, max_backoff_s=math.inf)
    assert isinstance(decide(huge, (1.0,) * 2000, Exit("boom", True, 2.0)), Restart)
