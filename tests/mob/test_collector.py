"""The garbage collector is tuned on request, and put back."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from mob import tuned_gc


@pytest.fixture(autouse=True)
def usual_thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


def test_the_thresholds_are_raised_and_put_back() -> None:
    with tuned_gc():
        assert gc.get_threshold() == (200_000, 5, 100)
        assert gc.get_freeze_count() > 0
        with tuned_gc():
            pass
        assert gc.get_threshold() == (200_000, 5, 100), "the inner block ended and changed nothing"
    assert gc.get_threshold() == (700, 10, 10)
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("chosen", [(0, 10, 10), (100_000, 5, 5)])
def test_what_the_application_has_chosen_stays(chosen: tuple[int, int, int]) -> None:
    gc.set_threshold(*chosen)
    with tuned_gc():
        assert gc.get_threshold() == chosen
        assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == chosen


def test_they_are_put_back_also_after_an_error() -> None:
    with pytest.raises(KeyError), tuned_gc():
        raise KeyError
    assert gc.get_threshold() == (700, 10, 10)


def test_importing_changes_nothing() -> None:
    assert gc.get_threshold() == (700, 10, 10)
