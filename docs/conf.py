"""Sphinx: how the pages of this folder become a site. docs/building.md has the command.

Owns: the settings. Must not: make a page (`tests.docs` makes the references).
"""

from __future__ import annotations

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
# Pages name files of the checkout, which are no part of the site.
suppress_warnings = ["myst.xref_missing", "myst.header"]

autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}


def setup(app: object) -> None:
    """Show diagrams as their text: nothing is fetched to draw them."""
    app.add_lexer("mermaid", TextLexer)  # type: ignore[attr-defined]
