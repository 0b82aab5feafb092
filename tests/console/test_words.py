"""How numbers, ages and other people's words read."""

from __future__ import annotations

import pytest

from mob.console.words import age, count, left_text, readable, safe, shown
from runtime.budget import Account, Budget, Spent
from runtime.messages import Usage
from runtime.models import redaction
from runtime.models.redaction import SECRET

SPENT = Spent(Usage(300, 100, tool_calls=2, model_calls=1, cost_nano_usd=10**7), 30.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0:00"), (41.9, "0:41"), (725, "12:05"), (3723, "1:02:03")]
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        *((0, "0"), (999, "999"), (1000, "1.0k"), (9_949, "9.9k"), (9_950, "10k")),
        *((12_345, "12k"), (999_499, "999k"), (999_500, "1.0M"), (5 * 10**12, "5000G")),
    ],
)
def test_counts(number: int, text: str) -> None:
    assert count(number) == text


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ([{}], ""),
        ([{"tokens": 1000}], "600 tok"),
        ([{"tokens": 100}], "0 tok"),
        ([{"tool_calls": 5}], "3 call"),
        ([{"seconds": 120.0}], "1:30"),
        ([{"nano_usd": 10**9}], "$0.990"),
        ([{"tokens": 1000, "seconds": 32.0}], "0:02"),
        ([{"tokens": 1000}, {"tool_calls": 3}], "1 call"),
    ],
)
def test_what_is_left_is_that_of_the_nearest_limit(limits: list[dict[str, int]], text: str) -> None:
    accounts = [Account("it", Budget(**each), SPENT) for each in limits]
    assert left_text(accounts) == text


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (r'{"a": "\u65e5 \u00e9 \ud83d\ude00"}', '{"a": "日 é 😀"}'),
        (r'{"a": "\u001b[31m \u202e \n \u0041 \u0022"}',) * 2,
        (r'{"a": "\\u65e5 \ud83d \\\u65e5"}', r'{"a": "\\u65e5 \ud83d \\日"}'),
        (r"C:\users\u12 and \\"[:-1],) * 2,
    ],
)
def test_letters_are_read_as_letters(text: str, seen: str) -> None:
    assert readable(text) == seen


def test_no_word_steers_the_terminal() -> None:
    assert safe("a\x1b[31m\tb\n") == "a\N{REPLACEMENT CHARACTER}[31m\tb\n"
    assert shown("a\x1b[31m\n  b", 9) == "a\N{REPLACEMENT CHARACTER}[31m b"


def test_no_half_of_a_secret_is_where_words_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_KNOWN", {"swordfish and tuna"})
    assert shown("it is swordfish and tuna", 18) == f"it is {SECRET}"
    assert shown("it is swordfish and tuna", 12) == "it is [secr…"
