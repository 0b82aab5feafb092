"""This repository as the architecture tests see it.

Owns: where it is, which packages it has and which of its files are ours.
"""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

from tests.architecture.source import Sources

ROOT = Path(__file__).parents[2]

#: The floors, highest first.
FLOORS = ("mob", "runtime", "stores")


@functools.cache
def sources() -> Sources:
    """The three packages, parsed once for all tests."""
    return Sources.read(ROOT, FLOORS)


@functools.cache
def files() -> tuple[Path, ...]:
    """Every file of the repository, relative to its root; in a checkout, those git tracks."""
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=False, capture_output=True, text=True
    )
    if (ROOT / ".git").exists() and listing.returncode == 0:
        found = [Path(name) for name in listing.stdout.split("\0") if name]
    else:  # an unpacked source archive, or somebody else's checkout
        found = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
        made = {"__pycache__", "build", "dist"}
        found = [
            path
            for path in found
            if not any(part.startswith(".") or part in made for part in path.parts)
        ]
    return tuple(path for path in found if (ROOT / path).is_file())
