"""Paths: how templates and conditions name a value of a run. Pure.

Owns: reading ``steps.draft.output.title``, and finding the value. Must not: evaluate anything else:
there are no calls, no attributes of Python, no arithmetic.

    params.NAME...            what the run was given
    steps.NAME.output...      the output of a step, a branch or a loop: parsed if it has a schema
    steps.NAME.state          how it ended: succeeded, failed, skipped, cancelled
    steps.NAME.error          why it failed or was skipped
    item..., index, member    of a step that fans out: what this message is about, its place from 0,
                              and who gets it
    round                     in a loop, from 1
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

#: What a path may begin with.
ROOTS: Final = ("params", "steps", "item", "index", "member", "round")
#: What there is to know of a step.
OF_STEP: Final = ("output", "state", "error")

PATH: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_][A-Za-z0-9_-]*)*")


class FlowMistake(Exception):
    """A flow says something that cannot be, or meets a value that it cannot use; the message says
    what. At load it is a mistake in the definition, in a run it fails the step."""


@attrs.frozen
class Path:
    """Such a path, part by part; never empty."""

    parts: tuple[str, ...]

    def __str__(self) -> str:
        return ".".join(self.parts)


def read_path(text: str) -> Path:
    """The path that `text` is. Raises `FlowMistake`."""
    if not PATH.fullmatch(text):
        raise FlowMistake(f"{text!r} is not a path, such as params.topic or steps.draft.output")
    return Path(tuple(text.split(".")))


def find(path: Path, scope: Mapping[str, Any]) -> Any:
    """The value at `path`; None wherever it leads through nothing, such as the output of a step
    that was skipped.

    Raises:
        FlowMistake: a value on the way has no such part.
    """
    value: Any = scope
    for at, part in enumerate(path.parts):
        if value is None:
            return None
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, Sequence) and not isinstance(value, str) and part.isdigit():
            if int(part) >= len(value):
                raise FlowMistake(f"{_upto(path, at)} has {len(value)} items, and no {part}")
            value = value[int(part)]
        else:
            raise FlowMistake(f"{_upto(path, at)} has no {part!r}{_has(value)}")
    return value


def _upto(path: Path, at: int) -> str:
    return ".".join(path.parts[:at]) or "a flow"


def _has(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"; it has {', '.join(map(str, value)) or 'nothing'}"
    return f": it is {kind_of(value)}"


def kind_of(value: Any) -> str:
    """What a value is, in words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    kinds = {str: "text", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return next((word for kind, word in kinds.items() if isinstance(value, kind)), "something else")
