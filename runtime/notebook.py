"""Values of ours as HTML, for notebooks. Pure.

Owns: the one shape they have, a table with a line above. Must not: let a word through as markup, or
a key that this process is known to hold (notebooks are saved and sent around, outputs and all).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from runtime.models.redaction import remembered

#: Characters of one text that a notebook shows.
_LONGEST: Final = 4000
_PRE: Final = ' style="white-space:pre-wrap;text-align:left;margin:0"'
_CELL: Final = ' style="white-space:pre-wrap;text-align:left;vertical-align:top"'


def told(title: str, text: str) -> str:
    """A line, and a text below it as it was said."""
    return f"<div><strong>{_clean(title)}</strong><pre{_PRE}>{_clean(text)}</pre></div>"


def table(title: str, names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A line, and a table below it."""
    head = "".join(f"<th{_CELL}>{_clean(name)}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td{_CELL}>{_clean(str(cell))}</td>' for cell in row)}</tr>"
        for row in rows
    )
    return (
        f"<div><strong>{_clean(title)}</strong>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _clean(text: str) -> str:
    clean = remembered().written(text)
    return escape(clean if len(clean) <= _LONGEST else f"{clean[: _LONGEST - 1]}…")
