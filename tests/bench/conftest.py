"""What the tests of benchmarks/peers share: its modules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
NAMES = ("protocol", "table", "run", "ours", "floor")


@pytest.fixture(scope="module")
def peers() -> Iterator[SimpleNamespace]:
    """They are programs in a folder, which find each other by name as they do when they are run."""
    assert not set(NAMES) & set(sys.modules)
    sys.path.insert(0, str(PEERS))
    try:
        yield SimpleNamespace(**{name: import_module(name) for name in NAMES}, folder=PEERS)
    finally:
        sys.path.remove(str(PEERS))
        for name in NAMES:
            sys.modules.pop(name, None)
