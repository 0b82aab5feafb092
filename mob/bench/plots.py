"""Plots as SVG text, by matplotlib.

Owns: the few kinds of plots that the report and `benchmarks/scaling.py` draw. Must not: be imported
where nothing is drawn (matplotlib is the extra ``bench``).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from runtime.errors import MobError

#: Inches; a plot of a page.
_WIDTH: Final = 7.5
_HEIGHT: Final = 3.2


class PlotsUnavailable(MobError):
    """matplotlib is not there; the message says how to get it."""


@attrs.frozen
class Point:
    """A row of a plot of what was expected and found."""

    label: str
    found: float
    expected: float
    within: float


def dots(title: str, unit: str, groups: Mapping[str, Sequence[float]]) -> str:
    """A row for each group with a dot for each of its values and a bar at their mean."""

    def draw(axes: Any) -> None:
        for row, values in enumerate(groups.values()):
            axes.barh(row, sum(values) / len(values), height=0.55, color="#c9d6e8")
            axes.plot(values, [row] * len(values), "o", color="#22507f", markersize=4)
        _rows(axes, list(groups))
        axes.set_xlabel(unit)

    return _svg(title, draw, rows=len(groups))


def percentiles(title: str, unit: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """A row for each group with a mark for each of its named values, on a logarithmic axis."""

    def draw(axes: Any) -> None:
        marks = dict.fromkeys(name for values in groups.values() for name in values)
        for name, shape in zip(marks, "osD^v", strict=False):
            known = [(v[name], row) for row, v in enumerate(groups.values()) if v.get(name, 0) > 0]
            axes.plot([v for v, _ in known], [row for _, row in known], shape, label=name)
        axes.set_xscale("log")
        _rows(axes, list(groups))
        axes.set_xlabel(unit)
        axes.legend(frameon=False, fontsize=8)

    return _svg(title, draw, rows=len(groups))


def against(title: str, points: Sequence[Point]) -> str:
    """How far what was found is from what was expected, in parts of what is admitted: all that is
    between -1 and 1 holds."""

    def draw(axes: Any) -> None:
        axes.axvspan(-1, 1, color="#e4efe4")
        axes.axvline(0, color="#888888", linewidth=0.8)
        for row, each in enumerate(points):
            off = (each.found - each.expected) / each.within if each.within else 0.0
            kept = max(-3.0, min(3.0, off))
            axes.plot([kept], [row], "o", color="#2e7d32" if abs(off) <= 1 else "#b3261e")
        axes.set_xlim(-3.2, 3.2)
        _rows(axes, [each.label for each in points])
        axes.set_xlabel("distance from the closed form, in parts of the tolerance")

    return _svg(title, draw, rows=len(points))


def lines(
    title: str,
    x: str,
    y: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    log_y: bool = False,
) -> str:
    """A line for each series over a logarithmic axis of sizes."""

    def draw(axes: Any) -> None:
        for name, points in series.items():
            axes.plot([p[0] for p in points], [p[1] for p in points], "o-", label=name)
        axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)

    return _svg(title, draw, rows=6)


def _rows(axes: Any, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)


def _svg(title: str, draw: Callable[[Any], None], *, rows: int) -> str:
    """The plot as an SVG element that can stand in HTML. The same values make the same text."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotsUnavailable("plots need matplotlib: pip install 'trio-mob[bench]'") from None
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": title, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(_WIDTH, max(_HEIGHT, 0.8 + 0.26 * rows)), layout="constrained")
        axes = figure.add_subplot()
        axes.set_title(title, loc="left", fontsize=10)
        draw(axes)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
