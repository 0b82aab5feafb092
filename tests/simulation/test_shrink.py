"""Delta debugging finds a part of which nothing can be left out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mob.simulation.shrink import minimal


@given(st.sets(st.integers(0, 40), min_size=1), st.data())
def test_what_is_needed_is_what_is_left(items: set[int], data: st.DataObject) -> None:
    needed = data.draw(st.sets(st.sampled_from(sorted(items))))
    assert minimal(sorted(items), lambda some: needed <= set(some)) == sorted(needed)


@given(st.sets(st.integers(0, 30), min_size=3))
def test_any_of_several_causes_is_made_small(items: set[int]) -> None:
    pairs = [set(pair) for pair in zip(sorted(items), sorted(items)[1:], strict=False)]

    def fails(some: object) -> bool:
        return any(pair <= set(some) for pair in pairs)  # type: ignore[call-overload]

    assert len(minimal(sorted(items), fails)) == 2
