"""What the command line writes: results to stdout, narration to stderr.

Owns: the two streams, JSON forms of our values, how ages and counts read. Must not: know a verb,
import rich (verbs that draw do that themselves).
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from mob.cli.exits import OutputClosed
from mob.shapes import jsonable
from runtime.messages import Usage
from runtime.prices import cost_text

#: Unprintable characters are shown as this: a model's words must not steer the user's terminal.
_BLANK = "\N{REPLACEMENT CHARACTER}"


def prepare_streams() -> None:
    """Never fail for a character that the terminal cannot show."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def result(text: str) -> None:
    """Write a line of the command's result to stdout, at once.

    Raises:
        OutputClosed: nobody reads it any more.
    """
    result_raw(safe(text) if sys.stdout.isatty() else text)


def result_raw(text: str) -> None:
    """Write a line to stdout as it is, colours and all. Raises `OutputClosed` as `result` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        forget_stdout()
        raise OutputClosed("standard output was closed before the result was written") from None


def result_json(value: Any, *, line: bool = False) -> None:
    """Write a value as JSON to stdout: indented, or as one `line` of a stream."""
    shown = jsonable(value)
    result(json.dumps(shown, ensure_ascii=False, indent=None if line else 2))


def answer_text(value: Any) -> str:
    """An answer under a schema as people read it: an object that holds one text and nothing else
    is that text, anything else JSON."""
    if isinstance(value, dict) and len(value) == 1:
        [text] = value.values()
        if isinstance(text, str):
            return text
    return json.dumps(value, ensure_ascii=False, indent=2)


def narrate(text: str) -> None:
    """Write a line for people to stderr."""
    try:
        print(safe(text), file=sys.stderr, flush=True)
    except BrokenPipeError:
        pass  # narration is for whoever is there


def forget_stdout() -> None:
    """Let the interpreter's last flush succeed, so that it does not complain after us."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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


def spent_text(usage: Usage) -> str:
    """What was spent, for people: ``4.1k tokens, $0.012`` or ``4.1k tokens, unpriced``."""
    return f"{count(usage.total_tokens)} tokens, {cost_text(usage)}"


def age(seconds: float) -> str:
    """A duration as people read a clock: ``0:41``, ``12:05``, ``1:02:03``."""
    whole = max(0, int(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def count(number: int) -> str:
    """A count in few characters: ``312``, ``4.1k``, ``12k``, ``3.4M``."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            scaled = number / size
            return f"{scaled:.1f}{unit}" if scaled < 10 else f"{scaled:.0f}{unit}"
    return str(number)


def plural(number: int, noun: str) -> str:
    """``1 turn``, ``2 turns``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def bytes_text(size: float) -> str:
    """A size as ``412 bytes``, ``1.2 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")
