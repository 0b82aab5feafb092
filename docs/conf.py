"""Sphinx: how the pages of this folder become a site. docs/building.md has the command.

Owns: the settings. Must not: make a page (`tests.docs` makes the references).
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pygments.lexers.special import TextLexer

sys.path.insert(0, str(Path(__file__).parents[1]))

project = "mob"
author = "The mob authors"
copyright = "the mob authors"  # noqa: A001 Sphinx calls it so

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "mob"
html_extra_path = ["llms.txt", "reference/mob.schema.json"]

# Headings can be linked to, as on a code host.
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]

# `name` in docstrings is code, and a link where it is a name of this reference.
default_role = "py:obj"
autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}


#: Links to pages that are no part of the site.
_OUTSIDE = re.compile(r"\[([^\]]*)\]\((?:\.\./)+(?:examples|tests)/[^)]*\.md\)")
#: A line of the contracts where it stands, and where a page names one.
_LINE = re.compile(r"^(?=\*\*(\d+\.\d+)\*\* )", re.MULTILINE)
_NAMED = re.compile(r"\[(\d+\.\d+)\]\([./]*contracts\.md#[^)]*\)")
#: The paragraph of a module's docstring that bounds what may be in it.
_OWNS = re.compile(r"^Owns: .*?(?:\n\n|\Z)", re.MULTILINE | re.DOTALL)


def lead_to_lines(_app: object, page: str, source: list[str]) -> None:
    """Have links to a contract lead to its line (on a code host they lead to its section), and
    take out those that the site has no page for."""
    if page == "contracts":
        source[0] = _LINE.sub(r"(contract-\1)=\n", source[0])
    source[0] = _NAMED.sub(r"[\1](#contract-\1)", source[0])
    source[0] = _OUTSIDE.sub(r"\1", source[0])


def for_users(
    _app: object, what: str, _name: str, _it: object, _options: object, lines: list[str]
) -> None:
    """Leave out what modules say to those who change them, and let no colon in what is said of an
    attribute be read as the end of its type."""
    if what == "module":
        said = "\n".join(lines)
        lines[:] = _OWNS.sub("", said).split("\n")
    elif what in ("attribute", "data", "property"):
        lines[0] = lines[0].replace(": ", "; ", 1)


def called(
    _app: object, what: str, _name: str, it: object, _options: object, _how: str, _gives: str
) -> tuple[str, str] | None:
    """A protocol is not called."""
    return ("", "") if what == "class" and getattr(it, "_is_protocol", False) else None


def setup(app: object) -> None:
    """Show diagrams as their text: nothing is fetched to draw them."""
    app.add_lexer("mermaid", TextLexer)  # type: ignore[attr-defined]
    app.connect("source-read", lead_to_lines)  # type: ignore[attr-defined]
    # Before napoleon, which comes at 500.
    app.connect("autodoc-process-docstring", for_users, priority=400)  # type: ignore[attr-defined]
    app.connect("autodoc-process-signature", called)  # type: ignore[attr-defined]
