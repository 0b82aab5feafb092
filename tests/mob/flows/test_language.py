"""Paths, templates and conditions: what they read, and what they refuse."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mob.flows.conditions import read_condition
from mob.flows.paths import FlowMistake
from mob.flows.templates import read_template

SCOPE: dict[str, Any] = {
    "params": {"topic": "bees", "n": 3, "list": [1, "x", True]},
    "steps": {
        "draft": {
            "output": {"title": "Bees", "score": 7, "tags": ["a", "b"]},
            "state": "succeeded",
        },
        "gone": {"output": None, "state": "skipped"},
    },
    "item": {"name": "i"},
}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("", ""),
        ("no path", "no path"),
        ("on {{params.topic}}.", "on bees."),
        ("{{ params.topic }}{{params.n}}", "bees3"),
        ("{{steps.draft.output.tags.1}}", "b"),
        ("{{steps.draft.output.tags}}", '["a", "b"]'),
        ("{{steps.gone.output.title}}|", "|"),
        ("{{item.name}} { } }}", "i { } }}"),
    ],
)
def test_a_template_is_filled_in(text: str, filled: str) -> None:
    """CONTRACTS 6.10."""
    assert read_template(text).fill(SCOPE) == filled


def test_what_is_filled_in_is_not_read_as_a_template() -> None:
    """CONTRACTS 6.10: nobody reaches into a run by answering with braces."""
    scope = {"params": {"x": "{{params.secret}}", "secret": "s"}}
    assert read_template("{{params.x}}").fill(scope) == "{{params.secret}}"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{{params.topic", "is not closed"),
        ("{{}}", "is not a path"),
        ("{{params topic}}", "is not a path"),
        ("{{params..x}}", "is not a path"),
        ("{{__import__('os')}}", "is not a path"),
    ],
)
def test_what_is_no_template_is_refused(text: str, what: str) -> None:
    """CONTRACTS 6.10: wrong template paths."""
    with pytest.raises(FlowMistake, match=what):
        read_template(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{{params.nothing}}", "params has no 'nothing'; it has topic, n, list"),
        ("{{params.topic.deep}}", "params.topic has no 'deep': it is text"),
        ("{{params.list.3}}", "params.list has 3 items, and no 3"),
        ("{{params.list.x}}", "params.list has no 'x': it is a list"),
    ],
)
def test_a_path_that_leads_nowhere_says_where(text: str, what: str) -> None:
    """CONTRACTS 6.10."""
    with pytest.raises(FlowMistake) as raised:
        read_template(text).fill(SCOPE)
    assert str(raised.value) == what


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("true", True),
        ("null", False),
        ("params.topic == 'bees'", True),
        ('params.topic != "bees"', False),
        ("params.n >= 3 and params.n < 4", True),
        ("params.n > 3 or params.n == 3", True),
        ("not params.n > 3", True),
        ("not (params.n == 3 or true)", False),
        ("true or false and false", True),
        ("(true or false) and false", False),
        ("'x' in params.list", True),
        ("1 in params.list and true in params.list", True),
        ("'ee' in params.topic", True),
        ("'z' not in params.topic", True),
        ("params.n in [1, 2, 3]", True),
        ("params.n in []", False),
        ("steps.gone.output > 3", False),
        ("steps.gone.output.deep == null", True),
        ("'a' in steps.gone.output", False),
        ("steps.draft.output.score == 7.0", True),
        ("1 == true", False),
        ("-1 < 0", True),
        ("'and' == 'and'", True),
        ("'abc' < 'abd'", True),
    ],
)
def test_a_condition_holds_or_does_not(text: str, holds: bool) -> None:
    """CONTRACTS 6.10."""
    assert read_condition(text).holds(SCOPE) is holds


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "something is missing at the end"),
        ("params.n ==", "something is missing at the end"),
        ("params.n = 3", "cannot read '= 3'"),
        ("params.n == 3 3", "'3' is too much"),
        ("(params.n", r"'\)' is missing"),
        ("[1 2]", "',' or ']' is missing"),
        ("and true", "a value is missing before 'and'"),
        ("len(params.list)", r"'\(' is too much"),
        ("params.n + 1", "cannot read"),
        ("(" * 101 + "true", "more than 100 words"),
        ("1 < 2 < 3", "'<' is too much"),
    ],
)
def test_what_is_no_condition_is_refused(text: str, what: str) -> None:
    """CONTRACTS 6.10: no calls, no arithmetic, nothing that runs code."""
    with pytest.raises(FlowMistake, match=what):
        read_condition(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("params.topic < 3", "cannot say whether text < a number"),
        ("params.list < 3", "cannot say whether a list < a number"),
        ("true < 2", "cannot say whether true or false < a number"),
        ("3 in params.topic", "cannot look for a number in text"),
        ("3 in params.n", "cannot look for something in a number"),
    ],
)
def test_what_has_no_answer_is_a_mistake(text: str, what: str) -> None:
    """CONTRACTS 6.10."""
    with pytest.raises(FlowMistake, match=what):
        read_condition(text).holds(SCOPE)


@given(st.text(alphabet="ab. ()[]'\"<>=!,1-andornti{}", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """CONTRACTS 6.10: and evaluated to true or false, or refused."""
    with suppress(FlowMistake):
        assert isinstance(read_condition(text).holds(SCOPE), bool)
    with suppress(FlowMistake):
        assert isinstance(read_template(text).fill(SCOPE), str)
