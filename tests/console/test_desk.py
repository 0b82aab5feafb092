"""Typing, deciding and interrupting at a member's desk, key by key."""

from __future__ import annotations

import attrs
import pytest

from mob.console.desk import Action, Call, Decide, Desk, Detach, Interrupt, Say, pressed, waiting

ONE = Call("k1", "a", "shell", '{"x": 1}')
TWO = Call("k2", "a/kid", "mail", "{}")


def typed(desk: Desk, *keys: str) -> tuple[Desk, list[Action]]:
    """The desk after the keys, and what came of them."""
    actions = []
    for key in keys:
        desk, action = pressed(desk, key)
        if action is not None:
            actions.append(action)
    return desk, actions


@pytest.mark.parametrize(
    ("keys", "line", "at"),
    [
        (("a", "b", "c"), "abc", 3),
        (("a", "b", "left", "x"), "axb", 2),
        (("a", "b", "home", "x", "end", "y"), "xaby", 4),
        (("a", "b", "backspace"), "a", 1),
        (("backspace",), "", 0),
        (("a", "b", "left", "delete"), "a", 1),
        (("a", "b", "left", "c-u"), "b", 0),
        (("a", " ", "b", "c", "c-w"), "a ", 2),
        (("a", "left", "left", "right", "right", "right"), "a", 1),
        (("a", "tab", "pageup"), "a", 1),
    ],
)
def test_a_line_is_typed(keys: tuple[str, ...], line: str, at: int) -> None:
    desk, actions = typed(Desk(), *keys)
    assert (desk.line, desk.at, actions) == (line, at, [])


def test_enter_says_it_and_up_brings_it_back() -> None:
    desk, actions = typed(Desk(), "a", "enter", "enter", "b", " ", "enter")
    assert actions == [Say("a"), Say("b")]
    assert desk.line == ""
    for keys, line in (("up", "b"), ("up", "a"), ("up", "a"), ("down", "b"), ("down", "")):
        desk, _ = pressed(desk, keys)
        assert desk.line == line


def test_escape_interrupts_and_ctrl_d_goes() -> None:
    desk, actions = typed(Desk(), "a", "escape", "c-d")
    assert actions == [Interrupt(), Detach()]
    assert desk.line == "a", "what is typed stays"


def test_calls_are_decided_one_after_the_other() -> None:
    desk = waiting(Desk(), (ONE, TWO))
    assert (desk.call, desk.asked) == (ONE, "decision")
    desk, actions = typed(desk, "x", "y")
    assert actions == [Decide("k1", approve=True)]
    assert desk.call == TWO
    desk, actions = typed(desk, "n", "n", "o", "enter")
    assert actions == [Decide("k2", approve=False, reason="no")]
    assert (desk.call, desk.asked, desk.prompt) == (None, "", "> ")


def test_arguments_are_edited_in_place() -> None:
    desk, actions = typed(waiting(Desk(), (ONE,)), "e", "left", "backspace", "2", "enter")
    assert actions == [Decide("k1", approve=True, arguments='{"x": 2}')]
    assert desk.asked == ""


def test_escape_leaves_a_reason_and_goes_back_to_the_question() -> None:
    desk, actions = typed(waiting(Desk(), (ONE,)), "n", "w", "escape")
    assert (desk.asked, desk.line, actions) == ("decision", "", [])
    assert typed(desk, "escape")[1] == [Interrupt()], "the turn may be interrupted meanwhile"


def test_later_asks_no_more_until_another_call_waits() -> None:
    desk, actions = typed(waiting(Desk(), (ONE,)), "l", "y")
    assert (desk.asked, desk.line, actions) == ("", "y", [])
    desk = waiting(attrs.evolve(desk, line="", at=0), (ONE, TWO))
    assert desk.call == TWO


def test_what_is_being_typed_is_not_taken_away_by_a_call() -> None:
    desk, _ = typed(Desk(), "h", "i")
    desk = waiting(desk, (ONE,))
    assert (desk.line, desk.asked) == ("hi", "")
    desk, actions = typed(desk, "enter")
    assert (actions, desk.asked) == ([Say("hi")], "decision")


def test_a_call_that_others_decided_is_asked_about_no_more() -> None:
    desk, _ = typed(waiting(Desk(), (ONE,)), "n", "w")
    desk = waiting(desk, ())
    assert (desk.asked, desk.line) == ("", "")
