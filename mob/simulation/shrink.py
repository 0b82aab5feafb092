"""Making a failing run small: the fewest faults and steps that still fail in the same way.

Owns: `shrink`, which looks for them, and `minimal`, delta debugging (Zeller and Hildebrandt, 2002).
Must not: print.

A fault is left out by its site and a step by its number, and neither moves any other draw, so what
is left of a run happens as it did before, as far as what was left out did not cause it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar, final

import attrs

from mob.simulation.faults import CrashPoint, Fault, FaultPlan
from mob.simulation.run import Run
from mob.simulation.seeds import Job
from mob.simulation.target import Target

_T = TypeVar("_T")

#: Runs after which the search ends with what it has.
PROBES: Final = 500


class NothingFails(Exception):
    """The run that was to be made small does not fail."""


@attrs.frozen
class Shrunk:
    """A smaller run that fails as the first one does; `run` is that run.

    Exactly `faults` and `crashes` strike in it and the steps `keep` take part (None: there are no
    steps to choose from, or all of them are needed). `probes` is how many runs it took so far.
    """

    run: Run
    faults: frozenset[Fault]
    crashes: tuple[CrashPoint, ...]
    keep: frozenset[int] | None
    probes: int

    @property
    def plan(self) -> str:
        """The plan without `faults`, as it is given beside them."""
        return str(FaultPlan(crashes=self.crashes))


def shrink(
    job: Job,
    target: Target,
    seed: int,
    *,
    only: frozenset[Fault] | None = None,
    probes: int = PROBES,
    told: Callable[[int], None] = lambda _probes: None,
) -> Iterator[Shrunk]:
    """Yield ever smaller runs that fail by the same invariant, the one that was given first.

    `told` hears the number of every probe. Takes at most `probes` of them.

    Raises:
        NothingFails: the run does not fail as it is.
    """
    search = _Search(job, target, seed, probes, told)
    first = search.begin(only)
    if first is None:
        raise NothingFails(f"seed {seed} does not fail")
    yield first
    while True:
        before = search.best
        for reduce in (search.reduce_faults, search.reduce_crashes, search.reduce_steps):
            reduce()
            if search.best is not None and search.best is not first:
                first = search.best
                yield first
        if search.best is before or search.spent:
            return


@attrs.frozen
class _Choice:
    """What takes part in a probe."""

    faults: tuple[Fault, ...]
    crashes: tuple[CrashPoint, ...]
    steps: tuple[int, ...]


@final
class _Search:
    """The state of one search: the smallest failing choice, and every one that was tried."""

    def __init__(
        self, job: Job, target: Target, seed: int, probes: int, told: Callable[[int], None]
    ) -> None:
        self._job = job
        self._target = target
        self._seed = seed
        self._most = probes
        self._told = told
        self._tried: dict[_Choice, bool] = {}
        self._invariant = ""
        self._offered = 0
        self._choice = _Choice((), (), ())
        self.best: Shrunk | None = None

    @property
    def spent(self) -> bool:
        """Whether there are no probes left."""
        return len(self._tried) >= self._most

    def begin(self, only: frozenset[Fault] | None) -> Shrunk | None:
        """Run it as it was given; None if that does not fail."""
        run = self._job.attempt(self._target, self._seed, only)
        if run.failure is None:
            return None
        self._invariant = run.failure.invariant
        self._offered = run.offered
        keep = self._job.keep
        steps = [each for each in range(run.offered) if keep is None or each in keep]
        crashes = FaultPlan.parse(self._job.faults).crashes
        faults = tuple(dict.fromkeys(run.sites))
        self.best = Shrunk(run, frozenset(faults), crashes, keep, 0)
        self._choice = _Choice(faults, crashes, tuple(steps))
        # What did not fire is left out of the plan: this is the same run, written down exactly.
        self._fails(self._choice)
        return self.best

    def reduce_faults(self) -> None:
        """Take as many faults out as can be."""
        minimal(
            self._choice.faults,
            lambda some: self._fails(attrs.evolve(self._choice, faults=tuple(some))),
        )

    def reduce_crashes(self) -> None:
        """Take as many directed crashes out as can be."""
        minimal(
            self._choice.crashes,
            lambda some: self._fails(attrs.evolve(self._choice, crashes=tuple(some))),
        )

    def reduce_steps(self) -> None:
        """Take as many steps out as can be."""
        minimal(
            self._choice.steps,
            lambda some: self._fails(attrs.evolve(self._choice, steps=tuple(some))),
        )

    def _fails(self, choice: _Choice) -> bool:
        if choice in self._tried:
            return self._tried[choice]
        if self.spent:
            return False
        keep = None if len(choice.steps) == self._offered else frozenset(choice.steps)
        job = attrs.evolve(self._job, faults=str(FaultPlan(crashes=choice.crashes)), keep=keep)
        run = job.attempt(self._target, self._seed, choice.faults)
        failed = run.failure is not None and run.failure.invariant == self._invariant
        self._tried[choice] = failed
        if failed:
            self._choice = choice
            faults = frozenset(choice.faults)
            self.best = Shrunk(run, faults, choice.crashes, keep, len(self._tried))
        self._told(len(self._tried))
        return failed


def minimal(items: Sequence[_T], fails: Callable[[Sequence[_T]], bool]) -> list[_T]:
    """A part of `items`, which fail, that fails and of which no single item can be left out."""
    left = list(items)
    if not left or fails([]):
        return []
    parts = 2
    while len(left) > 1:
        size = -(-len(left) // parts)
        starts = range(0, len(left), size)
        smaller = next((one for one in (left[at : at + size] for at in starts) if fails(one)), None)
        if smaller is not None:
            left, parts = smaller, 2
            continue
        others = (left[:at] + left[at + size :] for at in starts)
        without = next((rest for rest in others if fails(rest)), None)
        if without is not None:
            left, parts = without, max(parts - 1, 2)
        elif size == 1:
            break
        else:
            parts = min(parts * 2, len(left))
    return left
