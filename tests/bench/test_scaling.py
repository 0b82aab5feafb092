"""The scaling plots: each axis has a work, and each line a figure that the work returns."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import trio

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def scaling(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("scaling")


def test_each_axis_has_a_work_and_sizes_up_to_the_most(scaling: Any) -> None:
    axes = scaling.axes(1000)
    assert set(axes) == set(scaling.WORKS)
    assert all(axis.sizes and max(axis.sizes) <= 1000 for axis in axes.values())
    assert all(len(axis.sizes) == 1 for axis in scaling.axes(1).values())


@pytest.mark.parametrize(("name", "size"), [("members", 3), ("mailbox", 5), ("store", 5)])
def test_each_line_is_a_figure_of_its_work(
    scaling: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, size: int
) -> None:
    monkeypatch.setattr(scaling, "_TURNS", 6)
    monkeypatch.setattr(scaling, "_SENT", 4)
    figures = trio.run(scaling.WORKS[name], str(tmp_path), size)
    lines = [key for key, _ in scaling.axes(1)[name].series.values()]
    assert set(lines) <= set(figures)
    assert all(figures[key] > 0 for key in lines if key != "idle_bytes")


def test_a_plot_is_svg_with_its_lines(scaling: Any) -> None:
    drawn = scaling.lines("Title", "x", "y", {"one": [(1, 2), (10, 3)], "two": [(1, 5)]})
    assert drawn.startswith("<svg")
    assert all(word in drawn for word in ("Title", "one", "two"))
    assert drawn == scaling.lines("Title", "x", "y", {"one": [(1, 2), (10, 3)], "two": [(1, 5)]})
