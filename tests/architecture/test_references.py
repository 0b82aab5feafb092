"""What docs/reference/ says is what the code says."""

from __future__ import annotations

import json
import re
import tomllib

import jsonschema
import pytest

import mob
import mob.cli.exits
import mob.errors
import mob.lifecycle
import mob.server
import mob.simulation
import runtime.errors
import stores.errors
from mob.definition import MobDefinition
from mob.errors import DefinitionInvalid
from mob.keys import keys, schema
from mob.meanings import MEANINGS
from mob.mob import Mob
from tests.architecture.repository import ROOT
from tests.docs.references import REFERENCES, errors_of, remedy, slug
from tests.docs.remedies import REMEDIES

MODULES = (mob.errors, mob.lifecycle, runtime.errors, stores.errors, mob.cli.exits)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_reference_is_what_the_code_says(name: str) -> None:
    made = REFERENCES[name]()
    found = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert found == made, f"docs/{name} is stale: python -m tests.docs --write"


def test_every_key_has_a_meaning_and_nothing_else_has() -> None:
    """A new key is in the reference and in editors as soon as it is read; its meaning is not."""
    assert set(keys()) ^ set(MEANINGS) == set(), "mob/meanings.py says what keys mean"


def test_every_error_says_what_to_do() -> None:
    errors = [each for module in MODULES for each in errors_of(module)]
    assert [each.__name__ for each in errors if not remedy(each)] == []
    assert set(REMEDIES) - {each.__name__ for each in errors} == set()


def test_every_page_is_in_the_contents_and_in_llms_txt() -> None:
    """The generator refuses a page that nothing leads to; this says so in a tenth of the time."""
    docs = ROOT / "docs"
    listed = set()
    for page in docs.rglob("*.md"):
        for tree in re.findall(r"^```{toctree}$(.*?)^```$", page.read_text("utf-8"), re.M | re.S):
            for name in re.findall(r"^([a-z/-]+)$", tree, re.MULTILINE):
                listed.add((page.parent / name).relative_to(docs).as_posix())
    pages = {page.relative_to(docs).with_suffix("").as_posix() for page in docs.rglob("*.md")}
    assert pages - listed == {"index"}, "put it into a toctree, of docs/index.md say"
    assert listed - pages == set()
    linked = re.findall(r"\]\(([^)]+)\)", (docs / "llms.txt").read_text(encoding="utf-8"))
    assert [link for link in linked if not (docs / link).exists()] == []
    assert {f"{page}.md" for page in pages} - set(linked) == {"index.md"}, "docs/llms.txt has all"


#: What the handle has for parts of the mob, and not for users.
WITHIN = {
    *("add_hosts", "admit_work", "begins_turns", "budget_of", "card", "close", "configure"),
    *("create", "hosting", "post", "question", "recover", "reply_inside", "report_run"),
    *("request_inside", "rest", "visiting", "waiting"),
}


def test_every_name_that_is_exported_is_in_the_reference_of_python() -> None:
    """So that a verb of the handle, above all, cannot be left out: it is inherited from a part."""
    told = "".join(page.read_text("utf-8") for page in (ROOT / "docs/reference").glob("python*.md"))
    shown = set(re.findall(r"^\.\. auto\w+:: ([\w.]+)(?:\(\))?$", told, re.MULTILINE))
    verbs = {name for name in dir(Mob) if not name.startswith("_")} - WITHIN
    wanted = {f"mob.Mob.{name}" for name in verbs}
    for package in (mob, mob.server, mob.simulation):
        wanted |= {f"{package.__name__}.{name}" for name in package.__all__ if not name.isupper()}
    assert sorted(wanted - shown) == []
    assert set(dir(Mob)) >= WITHIN


def test_every_link_of_the_manual_leads_somewhere() -> None:
    """To a file of the checkout, and to a heading in it if it names one: the generator says so of
    the pages of docs/ only, minutes later."""
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    pages += [ROOT / "examples/README.md", ROOT / "tests/README.md"]
    told = {
        page: re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.M | re.S)
        for page in pages
    }
    anchors = {
        page: {slug(each) for each in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
        for page, text in told.items()
    }
    dead = []
    for page, text in told.items():
        for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", re.sub(r"`[^`]*`", "", text)):
            name, _, anchor = link.partition("#")
            to = (page.parent / name).resolve() if name else page
            if not to.is_file() or (anchor and anchor not in anchors.get(to, ())):
                dead.append(f"{page.relative_to(ROOT)}: {link}")
    assert dead == []


FILES = sorted((ROOT / "examples").glob("*/mob.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_the_schema_accepts_what_the_reader_accepts(path) -> None:
    jsonschema.Draft202012Validator(schema()).validate(tomllib.loads(path.read_text()))


def test_the_schema_is_one_and_knows_a_mistake_where_the_reader_does() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    good = tomllib.loads(FILES[0].read_text())
    for path, wrong in ((("mob", "ide"), "x"), (("mob", "id"), 7), (("modles",), {})):
        bad = json.loads(json.dumps(good))
        inner = bad
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = wrong
        assert not jsonschema.Draft202012Validator(schema()).is_valid(bad)
        with pytest.raises(DefinitionInvalid):
            MobDefinition.from_table(bad, folder=FILES[0].parent)
