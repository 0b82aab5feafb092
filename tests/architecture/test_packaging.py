"""What is installed is what is in the repository, and what is documented is what is run."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from pathlib import Path
from typing import Any

from tests.architecture.repository import FLOORS, ROOT, files

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS: dict[str, Any] = PROJECT["tool"]["setuptools"]


def package_folders(root: Path, packages: tuple[str, ...]) -> list[str]:
    """Every folder below `packages` that holds Python, by dotted name, sorted."""
    folders = {path.parent for package in packages for path in (root / package).rglob("*.py")}
    return sorted(".".join(folder.relative_to(root).parts) for folder in folders)


def undeclared_data(paths: list[str], packages: list[str], data: dict[str, list[str]]) -> list[str]:
    """The files inside `packages` that are neither Python nor matched by package data."""
    undeclared = []
    for path in paths:
        if path.endswith(".py") or path.partition("/")[0] not in {
            p.split(".")[0] for p in packages
        }:
            continue
        matched = any(
            fnmatch.fnmatch(path, f"{package.replace('.', '/')}/{glob}")
            for package, globs in data.items()
            for glob in globs
        )
        if not matched:
            undeclared.append(path)
    return undeclared


def test_every_package_folder_is_installed() -> None:
    assert sorted(SETUPTOOLS["packages"]) == package_folders(ROOT, FLOORS)


def test_every_package_folder_is_a_package() -> None:
    for name in package_folders(ROOT, FLOORS):
        assert (ROOT / name.replace(".", "/") / "__init__.py").exists(), name


def test_every_data_file_is_installed() -> None:
    paths = [path.as_posix() for path in files()]
    assert undeclared_data(paths, list(FLOORS), SETUPTOOLS["package-data"]) == []


def test_every_floor_is_typed() -> None:
    for floor in FLOORS:
        assert "py.typed" in SETUPTOOLS["package-data"][floor]
        assert (ROOT / floor / "py.typed").exists()


def test_the_readme_gives_the_test_command_that_ci_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    found = re.search(r'^test_command="(.+)"$', script, re.MULTILINE)
    assert found, '.ci/run must say test_command="..." on one line'
    assert found[1] in (ROOT / "README.md").read_text(encoding="utf-8")


def test_a_forgotten_package_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "mob" / "flows").mkdir(parents=True)
    (tmp_path / "mob" / "__init__.py").touch()
    (tmp_path / "mob" / "flows" / "graph.py").touch()
    assert package_folders(tmp_path, ("mob",)) == ["mob", "mob.flows"]


def test_a_forgotten_data_file_is_noticed() -> None:
    paths = ["mob/app.py", "mob/py.typed", "mob/cli/init.toml", "mob/demo.toml", "docs/x.md"]
    data = {"mob": ["py.typed"], "mob.cli": ["*.toml"]}
    assert undeclared_data(paths, ["mob"], data) == ["mob/demo.toml"]
