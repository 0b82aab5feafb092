"""The table of ratios: from results to Markdown, and into a page.

Owns: which rows there are, how a cell is written, the markers in the page. Must not: measure.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from protocol import Figure

BASE = "mob"
TITLE = "## Beside others"
BEGIN = "<!-- benchmarks/peers/run.py --write: begin -->"
END = "<!-- benchmarks/peers/run.py --write: end -->"

#: Kinds in the order of their rows.
ROWS: Mapping[str, str] = {
    "swarm": "swarm in memory, {n} members",
    "memory": "memory of an agent, {n} of them",
    "durable": "durable swarm, {n} members",
    "disk": "kept on disk, {n} members",
    "written": "written to disk, {n} members",
    "history": "one durable session after {n} turns",
    "messages": "messages between two members",
    "resume": "resume a session of 20 messages",
    "kill": "`kill -9`, safest setting",
    "kill_default": "`kill -9`, default setting",
    "import": "import",
}
#: Counted, not divided: nothing lost is what all should have.
COUNTED = ("kill", "kill_default")
#: Below it pages of the heap are most of what is measured.
MEMORY_FROM = 500


class Result(NamedTuple):
    """What a contestant has for a row: the median over the rounds, and that of its ratios to mob
    in the same round."""

    contestant: str
    figure: Figure
    ratio: float | None

    def line(self) -> str:
        """One line of JSON: the figure's keys, ``contestant`` and ``ratio``."""
        whole = {"contestant": self.contestant, **self.figure._asdict(), "ratio": self.ratio}
        return json.dumps(whole)


class Round(NamedTuple):
    """One kind and size, measured once of everybody, of mob before and after the others."""

    before: Figure
    after: Figure
    others: Mapping[str, Figure]

    @property
    def base(self) -> float | None:
        if self.before.value is None or self.after.value is None:
            return None
        return (self.before.value + self.after.value) / 2

    @property
    def moved(self) -> float:
        """How much more one of mob's two figures is than the other, as a share."""
        if not self.before.value or not self.after.value:
            return 0.0
        pair = sorted((self.before.value, self.after.value))
        return pair[1] / pair[0] - 1


def combined(rounds: Sequence[Round]) -> list[Result]:
    """The medians of what was measured in some rounds, mob first."""
    bases = [each.base for each in rounds if each.base is not None]
    first = rounds[0].before
    own = statistics.median(bases) if bases else None
    if first.kind in COUNTED:  # of both runs the worse one
        worst = max((rounds[0].before, rounds[0].after), key=lambda each: each.value or 0.0)
        results = [Result(BASE, worst, None)]
    else:
        results = [Result(BASE, first._replace(value=own), 1.0 if bases else None)]
    for name, figure in rounds[0].others.items():
        found = [(each.others[name].value, each.base) for each in rounds if name in each.others]
        values = [value for value, _ in found if value is not None]
        ratios = [value / base for value, base in found if base and value is not None]
        median = statistics.median(values) if values else None
        divided = bool(ratios) and figure.kind not in COUNTED
        ratio = statistics.median(ratios) if divided else None
        results.append(Result(name, figure._replace(value=median), ratio))
    return results


def shown(results: Iterable[Result]) -> list[Result]:
    """Those that have a row."""
    return [
        each for each in results if each.figure.kind != "memory" or each.figure.n >= MEMORY_FROM
    ]


def table(results: Sequence[Result], names: Sequence[str]) -> str:
    """One row for each kind and size, one column for each of `names`; mob's is in its unit."""
    cells = {(each.figure.kind, each.figure.n, each.contestant): each for each in shown(results)}
    order = list(ROWS)
    rows = sorted({key[:2] for key in cells}, key=lambda row: (order.index(row[0]), row[1]))
    lines = ["| " + " | ".join(["", *names]) + " |", "|" + "---|" * (len(names) + 1)]
    for kind, n in rows:
        label = ROWS[kind].format(n=f"{n:,}")
        written = [_cell(cells.get((kind, n, name))) for name in names]
        lines.append("| " + " | ".join([label, *written]) + " |")
    return "\n".join(lines)


def _cell(result: Result | None) -> str:
    value = None if result is None else result.figure.value
    if result is None or value is None:
        return "-"
    figure = result.figure
    if figure.kind in COUNTED:
        lost = f"{value:,.0f} {figure.note.split(';')[0]}"
        return f"{lost} lost" if result.contestant == BASE else lost
    if result.contestant == BASE:
        return f"{_number(value)} {figure.unit}"
    return "-" if result.ratio is None else f"{_number(result.ratio)}x"


def _number(value: float) -> str:
    if value >= 10:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def notes(results: Sequence[Result], names: Sequence[str]) -> str:
    """Of each contestant: its versions, how its work is done, why it has no figure."""
    lines = []
    for name in names:
        said: dict[str, str] = {}
        version = ""
        for each in (each for each in shown(results) if each.contestant == name):
            figure = each.figure
            if figure.kind == "import" and figure.value is not None:
                version = figure.note
                continue
            note = figure.note
            if figure.kind in COUNTED and figure.value is not None:
                note = note.partition("; ")[2]  # the rest is in its cell
            if note:
                of = f"{figure.kind} {figure.n:,}" if figure.value is None else figure.kind
                said.setdefault(note, of)
        parts = [f"{of.replace('_', ' ')}: {note}" for note, of in said.items()]
        told = "; ".join(filter(None, [version, *parts]))
        if told:
            lines.append(f"- **{name}**: {told}.")
    return "\n".join(lines)


def section(results: Sequence[Result], names: Sequence[str], about: str) -> str:
    """What stands between the markers."""
    return f"{about}\n\n{table(results, names)}\n\n{notes(results, names)}"


def placed(page: str, body: str) -> str:
    """The page with `body` between the markers; without markers it gets a section at its end.

    Raises ValueError if one marker is there and the other is not, or they are the wrong way round.
    """
    inside = f"{BEGIN}\n\n{body}\n\n{END}"
    if BEGIN not in page and END not in page:
        return f"{page.rstrip()}\n\n{TITLE}\n\n{inside}\n"
    begin, end = page.find(BEGIN), page.find(END)
    if not 0 <= begin < end or page.count(BEGIN) != 1 or page.count(END) != 1:
        raise ValueError(f"the page needs {BEGIN!r} once and then {END!r} once")
    return page[:begin] + inside + page[end + len(END) :]
