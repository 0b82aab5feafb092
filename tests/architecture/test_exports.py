"""What a package exports is written down, sorted and there; importing it costs no extras."""

from __future__ import annotations

import importlib
import subprocess
import sys

from tests.architecture import rules
from tests.architecture.repository import FLOORS, ROOT, sources

PACKAGES = [module for module in sources().modules.values() if module.is_package]

#: What `import mob` must not load: extras, test tools and the command line's own libraries.
HEAVY = (
    "anthropic", "cyclopts", "google", "httpx2", "hypothesis", "matplotlib", "mcp", "openai",
    "opentelemetry", "pyarrow", "pydantic", "pytest", "rich", "starlette", "xllamacpp",
)  # fmt: skip


def test_all_is_sorted_and_complete() -> None:
    assert [each for package in PACKAGES for each in rules.exports(package, FLOORS)] == []


def test_all_resolves() -> None:
    missing = []
    for package in PACKAGES:
        module = importlib.import_module(package.name)
        names = getattr(module, "__all__", ())
        missing += [f"{package.name}.{name}" for name in names if not hasattr(module, name)]
    assert missing == []


def loaded_by(statement: str) -> set[str]:
    """The top-level modules a fresh interpreter holds after `statement`."""
    program = f"{statement}\nimport sys\nprint(*(name.partition('.')[0] for name in sys.modules))"
    return set(
        subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.split()
    )


def test_importing_mob_loads_nothing_heavy() -> None:
    loaded = loaded_by("import mob")
    assert "mob" in loaded
    assert sorted(loaded & set(HEAVY)) == []


def test_what_an_import_loads_is_seen() -> None:
    assert "rich" in loaded_by("import rich.text")


def test_importing_mob_or_asking_for_help_loads_no_simulation() -> None:
    for statement in ("import mob", "from mob.cli.app import build; build()"):
        program = f"{statement}\nimport sys\nprint('mob.simulation' in sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True
        )
        assert done.stdout.strip() == "False", statement
