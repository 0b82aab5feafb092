"""Typing, deciding and interrupting at a member's desk, key by key."""

from __future__ import annotations

import attrs
import pytest

from mob.console.desk import (
    Action,
    Call,
    Decide,
    Desk,
    Detach,
    Interrupt,
    Say,
    pressed,
    read,
    room_for_question,
    stacked,
    waiting,
)

ONE = Call("k1", "a", "shell", '{"x": 1}')
TWO = Call("k2", "a/kid", "mail", "{}")


def typed(desk: Desk, *keys: str) -> tuple[Desk, list[Action]]:
    """The desk after the keys, and what came of them; each question is read before an answer."""
    actions = []
    for key in keys:
        desk = read(desk, desk.unread) if desk.unread else desk
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
    assert (desk.call, desk.asked, desk.prompt()) == (None, "", "> ")


def test_arguments_are_edited_in_place() -> None:
    desk, actions = typed(waiting(Desk(), (ONE,)), "e", "left", "backspace", "2", "enter")
    assert actions == [Decide("k1", approve=True, arguments='{"x": 2}')]
    assert desk.asked == ""


def test_no_key_answers_a_question_that_nobody_can_have_read() -> None:
    desk = waiting(Desk(), (ONE, TWO))
    assert (desk.unread, desk.prompt()) == ("k1", "")
    for key in "ynel":
        assert pressed(desk, key) == (desk, None)
    desk = read(desk, "k1")
    assert "[y]es" in desk.prompt()
    desk, action = pressed(desk, "y")
    assert action == Decide("k1", approve=True)
    assert desk.unread == "k2", "the next call is another question"
    assert pressed(desk, "y") == (desk, None)


def test_what_is_decided_about_is_said_in_full() -> None:
    desk = waiting(Desk(), (ONE, TWO))
    assert desk.question == '?? (1 of 2) a waits for approval of shell {"x": 1}'
    desk, _ = typed(desk, "n")
    assert "shell" in desk.question
    desk, _ = typed(desk, "escape", "l")
    assert desk.question == "?? a/kid waits for approval of mail {}"
    desk, _ = typed(desk, "l")
    assert (desk.question, desk.prompt()) == ("", "(2 calls wait: Enter) > ")


def test_enter_on_an_empty_line_brings_back_what_was_put_off() -> None:
    desk, _ = typed(waiting(Desk(), (ONE,)), "l", "a", "backspace")
    assert (desk.asked, desk.prompt()) == ("", "(1 call waits: Enter) > ")
    desk, actions = typed(desk, "enter", "y")
    assert actions == [Decide("k1", approve=True)]


def test_arguments_that_were_refused_are_edited_on() -> None:
    desk, _ = typed(waiting(Desk(), (ONE,)), "e", "backspace", "enter")
    desk, _ = typed(waiting(desk, (ONE,)), "e")
    assert desk.line == '{"x": 1'
    desk, _ = typed(desk, "x", "escape", "e")
    assert desk.line == '{"x": 1', "who goes back to the question has changed nothing"


def test_arguments_of_several_lines_are_edited_as_one() -> None:
    desk, _ = typed(waiting(Desk(), (attrs.evolve(ONE, arguments='{\n\t"x": "a  b"\r\n}'),)), "e")
    assert desk.line == '{  "x": "a  b"  }'


def test_what_is_pasted_is_text_whatever_it_says() -> None:
    desk, actions = typed(Desk(), "a", "b", "left", "paste:y\r\nn\n", "enter")
    assert actions == [Say("ay\nnb")]
    desk = waiting(Desk(), (ONE,))
    assert typed(desk, "paste:y") == (read(desk, "k1"), [])
    desk, actions = typed(desk, "n", "paste:too\nmuch", "enter")
    assert actions == [Decide("k1", approve=False, reason="too much")]


@pytest.mark.parametrize("key", ["n", "e"])
def test_what_was_typed_about_a_call_decides_no_other(key: str) -> None:
    desk, _ = typed(waiting(Desk(), (ONE, TWO)), key, "w")
    desk = waiting(desk, (TWO,))  # somebody else decided about the first
    assert (desk.call, desk.asked, desk.line, desk.unread) == (TWO, "decision", "", "k2")


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


def test_few_columns_have_short_prompts() -> None:
    desk = read(waiting(Desk(), (ONE,)), "k1")
    for width in (1, 33, 34, 49, 50, 200):
        prompts = [typed(desk, *keys)[0].prompt(width) for keys in ((), ("n",), ("e",), ("l",))]
        assert all(len(each) <= max(width - 4, 13) for each in prompts), (width, prompts)
        assert "y" in prompts[0]
    assert desk.prompt(33) == "y/n/e/l? "


@pytest.mark.parametrize("height", range(1, 30))
def test_what_is_drawn_fits_into_any_terminal(height: int) -> None:
    words, question = [f"w{n}" for n in range(20)], [f"q{n}" for n in range(9)]
    for asked in ([], question[:1], question):
        lines, shown = stacked(words, asked, height)
        assert len(lines) + len(shown) + 3 <= max(height, 4), "state, line, cursor"
        assert len(shown) <= room_for_question(height)
        assert words[len(words) - len(lines) :] == lines
        assert bool(shown) is bool(asked)
        assert shown == asked or shown[:-1] == question[: len(shown) - 1]
    assert stacked(words, [], 29)[0] == words[-8:]
