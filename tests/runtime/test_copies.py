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


def a_copy(name: str, busy: bool, messages: int = 0) -> LiveSession:
    head = SimpleNamespace(session_id=SessionId(name))
    scope = object() if busy else None
    history = [None] * messages
    return cast(LiveSession, SimpleNamespace(head=head, scope=scope, history=history, weighed=0))


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


def test_long_ones_leave_room_for_fewer_and_one_alone_may_be_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CONTRACTS 2.7: what is kept is bounded by what it holds, also where it grows by turns."""
    monkeypatch.setattr("runtime.copies.LIVE_MESSAGES", 10)
    copies = LiveCopies()
    for name in "abcd":
        copies.keep(a_copy(name, busy=False, messages=3))
    assert list(copies) == ["b", "c", "d"]
    copies["b"].history.extend(copies["c"].history[:2])
    assert copies.use(SessionId("b")) is not None
    assert list(copies) == ["d", "b"], "c, which was used before d, made room"
    copies.drop(SessionId("d"))
    copies.keep(a_copy("e", busy=False, messages=5))
    assert list(copies) == ["b", "e"], "what was dropped counts no more"
    copies["e"].history.extend([*copies["e"].history] * 3)
    assert copies.use(SessionId("e")) is not None
    assert list(copies) == ["e"]
    copies.trim()
    assert list(copies) == ["e"]
    copies.clear()
    copies.keep(a_copy("f", busy=False, messages=6))
    copies.keep(a_copy("g", busy=True, messages=4))
    assert list(copies) == ["f", "g"], "nothing counts that was cleared"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["use", "keep", "begin", "rest", "grow", "drop", "trim"]),
            st.integers(0, 6),
        )
    )
)
def test_as_many_messages_count_as_there_are(steps: list[tuple[str, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runtime.copies.LIVE_MESSAGES", 12)
        copies = LiveCopies()
        for verb, number in steps:
            name = SessionId(str(number))
            live = copies.get(name)
            if verb == "use":
                copies.use(name)
            elif verb in ("keep", "begin") and live is None:
                copies.keep(a_copy(name, verb == "begin", messages=number))
                assert name in copies
            elif verb == "rest" and live is not None:
                live.scope = None
            elif verb == "grow" and live is not None:
                live.history.extend([*live.history][:2])
            elif verb == "drop":
                copies.drop(name)
            elif verb == "trim":
                copies.trim()
        for name in list(copies):
            copies.use(name)
        for live in copies.values():
            live.scope = None
        copies.trim()
        held = sum(len(live.history) for live in copies.values())
        assert held == copies._messages
        assert held <= 12 or len(copies) == 1
