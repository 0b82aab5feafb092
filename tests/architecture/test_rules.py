"""Each rule of the architecture, shown able to fail on a tree made to break it."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tests.architecture import rules
from tests.architecture.source import Module, Sources

FLOORS = ("top", "low")


def tree(root: Path, **files: str) -> Sources:
    """Packages `top` and `low` under `root`; `top_core="..."` is the text of top/core.py."""
    for package in FLOORS:
        (root / package).mkdir()
        (root / package / "__init__.py").touch()
    for name, text in files.items():
        path = root / f"{name.replace('_', '/', 1)}.py"
        path.write_text(dedent(text), encoding="utf-8")
    return Sources.read(root, FLOORS)


def module(root: Path, text: str) -> Module:
    return tree(root, top_core=text).modules["top.core"]


@pytest.mark.parametrize(
    "text",
    [
        "import top",
        "from top.core import x",
        "def f():\n    from top import core",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import top.core",
        "try:\n    import top\nexcept ImportError:\n    pass",
    ],
)
def test_an_import_that_goes_up(tmp_path: Path, text: str) -> None:
    sources = tree(tmp_path, low_base=text, top_core="import low.base\nimport top")
    (complaint,) = rules.imports_go_down(sources, FLOORS)
    assert "low.base imports top" in complaint


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("import low.engine", 1),
        ("from low import engine", 1),
        ("from low.engine import open_engine", 1),
        ("from low import open_engine", 1),  # re-exported by the package
        ("import driver", 1),
        ("def f():\n    import low.engine", 1),
        ("import low", 0),
        ("from low import Port", 0),
        ("from low.base import Port", 0),
    ],
)
def test_an_engine_chosen_below_the_root(tmp_path: Path, text: str, complaints: int) -> None:
    sources = tree(
        tmp_path,
        low_base="class Port: ...",
        low_engine="def open_engine(): ...",
        low___init__="from low.base import Port\nfrom low.engine import open_engine",
        top_core=text,
        top_app="import low.engine",
    )
    found = rules.only_the_port(
        sources,
        package="low",
        port=("low.base",),
        importers=("top",),
        roots={"top.app": "the root"},
        libraries=("driver",),
    )
    assert len(found) == complaints, found


def test_an_edge_used_from_inside(tmp_path: Path) -> None:
    sources = tree(
        tmp_path, top_cli="", top_core="from top import cli", top___main__="import top.cli"
    )
    (complaint,) = rules.stays_private(sources, "top.cli")
    assert "top.core imports top.cli" in complaint


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import time", "imports time"),
        ("import os.path as p", "imports os.path"),
        ("def f():\n    from random import Random", "imports random"),
        ("from top import shell", "imports top.shell, which is not listed"),
        ("from top.shell import x", "imports top.shell, which is not listed"),
        ("import datetime\nx = datetime.datetime.now()", "calls datetime.datetime.now"),
        ("from datetime import datetime\nx = datetime.now()", "calls datetime.now"),
        ("x = open('file')", "calls open"),
    ],
)
def test_an_impure_module(tmp_path: Path, text: str, reason: str) -> None:
    sources = tree(tmp_path, top_core=text, top_shell="")
    names = ("top.core",)
    (complaint,) = rules.pure(
        sources, names, impure=("os", "random", "time"), calls=("datetime.now", "open")
    )
    assert reason in complaint


def test_a_pure_module_that_was_renamed(tmp_path: Path) -> None:
    (complaint,) = rules.pure(tree(tmp_path), ("top.gone",), impure=(), calls=())
    assert "top.gone: listed as pure but there is no such module" in complaint


@pytest.mark.parametrize(
    ("first", "second", "cycles"),
    [
        ("import top.second", "from top import first", 1),
        ("import top.second", "def f():\n    import top.first", 0),
        (
            "from top.second import x",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import top.first",
            0,
        ),
        ("from top.second import x", "import low", 0),
    ],
)
def test_modules_that_import_each_other(
    tmp_path: Path, first: str, second: str, cycles: int
) -> None:
    found = rules.no_cycles(tree(tmp_path, top_first=first, top_second=second))
    assert len(found) == cycles
    assert all("top.first" in each and "top.second" in each for each in found)


def test_a_package_imported_by_what_it_exports(tmp_path: Path) -> None:
    sources = tree(
        tmp_path, top___init__="from top.core import x", top_core="from top import y\nx = 1"
    )
    assert len(rules.no_cycles(sources)) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("from low.base import A, B\n__all__ = ['A']", "not in __all__: ['B']"),
        ("from low.base import A, B\n__all__ = ['B', 'A']", "should read ['A', 'B']"),
        ("f = Ab = MAX = 1\n__all__ = ['Ab', 'MAX', 'f']", "should read ['MAX', 'Ab', 'f']"),
        ("from low.base import A\n__all__ = ['A', 'A']", "should read ['A']"),
        ("from low.base import A", "no literal __all__"),
        ("def main(): ...\n__all__ = []", "not in __all__: ['main']"),
        ("from low.base import A as _A\nimport os\n__all__ = []", None),
    ],
)
def test_exports_that_are_not_written_down(tmp_path: Path, text: str, reason: str | None) -> None:
    sources = tree(tmp_path, top___init__=text)
    complaints = rules.exports(sources.modules["top"], FLOORS)
    if reason is None:
        assert complaints == []
    else:
        (complaint,) = complaints
        assert reason in complaint


def test_a_module_without_a_docstring(tmp_path: Path) -> None:
    sources = tree(tmp_path, top_core="x = 1", top_said='"""Owns x."""\nx = 1')
    assert rules.described(sources.modules["top.core"]) == ["top.core: no module docstring"]
    assert rules.described(sources.modules["top.said"]) == []


def test_sizes(tmp_path: Path) -> None:
    core = module(tmp_path, "async def f():\n    x = 1\n    return x\n")
    assert rules.sizes(core, file_lines=3, function_lines=3) == []
    assert rules.sizes(core, file_lines=2, function_lines=3) == ["top.core: 3 lines, at most 2"]
    assert rules.sizes(core, file_lines=3, function_lines=2) == [
        "top.core:1: f has 3 lines, at most 2"
    ]


@pytest.mark.parametrize(
    ("handler", "complaints"),
    [
        ("try: ...\nexcept: ...", 1),
        ("try: ...\nexcept BaseException: ...", 1),
        ("try: ...\nexcept (OSError, builtins.BaseException): ...", 1),
        ("with contextlib.suppress(BaseException): ...", 1),
        ("try: ...\nexcept* BaseException: ...", 1),
        ("try: ...\nexcept (OSError, ValueError): ...", 0),
        ("with suppress(OSError): ...", 0),
    ],
)
def test_a_handler_that_eats_cancellation(tmp_path: Path, handler: str, complaints: int) -> None:
    assert len(rules.catches_everything(module(tmp_path, handler))) == complaints


def test_a_print(tmp_path: Path) -> None:
    core = module(tmp_path, "def f():\n    print('x')\n    console.print('x')")
    assert rules.prints(core) == ["top.core:2: prints"]
