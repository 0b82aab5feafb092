"""The research example's notes and the tools over them."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

NOTES = Path(__file__).parents[2] / "examples" / "research" / "notes.py"


@pytest.fixture(scope="module")
def notes() -> ModuleType:
    # Loaded from its file, as a mob file names it; examples are not a package.
    spec = importlib.util.spec_from_file_location("research_notes", NOTES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_corpus_is_real_text(notes: ModuleType) -> None:
    names = notes.list_notes()
    assert len(names) == 12
    assert names == sorted(names)
    for name in names:
        text = notes.read_note(name)
        assert 150 <= len(text.split()) <= 400, name
        assert text.isascii(), name
        title, *paragraphs = text.strip().split("\n\n")
        assert len(paragraphs) >= 4, name
        assert "\n" not in title, name
        assert not re.search("  |\t|\n\n\n", text), name


@pytest.mark.parametrize(
    ("query", "note", "said"),
    [
        ("Fresnel lens beam", "fresnel-lens", "one strong beam"),
        ("How does the lens make the light strong?", "fresnel-lens", "one strong beam"),
        ("Why are lighthouses built high?", "height-and-range", "the Earth is round"),
        ("flash pattern tell which lighthouse", "light-patterns", "the flashes"),
        ("dovetail", "eddystone", "dovetail joints"),
        ("sun valve", "automation", "sun valve"),
        ("Grace Darling", "keepers", "Grace Darling"),
        ("seven wonders", "alexandria", "Seven Wonders"),
    ],
)
def test_the_passage_that_answers_is_among_the_first(
    notes: ModuleType, query: str, note: str, said: str
) -> None:
    assert any(
        found["source"] == note and said in found["text"]
        for found in notes.search_notes(query, limit=3)
    )


def test_what_is_found_are_sentences_of_the_note(notes: ModuleType) -> None:
    for found in notes.search_notes("lighthouse tower light", limit=10):
        sentences = re.split(r"(?<=[.!?])\s", found["text"])
        assert len(sentences) <= 2
        assert all(each in notes.read_note(found["source"]) for each in sentences)
        assert set(found) == {"source", "text"}


def test_searching_is_bounded(notes: ModuleType) -> None:
    assert len(notes.search_notes("lighthouse")) == 1
    assert len(notes.search_notes("lighthouse", limit=0)) == 1
    assert len(notes.search_notes("lighthouse", limit=1_000_000)) == 10


@pytest.mark.parametrize("query", ["", "the of and", "zebra", "?!", "\x00", "é"])
def test_a_query_that_matches_nothing_finds_nothing(notes: ModuleType, query: str) -> None:
    assert notes.search_notes(query) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [("flashes", "flashing"), ("lighthouse", "LIGHTHOUSES"), ("mirror", "mirrors")],
)
def test_forms_of_a_word_find_the_same(notes: ModuleType, one: str, other: str) -> None:
    assert notes.search_notes(one) == notes.search_notes(other) != []


def test_the_order_is_the_same_in_every_process() -> None:
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import notes;"
        " print(json.dumps(notes.search_notes('how far can a light be seen at night', 10)))"
    )
    answers = [
        subprocess.run(
            [sys.executable, "-c", code, str(NOTES.parent)],
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert answers[0] == answers[1]
    assert len(json.loads(answers[0])) == 10


def test_reading_takes_a_name_with_or_without_its_ending(notes: ModuleType) -> None:
    assert notes.read_note("keepers.txt") == notes.read_note("keepers")


@pytest.mark.parametrize(
    "name", ["fresnel-lense", "", "../notes", "/etc/hostname", "corpus/keepers"]
)
def test_reading_an_unknown_note_names_the_known_ones(notes: ModuleType, name: str) -> None:
    with pytest.raises(ValueError, match="the notes are alexandria, automation"):
        notes.read_note(name)


def test_a_near_miss_is_told(notes: ModuleType) -> None:
    with pytest.raises(ValueError, match="did you mean 'fresnel-lens'"):
        notes.read_note("Fresnel lens")


def test_a_finding_may_name_any_note_and_no_other(notes: ModuleType) -> None:
    schema = json.loads(NOTES.with_name("finding.schema.json").read_text())
    assert schema["properties"]["source"]["enum"] == notes.list_notes()
