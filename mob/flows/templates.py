"""Message templates: text with paths in double braces. Pure.

Owns: reading ``Write about {{params.topic}}.`` and filling it in. Must not: run code: a template
is text and paths, and what is filled in is not read as a template again.

Text stands as it is, nothing (the output of a skipped step) as nothing, everything else as JSON.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

from mob.flows.paths import FlowMistake, Path, find, read_path

_HOLE: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)


@attrs.frozen
class Template:
    """Text and paths, in their order."""

    parts: tuple[str | Path, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The paths in it."""
        return tuple(part for part in self.parts if isinstance(part, Path))

    def fill(self, scope: Mapping[str, Any]) -> str:
        """The text with the values of its paths. Raises `FlowMistake`."""
        return "".join(
            part if isinstance(part, str) else shown(find(part, scope)) for part in self.parts
        )


def shown(value: Any) -> str:
    """A value as it stands in a message."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@functools.lru_cache(maxsize=1024)
def read_template(text: str) -> Template:
    """The template that `text` is. Raises `FlowMistake`."""
    parts: list[str | Path] = []
    at = 0
    for hole in _HOLE.finditer(text):
        parts.append(text[at : hole.start()])
        parts.append(read_path(hole[1].strip()))
        at = hole.end()
    rest = text[at:]
    if "{{" in rest:
        raise FlowMistake("'{{' is not closed: write {{params.topic}}")
    parts.append(rest)
    return Template(tuple(part for part in parts if part != ""))
