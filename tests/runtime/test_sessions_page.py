"""docs/sessions.md: what it shows runs, and its tables are true."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from mob import open_session_service
from runtime.errors import SURFACES
from runtime.service import SessionBuildOptions
from tests.architecture.repository import ROOT

PAGE = (ROOT / "docs" / "sessions.md").read_text(encoding="utf-8")
SHOWN: dict[str, Any] = {}
for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
    exec(compile(block, "docs/sessions.md", "exec"), SHOWN)

SHOWS = ["resume_with_live_objects", "say_the_weather", "watch_a_tree", "ask_a_host"]


async def test_the_first_steps_of_the_page_can_be_taken(tmp_path: Path) -> None:
    """CONTRACTS 4.1, 4.4."""
    await SHOWN["first_steps"](str(tmp_path))


@pytest.mark.parametrize("name", SHOWS)
async def test_what_the_page_shows_is_so(name: str) -> None:
    """CONTRACTS 4.6, 4.9 to 4.11."""
    shown: Callable[[Any], Awaitable[None]] = SHOWN[name]
    async with open_session_service() as service:
        await shown(service)


def test_everything_the_page_defines_is_run() -> None:
    defined = re.findall(r"^async def (\w+)", PAGE, re.MULTILINE)
    assert defined == ["first_steps", *SHOWS]


def test_the_page_speaks_of_every_option() -> None:
    """CONTRACTS 4.9."""
    page = PAGE.replace("`_", "`override_")
    missing = [
        field.name for field in attrs.fields(SessionBuildOptions) if f"`{field.name}`" not in page
    ]
    assert missing == []


def test_the_table_of_codes_is_the_one_that_surfaces_use() -> None:
    """CONTRACTS 4.12."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \| (-\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    told = {code: tuple(map(int, numbers)) for code, *numbers in rows}
    assert told == {code: attrs.astuple(surface) for code, surface in SURFACES.items()}
