"""`mob bench`: run scenarios, list them, compare what came out.

Owns: the verbs and what they print. Must not: know a shape, or how a run is measured.
"""

from __future__ import annotations

import signal
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import attrs
from cyclopts import App, Parameter

from mob.bench import comparing
from mob.bench.plan import Outcome, Verdict
from mob.bench.report import grouped, html, shown
from mob.bench.results import ResultsUnreadable, Run, as_json, load_runs
from mob.bench.running import Job, WorkerFailed, run_apart
from mob.bench.scenario import VIRTUAL, Scenario
from mob.bench.stage import MEMORY
from mob.cli import exits
from mob.cli.options import Json
from mob.cli.output import narrate, plural, result, result_json

EXAMPLES = """    mob bench ls benchmarks/scenarios
    mob bench run vote --scale 0.1 --repeats 3
    mob bench run benchmarks/scenarios/*.toml --scale 0.01 --json --report bench.html > now.json
    mob bench compare before.json now.json --margin 0.05
"""
#: Where `mob bench ls` looks when it is told nothing.
FOLDER: Final = Path("benchmarks/scenarios")

bench = App(
    name="bench",
    help="Run benchmark scenarios, list them, compare two sets of results.",
    help_epilogue=f"Examples:\n{EXAMPLES}",
    help_format="plaintext",
)


@bench.command
def run(
    scenarios: Annotated[
        list[Path], Parameter(name="SCENARIO", help="Files of scenarios, or names that ls prints.")
    ],
    /,
    *,
    scale: Annotated[
        float, Parameter(help="What the sizes of a scenario are multiplied by.")
    ] = 1.0,
    repeats: Annotated[
        int | None,
        Parameter(show_default=False, help="Runs of each (as many as the file has seeds)."),
    ] = None,
    seed: Annotated[
        int | None,
        Parameter(show_default=False, help="Seed of the first repeat; each further one is one up."),
    ] = None,
    store: Annotated[
        Literal["memory", "lmdb"] | None,
        Parameter(show_default=False, help="Another store than the file says."),
    ] = None,
    report: Annotated[
        Path | None, Parameter(show_default=False, help="Write an HTML report to this file, too.")
    ] = None,
    json: Json = False,
) -> int:
    """Run scenarios, each repeat in a process of its own, and say what came out.

    Exits with 9 if an assertion of a scenario fails, with 1 if a run comes to no end. Ctrl-C
    prints what is done.
    """
    if scale <= 0:
        raise exits.UsageWrong(f"--scale {scale:g}: it must be above 0")
    if repeats is not None and repeats < 1:
        raise exits.UsageWrong(f"--repeats {repeats}: at least one is needed")
    files = [_found(each) for each in scenarios]
    jobs = [
        (known, Job(str(file), repeat, scale, seed, store))
        for file, known in [(file, _known(file, store)) for file in files]
        for repeat in range(repeats or len(known.seeds))
    ]
    if report is not None:
        html([])  # before hours of work: whether it can be drawn, and written
        report.write_text("", encoding="utf-8")
    runs: list[Run] = []
    interrupted = False
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for number, (known, job) in enumerate(jobs, 1):
            narrate(f"mob: {number}/{len(jobs)} {known.name}, repeat {job.repeat + 1}")
            runs.append(run_apart(job))
            _narrate_failures(runs[-1])
    except KeyboardInterrupt:
        interrupted = True
    except WorkerFailed as error:
        raise exits.UsageWrong(str(error)) from None
    if report is not None:
        report.write_text(html(runs), encoding="utf-8")
        narrate(f"mob: the report is in {report}")
    if json:
        result_json(as_json(runs))
    else:
        _print_runs(runs, {known.name: known for known, _ in jobs})
    if interrupted:
        narrate(f"mob: interrupted after {len(runs)} of {plural(len(jobs), 'run')}")
        return exits.INTERRUPTED
    if any(run.error is not None for run in runs):
        return exits.FAILED
    return exits.REGRESSION if any(run.failed for run in runs) else exits.DONE


@bench.command
def ls(
    folder: Annotated[Path, Parameter(help="Where the scenarios are.")] = FOLDER,
    /,
    *,
    json: Json = False,
) -> int:
    """List the scenarios of a folder."""
    if not folder.is_dir():
        raise exits.NothingThere(f"there is no folder {folder}: name the one of your scenarios")
    found = [Scenario.load(file) for file in sorted(folder.glob("*.toml")) if _is_scenario(file)]
    if json:
        result_json([_row(each) for each in found])
        return exits.DONE
    width = max((len(each.name) for each in found), default=0)
    for each in found:
        size = ", ".join(f"{value:,} {key}" for key, value in each.size.items())
        result(f"{each.name:<{width}}  {each.about}")
        result(f"{'':<{width}}  {each.shape_name}: {size}; {each.store}, {each.clock} clock")
    return exits.DONE


@bench.command
def compare(
    a: Annotated[Path, Parameter(name="A", help="Results of `mob bench run --json`.")],
    b: Annotated[Path, Parameter(name="B", help="Newer results.")],
    /,
    *,
    metric: Annotated[
        list[str] | None,
        Parameter(
            show_default=False,
            negative=(),
            help="A figure that decides (else: " + ", ".join(comparing.DECIDING) + ").",
        ),
    ] = None,
    margin: Annotated[
        float, Parameter(help="By how much a figure may be worse.")
    ] = comparing.MARGIN,
    json: Json = False,
) -> int:
    """Compare two sets of results, with the interval in which each difference lies.

    Exits with 9 if a figure that decides is worse by more than the margin, and surely so: the whole
    interval (95 %) is beyond it.
    """
    unknown = [each for each in metric or () if each not in comparing.BETTER]
    if unknown:
        known = ", ".join(comparing.BETTER)
        raise exits.UsageWrong(f"--metric {unknown[0]}: it is none that is compared ({known})")
    if margin < 0:
        raise exits.UsageWrong(f"--margin {margin:g}: it must not be negative")
    deciding = tuple(metric or comparing.DECIDING)
    try:
        found = comparing.compare(load_runs(a), load_runs(b), metrics=deciding, margin=margin)
    except (comparing.NotComparable, ResultsUnreadable) as error:
        raise exits.UsageWrong(str(error)) from None
    regressed = [each for each in found if each.regressed]
    if json:
        rows = [{**attrs.asdict(each), "verdict": each.verdict.value} for each in found]
        result_json({"margin": margin, "regressed": bool(regressed), "differences": rows})
    else:
        _print_differences(found, margin)
    return exits.REGRESSION if regressed else exits.DONE


# -- what is said ------------------------------------------------------------------------------


def _found(given: Path) -> Path:
    """The file of a scenario; a name alone is looked for where `ls` looks."""
    named = FOLDER / f"{given}.toml"
    if given.exists() or given.suffix or len(given.parts) > 1:
        return given
    if not named.exists():
        raise FileNotFoundError(
            f"no scenario {str(given)!r} in {FOLDER}: give a file, or a name that"
            " `mob bench ls` prints"
        )
    return named


def _known(file: Path, store: str | None) -> Scenario:
    known = Scenario.load(file)
    if store == MEMORY and known.shape.needs_disk:
        raise exits.UsageWrong(f"--store memory: {known.name} cannot: {known.shape.needs_disk}")
    if store not in (None, MEMORY) and known.clock == VIRTUAL:
        raise exits.UsageWrong(
            f"--store {store}: {known.name} has a virtual clock, which does not wait for a disk"
        )
    return known


def _is_scenario(file: Path) -> bool:
    """A mob file may lie beside the scenarios that name it."""
    return "[scenario]" in file.read_text(encoding="utf-8").splitlines()


def _row(each: Scenario) -> dict[str, Any]:
    return {
        "name": each.name,
        "about": each.about,
        "file": each.source,
        "shape": each.shape_name,
        "size": dict(each.size),
        "seeds": list(each.seeds),
        "store": each.store,
        "clock": each.clock,
        "assertions": [str(assertion) for assertion in each.assertions],
    }


def _narrate_failures(run: Run) -> None:
    if run.error is not None:
        narrate(f"mob: {run.scenario} with seed {run.seed} came to no end: {run.error}")
    for each in run.failed:
        narrate(f"mob: {run.scenario} with seed {run.seed} FAILED {each}")


def _print_runs(runs: Sequence[Run], known: dict[str, Scenario]) -> None:
    for name, each in grouped(runs).items():
        size = ", ".join(f"{value:,} {key}" for key, value in each[0].size.items())
        times = "1 run" if len(each) == 1 else f"medians of {len(each)} runs"
        result(f"{name}: {size}; {each[0].store}, {each[0].clock} clock; {times}")
        ended = [run for run in each if run.error is None]
        if ended:
            for figure in known[name].metrics:
                values = [run.figures[figure] for run in ended]
                spread = f"  ({shown(min(values))} to {shown(max(values))})"
                median = statistics.median(values)
                result(f"  {figure:<20} {shown(median):>14}{spread if len(values) > 1 else ''}")
        for line in _judged(ended):
            result(line)
        for run in each:
            if run.error is not None:
                result(f"  NO END with seed {run.seed}: {run.error}")


def _judged(runs: Iterable[Run]) -> Iterable[str]:
    """A line for each assertion: how many runs it holds of, with the one that it misses by most."""
    verdicts: dict[str, list[Verdict]] = {}
    for run in runs:
        for verdict in run.verdicts:
            verdicts.setdefault(verdict.assertion, []).append(verdict)
    for each in verdicts.values():
        worst = next((one for one in each if one.outcome is Outcome.FAILED), each[0])
        failed = sum(one.outcome is Outcome.FAILED for one in each)
        word = "FAILED" if failed else "ok" if worst.outcome is Outcome.PASSED else "skipped"
        times = f" ({failed} of {len(each)} runs)" if failed else ""
        yield f"  {word:<8}{worst}{times}"


def _print_differences(found: Sequence[comparing.Difference], margin: float) -> None:
    rows = [("scenario", "figure", "A", "B", "B/A", "95 % interval", "verdict")]
    rows += [
        (
            each.scenario,
            each.metric + ("*" if each.decides else ""),
            shown(each.a),
            shown(each.b),
            f"{each.ratio:.3f}",
            f"{each.low:.3f} to {each.high:.3f}",
            "REGRESSION" if each.regressed else each.verdict.value,
        )
        for each in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if column in (0, 1, 6) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        result("  ".join(cells).rstrip())
    result(f"* decides; the margin is {margin:.0%}")
