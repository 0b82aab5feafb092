"""What a report says, and that nothing gets out of it or into it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import trio

from mob.mob import Mob
from mob.report import document as documents
from mob.report.document import document
from mob.report.page import SCRIPTS, block, page
from runtime.models.redaction import SECRET
from runtime.results import TurnResult
from tests.mob.export import planted
from tests.mob.mobs import Stuck, define, opened
from tests.mob.report.harbour import HOSTILE, worked


class Parsed(HTMLParser):
    """The elements of a page, and what is in its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, str] = {}
        self._in = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = f"{tag} {dict(attrs).get('id') or ''}".strip()

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        self.inside[self._in] = self.inside.get(self._in, "") + data


def told(mob: Mob) -> dict[str, Any]:
    return document(mob.source())


@pytest.fixture(scope="module")
def harbour() -> dict[str, Any]:
    """The document of five keepers."""
    return worked(5, told)


def test_it_says_what_there_was(harbour: dict[str, Any]) -> None:
    summary = harbour["summary"]
    assert [lane[0] for lane in harbour["lanes"]] == [f"k-{number}" for number in range(5)]
    assert summary["turns"] == len(harbour["turns"]) == 8
    assert (summary["failed"], summary["crashes"], summary["restarts"]) == (1, 2, 1)
    assert summary["tool_errors"] == 1
    assert summary["cost"].startswith("$")
    spent = [sum(turn[place] for turn in harbour["turns"]) for place in (7, 8, 9)]
    assert spent[:2] == [summary["input_tokens"], summary["output_tokens"]]
    assert [sum(line) for line in harbour["series"]] == spent
    assert sum(count for _, _, count in harbour["talk"]) == 4
    assert [(flow["flow"], flow["state"]) for flow in harbour["flows"]] == [("watch", "failed")]
    assert [step[:3] for step in harbour["flows"][0]["steps"]] == [
        ["plan", 0, "succeeded"],
        ["left", 1, "succeeded"],
        ["right", 1, "failed"],
    ]
    assert harbour["flows"][0]["edges"] == [["plan", "left"], ["plan", "right"]]


def test_errors_are_apart_from_warnings_and_the_latest_come_first(harbour: dict[str, Any]) -> None:
    errors, warnings = harbour["errors"]
    kinds = {what for _, _, what, _, _ in errors}
    assert kinds >= {"crash", "crash, given up", "turn failed", "step failed", "flow failed"}
    assert {what for _, _, what, _, _ in warnings} == {"tool look: error"}
    assert [at for at, *_ in errors] == sorted((at for at, *_ in errors), reverse=True)
    seqs = {turn[1] for turn in harbour["turns"]}
    assert {seq for *_, seq in errors if seq is not None} <= seqs


def test_the_pieces_of_a_turn_are_its_lane(harbour: dict[str, Any]) -> None:
    kinds = harbour["kinds"]
    (turn,) = [each for each in harbour["turns"] if each[0] == 3]
    pieces = [turn[10][at : at + 5] for at in range(0, len(turn[10]), 5)]
    assert [(kinds[each[0]], each[4]) for each in pieces] == [
        ("model", 1),
        ("restart", 1),
        ("model", 0),
        ("tool", 1),
        ("model", 0),
    ]
    assert harbour["labels"][pieces[3][3]] == "look"


def test_what_is_left_out_is_the_oldest_and_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "TURNS", 4)
    monkeypatch.setattr(documents, "CHARACTERS", 600)
    monkeypatch.setattr(documents, "LONGEST", 100)
    made = worked(5, told)
    assert made["left_out"]["turns"] == 4
    assert made["summary"]["turns"] == 8
    assert len(made["turns"]) == len(made["texts"]) == 4
    kept = [text is not None for text in made["texts"]]
    assert kept == sorted(kept)
    assert True in kept
    assert made["left_out"]["transcripts"] >= 1
    assert sum(len(message[2]) for text in made["texts"] if text for message in text) <= 600
    said = json.dumps([text for text in made["texts"] if text])
    assert "characters are left out" in said


def test_what_models_say_stays_text(harbour: dict[str, Any]) -> None:
    text = page({**harbour, "mob": f"harbour {HOSTILE}"})
    parsed = Parsed(text)
    tags = [tag for tag, _ in parsed.tags]
    assert tags.count("script") == 2
    assert tags.count("style") == 1
    assert "img" not in tags
    data = json.loads(parsed.inside["script data"])
    assert data["texts"] == harbour["texts"]
    assert HOSTILE in json.dumps(data["texts"], ensure_ascii=False).replace('\\"', '"')
    assert parsed.inside["title"] == f"mob harbour {HOSTILE}"
    assert "<" not in block(["<", ">", "&", "\u2028"])
    assert json.loads(block([HOSTILE])) == [HOSTILE]


def test_a_page_reaches_for_nothing_and_runs_nothing_but_its_own(harbour: dict[str, Any]) -> None:
    text = page(harbour)
    parsed = Parsed(text)
    for tag, attributes in parsed.tags:
        assert not {"src", "srcset", "data", "action"} & set(attributes), tag
        assert (attributes.get("href") or "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
        assert tag != "link"
    (policy,) = [
        attributes["content"] for _, attributes in parsed.tags if "http-equiv" in attributes
    ]
    assert policy is not None
    for kind, source in (("script", parsed.inside["script"]), ("style", parsed.inside["style"])):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r"url\(|@import", parsed.inside["style"])
    code = parsed.inside["script"]
    assert [found for found in ("fetch(", "XMLHttpRequest", "import(", "innerHTML", "eval(",
        "insertAdjacentHTML", "document.write", "WebSocket") if found in code] == []  # fmt: skip


def test_every_script_of_the_folder_is_in_the_page() -> None:
    folder = Path(documents.__file__).parent
    assert sorted(SCRIPTS) == sorted(path.name for path in folder.glob("*.js"))
    assert all(path.read_text().count("\n") <= 500 for path in folder.glob("*.js"))


async def test_no_key_is_in_a_report_or_in_a_notebook(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CONTRACTS 6.16: nor in what notebooks show."""
    planted.plant(monkeypatch)
    async with planted.worked(tmp_path) as mob:
        text = page(told(mob))
        assert SECRET in text
        assert "is refused" in text
        assert planted.leaked(text) == []
        result = await mob.ask("a", f"again {planted.EVERYWHERE}")
        assert planted.leaked(result.text)
        shown = result._repr_html_() + mob._repr_html_()
        assert SECRET in result._repr_html_()
        assert planted.leaked(shown) == []


async def test_a_turn_in_flight_is_in_the_report_as_far_as_it_came(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stuck = Stuck()
    async with opened(define("a", "b"), stuck) as mob, trio.open_nursery() as nursery:
        nursery.start_soon(mob.ask, "a", "one")
        await stuck.entered.wait()
        made = told(mob)
        assert made["summary"]["turns"] == 0
        assert made["turns"] == []  # nothing of it is journalled yet
        nursery.cancel_scope.cancel()


def test_an_empty_mob_has_a_report_too() -> None:
    async def main() -> str:
        async with opened(define("a")) as mob:
            return page(told(mob))

    assert "mob t" in trio.run(main)


async def test_notebooks_show_tables_without_markup_of_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with opened(define("a", "b")) as mob:
        result = await mob.ask("a", f"{HOSTILE}")
        assert isinstance(result, TurnResult)
        for html in (result._repr_html_(), mob._repr_html_()):
            tags = {tag for tag, _ in Parsed(html).tags}
            assert tags <= {"div", "strong", "pre", "table", "thead", "tbody", "tr", "th", "td"}
        assert [tag for tag, _ in Parsed(mob._repr_html_()).tags].count("tr") == 3
