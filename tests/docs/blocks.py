"""The blocks of code in README and docs/, and why some are not run.

Owns: finding the pages and their blocks. Must not: run one (`tests.docs.playing` does).

A block is run unless an HTML comment right before it gives the reason why not::

    <!-- not run: needs a key -->
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = Path(__file__).parents[2]

#: Languages whose blocks are only shown: there is nothing in them to run.
SHOWN: Final = frozenset({"text", "mermaid", "markdown", "{toctree}", "{eval-rst}"})
#: Languages whose blocks are run.
RUN: Final = frozenset({"python", "sh", "console", "toml", "json"})

_BLOCK: Final = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]+?) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@attrs.frozen
class Block:
    """A block of a page, named by its path. `line` is that of its first line of code."""

    page: str
    line: int
    language: str
    text: str
    reason: str | None = None

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def padded(self) -> str:
        """The text with as many empty lines before it that errors name the page's own lines."""
        return "\n" * (self.line - 1) + self.text


def pages() -> list[Path]:
    """README and every page of docs/ that somebody wrote, in their order."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks_of(page: Path) -> list[Block]:
    """Every block of a page, those that are only shown and those that are not run included."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    return [
        Block(
            name,
            text.count("\n", 0, found.start("text")) + 1,
            found["language"].strip(),
            found["text"],
            found["reason"],
        )
        for found in _BLOCK.finditer(text)
    ]


def all_blocks() -> list[Block]:
    """Every block of every page."""
    return [block for page in pages() for block in blocks_of(page)]


def by_page(*languages: str) -> dict[str, list[Block]]:
    """The blocks in these languages that are run, by page; no page without one."""
    found: dict[str, list[Block]] = {}
    for block in all_blocks():
        if block.language in languages and block.reason is None:
            found.setdefault(block.page, []).append(block)
    return found
