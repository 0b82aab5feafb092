"""Values of the hot path are equal, hashed, shown and copied as frozen ones are."""

from __future__ import annotations

import attrs

from stores import Append


def test_values_are_equal_and_hashed_by_what_they_hold() -> None:
    """As dictionary keys and in comparisons they do what `attrs.frozen` would have them do."""
    one, same = Append(b"s", 1, b"payload"), Append(b"s", 1, b"payload")
    other = attrs.evolve(one, payload=b"else")
    assert one == same != other
    assert {one, same, other} == {same, other}
    assert repr(one) == "Append(stream=b's', kind=1, payload=b'payload', version=1)"
    assert not hasattr(one, "__dict__")
