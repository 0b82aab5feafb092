"""What a docstring says to a model: what it is about, and what its parameters mean.

Owns: `read_docstring`. Must not: fail over a docstring, whatever is in it.

Parameters are described in the style of Google, numpy, reST or Epydoc; `docstring-parser`, which
the command line needs anyway, knows them all.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

import attrs


@attrs.frozen
class Docstring:
    """`summary` is the first paragraph; `parameters` are described by name."""

    summary: str
    parameters: Mapping[str, str]


def read_docstring(documented: object) -> Docstring:
    """What the docstring of a function or class says, as far as it can be understood."""
    text = inspect.getdoc(documented) or ""
    if not text:
        return Docstring("", {})
    # Imported here: 9 ms that a mob without functions does not pay.
    from docstring_parser import ParseError, parse

    try:
        found = parse(text)
    except (ParseError, ValueError, IndexError, KeyError):
        return Docstring(_first_paragraph(text), {})
    parameters = {
        each.arg_name: " ".join(each.description.split())
        for each in found.params
        if each.description
    }
    return Docstring(_first_paragraph(text), parameters)


#: What begins a part of a docstring that is not prose, in any of the styles.
_SECTION = re.compile(r"(Args|Arguments|Parameters|Attributes|Returns|Raises|Yields):?\s*$|[:@]\w+")


def _first_paragraph(text: str) -> str:
    lines: list[str] = []
    for line in text.split("\n"):
        if not line.strip() or _SECTION.match(line):
            break
        lines.append(line.strip())
    return " ".join(lines)
