"""`mob sim`: run a mob under faults from many seeds, look at one run, make a failing one small.

Owns: the verbs and what they print. Must not: know how a run or a worker works.
"""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Final, final

import attrs
from cyclopts import App, Parameter

from mob.cli import exits
from mob.cli.options import Json
from mob.cli.output import narrate, one_line, plural, result, result_json
from mob.cli.sim_setting import File, Heal, Keep, Only, Plan, Seed, Setting, seeds_of, setting_of
from mob.cli.timeline import Recorder
from mob.simulation.faults import FaultPlan
from mob.simulation.kinds import FaultKind
from mob.simulation.run import HEAL_S, Run
from mob.simulation.seeds import Outcome, Tally, WorkerFailed, run_seeds
from mob.simulation.shrink import PROBES, NothingFails, Shrunk
from mob.simulation.shrink import shrink as shrunk_runs

EXAMPLES = """    mob sim run mob.toml --seeds 0..999 --faults heavy
    mob sim run checks.py:scenario --faults store=0.02,crash=commit.after:3
    mob sim replay mob.toml --seed 17 --until 40
    mob sim shrink mob.toml --seed 17 --faults heavy
"""

#: Real seconds between two words about progress, on a terminal and elsewhere.
_EVERY_S: Final = (0.2, 5.0)

sim = App(
    name="sim",
    help="Simulate a mob under faults: run seeds, replay one, shrink a failing one.",
    help_epilogue=f"Examples:\n{EXAMPLES}",
    help_format="plaintext",
)


@sim.command
def run(
    file: File,
    /,
    *,
    seeds: Annotated[
        str | None,
        Parameter(show_default=False, help="A..B, or one seed (a hundred, from that of [sim])."),
    ] = None,
    faults: Plan = None,
    workers: Annotated[int, Parameter(help="Processes that run seeds.")] = 1,
    heal: Heal = True,
    failures: Annotated[
        int, Parameter(help="End after so many counterexamples; 0: run every seed.")
    ] = 10,
    json: Json = False,
) -> int:
    """Run a mob from many seeds, under faults drawn for each, and judge every commit.

    Exits with 10 if a run failed, and prints the line that reproduces it. The models and tools of
    a mob file are replaced by simulated ones; Ctrl-C prints what was found so far.
    """
    if workers < 1:
        raise exits.UsageWrong(f"--workers {workers}: at least one is needed")
    setting = setting_of(file, faults, heal)
    tally = Tally(seeds_of(seeds, setting.target.settings.seed), failures)
    progress = _Progress(tally)
    interrupted = False
    # A shell starts background jobs with it ignored; whoever sends one all the same means it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    outcomes = run_seeds(setting.job, tally.asked, min(workers, len(tally.asked)))
    try:
        with closing(outcomes):
            for outcome in outcomes:
                tally.add(outcome)
                progress.show()
                if tally.satisfied:
                    break
    except KeyboardInterrupt:
        interrupted = True
    except WorkerFailed as error:
        raise exits.UsageWrong(str(error)) from None
    finally:
        progress.end()
    if json:
        result_json(_report(tally, setting, interrupted))
    else:
        _print_report(tally, setting, workers)
    if interrupted:
        narrate(f"mob: interrupted after {tally.done} of {plural(len(tally.asked), 'seed')}")
        return exits.INTERRUPTED
    return exits.COUNTEREXAMPLE if tally.failures else exits.DONE


@sim.command
def replay(
    file: File,
    /,
    *,
    seed: Seed = None,
    faults: Plan = None,
    only: Only = None,
    keep: Keep = None,
    heal: Heal = True,
    until: Annotated[
        int | None,
        Parameter(show_default=False, help="Show what happened up to this record of the journal."),
    ] = None,
    json: Json = False,
) -> int:
    """Run one seed and show everything that happened in it, in order of virtual time.

    A line has the time in virtual seconds, the process, the number of the journal's record, the
    member (or what kind of event it is), and what happened. Exits with 10 if the run fails.
    """
    setting = setting_of(file, faults, heal, only, keep)
    seed = setting.target.settings.seed if seed is None else seed
    recorder = Recorder(setting.target.scenario())
    played = setting.job.attempt(
        attrs.evolve(setting.target, scenario=lambda: recorder), seed, setting.only
    )
    if not json:
        narrate(f"mob: seed {seed} of {file}, faults {setting.faults}; drawn: {played.plan}")
    for entry in recorder.timeline(played):
        if json:
            result_json(attrs.asdict(entry), line=True)
        else:
            result(str(entry))
        if until is not None and entry.seq is not None and entry.seq >= until:
            narrate(f"mob: shown up to record {until}; leave --until out to see the end")
            return exits.DONE
    line = setting.reproduction(seed)
    if json:
        result_json({"type": "result", **_result(Outcome.of(played), line)}, line=True)
    else:
        _print_end(played, line)
    return exits.DONE if played.failure is None else exits.COUNTEREXAMPLE


@sim.command
def shrink(
    file: File,
    /,
    *,
    seed: Seed = None,
    faults: Plan = None,
    only: Only = None,
    keep: Keep = None,
    heal: Heal = True,
    probes: Annotated[int, Parameter(help="Runs after which the search ends.")] = PROBES,
    output: Annotated[
        Path | None,
        Parameter(show_default=False, help="Write the reproduction line to this file, too."),
    ] = None,
    json: Json = False,
) -> int:
    """Make a failing run small: fewest faults and steps that fail by the same invariant.

    Prints the line that replays exactly what is left. Ctrl-C ends the search with what it has.
    Exits with 10, or with 4 if the run does not fail.
    """
    setting = setting_of(file, faults, heal, only, keep)
    seed = setting.target.settings.seed if seed is None else seed
    progress = _Probing()
    first: Shrunk | None = None
    best: Shrunk | None = None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        for best in shrunk_runs(
            setting.job,
            setting.target,
            seed,
            only=setting.only,
            probes=probes,
            told=progress.probed,
        ):
            first = first or best
            progress.found(best)
    except NothingFails as error:
        raise exits.NothingThere(f"{error}: there is nothing to shrink") from None
    except KeyboardInterrupt:
        if best is None:
            raise
        narrate("mob: interrupted: this is the smallest that was found")
    assert first is not None, "the first run failed"
    assert best is not None, "or the search raised"
    line = setting.shrunk(best).reproduction(seed)
    if output is not None:
        output.write_text(f"# {one_line(str(best.run.failure), 400)}\n{line}\n", encoding="utf-8")
    if json:
        result_json(_shrunk_json(first, best, line))
    else:
        _print_shrunk(first, best, line)
    return exits.COUNTEREXAMPLE


# -- what is said ------------------------------------------------------------------------------


@final
class _Progress:
    """How far a run of many seeds is, on stderr: one line that changes, or now and then a line."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._live = sys.stderr.isatty()
        self._next_s = 0.0
        self._began = time.monotonic()
        self._fired = 0

    def show(self) -> None:
        """Say it, if it was not said just now."""
        now = time.monotonic()
        if now >= self._next_s:
            self._next_s = now + _EVERY_S[not self._live]
            self._say("\r" if self._live else "\n")

    def end(self) -> None:
        """Say it for the last time."""
        if self._tally.done:
            self._say("\n")

    def _say(self, end: str) -> None:
        tally = self._tally
        rate = tally.done / max(time.monotonic() - self._began, 0.001)
        text = (
            f"mob: {tally.done}/{len(tally.asked)} seeds, {plural(len(tally.failures), 'failure')},"
            f" {rate:.1f} seeds/s, {tally.fired().total():,} faults fired"
        )
        try:
            print(f"\r\x1b[K{text}" if self._live else text, end=end, file=sys.stderr, flush=True)
        except BrokenPipeError:
            pass  # progress is for whoever is there


def _plan_text(setting: Setting) -> str:
    """The plan with every rate."""
    return str(FaultPlan.parse(setting.job.faults))


def _never_fired(setting: Setting, fired: Iterable[str]) -> list[str]:
    plan = FaultPlan.parse(setting.job.faults)
    return [kind.value for kind in FaultKind if plan.rates.get(kind) and kind.value not in fired]


def _report(tally: Tally, setting: Setting, interrupted: bool) -> dict[str, Any]:
    fired = tally.fired()
    return {
        "target": setting.file,
        "faults": setting.faults,
        "plan": _plan_text(setting),
        "healed": setting.heal,
        "seeds": len(tally.outcomes),
        "asked": [tally.asked[0], tally.asked[-1]],
        "interrupted": interrupted,
        "failures": [_result(each, setting.reproduction(each.seed)) for each in tally.failures],
        "fired": dict(sorted(fired.items())),
        "never_fired": _never_fired(setting, fired),
        "recoveries": dict(sorted(tally.recoveries().items())),
        "digest": tally.digest,
        "cpu_s": round(tally.cpu_s, 3),
        "wall_s": round(tally.wall_s, 3),
        "virtual_s": round(tally.virtual_s, 3),
        "seeds_per_cpu_s": round(_per(len(tally.outcomes), tally.cpu_s), 2),
        "virtual_s_per_cpu_s": round(_per(tally.virtual_s, tally.cpu_s), 1),
    }


def _result(outcome: Outcome, line: str) -> dict[str, Any]:
    table = attrs.asdict(outcome)
    failure = table.pop("failure")
    return {**table, "failure": failure, "reproduce": line}


def _print_report(tally: Tally, setting: Setting, workers: int) -> None:
    seeds, fired = len(tally.outcomes), tally.fired()
    healed = f"healed within {HEAL_S:g} virtual seconds" if setting.heal else "not healed"
    result(f"seeds       {seeds:,} of {tally.asked[0]}..{tally.asked[-1]}, {healed}")
    result(f"plan        {setting.faults}: {_plan_text(setting)}")
    result(f"faults      {fired.total():,} fired, {plural(len(fired), 'kind')}")
    for kind in FaultKind:
        if fired[kind.value]:
            result(f"  {kind.value:<28} {fired[kind.value]:>8,}")
    never = _never_fired(setting, fired)
    if never:
        result(f"never fired {', '.join(never)}")
    recoveries = tally.recoveries()
    result(f"recoveries  {recoveries.total():,}, {plural(len(recoveries), 'way')} of coming back")
    for name, times in sorted(recoveries.items()):
        result(f"  {name:<28} {times:>8,}")
    result(
        f"speed       {_per(seeds, tally.cpu_s):.1f} seeds per CPU second,"
        f" {_per(tally.virtual_s, tally.cpu_s):,.0f} virtual seconds per CPU second;"
        f" {tally.wall_s:.1f} s with {plural(workers, 'worker')}"
    )
    result(f"digest      {tally.digest}")
    result(f"failures    {len(tally.failures)}")
    for outcome in tally.failures:
        assert outcome.failure is not None
        result(f"seed {outcome.seed}: {one_line(str(outcome.failure), 600)}")
        if outcome.plan:
            result(f"  drawn: {outcome.plan}")
        result(f"  {setting.reproduction(outcome.seed)}")


def _per(much: float, seconds: float) -> float:
    return much / seconds if seconds else 0.0


def _print_end(played: Run, line: str) -> None:
    """How a replayed run ended: its figures, or why it failed and where."""
    faults = plural(len(played.sites), "fault")
    steps = f"{played.steps} of {plural(played.offered, 'step')}"
    result(f"{faults}, {steps}, {played.virtual_s:.3f} virtual seconds, digest {played.digest}")
    if played.failure is None:
        result("nothing failed")
        return
    failure = played.failure
    result(f"FAILED {failure.invariant}, after commit {failure.commit}:")
    for text in failure.message.splitlines():
        result(f"    {text}")
    if isinstance(played.error, Exception) and played.error.__traceback__ is not None:
        for text in "".join(traceback.format_exception(played.error)).splitlines():
            result(f"    {text}")
    result(f"reproduce: {line}")


@final
class _Probing:
    """How far a search is, on stderr."""

    def __init__(self) -> None:
        self._probes = 0

    def probed(self, probes: int) -> None:
        """A run more."""
        self._probes = probes
        if probes % 50 == 0:
            narrate(f"mob: {plural(probes, 'probe')}")

    def found(self, best: Shrunk) -> None:
        """A smaller run that fails."""
        narrate(
            f"mob: {plural(self._probes, 'probe')}: {_size(best)} still fail:"
            f" {one_line(str(best.run.failure), 200)}"
        )


def _size(best: Shrunk) -> str:
    faults = plural(len(best.faults) + len(best.crashes), "fault")
    return f"{faults} and {plural(best.run.steps, 'step')}"


def _shrunk_json(first: Shrunk, best: Shrunk, line: str) -> dict[str, Any]:
    return {
        **_result(Outcome.of(best.run), line),
        "probes": best.probes,
        "from": {"faults": len(first.faults) + len(first.crashes), "steps": first.run.steps},
        "faults": sorted(map(str, best.faults)),
        "crashes": [str(each) for each in best.crashes],
        "keep": None if best.keep is None else sorted(best.keep),
    }


def _print_shrunk(first: Shrunk, best: Shrunk, line: str) -> None:
    result(f"from {_size(first)} to {_size(best)} in {plural(best.probes, 'probe')}")
    for each in (*sorted(map(str, best.faults)), *(f"crash={each}" for each in best.crashes)):
        result(f"  fault  {each}")
    for step in best.run.trace.lines:
        if step.kind == "step":
            result(f"  step   {step.text}")
    result(f"FAILED {one_line(str(best.run.failure), 600)}")
    result(line)
