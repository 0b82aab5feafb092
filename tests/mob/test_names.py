"""The names that users import from `mob`."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mob


def test_every_name_is_there_and_is_listed() -> None:
    for name in mob.__all__:
        assert getattr(mob, name).__name__ == name
    assert set(mob.__all__) == set(mob._HOMES)
    assert set(mob.__all__) <= set(dir(mob))


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'open_mop'"):
        mob.open_mop  # type: ignore[attr-defined] # noqa: B018


def test_the_package_alone_loads_nothing() -> None:
    """What pytest does at each of its starts, wherever the plugin is installed."""
    code = "import sys, mob; print({'trio', 'lmdb', 'runtime', 'attrs'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
