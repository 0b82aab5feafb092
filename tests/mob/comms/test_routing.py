"""The decision who may send to whom, as a table."""

from __future__ import annotations

import attrs
import pytest

from mob.comms.routing import Rule, may_send


@attrs.frozen
class Known:
    """What is decided from, as plain dictionaries."""

    profiles: dict[str, str]
    changes: dict[tuple[str, str], bool]
    declared: dict[str, tuple[str, ...]]
    roles: dict[tuple[str, str], bool]
    default: bool

    def profile(self, name: str) -> str | None:
        return self.profiles.get(name)

    def changed(self, sender: str, recipient: str) -> bool | None:
        return self.changes.get((sender, recipient))


_PAIR, _ROLES = ("a", "b"), ("p", "q")
_NO: dict[tuple[str, str], bool] = {}

#: What was said at run time, whether the file has an edge, the rules, the default; what decides.
_TABLE = [
    ({_PAIR: True}, False, {_ROLES: False}, False, Rule.WIRED),
    ({_PAIR: False}, True, {_ROLES: True}, True, Rule.UNWIRED),
    (_NO, True, {_ROLES: False}, False, Rule.DECLARED),
    (_NO, False, {_ROLES: True}, False, Rule.ROLE_ALLOWS),
    (_NO, False, {_ROLES: False}, True, Rule.ROLE_DENIES),
    (_NO, False, {}, True, Rule.DEFAULT_ALLOWS),
    (_NO, False, {}, False, Rule.DEFAULT_DENIES),
    # What is said of the other direction says nothing of this one.
    ({("b", "a"): True}, False, {("q", "p"): True}, False, Rule.DEFAULT_DENIES),
    ({("b", "a"): False}, True, {}, False, Rule.DECLARED),
]


@pytest.mark.parametrize(("changes", "declared", "roles", "default", "rule"), _TABLE)
def test_what_is_more_particular_or_later_counts(
    changes: dict[tuple[str, str], bool],
    declared: bool,
    roles: dict[tuple[str, str], bool],
    default: bool,
    rule: Rule,
) -> None:
    """CONTRACTS 6.5."""
    edges = {"a": ("b",)} if declared else {}
    known = Known({"a": "p", "b": "q"}, changes, edges, roles, default)
    assert may_send(known, "a", "b") is rule
    assert rule.allows == (rule.name in ("WIRED", "DECLARED", "ROLE_ALLOWS", "DEFAULT_ALLOWS"))


def test_nobody_sends_to_itself_and_no_stranger_sends_at_all() -> None:
    """CONTRACTS 6.5: whatever else was said."""
    every = {(one, other): True for one in "abx" for other in "abx"}
    known = Known({"a": "p", "b": "q"}, every, {}, {}, True)
    assert may_send(known, "a", "a") is Rule.ITSELF
    assert may_send(known, "x", "a") is Rule.NO_SENDER
    assert may_send(known, "a", "x") is Rule.NO_RECIPIENT
