"""The report in a headless Chromium, with 5 and with 1,000 lanes. Skipped where there is none.

Pictures are left in the folder that REPORT_PICTURES names, for whoever wants to look.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mob.mob import Mob
from mob.report.document import document
from mob.report.page import page
from tests.mob.report.browser import Page, browser, installed
from tests.mob.report.harbour import worked

pytestmark = pytest.mark.skipif(installed() is None, reason="no Chromium is installed")


def _written(mob: Mob) -> str:
    return page(document(mob.source()))


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The files, by how many members there are."""
    folder = tmp_path_factory.mktemp("reports")
    made = {}
    for size in (5, 1000):
        made[size] = folder / f"{size}.html"
        made[size].write_text(worked(size, _written), encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def chromium() -> Iterator[Page]:
    """One browser for all tests of this module."""
    with browser() as opened:
        yield opened


def kept(page: Page, name: str, tmp_path: Path) -> bytes:
    folder = os.environ.get("REPORT_PICTURES")
    return page.picture((Path(folder) if folder else tmp_path) / f"{name}.png")


@pytest.mark.parametrize("size", [5, 1000])
def test_it_opens_offline_and_draws_every_section(
    chromium: Page, reports: dict[int, Path], size: int, tmp_path: Path
) -> None:
    chromium.requests.clear()
    chromium.complaints.clear()
    started = time.perf_counter()
    chromium.open(reports[size])
    assert time.perf_counter() - started < 10  # 0.3 s on an idle machine
    assert chromium.requests == [reports[size].as_uri()]
    assert chromium.complaints == []
    assert chromium.js("document.title") == "mob harbour"  # nothing that was said has run
    assert chromium.js("document.images.length") == 0
    sections = chromium.js("[...document.querySelectorAll('main > section')].map(s => s.id)")
    assert sections == ["errors", "members", "timeline", "transcripts", "spending", "flows"]
    assert chromium.js("[...document.querySelectorAll('#errors .bad')].length") >= 5
    assert chromium.js("document.querySelectorAll('*').length") < 2500
    assert reports[size].stat().st_size < 5_000_000
    chromium.js("document.getElementById('timeline').scrollIntoView()")
    chromium.settle()
    kept(chromium, f"{size}-timeline", tmp_path)
    colours = chromium.js(
        "(() => { const c = document.querySelector('canvas'), g = c.getContext('2d');"
        " const d = g.getImageData(0, 0, c.width, c.height).data, all = new Set();"
        " for (let i = 0; i < d.length; i += 4) all.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]);"
        " const named = n => parseInt(getComputedStyle(document.documentElement)"
        ".getPropertyValue('--' + n).trim().slice(1), 16);"
        " return ['model', 'tool', 'restart', 'bad'].filter(n => all.has(named(n))); })()"
    )
    assert colours == ["model", "tool", "restart", "bad"]


def test_a_thousand_lanes_are_reached_by_scrolling_and_by_filter(
    chromium: Page, reports: dict[int, Path], tmp_path: Path
) -> None:
    chromium.open(reports[1000])
    rows = "[...document.querySelectorAll('#members .row .name')].map(r => r.textContent)"
    assert chromium.js(rows)[0].startswith("k-0 ")
    chromium.js("document.querySelector('#members .list').scrollTop = 1e9")
    chromium.settle()
    assert chromium.js(rows)[-1].startswith("k-999 ")
    assert len(chromium.js(rows)) < 60
    chromium.js(
        "(() => { const f = document.getElementById('filter'); f.value = 'k-77';"
        " f.dispatchEvent(new Event('input')); })()"
    )
    chromium.settle()
    names = [row.split()[0] for row in chromium.js(rows)]
    assert names == ["k-77", *(f"k-77{digit}" for digit in range(10))]


def test_search_finds_what_was_said_and_opens_it(chromium: Page, reports: dict[int, Path]) -> None:
    chromium.open(reports[1000])
    chromium.js(
        "(() => { const s = document.querySelector('#transcripts input');"
        " s.value = 'KEEPER 997 SAYS'; s.focus(); })()"
    )
    chromium.press("Enter")
    status = "document.querySelector('#transcripts [role=status]').textContent"
    assert chromium.js(status) == "1 message"
    assert chromium.js("document.querySelector('.pane mark').textContent") == "Keeper 997 says"
    chromium.js("document.querySelector('.pane button.link').click()")
    chromium.settle()
    assert chromium.js("document.querySelector('.pane h3').textContent").startswith("k-997")
    assert chromium.js("document.querySelectorAll('.pane .turn.here').length") == 1


def test_the_keyboard_is_enough(chromium: Page, reports: dict[int, Path]) -> None:
    chromium.open(reports[5])
    chromium.js("document.querySelector('#members .list').focus()")
    for _ in range(3):
        chromium.press("ArrowDown")
    chromium.press("Enter")
    heading = "document.querySelector('.pane h3').textContent"
    assert chromium.js(heading).startswith("k-3")
    assert chromium.js("document.activeElement.className") == "pane"
    before = chromium.js("document.querySelector('canvas').toDataURL()")
    chromium.js("document.querySelector('canvas').focus()")
    chromium.press("+")
    assert chromium.js("document.querySelector('canvas').toDataURL()") != before
    chromium.press("0")
    assert chromium.js("document.querySelector('canvas').toDataURL()") == before


def test_a_click_on_the_timeline_opens_the_turn(chromium: Page, reports: dict[int, Path]) -> None:
    chromium.open(reports[5])
    chromium.js("document.getElementById('timeline').scrollIntoView()")
    chromium.settle()
    box = chromium.js("(r => [r.x, r.y, r.width])(document.querySelector('canvas')"
        ".getBoundingClientRect())")  # fmt: skip
    x, y, width = box
    for step in range(1, 60):  # the fourth lane, somewhere from left to right
        chromium.js("document.querySelector('.pane h3').textContent = ''")
        chromium.click(x + width * (0.3 + step * 0.011), y + 22 + 3 * 20 + 10)
        if chromium.js("document.querySelectorAll('.pane .turn.here').length"):
            break
        chromium.js("document.getElementById('timeline').scrollIntoView()")
    assert chromium.js("document.querySelector('.pane h3').textContent").startswith("k-3")


def test_it_is_readable_in_the_dark_and_when_narrow(
    chromium: Page, reports: dict[int, Path], tmp_path: Path
) -> None:
    ink = (
        "getComputedStyle(document.body).{}.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0)"
    )
    chromium.open(reports[5])
    light = (chromium.js(ink.format("color")), chromium.js(ink.format("backgroundColor")))
    chromium.open(reports[5], 380, 800, dark=True)
    dark = (chromium.js(ink.format("color")), chromium.js(ink.format("backgroundColor")))
    assert light[0] < light[1]
    assert dark[0] > dark[1]
    assert chromium.js("document.scrollingElement.scrollWidth") <= 380
    kept(chromium, "narrow-dark", tmp_path)
    seen = (
        "[...document.querySelectorAll('#members .row')].map(r => [...r.children].filter("
        "c => c.offsetWidth && c.getBoundingClientRect().right <= innerWidth - 20)"
        ".map(c => c.textContent.trim()).filter(Boolean).join(' '))"
    )
    rows = [row.replace(" keeper", "") for row in chromium.js(seen)]
    assert rows[2:4] == ["k-2 failed 122 tok", "k-3 idle 123 tok 1 restart"]


def test_times_say_where_they_are_from(chromium: Page, reports: dict[int, Path]) -> None:
    at = "document.querySelector('#errors td').textContent"
    zone = "document.getElementById('zone').textContent"
    seen = []
    for name in ("UTC", "Asia/Kolkata", "America/St_Johns"):
        chromium.ask("Emulation.setTimezoneOverride", timezoneId=name)
        chromium.open(reports[5])
        seen.append((chromium.js(zone), chromium.js(at)[-2:], chromium.js(at)[:5]))
    chromium.ask("Emulation.setTimezoneOverride", timezoneId="UTC")
    assert seen[:2] != seen[1:]
    assert [each[0] for each in seen][:2] == ["times are UTC", "times are UTC+5:30"]
    assert seen[2][0] in ("times are UTC-3:30", "times are UTC-2:30")  # winter, summer
    assert seen[0][1] == seen[1][1]
    assert len({each[2] for each in seen}) == 3


def test_the_search_looks_among_those_that_are_shown(
    chromium: Page, reports: dict[int, Path]
) -> None:
    chromium.open(reports[1000])
    typed = (
        "(() => {{ const f = document.querySelector('{}'); f.value = '{}';"
        " f.dispatchEvent(new Event('input')); }})()"
    )
    status = "document.querySelector('#transcripts [role=status]').textContent"
    chromium.js(typed.format("#transcripts input", "lighthouses"))
    chromium.js("document.querySelector('#transcripts input').focus()")
    chromium.press("Enter")
    assert chromium.js(status) == "1,002 messages, the first 200 shown"
    chromium.js(typed.format("#filter", "k-77"))
    assert chromium.js(status) == "11 messages"
    chromium.js(typed.format("#filter", "nobody"))
    assert chromium.js(status) == "0 messages"
    assert chromium.js("document.querySelector('.pane p').textContent").startswith("Nobody")


def test_what_is_printed_is_light_and_is_not_cut_by_scrolling(
    chromium: Page, reports: dict[int, Path], tmp_path: Path
) -> None:
    chromium.open(reports[1000], 720, 1000, dark=True)
    rows = "document.querySelectorAll('#members .row').length"
    screen = (chromium.js(rows), chromium.js("getComputedStyle(document.body).color"))
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    chromium.ask("Emulation.setEmulatedMedia", media="print", features=features)
    chromium.settle()
    kept(chromium, "printed", tmp_path)
    assert chromium.js(rows) == 300
    assert chromium.js("document.querySelector('#members .list').innerText").endswith(
        "… and 700 more"
    )
    assert chromium.js("getComputedStyle(document.body).color") != screen[1]
    assert chromium.js("getComputedStyle(document.querySelector('.pane')).maxHeight") == "none"
    assert chromium.js("document.getElementById('filter').offsetWidth") == 0
    chromium.ask("Emulation.setEmulatedMedia", media="", features=features)
    chromium.settle()
    assert chromium.js(rows) == screen[0]
    assert chromium.js("document.querySelector('#members .list').style.height") == "26002px"


def test_pairs_that_are_left_out_are_said(chromium: Page, reports: dict[int, Path]) -> None:
    heading = "[...document.querySelectorAll('#flows h3')].at(-1).textContent"
    said = []
    for size in (5, 1000):
        chromium.open(reports[size])
        said.append(chromium.js(heading))
    assert said == [
        "Who wrote to whom",
        "Who wrote to whom, the 100 of 999 pairs that wrote most",
    ]
