"""What the command line writes: results to stdout, narration to stderr.

Owns: the two streams, JSON forms of our values. Must not: know a verb,
import rich (verbs that draw do that themselves).
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from mob.cli.exits import OutputClosed
from mob.console.words import age, count, one_line, plural, safe, spent_text
from mob.shapes import jsonable

__all__ = [
    "age",
    "answer_text",
    "bytes_text",
    "count",
    "forget_stdout",
    "narrate",
    "one_line",
    "plural",
    "prepare_streams",
    "result",
    "result_json",
    "result_raw",
    "safe",
    "say_nothing_to_do",
    "say_would",
    "spent_text",
]


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


def bytes_text(size: float) -> str:
    """A size as ``412 bytes``, ``1.2 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def say_would(mob_id: str, what: str, *, json: bool) -> None:
    """Say what a verb with --dry-run would do to a mob; programs find it on stdout."""
    if json:
        result_json({"mob": mob_id, "dry_run": True, "would": what})
    else:
        narrate(f"mob: would {what}")


def say_nothing_to_do(mob_id: str, why: str, *, json: bool) -> None:
    """Say that a verb with --dry-run would change nothing; ``would`` is null for programs."""
    if json:
        result_json({"mob": mob_id, "dry_run": True, "would": None, "why": why})
    else:
        narrate(f"mob: nothing to do: {why}")
