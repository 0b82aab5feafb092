"""Keys of `mob watch`, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from mob.cli.keys import keys_in
from mob.console.aiming import HELP, aimed, note_of
from mob.console.picture import Aim, Picture

AT = Picture((), 20, 3, "/worker")
AWAY = Picture((), 20)


@pytest.mark.parametrize(
    ("before", "key", "shown", "after"),
    [
        ({}, "q", AT, None),
        ({}, "x", AT, {}),
        ({"typing": True, "find": "a"}, "paste:b\nc", AT, {"typing": True, "find": "ab c"}),
        ({"typing": True, "find": "a"}, "up", AT, {"typing": True, "find": "a"}),
        ({}, "down", AWAY, {"at": 0}),
        ({"at": 3}, "down", AT, {"at": 4}),
        ({"at": 3}, "j", AT, {"at": 4}),
        ({"at": 3}, "up", AT, {"at": 2}),
        ({"at": 3}, "pagedown", AT, {"at": 13}),
        ({"at": 3}, "pageup", AT, {"at": 0}),
        ({"at": 3}, "end", AT, {"at": 19}),
        ({"at": 3}, "home", AT, {"at": 0}),
        ({}, "enter", AWAY, {}),
        ({}, "enter", AT, {"opened": {"/worker"}}),
        ({"opened": {"/worker"}}, "enter", AT, {"folded": {"/worker"}}),
        ({"folded": {"/worker", "x"}}, "enter", AT, {"folded": {"x"}}),
        ({"folded": {"/worker"}}, "right", AT, {"opened": {"/worker"}}),
        ({"opened": {"/worker"}}, "left", AT, {"folded": {"/worker"}}),
        ({}, "/", AT, {"typing": True, "at": 0}),
        ({"typing": True}, "q", AT, {"typing": True, "find": "q"}),
        ({"typing": True, "find": "ab"}, "backspace", AT, {"typing": True, "find": "a"}),
        ({"typing": True, "find": "ab"}, "up", AT, {"typing": True, "find": "ab"}),
        ({"typing": True, "find": "ab"}, "enter", AT, {"find": "ab"}),
        ({"typing": True, "find": "ab", "at": 0}, "escape", AT, {}),
        ({"find": "ab", "at": 3}, "escape", AT, {}),
    ],
)
def test_what_a_key_does(before: dict[str, Any], key: str, shown: Picture, after: Any) -> None:
    def aim(of: dict[str, Any]) -> Aim:
        return Aim(**{k: frozenset(v) if isinstance(v, set) else v for k, v in of.items()})

    assert aimed(aim(before), key, shown) == (None if after is None else aim(after))


def test_the_line_below_says_what_can_be_done() -> None:
    assert note_of(Aim()) == HELP
    assert note_of(Aim(find="ab", typing=True)) == "find: ab_"
    assert "escape" in note_of(Aim(find="ab"))


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ab", ["a", "b"]),
        ("\x1b[A\x1bOB", ["up", "down"]),
        ("\x1bq\x1b\x7f", []),  # with Alt
        ("\x1b\x1b[A", ["escape", "up"]),
        ("\x1bOP\x1b[15~\x1b[1;5C\x1b[Z\x1b[[Ax", ["x"]),  # F1, F5, Ctrl-→, Shift-Tab, F1
        ("\x1b[200~y\n\x1b[A\x1b[201~n", ["paste:y\n\x1b[A", "n"]),
        ("é日\r\x7f\x04\x15", ["é", "日", "enter", "backspace", "c-d", "c-u"]),
        ("\x1b[5~\x00\x1b[3~", ["pageup", "delete"]),
    ],
)
def test_the_names_of_keys(text: str, keys: list[str]) -> None:
    assert keys_in(text) == (keys, "")


@pytest.mark.parametrize("rest", ["\x1b", "\x1bO", "\x1b[", "\x1b[1;", "\x1b[200~much\n\x1b[20"])
def test_a_key_that_has_come_in_part_is_waited_for(rest: str) -> None:
    assert keys_in(f"a{rest}") == (["a"], rest)
