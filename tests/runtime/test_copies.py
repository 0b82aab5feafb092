"""Which live copies of sessions stay in memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.copies import LiveCopies
from runtime.ids import SessionId
from runtime.live import LiveSession


def a_copy(name: str, busy: bool) -> LiveSession:
    head = SimpleNamespace(session_id=SessionId(name))
    return cast(LiveSession, SimpleNamespace(head=head, scope=object() if busy else None))


@given(st.lists(st.tuples(st.sampled_from(["use", "rest", "keep", "begin"]), st.integers(0, 9))))
def test_busy_ones_stay_and_the_rest_is_bounded(steps: list[tuple[str, int]]) -> None:
    """CONTRACTS 2.7: none with a turn in flight is let go, the one just used neither."""
    copies = LiveCopies()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runtime.copies.LIVE_SESSIONS", 3)
        for verb, number in steps:
            name = SessionId(str(number))
            found = copies.use(name)
            if verb in ("keep", "begin") and found is None:
                found = a_copy(name, verb == "begin")
                before = dict(copies)
                copies.keep(found)
                gone = [each for at, each in before.items() if at not in copies]
                assert all(each.scope is None for each in gone)
                idle = [each for each in before.values() if each.scope is None]
                # With so few busy ones in front every surplus copy is found at once.
                if len(before) - len(idle) < 2:
                    assert len(copies) <= 3
                assert [each for each in idle if each not in gone] == idle[len(gone) :]
            elif verb == "rest" and found is not None:
                found.scope = None
            assert found is None or list(copies)[-1] == name


def test_a_surplus_goes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """More turns in flight than copies should be kept: they all stay, and are let go later."""
    monkeypatch.setattr("runtime.copies.LIVE_SESSIONS", 10)
    copies = LiveCopies()
    lives = [a_copy(str(number), busy=True) for number in range(100)]
    for live in lives:
        copies.keep(live)
    assert len(copies) == 100
    for live in lives:
        live.scope = None
    for number in range(40):
        copies.keep(a_copy(f"new-{number}", busy=False))
    assert len(copies) == 10


def test_at_rest_the_surplus_goes_at_once_the_least_recently_used_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CONTRACTS 2.7: after a storm of turns; one that is in flight stays."""
    monkeypatch.setattr("runtime.copies.LIVE_SESSIONS", 3)
    copies = LiveCopies()
    lives = [a_copy(str(number), busy=True) for number in range(8)]
    for live in lives:
        copies.keep(live)
    oldest, second, *_, newest = copies
    for live in lives:
        live.scope = live.scope if live.head.session_id == oldest else None
    copies.use(second)
    copies.trim()
    assert list(copies) == [oldest, newest, second]
