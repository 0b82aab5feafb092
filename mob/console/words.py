"""How numbers, ages and other people's words read. Pure.

Owns: the short forms. Must not: write anywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

from runtime.budget import Account
from runtime.messages import Usage
from runtime.models.redaction import remembered
from runtime.prices import cost_text

#: Unprintable characters are shown as this: a model's words must not steer the user's terminal.
_BLANK = "\N{REPLACEMENT CHARACTER}"
#: An escape of JSON, a pair of surrogates as one.
_ESCAPES: Final = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\."
)


def shown(text: str, most: int) -> str:
    """The beginning of somebody's words as one printable line, without secrets: whoever looks over
    a shoulder, or reads a log, is to learn none."""
    # What is left out behind it has been looked at: no half of a key stands at the end.
    return one_line(remembered().text(text[: 8 * most]), most)


def safe(text: str) -> str:
    """`text` without control characters other than newline and tab."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in "\n\t" else _BLANK for char in text)


def one_line(text: str, most: int = 200) -> str:
    """The beginning of `text` as one printable line."""
    line = " ".join(text[: 4 * most].split())
    line = "".join(char if char.isprintable() else _BLANK for char in line)
    return line if len(line) <= most else line[: most - 1] + "…"


def readable(text: str) -> str:
    r"""JSON with the letters that it spells in ASCII: ``"\u00e9"`` is ``"é"``. Whatever steers a
    terminal, or cannot be seen, stays spelled out."""
    return _ESCAPES.sub(_letter, text)


def _letter(found: re.Match[str]) -> str:
    if len(found[0]) == 2:
        return found[0]
    letter = json.loads(f'"{found[0]}"')
    return letter if letter.isprintable() and not letter.isascii() else found[0]


def age(seconds: float) -> str:
    """A duration as people read a clock: ``0:41``, ``12:05``, ``1:02:03``."""
    whole = max(0, int(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def count(number: int) -> str:
    """A count in few characters: ``312``, ``4.1k``, ``12k``, ``3.4M``."""
    if number < 1000:
        return str(number)
    scaled, unit = number / 10**3, "k"
    for larger in ("M", "G"):
        if scaled >= 999.5:
            scaled, unit = scaled / 10**3, larger
    return f"{scaled:.1f}{unit}" if scaled < 9.95 else f"{scaled:.0f}{unit}"


def plural(number: int, noun: str) -> str:
    """``1 turn``, ``2 turns``, ``5,000 turns``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def spent_text(usage: Usage) -> str:
    """What was spent, for people: ``4.1k tokens, $0.012`` or ``4.1k tokens, unpriced``."""
    return f"{count(usage.total_tokens)} tokens, {cost_text(usage)}"


def left_text(accounts: Iterable[Account]) -> str:
    """What is left of the limit that is nearest to being reached; empty if there is none."""
    found: list[tuple[float, str]] = []
    for each in accounts:
        limits, spent = each.budget, each.spent
        if limits.tokens is not None:
            left = max(limits.tokens - spent.usage.total_tokens, 0)
            found.append((left / max(limits.tokens, 1), f"{count(left)} tok"))
        if limits.tool_calls is not None:
            left = max(limits.tool_calls - spent.usage.tool_calls, 0)
            found.append((left / max(limits.tool_calls, 1), f"{count(left)} call"))
        if limits.seconds is not None:
            left_s = max(limits.seconds - spent.seconds, 0.0)
            found.append((left_s / max(limits.seconds, 1e-9), age(left_s)))
        if limits.nano_usd is not None:
            left = max(limits.nano_usd - spent.usage.cost_nano_usd, 0)
            text = cost_text(Usage(model_calls=1, priced_calls=1, cost_nano_usd=left))
            found.append((left / max(limits.nano_usd, 1), text))
    return min(found)[1] if found else ""
