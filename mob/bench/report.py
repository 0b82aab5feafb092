"""The report of some runs as one HTML file that needs nothing beside it.

Owns: what is in it and how it is laid out. Must not: decide anything.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from mob.bench import plots
from mob.bench.plan import Outcome
from mob.bench.results import Run
from mob.bench.stage import FIGURES

_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; }
table { border-collapse: collapse; margin: 1rem 0; font-size: 14px; }
th, td { padding: .2rem .7rem; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; }
.failed { color: #b3261e; font-weight: 600; } .skipped { color: #777; } .passed { color: #2e7d32; }
svg { max-width: 100%; height: auto; }
"""
_PERCENTILES: Final = {"p50": "latency_p50_s", "p95": "latency_p95_s", "p99": "latency_p99_s"}


def grouped(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs of each scenario, in order."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.scenario, []).append(run)
    return groups


def html(runs: Sequence[Run]) -> str:
    """The report. Raises `PlotsUnavailable` if there is no matplotlib."""
    done = grouped(run for run in runs if run.error is None)
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>mob bench</title>",
        f"<style>{_STYLE}</style></head><body><h1>mob bench</h1>",
        *_drawn(done),
    ]
    for name, each in grouped(runs).items():
        parts += _section(name, each)
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _drawn(done: Mapping[str, Sequence[Run]]) -> Iterable[str]:
    """The plots of all scenarios together."""
    rates = {
        name: rates
        for name, runs in done.items()
        if all(rates := [run.figures["turns_per_cpu_s"] for run in runs])
    }
    if rates:
        yield plots.dots("Turns per CPU second, a dot for each repeat", "turns/CPU s", rates)
    for clock in ("real", "virtual"):
        latencies = {
            name: {
                mark: statistics.median(run.figures[key] for run in runs)
                for mark, key in _PERCENTILES.items()
            }
            for name, runs in done.items()
            if runs[0].clock == clock and any(run.figures["latency_p99_s"] for run in runs)
        }
        if latencies:
            title = f"Latency of a question, {clock} seconds (medians of the repeats)"
            yield plots.percentiles(title, "s", latencies)
    points = [
        plots.Point(
            f"{name} {verdict.metric} #{run.repeat + 1}",
            verdict.found,
            verdict.expected,
            verdict.within,
        )
        for name, runs in done.items()
        for run in runs
        for verdict in run.verdicts
        if verdict.expected is not None and verdict.within is not None
    ]
    if points:
        yield plots.against("What was found against its closed form", points)


def _section(name: str, runs: Sequence[Run]) -> Iterable[str]:
    first = runs[0]
    size = ", ".join(f"{value:,} {key}" for key, value in first.size.items())
    about = f"{first.shape}: {size}; {first.store}, {first.clock} clock, scale {first.scale:g}"
    yield f"<h2>{escape(name)}</h2><p>{escape(about)}</p>"
    for run in runs:
        if run.error is not None:
            text = f"repeat {run.repeat + 1} (seed {run.seed}) came to no end: {run.error}"
            yield f"<p class='failed'>{escape(text)}</p>"
    ended = [run for run in runs if run.error is None]
    if not ended:
        return
    yield "<table><tr><th>figure</th>"
    yield "".join(f"<th>seed {run.seed}</th>" for run in ended) + "<th>median</th></tr>"
    for figure in ended[0].figures:
        values = [run.figures[figure] for run in ended]
        cells = "".join(
            f"<td>{shown(value)}</td>" for value in (*values, statistics.median(values))
        )
        what = escape(FIGURES.get(figure, "of this shape"))
        yield f"<tr><td title='{what}'>{escape(figure)}</td>{cells}</tr>"
    yield "</table><ul>"
    for run in ended:
        for verdict in run.verdicts:
            kind = verdict.outcome.value
            mark = "" if verdict.outcome is Outcome.PASSED else f" ({kind})"
            yield (f"<li class='{kind}'>seed {run.seed}: {escape(str(verdict))}{mark}</li>")
    yield "</ul>"


def shown(value: float) -> str:
    """A figure for people: whole numbers whole, others in four digits."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"
