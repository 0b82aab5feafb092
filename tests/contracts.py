"""Which test holds which line of docs/contracts.md, and the table of it in tests/README.md.

    python -m tests.contracts            # what is wrong with the table, and lines without a test
    python -m tests.contracts --write    # put the table right
    python -m tests.contracts 5.9        # every test that names a line

Owns: reading the lines of the contracts, the lines that docstrings name, and the table. Must not:
judge whether a test is any good; that takes a mutation.

A docstring names lines as ``CONTRACTS 2.1``, ``CONTRACTS 2.1, 2.3`` or ``CONTRACTS 5.11 to 5.13``;
what follows says what of them the test shows. A module's or a class's docstring speaks for all
tests in it. Comments name lines for readers and count for nothing.

The table is not a list of everything: up to three tests for a line, the strongest. Rows are written
by hand or filled in by ``--write``, which keeps what is true, takes out what is not and gives a
row that is empty the tests that name the fewest other lines. So a new test leaves the table as it
is, and one that is renamed does not.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[1]
CONTRACTS = "docs/contracts.md"
README = "tests/README.md"

#: What tests may be in: the tests, and the suites that implementers are given.
ROOMS = ("tests/**/*.py", "runtime/conformance/*.py", "stores/conformance.py")
#: What makes a method of a Hypothesis state machine, or of a suite, a test.
RULES = frozenset({"rule", "invariant", "initialize"})
#: The most tests that the table gives for a line.
SHOWN = 3
BEGIN = "<!-- table: python -m tests.contracts --write -->"
END = "<!-- end of table -->"

#: A line's number: section and place in it.
Line = tuple[int, int]

_LINE = re.compile(r"^\*\*(\d+)\.(\d+)\*\* (.*)$", re.MULTILINE)
_NUMBER = r"\d+\.\d+"
_NAMED = re.compile(
    rf"CONTRACTS\s+({_NUMBER}(?:(?:,\s+(?:and\s+)?|\s+(?:and|or|to)\s+){_NUMBER})*)"
)
#: What a docstring says when it names lines in a form that is not read.
_OTHERWISE = re.compile(rf"CONTRACTS(?!\s+{_NUMBER}).{{0,20}}|(?<=LINES)\W+(?:and\s+)?{_NUMBER}")
_ROW = re.compile(r"^\| (\d+)\.(\d+) \| (.*) \|$", re.MULTILINE)


@attrs.frozen
class Named:
    """A test that names lines. `where` is ``file::test``; a whole file is named by its path."""

    where: str
    lines: tuple[Line, ...]

    @property
    def strength(self) -> tuple[int, int, str]:
        """Strongest first: one test before a whole file, and who names few lines means them."""
        return ("::" not in self.where, len(self.lines), self.where)


def show(line: Line) -> str:
    """`line` as it is written."""
    return f"{line[0]}.{line[1]}"


def lines_of(text: str) -> dict[Line, str]:
    """The lines of the contracts and how each begins."""
    return {(int(section), int(at)): rest for section, at, rest in _LINE.findall(text)}


def unbuilt(beginning: str) -> bool:
    """Whether a line that begins so is one of which nothing is built."""
    return beginning.startswith("Not yet")


def named_in(docstring: str | None) -> tuple[Line, ...]:
    """The lines that a docstring names, in order, each once; ranges are written out."""
    found: dict[Line, None] = {}
    for listed in _NAMED.findall(docstring or ""):
        numbers = [_line(number) for number in re.findall(_NUMBER, listed)]
        for between, until in re.findall(rf"({_NUMBER})\s+to\s+({_NUMBER})", listed):
            first, last = _line(between), _line(until)
            numbers += [(first[0], at) for at in range(first[1], last[1])]
        found.update(dict.fromkeys(sorted(numbers)))
    return tuple(found)


def otherwise_named(docstring: str | None) -> list[str]:
    """What a docstring says where it names lines in a form that is not read."""
    return _OTHERWISE.findall(_NAMED.sub("LINES", docstring or ""))


def named_by(root: Path, rooms: Iterable[str] = ROOMS) -> list[Named]:
    """Every test below `root` that names a line, strongest first."""
    paths = sorted({path for room in rooms for path in root.glob(room)})
    found = [each for path in paths for each in _in_file(path, path.relative_to(root).as_posix())]
    return sorted(found, key=lambda each: each.strength)


def table_of(text: str) -> dict[Line, list[str]]:
    """The table in a text: for each line the tests it gives."""
    _, _, after = text.partition(BEGIN)
    table, _, _ = after.partition(END)
    return {
        (int(section), int(at)): re.findall(r"`([^`]+)`", cell)
        for section, at, cell in _ROW.findall(table)
    }


def put_right(
    table: dict[Line, list[str]], lines: Iterable[Line], tests: list[Named]
) -> dict[Line, list[str]]:
    """The table with a row for each line: what is true of it, and the strongest for empty ones."""
    rows: dict[Line, list[str]] = {}
    for line in lines:
        naming = [each.where for each in tests if line in each.lines]
        kept = [where for where in table.get(line, ()) if where in naming]
        rows[line] = kept[:SHOWN] or _strongest(naming)
    return rows


def written(text: str, rows: dict[Line, list[str]], contracts: dict[Line, str]) -> str:
    """`text` with the table of `rows`."""
    before, _, after = text.partition(BEGIN)
    _, _, rest = after.partition(END)
    told = [f"| {show(line)} | {_cell(wheres, contracts[line])} |" for line, wheres in rows.items()]
    return "\n".join([f"{before}{BEGIN}", "| line | tests |", "|---|---|", *told, f"{END}{rest}"])


def _line(number: str) -> Line:
    section, _, at = number.partition(".")
    return int(section), int(at)


def _cell(wheres: list[str], beginning: str) -> str:
    if not wheres:
        return "*not yet*" if unbuilt(beginning) else "*none*"
    return ", ".join(f"`{where}`" for where in wheres)


def _strongest(naming: list[str]) -> list[str]:
    """Up to `SHOWN` of them, from different files where there are such; a whole file only for want
    of a test in one."""
    naming = [where for where in naming if "::" in where] or naming
    first: dict[str, str] = {}
    for where in naming:
        first.setdefault(where.partition("::")[0], where)
    spread = [*first.values(), *(where for where in naming if where not in first.values())]
    return spread[:SHOWN]


def _in_file(path: Path, name: str) -> Iterator[Named]:
    text = path.read_text(encoding="utf-8")
    if "CONTRACTS" not in text:
        return
    tree = ast.parse(text, filename=str(path))
    whole = named_in(ast.get_docstring(tree))
    if whole and (path.name.startswith("test_") or not name.startswith("tests/")):
        yield Named(name, whole)
    yield from _in_body(tree.body, name)


def _in_body(body: list[ast.stmt], prefix: str) -> Iterator[Named]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            inner = f"{prefix}::{node.name}"
            if lines := named_in(ast.get_docstring(node)):
                yield Named(inner, lines)
            yield from _in_body(node.body, inner)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = named_in(ast.get_docstring(node))
            if lines and _is_test(node):
                yield Named(f"{prefix}::{node.name}", lines)


def _is_test(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    decorators = [each.func if isinstance(each, ast.Call) else each for each in node.decorator_list]
    return node.name.startswith("test_") or any(
        isinstance(each, ast.Name) and each.id in RULES for each in decorators
    )


def main(arguments: list[str]) -> int:
    """The program above."""
    contracts = lines_of((ROOT / CONTRACTS).read_text(encoding="utf-8"))
    readme = (ROOT / README).read_text(encoding="utf-8")
    tests = named_by(ROOT)
    wanted = [_line(each) for each in arguments if re.fullmatch(_NUMBER, each)]
    for line in wanted:
        print(show(line), contracts.get(line, "is no line"))
        for each in tests:
            if line in each.lines:
                print(f"  {each.where}")
    if wanted:
        return 0
    rows = put_right(table_of(readme), contracts, tests)
    bare = [
        show(line) for line, wheres in rows.items() if not wheres and not unbuilt(contracts[line])
    ]
    if bare:
        print(f"no test names {', '.join(bare)}")
    right = written(readme, rows, contracts)
    if right != readme:
        if "--write" in arguments:
            (ROOT / README).write_text(right, encoding="utf-8")
        print(f"the table in {README}", "is written" if "--write" in arguments else "is not right")
    return int(bool(bare) or (right != readme and "--write" not in arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
