"""Each line of docs/contracts.md is named by a test, and the table of them is true."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT, files, sources
from tests.contracts import (
    CONTRACTS,
    README,
    ROOMS,
    Named,
    lines_of,
    named_by,
    named_in,
    otherwise_named,
    put_right,
    show,
    table_of,
    unbuilt,
    written,
)

LINES = lines_of((ROOT / CONTRACTS).read_text(encoding="utf-8"))
TESTS = named_by(ROOT)


def test_the_lines_of_the_contracts_are_counted_without_a_gap() -> None:
    sections: dict[int, list[int]] = {}
    for section, at in LINES:
        sections.setdefault(section, []).append(at)
    assert list(sections) == list(range(1, 7))
    for section, numbers in sections.items():
        assert numbers == list(range(1, len(numbers) + 1)), section


def test_each_line_that_is_built_is_named_by_a_test() -> None:
    named = {line for each in TESTS for line in each.lines}
    bare = [show(line) for line, text in LINES.items() if line not in named and not unbuilt(text)]
    assert bare == []


def test_what_is_said_not_to_be_there_is_not() -> None:
    named = {line for each in TESTS for line in each.lines}
    assert [show(line) for line, text in LINES.items() if unbuilt(text) and line in named] == []
    text = (ROOT / CONTRACTS).read_text(encoding="utf-8")
    missing = {
        word
        for paragraph in text.split("\n\n")
        for sentence in re.findall(r"Not yet: .*", paragraph, re.DOTALL)
        for word in re.findall(r"`([a-z_]+)`", sentence)
    }
    made = {
        word
        for module in sources().modules.values()
        for word in re.findall(r"^    (?:(?:async )?def )?(\w+)[:(]", module.text, re.MULTILINE)
    }
    assert missing & made == set()


def test_no_line_is_named_that_is_not_there() -> None:
    for path in files():
        if path.suffix in {".py", ".md"}:
            for line in named_in((ROOT / path).read_text(encoding="utf-8")):
                assert line in LINES, f"{path} names CONTRACTS {show(line)}"


def test_docstrings_name_lines_in_one_form() -> None:
    for room in ROOMS:
        for path in ROOT.glob(room):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(
                    node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
                ):
                    wrong = otherwise_named(ast.get_docstring(node))
                    where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"
                    assert wrong == [], f"{where}: write CONTRACTS 2.1, 2.3: ..."


def test_the_table_in_the_readme_is_true() -> None:
    """If this fails, ``python -m tests.contracts --write`` puts it right."""
    text = (ROOT / README).read_text(encoding="utf-8")
    assert text == written(text, put_right(table_of(text), LINES, TESTS), LINES)


@pytest.mark.parametrize(
    ("docstring", "lines"),
    [
        (None, ()),
        ("Section 2.1 of something else.", ()),
        ("CONTRACTS 2.1", ((2, 1),)),
        ("CONTRACTS 2.10: all 3.5 of them.", ((2, 10),)),
        ("Stop. CONTRACTS 5.9, 5.10.", ((5, 9), (5, 10))),
        ("CONTRACTS 5.9 and\n5.10, and more", ((5, 9), (5, 10))),
        ("CONTRACTS 5.11 to 5.13", ((5, 11), (5, 12), (5, 13))),
        ("CONTRACTS 6.9 here, CONTRACTS 1.2, 6.9 there.", ((6, 9), (1, 2))),
    ],
)
def test_what_a_docstring_names(docstring: str | None, lines: tuple[object, ...]) -> None:
    assert named_in(docstring) == lines
    assert otherwise_named(docstring) == []


@pytest.mark.parametrize(
    "docstring",
    ["CONTRACTS 2: stores.", "CONTRACTS 1.10; and 4.5", "CONTRACTS 1.1/1.2", "CONTRACTS"],
)
def test_another_form_is_noticed(docstring: str) -> None:
    assert otherwise_named(docstring)


def test_tests_and_rules_name_lines_and_functions_beside_them_do_not(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        '''
"""CONTRACTS 1.1."""
def fixture():
    """CONTRACTS 1.2."""
def test_a():
    """CONTRACTS 1.3, 1.4."""
class TestB:
    """CONTRACTS 1.5."""
    @rule(x=1)
    def grows(self):
        """CONTRACTS 1.6."""
    async def test_c(self):
        """CONTRACTS 1.7."""
'''
    )
    assert named_by(tmp_path, ["*.py"]) == [
        Named("test_it.py::TestB", ((1, 5),)),
        Named("test_it.py::TestB::grows", ((1, 6),)),
        Named("test_it.py::TestB::test_c", ((1, 7),)),
        Named("test_it.py::test_a", ((1, 3), (1, 4))),
        Named("test_it.py", ((1, 1),)),
    ]


def test_a_row_keeps_what_is_true_and_is_filled_when_it_is_empty() -> None:
    tests = [Named(f"f{n}.py::t{n}", ((1, 1),)) for n in range(4)] + [Named("f0.py::u", ((1, 1),))]
    kept = {(1, 1): ["f3.py::t3", "gone.py::test"], (9, 9): ["f0.py::t0"]}
    assert put_right(kept, [(1, 1)], tests) == {(1, 1): ["f3.py::t3"]}
    filled = put_right({}, [(1, 1), (1, 2)], tests)
    assert filled == {(1, 1): ["f0.py::t0", "f1.py::t1", "f2.py::t2"], (1, 2): []}


def test_a_table_that_was_written_reads_back() -> None:
    rows = {(1, 1): ["a.py::b", "c.py::d"], (1, 2): []}
    text = written("before\n<!-- x -->", rows, {(1, 1): "Is.", (1, 2): "Not yet: it."})
    assert table_of(text) == rows
    assert "| 1.2 | *not yet* |" in text
